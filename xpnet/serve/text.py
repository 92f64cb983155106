"""The page /text and its routes: a model of text, the next characters, and what its attention reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from xpnet.serve import limits
from xpnet.serve.question import answer, described, problems, question
from xpnet.serve.work import Work
from xpnet.serve.writer import Writer

STATIC = Path(__file__).parent / "static"
NO_MODEL = "no model of text is served: python examples/char_gpt.py --save text.safetensors, then xpnet serve with it"


class AboutText(BaseModel):
    """The model of text."""

    name: str = Field(description="name of its file")
    characters: list[str] = Field(description="the characters that it knows")
    context: int = Field(description="how many characters it reads at most: the last ones of a text")
    parameters: int = Field(description="number of trained parameters")
    device: str = Field(description="where it runs: `cpu`, `cuda:0`")
    heads: list[int] = Field(description="number of heads in each layer of attention")


class TextModel(BaseModel):
    """The model of text, if there is one."""

    model: AboutText | None = Field(description="null if no model of text is served")


class Beginning(BaseModel, extra="forbid"):
    """A text to go on from."""

    text: Annotated[str, Field(max_length=limits.TEXT_LENGTH, strict=True, description="what has been written so far")]
    length: Annotated[int, Field(ge=0, le=limits.WRITTEN, strict=True, description="number of characters to write")] = 0
    temperature: Annotated[
        float, Field(ge=0.05, le=10, strict=True, description="the model's scores are divided by it; low is careful")
    ] = 1.0


class AttentionOfLayer(BaseModel):
    """Which positions the attention heads of one layer read."""

    path: str = Field(description="where the layer is in the network")
    heads: list[list[list[float]]] = Field(
        description="for each head and each position t of `read`: its attention to positions 0 to t, as probabilities"
    )


class Continuation(BaseModel):
    """How the text goes on, and what may come next."""

    written: str = Field(description="the characters that were written")
    read: str = Field(
        description="what the model has read to compute the following: the end of the text, with `written`"
    )
    probabilities: list[float] = Field(description="for each known character, the probability that it comes next")
    attention: list[AttentionOfLayer] = Field(description="each layer of attention, from the first on")


def add_text(app: FastAPI, writer: Writer | None, work: Work) -> None:
    """Add the page /text and its routes to `app`. Without a model, they say how to get one."""

    @app.api_route("/text", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "text.html")

    @app.get("/api/text/model", summary="The model of text")
    async def about() -> TextModel:
        return TextModel(model=AboutText(**writer.about()) if writer else None)

    @app.post(
        "/api/text",
        summary="Continue a text",
        openapi_extra=described(Beginning),
        responses=problems(404, 408, 413, 422, 503),
        response_model=Continuation,
    )
    async def go_on(request: Request) -> Response:
        """The characters that come next, each drawn by its probability, and what each attention head reads."""
        body = await request.body()
        async with work.place():
            return await work.run(request, continuation, body)

    def continuation(body: bytes) -> Response:
        asked = question(Beginning, body)
        return answer(served().go_on(asked.text, asked.length, asked.temperature, np.random.default_rng()))

    def served() -> Writer:
        if writer is None:
            raise HTTPException(404, NO_MODEL)
        return writer
