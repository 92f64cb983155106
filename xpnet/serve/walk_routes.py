"""The routes of the page /network: an image through the network and back, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from xpnet.serve.question import Image, answer, described, problems, question
from xpnet.serve.reader import Reader
from xpnet.serve.unit import at_unit
from xpnet.serve.walk import at_layer, overview
from xpnet.serve.work import Work

STATIC = Path(__file__).parent / "static"


class WalkQuestion(Image):
    """An image, and the class of whose loss the gradients are."""

    target: int | None = Field(None, strict=True, description="number of a class; without it, the likeliest")


class LayerQuestion(WalkQuestion):
    """An image, a class, and one layer of the way."""

    layer: int = Field(strict=True, description="its number in `stations` of `/api/walk`, from 0")


class UnitQuestion(LayerQuestion):
    """An image, a class, a layer, and one number that it gives."""

    unit: Annotated[list[Annotated[int, Field(strict=True)]], Field(max_length=3)] = Field(
        description="map, row and column, from 0"
    )


class Maps(BaseModel):
    """Numbers to look at: the channels of an image as maps, a matrix as one map, a list as one row."""

    shape: list[int] = Field(description="how many maps, rows and columns there are")
    block: int = Field(description="each number is the mean of so many rows and columns; 1 for small maps")
    numbers: list[list[list[float]]] = Field(description="the first maps, row by row")


class ParameterSize(BaseModel):
    """The trained numbers of a layer."""

    name: str
    shape: list[int]
    rms: float = Field(description="root of the mean square")
    gradient_rms: float | None = Field(description="of the loss's gradient by them; null for running statistics")


class StationSmall(BaseModel):
    """One use of a layer."""

    path: str = Field(description="where the layer is in the network")
    kind: str = Field(description="its class")
    layer: str = Field(description="with its settings")
    formula: str = Field(description="what it computes")
    sources: list[int] = Field(description="the stations that it takes its input from; -1 for the image")
    shape: list[int] = Field(description="of what it gives for one image")
    rms: float = Field(description="root of the mean square of what it gives")
    gradient_rms: float = Field(description="the same of the loss's gradient by that")
    parameters: list[ParameterSize]
    preview: list[list[list[int]]] = Field(description="a few maps in small, in percent of the largest number")
    gradient_preview: list[list[list[int]]] = Field(description="the same of the gradient")


class WalkResponse(BaseModel):
    """From the image to the loss, and back."""

    answer: int = Field(description="number of the likeliest class")
    target: int = Field(description="number of the class whose loss it is")
    loss: float = Field(description="cross-entropy: minus the logarithm of the target's probability")
    outputs: list[float] = Field(description="of the last layer, one for each class")
    probabilities: list[float] = Field(
        description="their softmax; after a last Softmax or Sigmoid the outputs themselves"
    )
    gradient: Maps = Field(description="of the loss by each pixel, from paper to ink")
    stations: list[StationSmall]


class LayerResponse(BaseModel):
    """What one layer gave, and how the loss would change with it."""

    values: Maps
    gradient: Maps = Field(description="of the loss by each of the values")


class Term(BaseModel):
    """One product of a sum."""

    layer: int = Field(description="the station whose number it is; -1 for the image")
    place: list[int] = Field(description="map, row and column of that number")
    number: float = Field(description="an input; on the way back, the gradient of a number that this one goes into")
    weight: float = Field(description="by how much it counts")
    product: float


class Sum(BaseModel):
    """bias + the products of all terms."""

    exact: bool = Field(description="whether it adds up; false for what is no weighted sum, such as Tanh")
    bias: float = Field(description="what there is without any input")
    n_terms: int = Field(description="how many numbers count")
    terms: list[Term] = Field(description="the largest products, at most twelve")
    rest: float = Field(description="the sum of all other products")


class Slope(BaseModel):
    """One weight, and the gradient of the loss by it."""

    place: list[int] = Field(description="map, row and column in `weights`")
    weight: float
    gradient: float


class UnitResponse(BaseModel):
    """One number of a layer, and how it and its gradient come about."""

    value: float
    gradient: float = Field(description="of the loss by it")
    before: float | None = Field(description="the input at the same place, where there are as many inputs as outputs")
    forward: Sum = Field(description="of inputs times weights: the value")
    backward: Sum = Field(description="of gradients times weights: the gradient; without terms after the last layer")
    inputs: Maps | None = Field(description="all those that count, and what is between them")
    weights: Maps | None = Field(description="of a convolution or Linear: those behind this number")
    weights_gradient: Maps | None = Field(description="of the loss with respect to them")
    steepest: list[Slope] = Field(description="the weights with the largest gradients, at most twelve")


def add_walk(app: FastAPI, reader: Reader, work: Work) -> None:
    """Add the page and its routes to `app`."""

    def route(path: str, summary: str, asks: type[WalkQuestion], answers: type[BaseModel]) -> Any:
        refusals = problems(408, 413, 422, 503)
        return app.post(
            path, summary=summary, openapi_extra=described(asks), responses=refusals, response_model=answers
        )

    @route("/api/walk", "Walk through the network and back", WalkQuestion, WalkResponse)
    async def walk(request: Request) -> Response:
        """Every layer in small, for one digit's pixels."""
        return await answered(request, whole)

    @route("/api/walk/layer", "One layer of that way", LayerQuestion, LayerResponse)
    async def layer(request: Request) -> Response:
        """What it gave, and the gradient of the loss by that; of large layers a part."""
        return await answered(request, one_layer)

    @route("/api/walk/unit", "One number, worked out", UnitQuestion, UnitResponse)
    async def unit(request: Request) -> Response:
        """Which inputs times which weights, plus the bias, give it."""
        return await answered(request, one_unit)

    async def answered(request: Request, work_out: Any) -> Response:
        body = await request.body()
        async with work.place():
            return await work.run(request, work_out, body)

    # The slow parts: they run in the threads of `work`

    def whole(body: bytes) -> Response:
        asked = question(WalkQuestion, body)
        return answer(overview(reader, asked.pixels, asked.target))

    def one_layer(body: bytes) -> Response:
        asked = question(LayerQuestion, body)
        return answer(at_layer(reader, asked.pixels, asked.layer, asked.target))

    def one_unit(body: bytes) -> Response:
        asked = question(UnitQuestion, body)
        return answer(at_unit(reader, asked.pixels, asked.layer, asked.unit, asked.target))

    @app.api_route("/network", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "network.html")
