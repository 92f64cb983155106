"""What attacks on `xpnet serve` cost another client, and how much memory they take.

    python -m benchmarks.serve_attacks [--only WORD]

Starts a server of its own on 127.0.0.1 for each attack, and connects to nothing else; each attack ends by itself, after
a minute at the latest. Meanwhile another client asks every 50 ms for a page's file, an explanation or the reading of a
drawing, in turn: what counts is its longest wait. Memory is the sum over the server's processes. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import multiprocessing
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from itertools import cycle, pairwise

from PIL import Image

from benchmarks.serve_load import drawing_of_a_7, memory, request_for

LONGEST = 60.0  # seconds that an attack may take
PAUSE = 0.05  # seconds between two requests of the other client
MIB = 2**20


# The attacks: each is given a port, and returns when it is over -----------------------------------------------------


def no_attack(port: int) -> None:
    """How long the other client waits without an attack, on this machine and at this time."""
    time.sleep(15)


def numbers_below_zero(port: int) -> None:
    """Four million wrong numbers in a question."""
    row = b",".join([b"-1"] * 4_000_000)
    send(port, request_for("POST /api/explain", b'{"pixels": [[' + row + b"]]}"))


def numbers_in_range(port: int) -> None:
    """15 MB of right numbers, eight times at once."""
    row = b",".join([b"17"] * 5_000_000)
    at_once(8, send, port, request_for("POST /api/explain", b'{"pixels": [[' + row + b"]]}"))


def many_scans(port: int) -> None:
    """A progressive JPEG with one scan repeated 8,000 times, twice at once."""
    colours = io.BytesIO()  # the image is grey, so that the scans of the colours are short
    Image.open(io.BytesIO(drawing_of_a_7(4000, "PNG"))).convert("RGB").save(colours, "JPEG", progressive=True)
    at_once(2, send, port, request_for("POST /api/read", with_scans(colours.getvalue(), 8000)))


def large_images(port: int) -> None:
    """A PNG of 50 million pixels in 16 bits, four times at once."""
    at_once(4, send, port, request_for("POST /api/read", png_of_stripes(8192, 6144)))


def unfinished_bodies(port: int) -> None:
    """150 bodies of 16 MiB that lack their last byte."""
    request = request_for("POST /api/read", bytes(16 * MIB))[:-1]
    at_once(150, send, port, request)


def answers_never_read(port: int) -> None:
    """100 clients that ask 200 times for a file and read nothing."""
    request = request_for("GET /static/style.css", b"", connection="keep-alive") * 200
    at_once(100, send, port, request, False)


def silent_connections(port: int) -> None:
    """400 clients that connect and say nothing."""
    at_once(400, send, port, b"")


def hang_ups(port: int) -> None:
    """60 clients that hang up in the middle of their body, and 60 that do so before their answer."""
    request = request_for("POST /api/read", drawing_of_a_7(1600, "JPEG"))
    for part in (request[:-1000], request) * 60:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(part)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # at once
        time.sleep(0.01)


ATTACKS: tuple[Callable[[int], None], ...] = (
    no_attack,
    numbers_below_zero,
    numbers_in_range,
    many_scans,
    large_images,
    unfinished_bodies,
    answers_never_read,
    silent_connections,
    hang_ups,
)


def at_once(count: int, function: Callable[..., None], *arguments: object) -> None:
    threads = [threading.Thread(target=function, args=arguments, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LONGEST
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))


def send(port: int, request: bytes, reads: bool = True) -> None:
    """Send the request, and wait until the server has answered or closed the connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=LONGEST) as connection:
        with contextlib.suppress(ConnectionError):  # refused before its end: there is an answer all the same
            connection.sendall(request)
        if reads:
            connection.recv(1)
        else:
            time.sleep(15)


def with_scans(jpeg: bytes, count: int) -> bytes:
    """The progressive JPEG with the shortest of its scans repeated."""
    starts = [match.start() for match in re.finditer(b"\xff\xda", jpeg)] + [len(jpeg) - 2]
    shortest = min((jpeg[start:end] for start, end in pairwise(starts)), key=len)
    return jpeg[:-2] + shortest * count + jpeg[-2:]


def png_of_stripes(width: int, height: int) -> bytes:
    """A PNG of 16 bits per pixel whose file is small."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    row = b"\0" + (b"\xff\xff" * 64 + b"\x20\x20" * 64) * (width // 128)
    packer = zlib.compressobj(9)
    pixels = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# The other client ---------------------------------------------------------------------------------------------------


class OtherClient(threading.Thread):
    """Keeps asking until `stop`. `waits`: (seconds, path); `refused`: how often the answer was not 200."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.port, self.waits, self.refused = port, [], 0
        self._over = threading.Event()

    def run(self) -> None:
        pixels = json.dumps({"pixels": [[0] * 28] * 28}).encode()
        drawing = drawing_of_a_7(288, "PNG")
        asked = (("GET", "/static/app.js", None), ("POST", "/api/explain", pixels), ("POST", "/api/read", drawing))
        for method, path, body in cycle(asked):
            started = time.perf_counter()
            status = self.ask(method, path, body)
            self.waits.append((time.perf_counter() - started, path))
            self.refused += status != 200
            if self._over.wait(PAUSE):
                break

    def ask(self, method: str, path: str, body: bytes | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * LONGEST)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except OSError:
            return 0
        finally:
            connection.close()
        return answer.status

    def stop(self) -> None:
        self._over.set()
        self.join()


# The server ---------------------------------------------------------------------------------------------------------


class MemoryWatch(threading.Thread):
    """`peak`: the most MiB that a process and its children had, sampled every 20 ms."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak = pid, 0.0

    def run(self) -> None:
        while resident := memory(self.pid):
            self.peak = max(self.peak, resident)
            time.sleep(0.02)


def measure(attack: Callable[[int], None]) -> str:
    """Run one attack, and return its row of the table."""
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-u", "-m", "xpnet", "serve", "--port", "0", "--device", "cpu"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            port = int(re.search(r":(\d+)", server.stdout.readline()).group(1))
            client, watch = OtherClient(port), MemoryWatch(server.pid)
            watch.start()
            warm = OtherClient(port)
            warm.start()
            time.sleep(1.5)
            warm.stop()
            client.start()
            time.sleep(0.3)
            started = time.perf_counter()
            attacker = multiprocessing.Process(target=attack, args=[port])  # must not delay the client
            attacker.start()
            attacker.join()
            took = time.perf_counter() - started
            client.stop()
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(30)
            server.kill()
        log.seek(0)
        lines = len(log.read().splitlines())
    waits = sorted(client.waits)
    (median, _), (longest, path) = waits[len(waits) // 2], waits[-1]
    return (
        f"{attack.__name__.replace('_', ' '):<20} {took:>8.1f} {1000 * median:>8.0f} "
        f"{1000 * longest:>8.0f} {path:<16} {client.refused:>8} {watch.peak:>8.0f} {lines:>8}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", default="", help="run only the attacks with this in their name")
    word = options.parse_args().only
    print(
        f"{'':<20} {'attack':>8} {'another client, ms':>17} {'it asked for':<16} {'it was':>8} {'peak':>8} {'lines':>8}"
    )
    print(f"{'':<20} {'s':>8} {'median':>8} {'longest':>8} {'then':<16} {'refused':>8} {'MiB':>8} {'logged':>8}")
    for attack in ATTACKS:
        if word in attack.__name__:
            print(measure(attack), flush=True)


if __name__ == "__main__":
    main()
