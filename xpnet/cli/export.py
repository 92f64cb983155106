"""`xpnet export`: a model as an ONNX file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from xpnet.cli import options
from xpnet.cli.console import Failed, check_file, say


def export(
    model: options.ModelFile,
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write; an existing one is replaced.")],
) -> None:
    """Write a model as an ONNX file, for other programs to run.

    Writes the model as it is when not training, in float32. Needs one more package: pip install "xpnet[onnx]"
    """
    if importlib.util.find_spec("onnx") is None:
        raise Failed('ONNX files need the package onnx: pip install "xpnet[onnx]"')
    check_file("OUT", out, ".onnx")
    import xpnet
    from xpnet import onnx

    opened = xpnet.load(model, "cpu")
    onnx.export(opened, out)
    say(f"{out}: operator set {onnx.OPSET}, {opened.n_parameters:,} parameters")
    say(f"from samples of shape {opened.input_shape} to outputs of shape {opened.output_shape}")
