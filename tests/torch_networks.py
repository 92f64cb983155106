"""Networks as people write them in PyTorch, for the tests of weights and of ONNX files. Import it after torch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """LeCun, Bottou, Bengio and Haffner (1998), with ReLU and max-pooling."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class BasicBlock(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """He, Zhang, Ren and Sun (2016), for CIFAR, with projections: ResNet-20 has n = 3."""

    def __init__(self, n=3, width=16):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        widths = [width, *(width * 2**stage for stage in range(3))]
        for stage in range(3):
            blocks = [BasicBlock(widths[stage], widths[stage + 1], 1 + (stage > 0))]
            blocks += [BasicBlock(widths[stage + 1], widths[stage + 1], 1) for _ in range(n - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class GPT(nn.Module):
    """A small GPT with PyTorch's own blocks: tokens and positions, pre-norm blocks, a norm, a head."""

    def __init__(self, vocabulary=11, length=7, channels=8, heads=2, blocks=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocabulary, channels), nn.Embedding(length, channels)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels,
                heads,
                4 * channels,
                0.0,
                lambda x: F.gelu(x, approximate="tanh"),
                batch_first=True,
                norm_first=True,
            )
            for _ in range(blocks)
        )
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, vocabulary, bias=False)

    def forward(self, x):
        T = x.shape[1]
        hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
        x = self.tok(x) + self.pos(torch.arange(T))
        for block in self.blocks:
            x = block(x, src_mask=hidden)
        return self.head(self.norm(x))


def alive(net):
    """The network in evaluation, its running statistics and biases moved off their first values."""
    torch.manual_seed(3)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.3)
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return net.eval()
