"""PyTorch, eager or compiled, with the weights of the same network in its own layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.works import Work


def make(work: Work, threads: int, *options: str) -> Callable[[int], Any]:
    torch.set_num_threads(threads)
    model: Any = NETWORKS[work.kind]([torch.from_numpy(t) for t in work.tensors().values()])
    x, y = (torch.from_numpy(a) for a in work.data())
    if work.kind == "adam":
        return updates(model, work.rate, *options)
    if work.kind == "answers":
        return torch.inference_mode()(lambda i: model(x[i]).numpy())
    if x.ndim == 5:
        x = x.permute(0, 1, 4, 2, 3).contiguous()
    batches = [xi.contiguous(memory_format=torch.channels_last) if "channels last" in options else xi for xi in x]
    if "channels last" in options:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), work.rate, fused=True)
    if "compiled" in options:
        model = torch.compile(model)

    def step(i: int) -> Any:
        out = model(batches[i])
        loss = F.cross_entropy(out.flatten(0, -2), y[i].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def updates(model: nn.Module, rate: float, option: str) -> Callable[[int], Any]:
    optimizer = torch.optim.Adam(model.parameters(), rate, **{option: True})
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)

    def step(i: int) -> Any:
        optimizer.step()
        return model.weight.detach()

    return step


def versions() -> dict[str, str]:
    return {"PyTorch": torch.__version__}


def linear(W: torch.Tensor, b: torch.Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(*W.shape, bias=b is not None)
    layer.weight.data = W.T.contiguous()
    if b is not None:
        layer.bias.data = b
    return layer


def perceptron(tensors: list[torch.Tensor]) -> nn.Module:
    layers: list[nn.Module] = []
    for W, b in zip(tensors[::2], tensors[1::2], strict=True):
        layers += [linear(W, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional(tensors: list[torch.Tensor]) -> nn.Module:
    W1, b1, W2, b2, W3, b3, W4, b4 = tensors
    convolutions = []
    for W, b in ((W1, b1), (W2, b2)):
        layer = nn.Conv2d(W.shape[2], W.shape[3], 3)
        layer.weight.data, layer.bias.data = W.permute(3, 2, 0, 1).contiguous(), b
        convolutions += [layer, nn.ReLU()]
    by_channel = W3.reshape(12, 12, 64, 128).permute(2, 0, 1, 3).reshape(-1, 128)  # Flatten's order differs
    dense = [nn.MaxPool2d(2), nn.Flatten(), linear(by_channel, b3), nn.ReLU(), linear(W4, b4)]
    return nn.Sequential(*convolutions, *dense)


class Recurrent(nn.Module):
    def __init__(self, tensors: list[torch.Tensor]):
        super().__init__()
        W, U, b, W_out, b_out = tensors
        units = len(U)
        self.lstm = nn.LSTM(len(W), units, batch_first=True)
        for name, a in (("weight_ih_l0", W.T), ("weight_hh_l0", U.T), ("bias_ih_l0", b)):
            i, f, o, n = a.split(units)
            getattr(self.lstm, name).data = torch.cat([i, f, n, o])
        self.lstm.bias_hh_l0.data.zero_()
        self.out = linear(W_out, b_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0])


class Block(nn.Module):
    def __init__(self, tensors: list[torch.Tensor], heads: int = 4):
        super().__init__()
        g1, b1, qkv, out, g2, b2, wide, narrow = tensors
        self.heads = heads
        self.norm_1, self.norm_2 = norm(g1, b1), norm(g2, b2)
        self.qkv, self.out, self.wide, self.narrow = map(linear, (qkv, out, wide, narrow))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        N, T, C = x.shape
        q, k, v = (a.view(N, T, self.heads, -1).transpose(1, 2) for a in self.qkv(self.norm_1(x)).split(C, dim=2))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(read.transpose(1, 2).reshape(N, T, C))
        return x + self.narrow(F.gelu(self.wide(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, tensors: list[torch.Tensor]):
        super().__init__()
        characters, positions, *blocks, gamma, beta, last = tensors
        self.characters = nn.Embedding.from_pretrained(characters, freeze=False)
        self.positions = nn.Parameter(positions)
        self.blocks = nn.Sequential(*[Block(blocks[i : i + 8]) for i in range(0, len(blocks), 8)])
        self.norm, self.last = norm(gamma, beta), linear(last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.blocks(self.characters(x) + self.positions)))


def norm(gamma: torch.Tensor, beta: torch.Tensor) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(gamma))
    layer.weight.data, layer.bias.data = gamma, beta
    return layer


NETWORKS: dict[str, Callable[[list[torch.Tensor]], nn.Module]] = {
    "mlp": perceptron,
    "answers": perceptron,
    "cnn": convolutional,
    "gpt": GPT,
    "lstm": Recurrent,
    "adam": lambda tensors: linear(*tensors),
}
