"""Scores a sentence encoder on STS-B: Spearman's correlation (x 100) of cosines with the labels.

    python evaluate_stsb.py MODEL_DIR stsb-en-dev.csv                    # dense or collapsed, by transformers itself
    python evaluate_stsb.py FACTORED_DIR stsb-en-dev.csv --factored      # through load_factored.py
    python evaluate_stsb.py FACTORED_DIR stsb-en-dev.csv --factored --against COLLAPSED_DIR

A sentence's embedding is the mean of the last hidden states over its tokens, normalized, as all-MiniLM-L6-v2 has it.
The CSV has three columns without a header: sentence, sentence, score. `--against` also prints how far the embeddings
of another checkpoint are from these (dense or collapsed, unless `--against-factored`). Needs torch, transformers and
scipy; threads as in OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

import torch
from load_factored import from_factored
from scipy.stats import spearmanr
from torch import Tensor, nn


def load_encoder(path: Path, factored: bool) -> nn.Module:
    """Returns the transformers model of a checkpoint, in f32."""
    from transformers import AutoModel

    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"`{path}` is no Hugging Face directory: it has no config.json")
    model = from_factored(path, AutoModel) if factored else AutoModel.from_pretrained(path)
    return model.float().eval()


@torch.inference_mode()
def embed(model: nn.Module, tokenizer: object, sentences: list[str], batch_size: int, max_length: int) -> Tensor:
    """Returns the normalized embeddings `(sentences, width)`; batches are of sentences of similar length."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    rows = []
    for start in range(0, len(order), batch_size):
        batch = [sentences[i] for i in order[start:start + batch_size]]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(hidden.dtype)
        rows.append(nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(rows)[torch.tensor(order).argsort()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path, help="Hugging Face directory with model, config and tokenizer")
    parser.add_argument("csv", type=Path, help="STS-B: sentence, sentence, score")
    parser.add_argument("--factored", action="store_true", help="MODEL_DIR is a factored checkpoint")
    parser.add_argument("--against", type=Path, metavar="OTHER_DIR", help="checkpoint to compare embeddings with")
    parser.add_argument("--against-factored", action="store_true", help="OTHER_DIR is a factored checkpoint")
    parser.add_argument("--batch-size", type=int, default=64, help="sentences at once (default 64)")
    parser.add_argument("--max-length", type=int, default=256, help="tokens kept of a sentence (default 256)")
    arguments = parser.parse_args()
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from transformers import AutoTokenizer

    try:
        with arguments.csv.open(encoding="utf-8", newline="") as file:
            pairs = [(first, second, float(score)) for first, second, score in csv.reader(file)]
        model = load_encoder(arguments.model_dir, arguments.factored)
        other = load_encoder(arguments.against, arguments.against_factored) if arguments.against else None
        tokenizer = AutoTokenizer.from_pretrained(arguments.model_dir)
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    sentences = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    labels = [pair[2] for pair in pairs]
    start = time.perf_counter()
    embeddings = embed(model, tokenizer, sentences, arguments.batch_size, arguments.max_length)
    elapsed_secs = time.perf_counter() - start

    def spearman(rows: Tensor) -> float:
        first, second = rows.double().chunk(2)
        return 100 * float(spearmanr((first * second).sum(1), labels).statistic)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"Spearman {spearman(embeddings):.2f} on {len(pairs)} pairs", end=", ")
    print(f"{parameters / 1e6:.2f} M parameters, {elapsed_secs:.1f} s")
    if other is not None:
        rows = embed(other, tokenizer, sentences, arguments.batch_size, arguments.max_length)
        difference = float((rows - embeddings).abs().max())
        print(f"against {arguments.against}: Spearman {spearman(rows):.2f}", end=", ")
        print(f"largest absolute difference {difference:.3g}")


if __name__ == "__main__":
    main()
