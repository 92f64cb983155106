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
    """An image, and the class whose loss the gradients belong to."""

    target: int | None = Field(None, strict=True, description="number of a class; without it, the likeliest")


class LayerQuestion(WalkQuestion):
    """An image, a class, and one layer."""

    layer: int = Field(strict=True, description="its number in `stations` of `/api/walk`, from 0")


class UnitQuestion(LayerQuestion):
    """An image, a class, a layer, and one number of its output."""

    unit: Annotated[list[Annotated[int, Field(strict=True)]], Field(max_length=3)] = Field(
        description="map, row and column of the number, from 0"
    )


class Maps(BaseModel):
    """Numbers to look at: the channels of an image as maps, a matrix as one map, a list as one row."""

    shape: list[int] = Field(description="number of maps, rows and columns")
    block: int = Field(description="each number is the mean of a block of this many rows and columns; 1 for small maps")
    numbers: list[list[list[float]]] = Field(description="the first maps, row by row")


class ParameterSize(BaseModel):
    """The trained numbers of a layer."""

    name: str
    shape: list[int]
    rms: float = Field(description="root mean square of the numbers")
    gradient_rms: float | None = Field(
        description="root mean square of the gradient of the loss with respect to them; null for running statistics"
    )


class StationSmall(BaseModel):
    """One use of a layer."""

    path: str = Field(description="where the layer is in the network")
    kind: str = Field(description="the class of the layer")
    layer: str = Field(description="the layer with its settings")
    formula: str = Field(description="what it computes")
    sources: list[int] = Field(description="numbers of the stations that its input comes from; -1 for the image")
    shape: list[int] = Field(description="shape of its output for one image")
    rms: float = Field(description="root mean square of its output")
    gradient_rms: float = Field(description="root mean square of the gradient of the loss with respect to its output")
    parameters: list[ParameterSize]
    preview: list[list[list[int]]] = Field(
        description="a few maps of the output, reduced in size, in percent of the largest number"
    )
    gradient_preview: list[list[list[int]]] = Field(description="the same for the gradient")


class WalkResponse(BaseModel):
    """From the image to the loss, and back."""

    answer: int = Field(description="number of the likeliest class")
    target: int = Field(description="number of the class for which the loss is computed")
    loss: float = Field(description="cross-entropy: minus the logarithm of the target's probability")
    outputs: list[float] = Field(description="outputs of the last layer, one for each class")
    probabilities: list[float] = Field(
        description="their softmax; after a last Softmax or Sigmoid the outputs themselves"
    )
    gradient: Maps = Field(description="gradient of the loss with respect to each pixel, from paper to ink")
    stations: list[StationSmall]


class LayerResponse(BaseModel):
    """The output of one layer, and how the loss would change with it."""

    values: Maps
    gradient: Maps = Field(description="gradient of the loss with respect to each of the values")
    attention: Maps | None = Field(
        description="for self-attention, a map for each head: row t holds the weights with which position t reads"
    )


class Term(BaseModel):
    """One product of a sum."""

    layer: int = Field(description="the station that the number comes from; -1 for the image")
    place: list[int] = Field(description="map, row and column of that number")
    number: float = Field(description="an input; on the way back, the gradient of a number that this one goes into")
    weight: float = Field(description="what the number is multiplied by")
    product: float


class Sum(BaseModel):
    """bias + the products of all terms."""

    exact: bool = Field(
        description="whether bias and products add up to the result; false if it is no weighted sum, as in Tanh"
    )
    bias: float = Field(description="the result if all inputs were 0; 0 for a gradient")
    n_terms: int = Field(description="number of products whose weight is not 0")
    terms: list[Term] = Field(description="the largest products, at most twelve")
    rest: float = Field(description="the sum of all other products")


class Slope(BaseModel):
    """One weight, and the gradient of the loss with respect to it."""

    place: list[int] = Field(description="map, row and column in `weights`")
    weight: float
    gradient: float


class UnitResponse(BaseModel):
    """One number of a layer's output, and how it and its gradient are computed."""

    value: float
    gradient: float = Field(description="gradient of the loss with respect to it")
    before: float | None = Field(
        description="the input at the same place, if there are as many inputs as outputs; else null"
    )
    forward: Sum = Field(description="the value, as a sum of inputs times weights")
    backward: Sum = Field(
        description="the gradient, as a sum of gradients times weights; without terms for the last layer"
    )
    inputs: Maps | None = Field(description="all inputs whose weight is not 0, and those between them")
    weights: Maps | None = Field(
        description="for a convolution or Linear: the weights that this number is computed with"
    )
    weights_gradient: Maps | None = Field(description="gradient of the loss with respect to these weights")
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
        """An overview of every layer, for one digit's pixels."""
        return await answered(request, whole)

    @route("/api/walk/layer", "One layer of that walk", LayerQuestion, LayerResponse)
    async def layer(request: Request) -> Response:
        """Its output, and the gradient of the loss with respect to that; only a part for large layers."""
        return await answered(request, one_layer)

    @route("/api/walk/unit", "One number, worked out", UnitQuestion, UnitResponse)
    async def unit(request: Request) -> Response:
        """The inputs, weights and bias that it is computed from."""
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
