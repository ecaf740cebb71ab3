"""Prints the CIFAR-10 test accuracy of a ResNet checkpoint: dense, factored or collapsed.

    python evaluate_cifar10.py resnet56-cifar10.safetensors DATA_DIR [--limit N]

The network is the CIFAR ResNet of He et al. 2016, section 4.2, with the names of Y. Idelbayev's pytorch_resnet_cifar10;
its depth (20, 32, 44, 56, 110) and width are told from the tensors. DATA_DIR holds `test_batch.bin` of CIFAR-10's
binary version. Inputs are in [0, 1], then normalized by the mean and deviation these checkpoints were trained with.
Needs torch, safetensors and numpy; threads as in OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
from load_factored import load_factored, read_checkpoint
from torch import Tensor, nn
from torch.nn import functional

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECORD = 1 + 3 * 32 * 32


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.widening = out_channels - in_channels

    def forward(self, xs: Tensor) -> Tensor:
        shortcut = xs
        if self.widening:  # option A: every second pixel, zero channels on both sides
            half = self.widening // 2
            shortcut = functional.pad(xs[:, :, ::2, ::2], (0, 0, 0, 0, half, self.widening - half))
        ys = functional.relu(self.bn1(self.conv1(xs)))
        return functional.relu(self.bn2(self.conv2(ys)) + shortcut)


class ResNet(nn.Module):
    """A CIFAR ResNet of `6 blocks + 2` layers: three stages of `width`, `2 width` and `4 width` channels."""

    def __init__(self, blocks: int, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for stage in range(3):
            out = width << stage
            before = width if stage == 0 else out // 2
            first = BasicBlock(before, out, stride=1 if stage == 0 else 2)
            stack = nn.Sequential(first, *(BasicBlock(out, out, stride=1) for _ in range(blocks - 1)))
            setattr(self, f"layer{stage + 1}", stack)
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, xs: Tensor) -> Tensor:
        xs = functional.relu(self.bn1(self.conv1(xs)))
        xs = self.layer3(self.layer2(self.layer1(xs)))
        return self.linear(xs.mean((2, 3)))  # (b, 4 width, 8, 8) -> (b, classes)


def load_resnet(path: Path) -> ResNet:
    """Returns the ResNet of a checkpoint, its depth, width and number of classes taken from the tensors."""
    tensors, _ = read_checkpoint(path)
    matches = (re.match(r"layer1\.(\d+)\.bn1\.weight$", name) for name in tensors)
    blocks = [int(found[1]) + 1 for found in matches if found]
    bias = tensors.get("linear.bias", tensors.get("linear.1.bias"))
    if not blocks or bias is None or "bn1.weight" not in tensors:
        raise ValueError(f"`{path}` is no CIFAR ResNet: expected `bn1`, `layer1.0.bn1`, ..., `linear`")
    return load_factored(ResNet(max(blocks), len(tensors["bn1.weight"]), len(bias)), path).eval()


def read_images(path: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    """Returns normalized images (n, 3, 32, 32) and their labels (n,) from a file of CIFAR-10's binary version."""
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` is missing; get CIFAR-10's binary version")
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % RECORD:
        raise ValueError(f"`{path}` is {content.size} bytes, expected a multiple of {RECORD}")
    records = torch.from_numpy(content.reshape(-1, RECORD)[:limit])
    images = records[:, 1:].reshape(-1, 3, 32, 32).float() / 255
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None], records[:, 0].long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="safetensors file (or directory): dense, factored or collapsed")
    parser.add_argument("data_dir", type=Path, help="directory with test_batch.bin")
    parser.add_argument("--limit", type=int, help="only the first so many images (default: all 10,000)")
    parser.add_argument("--batch-size", type=int, default=250, help="images at once (default 250)")
    arguments = parser.parse_args()
    try:
        model = load_resnet(arguments.checkpoint)
        images, labels = read_images(arguments.data_dir / "test_batch.bin", arguments.limit)
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    start = time.perf_counter()
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in images.split(arguments.batch_size)])
    correct = int((logits.argmax(1) == labels).sum())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    elapsed_secs = time.perf_counter() - start
    print(f"accuracy {100 * correct / len(labels):.2f} % ({correct} of {len(labels)})", end=", ")
    print(f"{parameters / 1e6:.3f} M parameters, {elapsed_secs:.1f} s")


if __name__ == "__main__":
    main()
