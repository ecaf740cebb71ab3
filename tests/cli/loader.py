"""Factors layers of every kind with `compress`, loads them with examples/load_factored.py, and compares what they compute.

    python tests/cli/loader.py COMPRESS

Layers whose weights are of rank two in every format must compute at that rank what they did, others what the collapsed
checkpoint does, and so must ResNet-20 as a whole. COMPRESS is the program. Needs torch, safetensors and numpy.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))
from evaluate_cifar10 import load_resnet, read_images  # noqa: E402
from load_factored import load_factored, read_checkpoint  # noqa: E402

TENSORS = ("tucker", "cp", "tensor-train", "auto")
SCHEMES = ("spatial", "channel", *TENSORS)
TOLERANCE = 1e-4  # of factors in f32, relative to the largest output
COMPONENTS_TOLERANCE = 1e-2  # of components, which alternating least squares come near to


def of_rank_two(weight: Tensor) -> Tensor:
    """Returns a sum of two products of geometric series along the axes, which any reshaping leaves of rank two."""
    total = torch.zeros(weight.shape)
    for sign in (1, -1):
        term = torch.ones(())
        for axis, size in enumerate(weight.shape):
            ratio = sign * (0.95 - 0.07 * axis - 0.01 * sign)
            term = term[..., None] * ratio ** torch.arange(size)
        total += term
    return total


def layers() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({
        "plain": nn.Conv2d(12, 16, 3, padding=1),
        "strided": nn.Conv2d(12, 10, 3, stride=2, padding=1, bias=False),
        "uneven": nn.Conv2d(8, 14, (3, 5), stride=(2, 1), padding=(0, 3)),
        "dilated": nn.Conv2d(8, 8, 3, dilation=2, padding=2),
        "same": nn.Conv2d(9, 8, 3, padding="same"),
        "circular": nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        "grouped": nn.Conv2d(16, 24, 3, stride=2, groups=2),
        "pointwise": nn.Conv2d(16, 24, 1, stride=2),
        "sequence": nn.Conv1d(12, 18, 5, stride=2, dilation=2, padding=4),
        "linear": nn.Linear(24, 30),
        "bare": nn.Linear(20, 12, bias=False),
        "words": nn.Embedding(40, 12),  # whose name does not say what it is
        "embedding": nn.Embedding(40, 12, padding_idx=0),
        "embedder": nn.Linear(24, 30, bias=False),  # nor this one's
    })


def inputs(dense: nn.ModuleDict) -> dict[str, Tensor]:
    def of(layer: nn.Module) -> Tensor:
        if isinstance(layer, nn.Embedding):
            return torch.randint(layer.num_embeddings, (4, 7))
        if isinstance(layer, nn.Linear):
            return torch.randn(4, 7, layer.in_features)
        return torch.randn(2, layer.in_channels, *(13, 11)[: len(layer.kernel_size)])

    return {name: of(layer) for name, layer in dense.items()}


def compress(*arguments: str | Path) -> None:
    run = subprocess.run([sys.argv[1], *map(str, arguments), "--quiet"], capture_output=True, text=True)
    assert run.returncode == 0, f"compress {' '.join(map(str, arguments))}\n{run.stderr}"


def compare(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    error = float((found - expected).abs().max() / expected.abs().max())
    assert found.shape == expected.shape and error <= tolerance, f"{what}: {found.shape}, {expected.shape}, {error}"


@torch.inference_mode()
def main() -> None:
    folder = Path(tempfile.mkdtemp())
    random, simple = layers(), layers()
    for layer in simple.values():
        layer.weight.copy_(of_rank_two(layer.weight))
    xs = inputs(random)
    recipe = folder / "recipe.toml"
    recipe.write_text('[[convolution]]\nlayers = ["grouped"]\ngroups = 2\n')
    for dense, rank in ((random, "--layer-keep=0.6"), (simple, "--rank=2")):
        file = folder / f"dense{rank}.safetensors"
        save_file(dense.state_dict(), file)
        for scheme in SCHEMES:
            factored, collapsed = folder / f"{scheme}{rank}", folder / f"{scheme}{rank}-collapsed"
            compress(file, "--recipe", recipe, "--target=**", rank, "--allocate=uniform", "--scheme", scheme, "--out", factored)
            compress("collapse", factored, "--out", collapsed)
            ours, theirs = load_factored(layers(), factored), load_factored(layers(), collapsed)
            modules = read_checkpoint(factored)[1]["modules"]
            assert set(modules) == set(xs), set(xs) - set(modules)
            for name, x in xs.items():
                what = f"{scheme}, {rank}, {name} ({modules.get(name, {}).get('scheme', 'dense')})"
                found = ours[name](x)
                compare(f"{what}, collapsed", found, theirs[name](x), TOLERANCE)
                if dense is simple:
                    components = modules.get(name, {}).get("scheme") == "cp"
                    compare(what, found, dense[name](x), COMPONENTS_TOLERANCE if components else TOLERANCE)
    factored = folder / "ungrouped"
    compress(file, "--target=grouped", "--rank=2", "--out", factored)
    try:
        load_factored(layers(), factored)
    except ValueError as error:
        assert "`grouped` was factored as of 1 groups, the model has 2" in str(error), error
    else:
        raise AssertionError("factors of another number of groups were loaded")
    images, _ = read_images(ROOT / "fixtures/cifar10-500/test_batch.bin", 64)
    for scheme in SCHEMES:
        factored, collapsed = folder / f"resnet-{scheme}", folder / f"resnet-{scheme}-collapsed"
        compress(ROOT / "fixtures/resnet20-cifar10.safetensors", "--layer-keep=0.5", "--scheme", scheme, "--out", factored)
        compress("collapse", factored, "--out", collapsed)
        compare(f"ResNet-20, {scheme}", load_resnet(factored)(images), load_resnet(collapsed)(images), TOLERANCE)


if __name__ == "__main__":
    main()
