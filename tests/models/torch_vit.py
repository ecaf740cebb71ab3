"""Records what small transformers for pictures of transformers compute in f64: `torch_vit.json`, read by `vits.rs`.

    python tests/models/torch_vit.py

Weights are those of `torch_text.py`, under the names that files have. Needs torch, transformers and safetensors (recorded
with 2.15, 5.24 and 0.8).
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as t
from safetensors.numpy import load_file, save_file
from torch_text import numbers, weights

SMALL = dict(num_hidden_layers=2, hidden_size=16, intermediate_size=24, num_attention_heads=4)
NETWORKS = {
    "usual": t.ViTConfig(**SMALL, image_size=12, patch_size=4, num_labels=5),
    "exotic": t.ViTConfig(
        **SMALL | dict(num_attention_heads=2),
        image_size=14,  # two pixels of which are in no patch
        patch_size=6,
        num_channels=1,
        num_labels=3,
        hidden_act="relu",
        qkv_bias=False,
        layer_norm_eps=1e-3,
    ),
}
PICTURES = 3


def record(name: str) -> dict:
    """What the network named `name` has and computes."""
    config = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        t.ViTForImageClassification(config).save_pretrained(folder)
        path = Path(folder) / "model.safetensors"
        shapes = {tensor: list(array.shape) for tensor, array in sorted(load_file(path).items())}
        arrays = {
            tensor: weights(index, tensor, tuple(shape)).astype(np.float32)
            for index, (tensor, shape) in enumerate(shapes.items())
        }
        save_file(arrays, path, metadata={"format": "pt"})
        model = t.ViTForImageClassification.from_pretrained(folder, attn_implementation="eager").double().eval()
    shape = (PICTURES, config.num_channels, config.image_size, config.image_size)
    pictures = numbers(1000, shape).astype(np.float32).astype(np.float64)
    with torch.no_grad():
        logits = model(pixel_values=torch.from_numpy(pictures)).logits
    run = {"name": name, "config": config.to_dict()}
    run["tensors"] = list(shapes.items())
    run["logits"] = logits.flatten().tolist()
    return run


def main() -> None:
    target = Path(__file__).with_suffix(".json")
    lines = [json.dumps(record(name)) for name in NETWORKS]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
