"""Every layer as ONNX: checked by `onnx.checker`, and run by onnxruntime beside the layer itself."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn.shapes import each
from xpnet.verify.cases import LAYERS, public_names
from xpnet.verify.passes import draw_values, is_data, unnamed
from xpnet.verify.rows import name

onnx = pytest.importorskip("onnx", reason='onnx is not installed: pip install "xpnet[onnx]"')
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from xpnet.onnx import to_onnx  # noqa: E402
from xpnet.onnx.registry import EXPORTERS  # noqa: E402


def run(proto, x):
    """The outputs of onnxruntime, for inputs that are brought into the types that the file asks for."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    arrays = x if isinstance(x, tuple) else (x,)
    given = {i.name: a.astype(kinds[i.type]) for i, a in zip(session.get_inputs(), arrays, strict=True)}
    return session.run(None, given)


def built(case, batch):
    """The row's model in evaluation, with values of its own, and an input."""
    subject = case.subject(batch)
    values = draw_values(subject)
    tensors = {key: v for key, v in values.items() if not is_data(key)}
    model = nn.Model(subject.make(), subject.shape, Backend("float32"), tensors=tensors)
    x = unnamed("x", values)
    return model, each(lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a, x)


def close(got, want):
    got, want = (v if isinstance(v, (tuple, list)) else (v,) for v in (got, want))
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max(initial=0) <= 1e-5 * max(1, np.abs(other).max(initial=0))


@pytest.mark.parametrize("case", LAYERS, ids=name)
def test_layers(case):
    for batch in case.batches:
        model, x = built(case, batch)
        close(run(to_onnx(model), x), model.predict(x))


def test_every_layer_has_an_exporter():
    layers = {getattr(nn, name) for name in public_names() if isinstance(getattr(nn, name, None), type)}
    assert len(layers) > 40
    assert layers - EXPORTERS.keys() == set()
