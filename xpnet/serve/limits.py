"""Every limit of the server: what it accepts, how long it waits, and how much it holds at once."""

from __future__ import annotations

MIB = 2**20

# One request
IMAGE_BYTES = 16 * MIB  # the largest photo of a common phone has 12 million
HEAD_SECONDS = 10.0  # for the head of a request to arrive, from the connection or the last answer on
BODY_SECONDS = 20.0  # for a whole body to arrive
ANSWER_SECONDS = 10.0  # for the client to take what has been sent, before more is sent
WORK_SECONDS = 20.0  # for an answer, the wait in the queue included
OPEN_SECONDS = 5.0  # to open an image
OPEN_BYTES = 400 * MIB  # of memory to open an image
SMALL_IMAGE = 2_000_000  # pixels; up to so many, an image does not wait for larger ones

# All requests together
CONNECTIONS = 256
WAITING = 64  # requests in work or in the queue; others are told to try again
BODIES_BYTES = 128 * MIB  # of all bodies that are arriving or in work
SMALL_BODY = 64 * 1024  # bytes; bodies up to this size do not count towards BODIES_BYTES: CONNECTIONS limits them

# Training to watch
TRAININGS = 2  # at once, each in a process of its own
TRAINING_WAIT = 1.0  # seconds to wait until another one ends, such as the previous one of the same page
TRAINING_SECONDS = 120.0  # for a whole run
TRAINING_EPOCHS = 200
EPOCH_SECONDS = 0.1  # the least for an epoch: eyes can follow it, and the processor has time for others
MISREAD = 24  # misread digits that are shown after each epoch
UNITS = 32  # units that are shown after each epoch
SETTINGS_BYTES = 4096

# Text
TEXT_LENGTH = 2000  # characters
WRITTEN = 20  # characters at most that one request draws
CONTEXT = 64  # the most characters that the model reads, and that the page shows the attention of


def question_bytes(height: int, width: int) -> int:
    """The largest question about an image of that size, in bytes: a number of up to three digits for each pixel, which
    may be on a line of its own."""
    return 16 * height * width + 4096


def text_bytes() -> int:
    """The largest question about a text, in bytes: a character outside Unicode's first plane is 12 bytes of JSON."""
    return 12 * TEXT_LENGTH + 1024
