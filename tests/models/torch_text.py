"""Records what small networks for text of transformers compute in f64: `torch_text.json`, read by `texts.rs`.

    python tests/models/torch_text.py

Weights are given by a formula over tensor and element (`numbers`), which the test repeats, so that none are stored. Needs
torch and transformers (recorded with 2.15 and 5.24).
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers as t

SMALL = dict(vocab_size=50, num_hidden_layers=2, num_attention_heads=4, hidden_size=16, intermediate_size=24)
ENCODER = SMALL | dict(max_position_embeddings=32)
DECODER = SMALL | dict(num_key_value_heads=2, max_position_embeddings=32)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16, "rope_theta": 100.0}
DISTIL = dict(vocab_size=50, n_layers=2, n_heads=4, dim=16, hidden_dim=24, max_position_embeddings=32)
GPT2 = dict(vocab_size=50, n_layer=2, n_head=4, n_embd=16, n_positions=32)
NETWORKS = {
    "bert": (t.BertModel, t.BertConfig(**ENCODER)),
    "bert, masked": (t.BertForMaskedLM, t.BertConfig(**ENCODER)),
    "bert, classes": (t.BertForSequenceClassification, t.BertConfig(**ENCODER, num_labels=3)),
    "roberta, masked": (t.RobertaForMaskedLM, t.RobertaConfig(**ENCODER, type_vocab_size=1)),
    "roberta, classes": (t.RobertaForSequenceClassification, t.RobertaConfig(**ENCODER, type_vocab_size=1)),
    "distilbert, masked": (t.DistilBertForMaskedLM, t.DistilBertConfig(**DISTIL)),
    "distilbert, classes": (t.DistilBertForSequenceClassification, t.DistilBertConfig(**DISTIL)),
    "albert, masked": (t.AlbertForMaskedLM, t.AlbertConfig(**ENCODER, embedding_size=8)),
    "albert, classes": (t.AlbertForSequenceClassification, t.AlbertConfig(**ENCODER, embedding_size=8)),
    "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(**GPT2)),
    "llama": (t.LlamaForCausalLM, t.LlamaConfig(**DECODER)),
    "llama 3": (t.LlamaForCausalLM, t.LlamaConfig(**DECODER, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "mistral": (t.MistralForCausalLM, t.MistralConfig(**DECODER, head_dim=6, sliding_window=None)),
    "qwen2": (t.Qwen2ForCausalLM, t.Qwen2Config(**DECODER)),
    "qwen3": (t.Qwen3ForCausalLM, t.Qwen3Config(**DECODER, head_dim=8)),
}
SEQUENCES = [[7, 3, 44, 12, 9, 30, 21], [5, 49, 8, 2]]


def numbers(tensor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers between -1 and 1, row-major."""
    index = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
    wave = np.sin(12.9898 * index + 78.233 * tensor) * 43758.5453
    return ((wave - np.floor(wave)) * 2 - 1).reshape(shape)


def weights(tensor: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Matrices large enough that attention and gates are far from uniform; scales about one, biases about zero."""
    values = numbers(tensor, shape)
    if len(shape) > 1:
        return values * 2 / np.sqrt(shape[-1])
    return 1 + 0.3 * values if name.endswith(".weight") else 0.3 * values


def record(name: str) -> dict:
    """What the network named `name` has and computes."""
    kind, config = NETWORKS[name]
    model = kind._from_config(config, attn_implementation="eager").double().eval()
    # Tied tensors are listed once, as checkpoints hold them.
    tensors = sorted(dict(model.named_parameters()))
    found = dict(model.named_parameters())
    with torch.no_grad():
        for index, tensor in enumerate(tensors):
            rounded = weights(index, tensor, tuple(found[tensor].shape)).astype(np.float32)
            found[tensor].copy_(torch.from_numpy(rounded.astype(np.float64)))
        outputs = [model(input_ids=torch.tensor([ids]), output_hidden_states=True) for ids in SEQUENCES]
    hidden = [o.hidden_states[-1] for o in outputs]
    run = {"name": name, "config": config.to_dict()}
    run["tensors"] = [[tensor, list(found[tensor].shape)] for tensor in tensors]
    run["hidden"] = torch.cat([h[0] for h in hidden]).flatten().tolist()
    if hasattr(outputs[0], "logits"):
        logits = [o.logits[0] for o in outputs]
        rows = [x[:, ::5] if x.dim() > 1 else x for x in logits]  # every fifth of the vocabulary, and all classes
        run["logits"] = torch.cat([row.flatten() for row in rows]).tolist()
    return run


def main() -> None:
    target = Path(__file__).with_suffix(".json")
    lines = [json.dumps(record(name)) for name in NETWORKS]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
