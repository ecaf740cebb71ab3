"""Records what PyTorch's networks compute, for `cargo test --test models`: writes `torch_networks.json` beside this file.

    python tests/models/torch_networks.py      # PyTorch 2.15, torchvision 0.29, on the CPU, in float64

Weights are not stored: both sides compute them from a formula (`number`), so that the file stays small.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

CLASSES = 7


class Small(nn.Module):
    """A residual network for small pictures, with shortcuts that pad (He et al., CVPR 2016, section 4.2, option A)."""

    class Block(nn.Module):
        def __init__(self, inner: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inner, out, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out)
            self.stride, self.more = stride, out - inner

        def forward(self, xs: torch.Tensor) -> torch.Tensor:
            ys = self.bn2(self.conv2(self.bn1(self.conv1(xs)).relu()))
            if self.more:
                half = self.more // 2
                xs = F.pad(xs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
            return (ys + xs).relu()

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        inner = 16 * width
        self.conv1 = nn.Conv2d(3, inner, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        for stage in range(3):
            blocks = []
            for index in range((depth - 2) // 6):
                out = 16 * width * 2**stage
                blocks.append(Small.Block(inner, out, 2 if stage > 0 and index == 0 else 1))
                inner = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(inner, CLASSES)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        xs = self.bn1(self.conv1(xs)).relu()
        xs = self.layer3(self.layer2(self.layer1(xs)))
        return self.linear(xs.mean((2, 3)))


class Wide(nn.Module):
    """A wide residual network (Zagoruyko and Komodakis, BMVC 2016)."""

    class Block(nn.Module):
        def __init__(self, inner: int, out: int, stride: int) -> None:
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inner)
            self.conv1 = nn.Conv2d(inner, out, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out)
            self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
            if inner != out:
                self.convShortcut = nn.Conv2d(inner, out, 1, stride, bias=False)

        def forward(self, xs: torch.Tensor) -> torch.Tensor:
            active = self.bn1(xs).relu()
            shortcut = self.convShortcut(active) if hasattr(self, "convShortcut") else xs
            return self.conv2(self.bn2(self.conv1(active)).relu()) + shortcut

    class Stage(nn.Module):
        def __init__(self, blocks: list[nn.Module]) -> None:
            super().__init__()
            self.layer = nn.Sequential(*blocks)

        def forward(self, xs: torch.Tensor) -> torch.Tensor:
            return self.layer(xs)

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        inner = 16
        for stage in range(3):
            blocks = []
            for index in range((depth - 4) // 6):
                out = 16 * width * 2**stage
                blocks.append(Wide.Block(inner, out, 2 if stage > 0 and index == 0 else 1))
                inner = out
            setattr(self, f"block{stage + 1}", Wide.Stage(blocks))
        self.bn1 = nn.BatchNorm2d(inner)
        self.fc = nn.Linear(inner, CLASSES)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        xs = self.bn1(self.block3(self.block2(self.block1(self.conv1(xs))))).relu()
        return self.fc(xs.mean((2, 3)))


class Vgg(nn.Module):
    """torchvision's features with normalization, their mean, and one linear layer."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.features = getattr(torchvision.models, f"vgg{depth}_bn")().features
        self.classifier = nn.Linear(512, CLASSES)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(xs).mean((2, 3)))


def number(tensor: int, count: int) -> torch.Tensor:
    """Numbers between -1 and 1: the fraction of `43758.5453 sin(12.9898 i + 78.233 tensor)`, doubled, less one."""
    waves = torch.tensor([math.sin(12.9898 * i + 78.233 * tensor) for i in range(count)], dtype=torch.float64)
    waves = waves * 43758.5453
    return (waves - waves.floor()) * 2.0 - 1.0


def value(index: int, name: str, shape: list[int]) -> torch.Tensor:
    """The tensor at this place of the list, rounded to float32."""
    numbers = number(index, math.prod(shape))
    if name.endswith("running_var"):
        numbers = 1.0 + 0.5 * numbers
    elif len(shape) > 1:
        numbers = numbers * math.sqrt(6.0 / math.prod(shape[1:]))
    elif name.endswith(".weight"):
        numbers = 1.0 + 0.3 * numbers
    else:
        numbers = 0.1 * numbers
    return numbers.float().double().reshape(shape)


def rounded(tensor: torch.Tensor) -> list[float]:
    """At most 64 elements, evenly spread, with ten digits."""
    elements = tensor.detach().flatten()
    step = -(-len(elements) // 64)
    return [float(f"{element:.10g}") for element in elements[::step].tolist()]


def record(name: str, network: nn.Module, side: int, watched: list[str]) -> dict:
    """Names and shapes; with `side` what the network computes of pictures that large."""
    state = {key: list(tensor.shape) for key, tensor in network.state_dict().items() if tensor.is_floating_point()}
    found = {"name": name, "tensors": list(state.items())}
    if not side:
        return found
    network = network.double()
    values = {key: value(index, key, shape) for index, (key, shape) in enumerate(state.items())}
    network.load_state_dict(values, strict=False)
    shape = [4, 3, side, side]
    images = number(1000, math.prod(shape)).float().double().reshape(shape)
    weights = number(2000, 4 * CLASSES).float().double().reshape(4, CLASSES)
    network.eval()
    found |= {"side": side, "evaluated": network(images).detach().flatten().tolist()}
    network.train()
    logits = network(images)
    (logits * weights).sum().backward()
    parameters = dict(network.named_parameters())
    gradients = {key: rounded(parameters[key].grad) for key in watched}
    statistics = [key for key in state if "running" in key]
    followed = {key: rounded(network.state_dict()[key]) for key in (statistics[0], statistics[-1])}
    return found | {"trained": logits.detach().flatten().tolist(), "gradients": gradients, "followed": followed}


def main() -> None:
    torch.set_num_threads(1)
    torchvision_resnet = lambda depth: getattr(torchvision.models, f"resnet{depth}")(num_classes=CLASSES)
    recorded = [
        record("resnet8", Small(8, 1), 16, ["conv1.weight", "layer3.0.bn1.weight"]),
        record("resnet14x2", Small(14, 2), 15, ["layer2.0.conv1.weight", "linear.weight"]),
        record("resnet20", Small(20, 1), 0, []),
        record("wrn-10-1", Wide(10, 1), 16, ["conv1.weight", "block2.layer.0.convShortcut.weight"]),
        record("wrn-16-2", Wide(16, 2), 13, ["block1.layer.0.bn1.bias", "block3.layer.1.conv2.weight"]),
        record("wrn-28-10", Wide(28, 10), 0, []),
        record("vgg11", Vgg(11), 32, ["features.0.weight", "features.12.bias"]),
        record("vgg13", Vgg(13), 0, []),
        record("vgg16", Vgg(16), 0, []),
        record("vgg19", Vgg(19), 0, []),
        record("resnet18", torchvision_resnet(18), 64, ["conv1.weight", "layer2.0.downsample.0.weight"]),
        record("resnet34", torchvision_resnet(34), 0, []),
        record("resnet50", torchvision_resnet(50), 64, ["conv1.weight", "layer3.0.downsample.1.bias"]),
    ]
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in recorded)
    Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
