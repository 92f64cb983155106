"""The networks that are built in a line. What they compute is checked by their rows in the table of cases."""

from __future__ import annotations

import pytest

from xpnet import nn, select


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]


def test_a_cnn_in_order():
    assert kinds(nn.cnn((8, 8), 10, channels=(4,), hidden=16, dropout=0.3)) == [
        "Reshape", "Blocked", "BatchNorm", "ReLU", "Flatten", "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    assert kinds(nn.cnn((8, 8, 1), 10).layers[0]) == ["Conv2d", "MaxPool2d"]
    assert kinds(nn.cnn((8, 8, 3), 10, channels=())) == ["Flatten", "Linear", "ReLU", "Linear"]


def test_sizes_and_shapes_that_are_one_number():
    with pytest.raises(TypeError, match=r"sizes of an mlp are a list, such as nn\.mlp\(\[784, 128, 10\]\), not 64"):
        nn.mlp(64, 32, 10)
    for make in (nn.cnn, nn.resnet):
        with pytest.raises(nn.ShapeError, match=r"is a tuple, such as \(784,\), not 28"):
            make(28, 10)


@pytest.mark.parametrize("make", [nn.cnn, nn.resnet])
@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 3)])
def test_images_with_and_without_a_channel_axis(make, shape):
    network = make(shape, 7, **({"depth": 8} if make is nn.resnet else {}))
    assert nn.Model(network, shape, select("cpu")).output_shape == (7,)


@pytest.mark.parametrize("make", [nn.cnn, nn.resnet])
def test_no_convolution_has_a_bias_that_batch_norm_takes_off_again(make):
    layers = [layer for _, layer in make((8, 8), 3).walk()]
    assert {layer.bias for layer in layers if isinstance(layer, nn.Conv2d)} == {False}


def test_the_stages_of_a_resnet():
    network = nn.resnet((32, 32, 3), 10, depth=20, width=16)
    blocks = [layer for layer in network.layers if isinstance(layer, nn.Residual)]
    outputs = [layer.n_out for block in blocks for layer in block.layers if isinstance(layer, nn.Conv2d)]
    assert outputs == [16] * 6 + [32] * 6 + [64] * 6
    assert [i for i, block in enumerate(blocks) if block.shortcut] == [3, 6]
    assert 1 + len(outputs) + 1 == 20  # as the paper counts layers
    assert kinds(network)[:7] == ["Conv2d", "BatchNorm", "ReLU", "Residual", "ReLU", "Residual", "ReLU"]
    assert kinds(blocks[3]) == ["Conv2d", "BatchNorm", "ReLU", "Conv2d", "BatchNorm"]


@pytest.mark.parametrize("depth", [2, 19, 21])
def test_a_depth_that_no_resnet_has(depth):
    with pytest.raises(ValueError, match=rf"8, 14, 20, \.\., not {depth}"):
        nn.resnet((8, 8), 3, depth)


@pytest.mark.parametrize("make", [nn.cnn, nn.resnet])
@pytest.mark.parametrize("shape", [(8,), (1, 8, 8, 3)])
def test_what_is_no_image(make, shape):
    with pytest.raises(nn.ShapeError, match="images are"):
        make(shape, 3)


def test_an_image_that_is_too_small_to_be_halved_again():
    with pytest.raises(nn.ShapeError, match=r"layers\.3\.layers\.1"):
        nn.Model(nn.cnn((3, 8, 1), 3), (3, 8, 1), select("cpu"))
