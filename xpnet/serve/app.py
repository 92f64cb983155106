"""The routes: a page, and the JSON API behind it."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from xpnet import __version__
from xpnet.photo import ImageError
from xpnet.serve.limits import MAX_BODY, Guard, Worker
from xpnet.serve.reader import QuestionError, Reader

STATIC = Path(__file__).parent / "static"

# Some systems say otherwise of these, and a browser that is told not to guess then refuses the page's own files.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/css", ".css")


class About(BaseModel):
    """The model that answers."""

    name: str = Field(description="of its file")
    classes: list[str] = Field(description="the names of its outputs")
    picture: tuple[int, int] = Field(description="height and width of the pictures that it takes")
    parameters: int = Field(description="how many numbers are trained")
    device: str = Field(description="where it runs: `cpu`, `cuda:0`")
    dtype: str = Field(description="in what it computes")
    layers: list[dict[str, str]] = Field(description="path and description of each, from the input on")
    max_bytes: int = Field(description="the largest picture that may be sent")


class DigitFound(BaseModel):
    """One digit of a picture."""

    answer: str | None = Field(description="the class, or null if the model is unsure")
    probability: float = Field(description="of the likeliest class")
    probabilities: list[float] = Field(description="of all classes: the mean over views shifted by a pixel")
    reason: str = Field(description="why there is no answer; empty if there is")
    box: tuple[float, float, float, float] = Field(
        description="left, top, right, bottom, in fractions of the upright picture's width and height"
    )
    pixels: list[list[int]] = Field(description="as the model saw it: 0 for paper to 255 for ink")


class Reading(BaseModel):
    """All digits of a picture, in reading order."""

    text: str = Field(description="the answers as one text, ? for each that is unsure")
    reason: str = Field(description="why no digit was found; empty if there are any")
    digits: list[DigitFound]


class Question(BaseModel):
    """A picture as the model takes it (see `pixels` of a reading), and the class to explain."""

    pixels: list[list[Annotated[int, Field(ge=0, le=255, strict=True)]]] = Field(
        max_length=1024, description="0 for paper to 255 for ink"
    )
    answer: int | None = Field(None, strict=True, description="number of a class; without it, the likeliest")


class Activations(BaseModel):
    """What one layer gave."""

    path: str = Field(description="where it is in the network")
    kind: str = Field(description="its class")
    shape: list[int] = Field(description="of what it gives for one picture")
    values: list[float] = Field(description="row by row")


class Explanation(BaseModel):
    """What happens inside the model for one picture."""

    answer: str = Field(description="the class that is explained")
    probabilities: list[float] = Field(description="of all classes, for these very pixels")
    layers: list[Activations] = Field(description="from the input on")
    gradient: list[list[float]] = Field(description="how the answer's output would change with each pixel")
    spoke: list[list[float]] = Field(description="gradient times ink: what each pixel has added or taken")


class Problem(BaseModel):
    """What was wrong, in one line."""

    error: str


PICTURE = {"schema": {"type": "string", "format": "binary"}}
PICTURE_BODY = {"required": True, "content": {"image/*": PICTURE, "application/octet-stream": PICTURE}}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for the description of the API."""
    return {code: {"model": Problem} for code in codes}


def create_app(reader: Reader, name: str, host: str = "127.0.0.1") -> ASGIApp:
    """The ASGI application for a model called `name`, to be served on `host`."""
    worker = Worker()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(
        title="xpnet",
        description="Reads handwritten digits. Pictures go in as they are, answers come back as JSON; whatever goes "
        'wrong is answered with `{"error": "one line"}`.',
        version=__version__,
        docs_url=None,  # FastAPI's own pages fetch scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    add_errors(app)

    @app.get("/api/model", summary="The model that answers")
    async def model() -> About:
        return About(name=name, max_bytes=MAX_BODY, **reader.about())

    @app.post(
        "/api/read",
        summary="Read the digits in a picture",
        openapi_extra={"requestBody": PICTURE_BODY},
        responses=problems(408, 413, 422, 503),
        response_model=Reading,
    )
    async def read(request: Request) -> JSONResponse:
        """The body is the file itself: PNG, JPEG, WebP, BMP, TIFF or GIF (its first frame)."""
        return JSONResponse(await worker.run(reader.read, await request.body()))

    @app.post(
        "/api/explain",
        summary="Look inside the model",
        responses=problems(408, 413, 422, 503),
        response_model=Explanation,
    )
    async def explain(question: Annotated[Question, Body()]) -> JSONResponse:
        """Takes one digit's pixels, as a reading gives them."""
        return JSONResponse(await worker.run(reader.explain, question.pixels, question.answer))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> FileResponse:
        return FileResponse(STATIC / "docs.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    return Guard(app, host)  # around everything, so that answers to our own failures have the headers too


def add_errors(app: FastAPI) -> None:
    """Every error as JSON with one line. What is ours goes to the server's log, and the client learns nothing of it."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(ImageError)
    @app.exception_handler(QuestionError)
    async def unreadable(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the server failed; its log says why"}, 500)
