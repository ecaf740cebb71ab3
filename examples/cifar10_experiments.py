"""Runs the comparisons on CIFAR-10 whose results are in BENCHMARKS.md, with the program `compress`.

    python cifar10_experiments.py finetuning   --data DIR --out DIR --checkpoint resnet56.safetensors
    python cifar10_experiments.py pruning      --data DIR --out DIR --checkpoint resnet56.safetensors
    python cifar10_experiments.py ablation     --data DIR --out DIR [--epochs 10] [--seeds 3]
    python cifar10_experiments.py overcomplete --data DIR --out DIR [--epochs 10] [--seeds 3]
    python cifar10_experiments.py ablation --tables

`finetuning` compresses a trained ResNet-56 to a half, a quarter and a tenth of its parameters and fine-tunes it, with Frobenius
decay, with weight decay, and with Frobenius decay and the dense network as its teacher; `pruning` leaves out weights
by magnitude instead, to as many parameters. `ablation` trains ResNet-20 from scratch at rank ratio 1/9 with default or spectral initialization
(SI) and with weight decay on the factors or Frobenius decay on their product (FD). `overcomplete` trains the plain network, three factors of full
rank (deep) and two factors of three times the full rank (wide), collapsed at the end. After Khodak, Tenenholtz, Mackey, Fusi, ICLR 2021.

DIR of --data holds the six files of CIFAR-10's binary version. Every run is a folder in DIR of --out; a run that was interrupted goes on where it
was. What each run measured is kept in the file of --results, docs/cifar10.json as this project keeps it: a run that stands there is not repeated,
so that `--results mine.json` begins anew. `--jobs 2` runs two at a time, each on its part of the cores; the results don't depend on that.
Tables are printed as Markdown from whatever was measured; curves go beside the results. Needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

RANK_RATIO = "0.11111111"
KEEPS = ("0.5", "0.25", "0.1")
CHECKPOINT = "CHECKPOINT"  # stands for its path in what is kept
MEASURES = ("learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "elapsed_secs")
DIAGNOSTICS = ("norm", "nuclear_norm", "nuclear_bound", "effective_step_size", "non_orthogonality", "stable_rank")
COLORS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477")


@dataclass(frozen=True)
class Run:
    """One run: its row in the table, its folder's name, its arguments, and the columns that its epochs fill; the last is -1."""

    row: str
    name: str
    arguments: tuple[str, ...]
    columns: dict[str, int]
    curve: str = ""


def ablation(options: argparse.Namespace) -> list[Run]:
    runs = []
    for seed in range(options.seeds):
        for init in ("default", "spectral"):
            for decay in ("weight", "frobenius"):
                row = {"defaultweight": "neither", "spectralweight": "SI", "defaultfrobenius": "FD"}.get(init + decay, "SI and FD")
                arguments = ("train", "--arch", "resnet20", "--rank-ratio", RANK_RATIO, "--init", init, "--factor-decay", decay)
                runs.append(Run(row, f"{init}-{decay}-{seed}", (*arguments, *training(options, seed)), {f"seed {seed}": -1}))
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
            arguments = ("train", "--arch", "resnet20", *arguments, *training(options, seed))
            runs.append(Run(row, name, arguments, {f"seed {seed}": -1}))
    return runs


def training(options: argparse.Namespace, seed: int) -> tuple[str, ...]:
    return ("--epochs", str(options.epochs), "--seed", str(seed))


