"""Training that is watched live: a request starts a run, and its answer goes on until the run ends.

A run is a process (`learner.py`) that belongs to one connection: when the connection ends, so does the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from xpnet.serve import limits
from xpnet.serve.guard import busy
from xpnet.serve.question import described, problems, question

STATIC = Path(__file__).parent / "static"

COMMAND = (sys.executable, "-P", "-m", "xpnet.serve.learner")
LINES = "application/x-ndjson"
LONGEST_LINE = 2**20  # bytes


class TrainingSettings(BaseModel, extra="forbid"):
    """A network of fully connected layers, and how it is trained: by plain gradient descent on batches of 32."""

    rate: Annotated[float, Field(gt=0, le=1e6, strict=True, description="the learning rate")] = 0.1
    width: Annotated[int, Field(ge=1, le=256, strict=True, description="units of each hidden layer")] = 32
    depth: Annotated[int, Field(ge=0, le=8, strict=True, description="number of hidden layers")] = 2
    activation: Annotated[Literal["relu", "gelu", "tanh", "sigmoid"], Field(description="of each hidden layer")] = (
        "relu"
    )
    epochs: Annotated[
        int, Field(ge=1, le=limits.TRAINING_EPOCHS, strict=True, description="passes over all digits")
    ] = 60


class Misread(BaseModel):
    """A held-out digit that the network reads wrongly."""

    digit: str = Field(description="the digit that it is")
    read: str = Field(description="the digit that the network takes it for")
    probability: float | None = Field(
        description="probability that the network gives to its answer; null if not finite"
    )
    pixels: list[list[int]] = Field(description="0 for paper to 255 for ink")


class Epoch(BaseModel):
    """The run after an epoch, one line of JSON. A loss is null if it is not finite. If the run ends with an error,
    such as a loss that is not finite, the last line is `{"error": "..."}`."""

    epoch: int = Field(description="number of epochs done; 0 before any learning")
    rate: float = Field(description="the learning rate")
    training_loss: float | None = Field(description="mean over the epoch's batches as they were trained")
    held_out_loss: float | None = Field(description="mean over the held-out digits")
    training_accuracy: float = Field(description="fraction of right answers, over the same batches")
    held_out_accuracy: float = Field(description="fraction of right answers, over the held-out digits")
    held_out: int = Field(description="number of held-out digits")
    wrong: int = Field(description="number of held-out digits that are read wrongly")
    misread: list[Misread] = Field(description="the first of the digits read wrongly")
    weights: list[list[list[float]]] = Field(
        description="weights of the first units of the first layer, each unit as an image"
    )


class Trainings:
    """Places for runs, at most `limits.TRAININGS` at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(limits.TRAININGS)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for a run. Raises 503 if none becomes free soon: a page's previous run gives its place back when its
        connection ends."""
        try:
            await asyncio.wait_for(self._places.acquire(), limits.TRAINING_WAIT)
        except TimeoutError:
            raise busy(f"{limits.TRAININGS} networks are in training, as many as may be at once") from None
        try:
            yield
        finally:
            self._places.release()


class Watched(Response):
    """The answer: the lines of a training process as they come. However the answer ends, the process ends with it."""

    def __init__(self, trainings: Trainings, settings: TrainingSettings):
        super().__init__(media_type=LINES)
        self._trainings, self._settings = trainings, settings
        del self.headers["content-length"]  # it is not known yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._trainings.place(), learner(self._settings) as process:
            watch = asyncio.create_task(kill_when_gone(process, receive))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                last = await self._last_line(process, send)
                await send({"type": "http.response.body", "body": last})
            finally:
                watch.cancel()

    async def _last_line(self, process: Process, send: Send) -> bytes:
        """Send the lines of the process, and return a last line with the error if the run failed (else nothing)."""
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limits.TRAINING_SECONDS):
                async for line in process.stdout:
                    if line.endswith(b"\n"):  # a process that dies may leave half a line
                        await send({"type": "http.response.body", "body": line, "more_body": True})
                failed = await process.wait() != 0
        except TimeoutError:
            return problem(f"the run was ended: it may take {limits.TRAINING_SECONDS:.0f} s")
        return problem("the training process failed; the server's log says why") if failed else b""


@asynccontextmanager
async def learner(settings: TrainingSettings) -> AsyncIterator[Process]:
    """A process that trains, killed at the end of the block. Ctrl-C, which ends the server, does not reach it (it has a
    session of its own); and it imports modules from where the server does."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, settings.model_dump_json(),
        stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, limit=LONGEST_LINE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def kill_when_gone(process: Process, receive: Receive) -> None:
    """Kill the process once its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if process.returncode is None:
        process.kill()


def problem(why: str) -> bytes:
    """The last line of a run that failed."""
    return json.dumps({"error": why}).encode() + b"\n"


def add_training(app: FastAPI) -> None:
    """Add the page /train and its route to `app`."""
    trainings = Trainings()

    @app.api_route("/train", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "train.html")

    @app.post(
        "/api/train",
        summary="Train a network, and watch it",
        openapi_extra=described(TrainingSettings),
        responses=problems(408, 413, 422, 503),
        response_model=Epoch,
    )
    async def train(request: Request) -> Response:
        """Trains on four fifths of the embedded digits; the rest are held out, to measure the network. The answer has a
        line for each epoch, sent as the network learns. To stop the run, close the connection."""
        return Watched(trainings, question(TrainingSettings, await request.body()))
