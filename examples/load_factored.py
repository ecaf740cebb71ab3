"""Loads a factored checkpoint into PyTorch: every factored layer becomes an `nn.Sequential` of ordinary layers.

    from load_factored import from_factored, load_factored
    model = load_factored(ResNet(56), "resnet56-factored.safetensors")  # any nn.Module, built dense as usual
    model = from_factored("minilm-factored/")                           # transformers, class and shape from config.json

    python load_factored.py PATH                                        # prints what is factored, and how

PATH is a safetensors file or a Hugging Face directory, in one file or in shards. Strides, padding, dilation and groups
come from the dense model, shapes from the factors. A dense or collapsed checkpoint has no record and loads as it is.
Tensor trains, and Tucker's factors of linear layers, are no layers: they are multiplied out.
Narrowed heads of attention are widened with zeros, which adds nothing to what they compute.
Code that computes with a layer's `weight` instead of calling the layer (nn.MultiheadAttention, the fast path of
nn.TransformerEncoder) can't run a factored one. Needs torch and safetensors, and transformers for `from_factored`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

# Which layer of the chain has the dense kernel's height and width, and with each its stride, padding and dilation.
AXES = {"matrix": (0, 0), "spatial": (1, 0), "channel": (0, 0), "deep": (2, 0), "tucker": (1, 1), "cp": (1, 2)}
# Buffers that older checkpoints store and newer models compute.
BUFFERS = re.compile(r"(position_ids|attn\.(masked_)?bias|rotary_emb\.inv_freq)$")


class Chain(nn.Sequential):
    """Ordinary layers that stand for one; a model that asks for `weight.dtype` or `.device` gets the first factor's."""

    @property
    def weight(self) -> Tensor:
        return self[0].weight


class TiedHead(nn.Module):
    """The output head tied to a factored embedding: the same factors, in reverse."""

    def __init__(self, embedding: Chain, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.embedding, self.bias = embedding, bias

    def forward(self, xs: Tensor) -> Tensor:
        for layer in reversed(self.embedding[1:]):
            xs = xs @ layer.weight  # (..., d) -> (..., r)
        return nn.functional.linear(xs, self.embedding[0].weight, self.bias)  # (..., r) -> (..., vocabulary)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns a checkpoint's tensors and its factorization record, which has no modules where nothing is factored."""
    path, files = Path(path), [Path(path)]
    if path.is_dir():
        indices = list(path.glob("*.safetensors.index.json"))
        shards = [json.loads(index.read_text())["weight_map"].values() for index in indices]
        files = [path / shard for shard in sorted(set().union(*shards))] or sorted(path.glob("*.safetensors"))
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"no safetensors checkpoint at `{path}`")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except SafetensorError as error:
            raise ValueError(f"`{file}` can't be read: {error}") from error
    with safe_open(files[0], "pt") as first:
        record = json.loads((first.metadata() or {}).get("factorization", '{"version": 1, "modules": {}}'))
    if record["version"] != 1:
        raise ValueError(f"factorization record of version {record['version']} in `{path}`, known is version 1")
    return tensors, record