def finetuning(_: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in KEEPS:
        start = ("finetune", CHECKPOINT, "--keep", keep)
        row = f"keep {keep}"
        runs.append(Run(row, f"{keep}-none", (*start, "--epochs", "0"), {"no training": 0}))
        kinds = {
            "frobenius": ("FD", ("--factor-decay", "frobenius")),
            "weight": ("weight decay", ("--factor-decay", "weight")),
            "teacher": ("FD and teacher", ("--teacher", CHECKPOINT)),
        }
        for name, (title, more) in kinds.items():
            columns = {"recalibrated": 0} | {f"{title}, epoch {epoch}": epoch for epoch in (1, 5)}
            arguments = (*start, "--recalibrate", "--epochs", "5", *more)
            runs.append(Run(row, f"{keep}-{name}", arguments, columns, f"{row}, {title}"))
    return runs


def pruning(_: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in KEEPS:
        for until, title in (("0", "at once"), ("0.5", "gradually")):
            arguments = ("finetune", CHECKPOINT, "--prune-keep", keep, "--prune-until", until, "--epochs", "5")
            columns = {f"pruned {title}, epoch {epoch}": epoch for epoch in (1, 5)}
            runs.append(Run(f"keep {keep}", f"{keep}-pruned-{until}", arguments, columns, f"keep {keep}, {title}"))
    return runs


class Results:
    """What was measured, in a file that is replaced whole after every run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = Lock()
        self.runs = self.read()

    def read(self) -> dict[str, dict]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, experiment: str, run: Run) -> dict | None:
        """What this run measured, if it was run."""
        found = self.runs.get(f"{experiment}/{run.name}")
        if found and found["arguments"] != list(run.arguments):
            sys.exit(f"{experiment}/{run.name} stands in {self.path} with other arguments: {' '.join(found['arguments'])}")
        return found

    def add(self, experiment: str, run: Run, report: dict) -> None:
        """Keeps what a run's report says: its arguments, its size, and for every epoch losses, accuracies and means over layers."""
        epochs = [{name: shortened(epoch[name]) for name in MEASURES} | means(epoch["layers"]) for epoch in report["epochs"]]
        measured = {"arguments": list(run.arguments), "parameters": report["totals"]["parameters"], "epochs": epochs}
        with self.lock:
            # another series may have added its own since
            self.runs = self.read() | {f"{experiment}/{run.name}": measured}
            lines = [f"{json.dumps(name)}: {json.dumps(self.runs[name])}" for name in sorted(self.runs)]
            scratch = self.path.with_name(self.path.name + ".new")
            scratch.write_text("{\n" + ",\n".join(lines) + "\n}\n")
            scratch.replace(self.path)


def means(layers: list[dict]) -> dict:
    """The factored layers' diagnostics, each the mean over layers."""
    return {name: shortened(statistics.mean(layer[name] for layer in layers)) for name in DIAGNOSTICS} if layers else {}


def shortened(value: float | None) -> float | None:
    """Six digits of a number."""
    return None if value is None else float(f"{value:.6g}")


def carry_out(run: Run, options: argparse.Namespace, results: Results) -> None:
    """Trains one run, or goes on with it, and keeps what was measured."""
    if results.of(options.experiment, run):
        return
    folder = Path(options.out, options.experiment, run.name)
    if not (folder / "report.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        arguments = [options.checkpoint if argument == CHECKPOINT else argument for argument in run.arguments]
        command = [options.compress, *arguments, "--data", f"cifar10:{options.data}", "--out", str(folder), "--quiet"]
        if (folder / "checkpoints" / "state.safetensors").exists():
            command.append("--resume")
        elif folder.exists():
            command.append("--overwrite")
        command += ["--device", options.device]
        done = subprocess.run(command, env={**os.environ, "RAYON_NUM_THREADS": str(options.threads)}, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    report = json.loads((folder / "report.json").read_text())
    results.add(options.experiment, run, report)
    print(f"{run.name}: {100 * report['epochs'][-1]['test_accuracy']:.2f} %", file=sys.stderr)


def table(runs: list[Run], measured: dict[str, dict]) -> str:
    """Accuracies by row and column, and where columns are seeds their mean and standard deviation."""
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    seeds = all(column.startswith("seed") for column in columns)
    lines = ["| | " + " | ".join(["parameters", *columns]) + (" | mean ± deviation |" if seeds else " |")]
    lines.append("| --- |" + " ---: |" * (1 + len(columns) + seeds))
    for row in dict.fromkeys(run.row for run in runs):
        of_row = [(run.columns, measured[run.name]) for run in runs if run.row == row and run.name in measured]
        if not of_row:
            continue
        cells = {
            column: 100 * found["epochs"][epoch]["test_accuracy"] for filled, found in of_row for column, epoch in filled.items()
        }
        values = [f"{max(found['parameters'] for _, found in of_row) / 1000:.1f} K"]
        values += [f"{cells[column]:.2f}" if column in cells else "" for column in columns]
        if seeds:
            deviation = f" ± {statistics.stdev(cells.values()):.2f}" if len(cells) > 1 else ""
            values.append(f"{statistics.mean(cells.values()):.2f}{deviation}")
        lines.append(f"| {row} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def curves(runs: list[Run], measured: dict[str, dict]) -> str:
    """What was measured over epochs, the mean over seeds, a panel for each measure and a curve for each row, as SVG."""
    panels = {"test accuracy, %": "test_accuracy", "training loss": "train_loss"}
    panels |= {"nuclear norm of A B, mean over layers": "nuclear_norm", "lr / |A B|², mean over layers": "effective_step_size"}
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, measure in panels.items():
        for row in dict.fromkeys(run.curve or run.row for run in runs):
            of_row = [measured[run.name]["epochs"] for run in runs if row == (run.curve or run.row) and run.name in measured]
            at_epoch = [[epoch.get(measure) for epoch in epochs] for epochs in zip(*of_row)]
            points = [(epoch, statistics.mean(values)) for epoch, values in enumerate(at_epoch) if None not in values]
            if points:
                scale = 100 if measure == "test_accuracy" else 1
                series.setdefault(title, {})[row] = [(epoch, scale * value) for epoch, value in points]
    rows = list(dict.fromkeys(row for lines in series.values() for row in lines))
    width, height, columns = 430, 290, 2
    tall = height * math.ceil(len(series) / columns) + 30
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {tall}" font-family="sans-serif" font-size="12">']
    svg.append(f'<rect width="{columns * width}" height="{tall}" fill="white"/>')
    for index, row in enumerate(rows):
        color, at = COLORS[index % len(COLORS)], 50 + index * (columns * width - 100) // max(1, len(rows))
        svg.append(f'<path d="M{at} 18h20" stroke="{color}" stroke-width="2"/><text x="{at + 26}" y="22">{row}</text>')
    for index, (title, lines) in enumerate(series.items()):
        svg += panel(title, lines, rows, index % columns * width, 30 + index // columns * height, width, height)
    return "\n".join([*svg, "</svg>", ""])


def panel(title: str, lines: dict[str, list[tuple[int, float]]], rows: list[str], left: int, top: int, width: int, height: int) -> list[str]:
    """One panel's axes and curves."""
    values = [value for points in lines.values() for _, value in points]
    last = max(epoch for points in lines.values() for epoch, _ in points)
    step = 10 ** math.floor(math.log10(max(max(values) - min(values), 1e-12)))
    step *= next(factor for factor in (0.2, 0.5, 1, 2, 5) if (max(values) - min(values)) / (factor * step) <= 6)
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    x = lambda epoch: left + 50 + epoch / max(1, last) * (width - 70)
    y = lambda value: top + height - 40 - (value - low) / (high - low or 1) * (height - 80)
    svg = [f'<text x="{left + 50}" y="{top + 24}" font-size="14">{title}</text>']
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        svg.append(f'<path d="M{x(0):.1f} {y(value):.1f}H{x(last):.1f}" stroke="#ddd"/>')
        svg.append(f'<text x="{x(0) - 6:.1f}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for epoch in range(0, last + 1, max(1, last // 10)):
        svg.append(f'<text x="{x(epoch):.1f}" y="{top + height - 22}" text-anchor="middle">{epoch}</text>')
    svg.append(f'<text x="{x(last / 2):.1f}" y="{top + height - 6}" text-anchor="middle">epoch</text>')
    for row, points in lines.items():
        path = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in points)
        color = COLORS[rows.index(row) % len(COLORS)]
        svg.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    return svg


EXPERIMENTS = {"finetuning": finetuning, "pruning": pruning, "ablation": ablation, "overcomplete": overcomplete}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", help="folder with CIFAR-10's binary version")
    parser.add_argument("--out", help="folder of the runs")
    parser.add_argument("--checkpoint", help="trained ResNet-56, for finetuning and pruning")
    parser.add_argument("--epochs", type=int, default=10, help="of ablation and overcomplete")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", default="*", metavar="GLOB", help="run those of these names, such as '*-frobenius-0'")
    parser.add_argument("--tables", action="store_true", help="run nothing, show what was measured")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent.parent / "docs" / "cifar10.json")
    parser.add_argument("--compress", default="compress", help="the program")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.threads = max(1, cores // options.jobs)
    runs = EXPERIMENTS[options.experiment](options)
    results = Results(options.results)
    if not options.tables:
        if not options.data or not options.out:
            parser.error("--data and --out are needed to run")
        if not options.checkpoint and any(CHECKPOINT in run.arguments for run in runs):
            parser.error("--checkpoint is needed")
        wanted = [run for run in runs if fnmatch.fnmatch(run.name, options.only)]
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda run: carry_out(run, options, results), wanted))
    measured = {run.name: found for run in runs if (found := results.of(options.experiment, run))}
    print(table(runs, measured))
    if measured and any(len(found["epochs"]) > 2 for found in measured.values()):
        drawn = [run for run in runs if run.name in measured and len(measured[run.name]["epochs"]) > 2]
        path = options.results.with_name(f"{options.results.stem}-{options.experiment}.svg")
        path.write_text(curves(drawn, measured))
        print(f"curves: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
