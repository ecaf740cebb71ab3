"""Runs the comparisons on CIFAR-10 whose results are in BENCHMARKS.md, with the program `compress`.

    python cifar10_experiments.py ablation     --data DIR --out DIR [--epochs 10] [--seeds 3]
    python cifar10_experiments.py overcomplete --data DIR --out DIR [--epochs 10] [--seeds 3]
    python cifar10_experiments.py finetuning   --data DIR --out DIR --checkpoint resnet56.safetensors

`ablation` trains ResNet-20 from scratch at rank ratio 1/9 with default or spectral initialization (SI) and with weight decay on
the factors or Frobenius decay on their product (FD). `overcomplete` trains the plain network, three factors of full rank (deep) and
two factors of three times the full rank (wide), collapsed at the end. `finetuning` compresses a trained ResNet-56 to a half, a quarter and a
tenth of its parameters and fine-tunes it, with magnitude pruning beside it. After Khodak, Tenenholtz, Mackey, Fusi, ICLR 2021.

DIR of --data holds the six files of CIFAR-10's binary version. Every run is a folder in DIR of --out; what is there already is continued or
kept, so that an interrupted series goes on where it was. `--jobs 2` runs two at a time, each on its part of the cores. The tables are printed
as Markdown, the curves written to DIR/curves.svg. Needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

RANK_RATIO = "0.11111111"
COLORS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477")


@dataclass(frozen=True)
class Run:
    """One run: its row and column in the table, its folder's name and its arguments."""

    row: str
    column: str
    name: str
    arguments: tuple[str, ...]


def ablation(options: argparse.Namespace) -> list[Run]:
    runs = []
    for seed in range(options.seeds):
        for init in ("default", "spectral"):
            for decay in ("weight", "frobenius"):
                row = {"defaultweight": "neither", "spectralweight": "SI", "defaultfrobenius": "FD"}.get(init + decay, "SI and FD")
                arguments = ("train", "--arch", "resnet20", "--rank-ratio", RANK_RATIO, "--init", init, "--factor-decay", decay)
                runs.append(Run(row, f"seed {seed}", f"{init}-{decay}-{seed}", (*arguments, *training(options, seed))))
    return runs


def overcomplete(options: argparse.Namespace) -> list[Run]:
    kinds = {
        "plain": (),
        "deep, weight decay": ("--scheme", "deep", "--factor-decay", "weight", "--save", "collapsed"),
        "deep, FD": ("--scheme", "deep", "--factor-decay", "frobenius", "--save", "collapsed"),
        "wide, weight decay": ("--rank-ratio", "3", "--factor-decay", "weight", "--save", "collapsed"),
        "wide, FD": ("--rank-ratio", "3", "--factor-decay", "frobenius", "--save", "collapsed"),
    }
    runs = []
    for seed in range(options.seeds):
        for row, arguments in kinds.items():
            name = f"{row.replace(', ', '-').replace(' ', '-')}-{seed}"
            runs.append(Run(row, f"seed {seed}", name, ("train", "--arch", "resnet20", *arguments, *training(options, seed))))
    return runs


def training(options: argparse.Namespace, seed: int) -> tuple[str, ...]:
    return ("--epochs", str(options.epochs), "--seed", str(seed))


