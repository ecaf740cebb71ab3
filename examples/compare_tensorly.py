"""Compares Tucker, CP and tensor trains of a checkpoint's kernels with TensorLy's, at equal ranks, in error and in time.

    cargo build --release --example tensor_formats
    python compare_tensorly.py FILE.safetensors [--formats tucker,train,cp] [--repeats 3] [--threads 1]

Both take turns, kernel after kernel of one format, `--repeats` times; times are the medians of each kernel, added up. TensorLy runs on NumPy in
float64, with its own defaults (`partial_tucker`, `parafac` from the SVD, `tensor_train`); errors are measured on what each multiplies out to.
Needs tensorly, numpy and safetensors.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent


def theirs(weight, row: dict) -> tuple[float, float]:
    """Returns TensorLy's relative error and its seconds at a line's ranks."""
    import numpy as np
    import tensorly as tl
    from tensorly.decomposition import parafac, partial_tucker, tensor_train

    if row["format"] == "train":
        weight = np.ascontiguousarray(np.transpose(weight, (1, 2, 3, 0)))
    start = time.perf_counter()
    if row["format"] == "tucker":
        (core, factors), _ = partial_tucker(weight, rank=row["ranks"], modes=[0, 1])
    elif row["format"] == "cp":
        found = parafac(weight, rank=row["ranks"][0], init="svd", random_state=0)
    else:
        found = tensor_train(weight, rank=[1, *row["ranks"], 1])
    elapsed_secs = time.perf_counter() - start
    if row["format"] == "tucker":
        again = tl.tenalg.multi_mode_dot(core, factors, modes=[0, 1])
    else:
        again = tl.cp_to_tensor(found) if row["format"] == "cp" else tl.tt_to_tensor(found)
    return float(np.linalg.norm(again - weight) / np.linalg.norm(weight)), elapsed_secs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="safetensors file; its kernels of four axes with more than one tap are taken")
    parser.add_argument("--program", default=str(ROOT / "target/release/examples/tensor_formats"))
    parser.add_argument("--formats", default="tucker,train,cp")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    # Before NumPy is loaded.
    os.environ |= {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    from safetensors.numpy import load_file

    warnings.filterwarnings("ignore")
    weights = load_file(options.file)
    print("| format | keep | kernels | error, ours over TensorLy's: worst | mean | seconds, ours | TensorLy | ratio | degeneracy, largest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for form in options.formats.split(","):
        found: dict[tuple, list[tuple]] = {}
        for _ in range(options.repeats):
            command = [options.program, options.file, str(options.threads), form]
            ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for row in map(json.loads, ours.splitlines()):
                error, elapsed_secs = theirs(weights[row["name"]].astype("float64"), row)
                ratio, degeneracy = row["relative_error"] / error, row["degeneracy"] or 0
                found.setdefault((row["keep"], row["name"]), []).append((ratio, row["elapsed_secs"], elapsed_secs, degeneracy))
        for keep in sorted({keep for keep, _ in found}, reverse=True):
            kernels = [runs for (kept, _), runs in found.items() if kept == keep]
            ratios = [runs[0][0] for runs in kernels]
            ours, others = (sum(statistics.median(run[at] for run in runs) for runs in kernels) for at in (1, 2))
            degeneracy = max(runs[0][3] for runs in kernels)
            cells = [form, f"{keep:g}", str(len(kernels)), f"{max(ratios):.4f}", f"{statistics.mean(ratios):.4f}"]
            cells += [f"{ours:.3f}", f"{others:.3f}", f"{ours / others:.2f}", f"{degeneracy:.1f}" if form == "cp" else ""]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
