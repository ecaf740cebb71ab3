"""Measures how well a causal language model foretells a text, on the windows of `compress evaluate DIR --data text:FILE`.

    python perplexity.py MODEL_DIR wiki.txt                                # dense or collapsed, by transformers itself
    python perplexity.py FACTORED_DIR wiki.txt --factored                  # through load_factored.py
    python perplexity.py FACTORED_DIR wiki.txt --factored --against COLLAPSED_DIR --limit 2

The text's tokens, without special ones, are cut into windows of 512; what is left at the end is not used. `--against` also
prints how far the logits of another checkpoint, dense or collapsed, are from these. Needs torch and transformers; threads as
in OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from load_factored import from_factored
from torch import nn


def load_model(path: Path, factored: bool) -> nn.Module:
    """Returns the transformers model of a checkpoint, in f32."""
    from transformers import AutoModelForCausalLM

    model = from_factored(path) if factored else AutoModelForCausalLM.from_pretrained(path)
    return model.float().eval()


@torch.inference_mode()
def main() -> None:
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path, help="Hugging Face directory with model, config and tokenizer")
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--factored", action="store_true", help="MODEL_DIR is a factored checkpoint")
    parser.add_argument("--against", type=Path, metavar="OTHER_DIR", help="checkpoint to compare logits with")
    parser.add_argument("--window", type=int, default=512, help="tokens of a window (default 512)")
    parser.add_argument("--limit", type=int, help="the first so many windows only")
    arguments = parser.parse_args()

    model = load_model(arguments.model_dir, arguments.factored)
    other = load_model(arguments.against, False) if arguments.against else None
    tokenizer = AutoTokenizer.from_pretrained(arguments.model_dir)
    ids = tokenizer(arguments.text.read_text(), add_special_tokens=False, return_tensors="pt").input_ids[0]
    windows = ids[: len(ids) // arguments.window * arguments.window].split(arguments.window)[: arguments.limit]
    start, loss, right, count, apart, largest = time.perf_counter(), 0.0, 0, 0, 0.0, 0.0
    for window in windows:
        logits = model(window[None]).logits[0]
        foretold, following = logits[:-1].double(), window[1:]
        loss += nn.functional.cross_entropy(foretold, following, reduction="sum").item()
        right += (foretold.argmax(-1) == following).sum().item()
        count += len(following)
        if other is not None:
            others = other(window[None]).logits[0]
            apart = max(apart, (logits - others).abs().max().item())
            largest = max(largest, others.abs().max().item())
    elapsed = time.perf_counter() - start
    print(f"perplexity     {math.exp(loss / count):.3f}")
    print(f"loss           {loss / count:.4f}")
    print(f"next token     {100 * right / count:.2f} % foretold")
    print(f"windows        {len(windows)} of {arguments.window} tokens, {elapsed:.1f} s")
    if other is not None:
        print(f"logits         at most {apart:.2e} apart, the largest is {largest:.1f}")


if __name__ == "__main__":
    main()
