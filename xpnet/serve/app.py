"""The routes: a page, and the JSON API behind it."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from xpnet import __version__
from xpnet.photo import ImageError
from xpnet.photo.opening import Luma
from xpnet.serve.guard import Guard
from xpnet.serve.limits import IMAGE_BYTES, SETTINGS_BYTES, question_bytes, text_bytes
from xpnet.serve.question import Image, answer, described, problems, question
from xpnet.serve.reader import QuestionError, Reader
from xpnet.serve.text import add_text
from xpnet.serve.training import add_training
from xpnet.serve.walk_routes import Maps, add_walk
from xpnet.serve.work import Work
from xpnet.serve.writer import Writer

STATIC = Path(__file__).parent / "static"

# Some systems give these files other types; a browser that is told not to guess would then refuse them.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/css", ".css")


class About(BaseModel):
    """The model that answers."""

    name: str = Field(description="name of its file")
    classes: list[str] = Field(description="the names of its outputs")
    image: tuple[int, int] = Field(description="height and width of the images that it takes")
    parameters: int = Field(description="number of trained parameters")
    device: str = Field(description="where it runs: `cpu`, `cuda:0`")
    dtype: str = Field(description="type of number that it computes in, such as `float32`")
    layers: list[dict[str, str]] = Field(description="path and description of each layer, from the input on")
    max_bytes: int = Field(description="the largest image that may be sent")


class DigitFound(BaseModel):
    """One digit of an image."""

    answer: str | None = Field(description="the class, or null if the model is unsure")
    probability: float = Field(description="probability of the likeliest class")
    probabilities: list[float] = Field(
        description="of each class: the mean over the digit and copies of it shifted by a pixel"
    )
    reason: str = Field(description="why there is no answer; empty if there is one")
    box: tuple[float, float, float, float] = Field(
        description="left, top, right, bottom, in fractions of the upright image's width and height"
    )
    pixels: list[list[int]] = Field(description="the digit as the model saw it: 0 for paper to 255 for ink")


class ReadResponse(BaseModel):
    """All digits of an image, in reading order."""

    text: str = Field(description="the answers as one text, with ? where the model is unsure")
    reason: str = Field(description="why no digit was found; empty if any was")
    digits: list[DigitFound]


class Question(Image):
    """An image, and the class to explain."""

    answer: int | None = Field(None, strict=True, description="number of a class; without it, the likeliest")
    against: int | None = Field(None, strict=True, description="a class to compare it with; without it, all others")


class Activations(BaseModel):
    """The output of one layer."""

    path: str = Field(description="where the layer is in the network")
    kind: str = Field(description="the class of the layer")
    shape: list[int] = Field(description="shape of its output for one image")
    values: Maps


class Explanation(BaseModel):
    """What happens inside the model for one image."""

    answer: str = Field(description="the class that is explained")
    probabilities: list[float] = Field(description="of each class, for exactly these pixels")
    margin: float = Field(
        description="how far the answer's output is above that of `against`, or above the mean of all"
    )
    layers: list[Activations] = Field(description="all layers, from the input on")
    gradient: list[list[float]] = Field(description="how the margin would change with each pixel, from paper to ink")
    contribution: list[list[float]] = Field(
        description="gradient times ink: how much each pixel raised or lowered the margin"
    )


IMAGE = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY = {"required": True, "content": {"image/*": IMAGE, "application/octet-stream": IMAGE}}


def create_app(reader: Reader, name: str, host: str = "127.0.0.1", writer: Writer | None = None) -> ASGIApp:
    """The ASGI application for a model called `name`, and optionally a model of text, to be served on `host`."""
    work = Work(reader.model.backend)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        work.start()
        yield
        work.close()

    app = FastAPI(
        title="xpnet",
        description="Reads handwritten digits. Images go in as they are, answers come back as JSON. "
        'An error is answered with `{"error": "one line"}`.',
        version=__version__,
        docs_url=None,  # FastAPI's own pages fetch scripts from other servers
        redoc_url=None,
        lifespan=lifespan,
    )
    add_errors(app)

    @app.get("/api/model", summary="The model that answers")
    async def model() -> About:
        return About(name=name, max_bytes=IMAGE_BYTES, **reader.about())

    @app.post(
        "/api/read",
        summary="Read the digits in an image",
        openapi_extra={"requestBody": IMAGE_BODY},
        responses=problems(408, 413, 422, 503),
        response_model=ReadResponse,
    )
    async def read(request: Request) -> Response:
        """The body is the file itself: PNG, JPEG, WebP, BMP, TIFF or GIF (its first frame)."""
        image = await request.body()
        async with work.place():
            return await work.run(request, reading, await work.open(request, image))

    @app.post(
        "/api/explain",
        summary="Look inside the model",
        openapi_extra=described(Question),
        responses=problems(408, 413, 422, 503),
        response_model=Explanation,
    )
    async def explain(request: Request) -> Response:
        """The body has the pixels of one digit, as `/api/read` returns them."""
        body = await request.body()
        async with work.place():
            return await work.run(request, explanation, body)

    # The slow parts, including the conversion from and to JSON: they run in the threads of `work`

    def reading(image: Luma) -> Response:
        return answer(reader.read(image))

    def explanation(body: bytes) -> Response:
        asked = question(Question, body)
        return answer(reader.explain(asked.pixels, asked.answer, asked.against))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")

    add_walk(app, reader, work)
    add_training(app)
    add_text(app, writer, work)
    app.mount("/static", StaticFiles(directory=STATIC))
    # Around everything, so that the answers to the server's own failures have the security headers too
    largest = {"/api/read": IMAGE_BYTES, "/api/train": SETTINGS_BYTES, "/api/text": text_bytes()}
    return Guard(app, host, largest, question_bytes(*reader.size))


def add_errors(app: FastAPI) -> None:
    """Answer every error with one line in JSON. The client learns nothing of the server's own failures: they are
    logged."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(ImageError)
    @app.exception_handler(QuestionError)
    async def unreadable(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response()  # nobody receives it; and that the client has gone need not be logged

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the server failed; its log says why"}, 500)