def finetuning(options: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in ("0.5", "0.25", "0.1"):
        rank = ("--keep", keep)
        start = ("finetune", options.checkpoint)
        row = f"keep {keep}"
        runs.append(Run(row, "no training", f"{keep}-none", (*start, *rank, "--epochs", "0")))
        runs.append(Run(row, "recalibrated", f"{keep}-recalibrated", (*start, *rank, "--epochs", "0", "--recalibrate")))
        for epochs in ("1", "5"):
            for decay, title in (("frobenius", "FD"), ("weight", "weight decay")):
                column = f"{epochs} epoch{'s' if epochs != '1' else ''}, {title}"
                arguments = (*start, *rank, "--recalibrate", "--epochs", epochs, "--factor-decay", decay)
                runs.append(Run(row, column, f"{keep}-{epochs}-{decay}", arguments))
        for until, title in (("0", "pruned at once, 5 epochs"), ("0.5", "pruned gradually, 5 epochs")):
            arguments = (*start, "--prune-keep", keep, "--prune-until", until, "--epochs", "5")
            runs.append(Run(row, title, f"{keep}-pruned-{until}", arguments))
    return runs


def carry_out(run: Run, options: argparse.Namespace) -> list[dict]:
    """Trains one run, or goes on with it, and returns what was measured after each epoch."""
    folder = Path(options.out, run.name)
    if not (folder / "report.json").exists():
        command = [options.compress, *run.arguments, "--data", f"cifar10:{options.data}", "--out", str(folder), "--quiet", *options.extra]
        if (folder / "checkpoints" / "state.safetensors").exists():
            command.append("--resume")
        elif folder.exists():
            command.append("--overwrite")
        threads = max(1, (os.cpu_count() or 1) // options.jobs)
        done = subprocess.run(command, env={**os.environ, "RAYON_NUM_THREADS": str(threads)}, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    epochs = json.loads((folder / "report.json").read_text())["epochs"]
    print(f"{run.name}: {100 * epochs[-1]['test_accuracy']:.2f} %", file=sys.stderr)
    return epochs


def table(runs: list[Run], results: list[list[dict]]) -> str:
    """Accuracies at the end by row and column, and where columns are seeds their mean and standard deviation."""
    columns = list(dict.fromkeys(run.column for run in runs))
    seeds = all(column.startswith("seed") for column in columns)
    lines = ["| | " + " | ".join(columns) + (" | mean ± deviation |" if seeds else " |")]
    lines.append("| --- |" + " ---: |" * (len(columns) + seeds))
    for row in dict.fromkeys(run.row for run in runs):
        cells = {run.column: 100 * epochs[-1]["test_accuracy"] for run, epochs in zip(runs, results) if run.row == row}
        values = [f"{cells[column]:.2f}" for column in columns]
        if seeds:
            deviation = statistics.stdev(cells.values()) if len(cells) > 1 else 0.0
            values.append(f"{statistics.mean(cells.values()):.2f} ± {deviation:.2f}")
        lines.append(f"| {row} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def curves(runs: list[Run], results: list[list[dict]], title: str) -> str:
    """Test accuracy over epochs, the mean over seeds, a curve for each row, as SVG."""
    width, height, left, bottom = 720, 420, 60, 50
    lines: dict[str, list[float]] = {}
    for row in dict.fromkeys(run.row for run in runs):
        of_row = [[100 * epoch["test_accuracy"] for epoch in epochs] for run, epochs in zip(runs, results) if run.row == row]
        lines[row] = [statistics.mean(values) for values in zip(*of_row)]
    last = max(len(values) for values in lines.values()) - 1
    x = lambda epoch: left + epoch / max(1, last) * (width - left - 170)
    y = lambda accuracy: height - bottom - accuracy / 100 * (height - bottom - 40)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    svg.append(f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="22" font-size="15">{title}</text>')
    for accuracy in range(0, 101, 20):
        svg.append(f'<path d="M{left} {y(accuracy):.1f}H{x(last):.1f}" stroke="#ddd"/>')
        svg.append(f'<text x="{left - 8}" y="{y(accuracy) + 4:.1f}" text-anchor="end">{accuracy} %</text>')
    for epoch in range(0, last + 1, max(1, last // 10)):
        svg.append(f'<text x="{x(epoch):.1f}" y="{height - bottom + 18}" text-anchor="middle">{epoch}</text>')
    svg.append(f'<text x="{(left + x(last)) / 2:.1f}" y="{height - 10}" text-anchor="middle">epoch</text>')
    for index, (row, values) in enumerate(lines.items()):
        color = COLORS[index % len(COLORS)]
        points = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in enumerate(values))
        svg.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        at = 50 + 20 * index
        svg.append(f'<path d="M{x(last) + 14:.1f} {at}h18" stroke="{color}" stroke-width="2"/>')
        svg.append(f'<text x="{x(last) + 38:.1f}" y="{at + 4}">{row} {values[-1]:.1f} %</text>')
    return "\n".join([*svg, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=("ablation", "overcomplete", "finetuning"))
    parser.add_argument("--data", required=True, help="folder with CIFAR-10's binary version")
    parser.add_argument("--out", required=True, help="folder of the runs")
    parser.add_argument("--checkpoint", default="resnet56.safetensors", help="trained ResNet-56, for finetuning")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--compress", default="compress", help="the program")
    parser.add_argument("extra", nargs="*", help="more arguments for every run, after --")
    options = parser.parse_args()
    runs = {"ablation": ablation, "overcomplete": overcomplete, "finetuning": finetuning}[options.experiment](options)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda run: carry_out(run, options), runs))
    print(table(runs, results))
    if options.experiment != "finetuning":
        path = Path(options.out, "curves.svg")
        path.write_text(curves(runs, results, f"CIFAR-10 test accuracy, ResNet-20, {options.experiment}"))
        print(f"curves: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