def chain(dense: nn.Module, weights: list[Tensor], scheme: str) -> Chain:
    """Returns layers that hold `weights` and together stand for `dense`; their values are loaded later."""
    place = {"device": dense.weight.device, "dtype": dense.weight.dtype}
    layers: list[nn.Module] = []
    for i, weight in enumerate(weights):
        bias = i == len(weights) - 1 and getattr(dense, "bias", None) is not None
        forward = type(dense).forward
        if forward is nn.Embedding.forward and i == 0:
            layers.append(nn.Embedding(*weight.shape, padding_idx=dense.padding_idx, **place))
        elif forward in (nn.Linear.forward, nn.Embedding.forward):
            layers.append(nn.Linear(weight.shape[1], weight.shape[0], bias, **place))
        elif forward in (nn.Conv1d.forward, nn.Conv2d.forward):
            axes = (1,) if scheme == "cp" and len(dense.kernel_size) == 1 else AXES[scheme][-len(dense.kernel_size):]
            own = [layer == i for layer in axes]
            settings = {
                name: values if isinstance(values, str) else tuple(v if o else unit for v, o in zip(values, own))
                for name, values, unit in [
                    ("stride", dense.stride, 1), ("padding", dense.padding, 0), ("dilation", dense.dilation, 1)
                ]
            }
            kind = nn.Conv1d if forward is nn.Conv1d.forward else nn.Conv2d
            channels = layers[-1].out_channels if layers else dense.in_channels
            settings |= {"groups": channels // weight.shape[1], "bias": bias, "padding_mode": dense.padding_mode}
            layers.append(kind(channels, weight.shape[0], tuple(weight.shape[2:]), **settings, **place))
        elif type(dense).__name__ == "Conv1D":  # transformers' linear layer with weights (in, out), which wants a bias
            layers.append(type(dense)(weight.shape[1], weight.shape[0]).to(**place))
            if not bias:
                del layers[-1].bias
                layers[-1].register_buffer("bias", torch.zeros(weight.shape[1], **place), persistent=False)
        else:
            raise TypeError(f"don't know how a factored `{type(dense).__name__}` computes")
    return Chain(*layers)


def in_order_of(dense: nn.Module, kind: str | None, weights: list[Tensor]) -> list[Tensor]:
    """Returns the factors as `dense` needs them: names alone don't always tell a table that is looked up from a linear layer."""
    if kind == "linear" and isinstance(dense, nn.Embedding):
        weights = [weights[-1], *(weight.T for weight in reversed(weights[:-1]))]
    elif kind == "embedding" and isinstance(dense, nn.Linear):
        weights = [*(weight.T for weight in reversed(weights[1:])), weights[0]]
    return [weight.contiguous() for weight in weights]


def multiplied_out(facts: dict[str, Any], factors: dict[str, Tensor]) -> Tensor:
    """Returns the dense weight of factors that are no layers: the cores of a tensor train, or Tucker's core and factors.

    They are multiplied in f32 or wider, and rounded to their own type once.
    """
    dtype = next(iter(factors.values())).dtype
    factors = {name: factor if factor.dtype == torch.float64 else factor.float() for name, factor in factors.items()}
    if facts["scheme"] == "tensor-train":
        product = factors["core_0"]
        for k in range(1, len(factors)):
            product = torch.tensordot(product, factors[f"core_{k}"], 1)
    else:
        product = factors["core"]
        for k in range(len(factors) - 1):
            product = torch.tensordot(factors[f"factor_{k}"], product, ([1], [k])).movedim(0, k)
    outs, ins = zip(*facts["pairs"])
    taps = math.prod(facts["shape"]) // (math.prod(outs) * math.prod(ins))
    apart = [size for pair in facts["pairs"] for size in pair]
    first, second = (1, 0) if facts["kind"] == "transposed_linear" else (0, 1)
    order = [1 + i for i in range(first, len(apart), 2)] + [1 + i for i in range(second, len(apart), 2)] + [0]
    return product.reshape(taps, *apart).permute(order).reshape(facts["shape"]).contiguous().to(dtype)


def file_names(model: nn.Module) -> dict[str, str]:
    """Returns, for each name that a checkpoint's file uses, the model's own; transformers 5 renames some on loading."""
    state = model.state_dict()
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return {name: name for name in state}
    own = {id(tensor): name for name, tensor in state.items()}
    reverted = revert_weight_conversion(model, state) if hasattr(model, "base_model_prefix") else state
    same = {name: name for name, tensor in reverted.items() if state.get(name) is tensor}  # of tied names, its own
    return {name: own[id(tensor)] for name, tensor in reverted.items() if id(tensor) in own} | same


def head_width(model: nn.Module) -> int:
    """Returns the elements of a head of a transformers model, 0 of any other."""
    config = getattr(model, "config", None)
    width = getattr(config, "hidden_size", None) or getattr(config, "d_model", 0)
    heads = getattr(config, "num_attention_heads", None) or getattr(config, "encoder_attention_heads", 0)
    return getattr(config, "head_dim", None) or (width // heads if heads else 0)


def widened(tensor: Tensor, shape: torch.Size, width: int, parts: list[int]) -> Tensor:
    """Returns the narrowed heads of a weight or bias of attention with zeros behind each, as wide as those of `shape`.

    `parts` are the rows, or columns, of queries, keys and values where they lie in one tensor; their heads are as many.
    """
    axis = next(i for i, (now, full) in enumerate(zip(tensor.shape, shape)) if now != full)
    heads = shape[axis] // len(parts) // width
    wide = []
    for part in tensor.split(parts, axis):
        rows = part.movedim(axis, 0).unflatten(0, (heads, -1))  # (heads, narrow, ...)
        full = rows.new_zeros(heads, width, *rows.shape[2:])
        full[:, : rows.shape[1]] = rows
        wide.append(full.flatten(0, 1).movedim(0, axis))
    return torch.cat(wide, axis)


def widen_heads(model: nn.Module, tensors: dict[str, Tensor], names: dict[str, str | None]) -> dict[str, Tensor]:
    """Returns the tensors with heads that `compress heads` narrowed as wide as the model's: zeros add nothing to a product."""
    full, width, found = model.state_dict(), head_width(model), dict(tensors)
    for name, own in names.items():
        shape, tensor = full[own].shape if own in full else None, tensors[name]
        if width == 0 or shape is None or tensor.shape == shape or tensor.dim() != len(shape):
            continue
        joint = re.search(r"c_attn\.(weight|bias)$", name)
        output = tensors.get(re.sub(r"c_attn\.\w+$", "c_proj.weight", name)) if joint else None
        axis = next(i for i, (now, whole) in enumerate(zip(tensor.shape, shape)) if now != whole)
        size = tensor.shape[axis]
        values = output.shape[0] if output is not None else size
        parts = [(size - values) // 2, (size - values) // 2, values] if joint else [size]
        heads = shape[axis] // (len(parts) * width)
        if heads > 0 and all(0 < part <= heads * width and part % heads == 0 for part in parts):
            found[name] = widened(tensor, shape, width, parts)
    return found


def load_factored(model: nn.Module, path: str | Path) -> nn.Module:
    """Swaps the factored layers of a dense `model`, loads every tensor of the checkpoint, and returns the model."""
    tensors, record = read_checkpoint(path)
    known, prefix = file_names(model), getattr(model, "base_model_prefix", "")

    def own_name(name: str) -> str | None:
        """Returns the model's name of a dense tensor; transformers' base prefix may be on either side or on both."""
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        return next((known[n] for n in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")) if n in known), None)

    chains_only = {}
    for stem, facts in record["modules"].items():
        parts = {name: tensor for name, tensor in tensors.items() if re.match(re.escape(stem) + r"\.(core|factor)(_\d+)?$", name)}
        if parts:
            factors = {name.removeprefix(f"{stem}."): tensor for name, tensor in parts.items()}
            tensors = {name: tensor for name, tensor in tensors.items() if name not in parts}
            tensors[f"{stem}.weight"] = multiplied_out(facts, factors)
        else:
            chains_only[stem] = facts
    names = {name: own_name(name) for name in tensors}
    tensors = widen_heads(model, tensors, names)
    for stem, facts in chains_only.items():
        indices = itertools.takewhile(lambda i: f"{stem}.{i}.weight" in tensors, itertools.count())
        weights = [tensors[f"{stem}.{i}.weight"] for i in indices]
        if not weights:
            raise ValueError(f"`{stem}` is recorded as `{facts['scheme']}`, but is no chain of layers in `{path}`")
        weight_name = own_name(f"{stem}.weight")
        if weight_name is None:
            continue  # a head that this model doesn't have; its tensors are reported below
        module = weight_name.removesuffix(".weight")
        dense = model.get_submodule(module)
        if list(dense.weight.shape) != facts["shape"]:
            raise ValueError(f"`{stem}` was factored from {facts['shape']}, the model has {list(dense.weight.shape)}")
        groups, known_groups = getattr(dense, "groups", 1), facts.get("groups") or 1
        if groups != known_groups:
            how = "say so in a recipe's [[convolution]] and factor it again"
            raise ValueError(f"`{stem}` was factored as of {known_groups} groups, the model has {groups}: {how}")
        weights = in_order_of(dense, facts.get("kind"), weights)
        tensors |= {f"{stem}.{i}.weight": weight for i, weight in enumerate(weights)}
        factored = chain(dense, weights, facts["scheme"])
        names |= {name: module + name[len(stem):] for name in tensors if re.match(re.escape(stem) + r"\.\d+\.", name)}
        everywhere = dict(model.named_modules(remove_duplicate=False))
        uses = {name for name, other in everywhere.items() if getattr(other, "weight", None) is dense.weight}
        chains = {name.removesuffix(".weight") for name in map(own_name, facts.get("tied_with", [])) if name}
        uses = (uses - chains) | {module}  # those have their own factors in the file
        for use in uses:
            other, (parent, _, child) = everywhere[use], use.rpartition(".")
            head = isinstance(dense, nn.Embedding) and isinstance(other, nn.Linear)
            if not head and not isinstance(other, type(dense)):
                raise TypeError(f"`{use}`, a `{type(other).__name__}`, can't share the factors of `{stem}`")
            setattr(everywhere[parent], child, TiedHead(factored, other.bias) if head else factored)

    state = {own: tensors[name] for name, own in names.items() if own is not None}
    missing = model.load_state_dict(state, strict=False).missing_keys
    full = model.state_dict()
    loaded = {full[name].data_ptr() for name in state if name in full}  # tied tensors are loaded under either name
    missing = [name for name in missing if full[name].data_ptr() not in loaded]
    surplus = [name for name, own in names.items() if own not in full and not BUFFERS.search(name)]
    if missing or (surplus and not prefix):
        raise ValueError(f"`{path}` doesn't fit the model: missing {missing}, surplus {surplus}")
    if surplus:
        warnings.warn(f"not used by {type(model).__name__}: {surplus}", stacklevel=2)
    return model


def from_factored(path: str | Path, auto_class: Any = None) -> nn.Module:
    """Returns the transformers model that config.json names, or `auto_class`'s, with the checkpoint's weights."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path)
    if auto_class is None:
        model = getattr(transformers, config.architectures[0])._from_config(config)
    else:
        model = getattr(auto_class, "from_config", auto_class)(config)
    if (Path(path) / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(path)
    return load_factored(model, path).eval()


def main() -> None:
    """Prints one line for each factored layer of the checkpoint named on the command line, and totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="safetensors file or Hugging Face directory")
    try:
        tensors, record = read_checkpoint(parser.parse_args().path)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{'layer':48} {'scheme':12} {'dense shape':>20} {'rank':>8} {'parameters':>21} {'error':>7}")
    before = after = sum(tensor.numel() for tensor in tensors.values())
    for stem, facts in sorted(record["modules"].items()):
        factors = [tensor for name, tensor in tensors.items() if re.match(re.escape(stem) + r"\.(\d+\.weight|core|(core|factor)_\d+)$", name)]
        dense, now = math.prod(facts["shape"]), sum(factor.numel() for factor in factors)
        before += dense - now
        shape, parameters = "x".join(map(str, facts["shape"])), f"{dense} -> {now}"
        ranks = ",".join(map(str, facts.get("ranks", [facts["rank"]])))
        row = f"{stem:48} {facts['scheme']:12} {shape:>20} {ranks:>8} {parameters:>21}"
        print(f"{row} {facts['relative_error']:7.3f}")
    print(f"{len(record['modules'])} layers factored, values in the file: {before} -> {after} ({after / before:.1%})")


if __name__ == "__main__":
    main()
