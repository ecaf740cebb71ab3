"""What the scripts of experiments have in common: runs of the program `compress`, what they measured in one file, tables and curves.

A run that stands in the file is not repeated, and one that was interrupted goes on where it was. Needs Python 3.9 and nothing else.
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

CHECKPOINT = "CHECKPOINT"  # stands for its path in what is kept
DATA = "DATA"  # stands for the folder of data
CONFIG = "CONFIG"  # stands for the folder of the script
TIMING, TIMED = "step_ms", "ms a step"
MEASURES = ("learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "elapsed_secs")
DIAGNOSTICS = ("norm", "nuclear_norm", "nuclear_bound", "effective_step_size", "non_orthogonality", "stable_rank")
COLORS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#66aa00", "#b82e2e", "#316395")


@dataclass(frozen=True)
class Run:
    """One run: its row in the table, its folder's name, its arguments, and the columns that it fills.

    What fills a column is the measure of an epoch, of which the last is -1, or TIMING, milliseconds of a step.
    """

    row: str
    name: str
    arguments: tuple[str, ...]
    columns: dict[str, int | str]
    curve: str = ""


@dataclass(frozen=True)
class Experiment:
    """Runs that are compared: by which measure of an epoch, times what, under which title; and what all are given beside their arguments."""

    runs: Callable[[argparse.Namespace], list[Run]]
    measure: str = "test_accuracy"
    scale: float = 100
    title: str = "test accuracy, %"
    shared: tuple[str, ...] = ()


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

    def add(self, experiment: str, run: Run, report: dict, timing: dict[str, float | None]) -> None:
        """Keeps what a run's report says: its arguments, its size, and for every epoch losses, accuracies and means over layers."""
        epochs = [
            {name: shortened(epoch[name]) for name in MEASURES}
            | {name: shortened(score) for name, score in epoch.get("scores", {}).items()}
            | means(epoch["layers"])
            for epoch in report["epochs"]
        ]
        measured = {"arguments": list(run.arguments), "parameters": report["totals"]["parameters"], **timing, "epochs": epochs}
        with self.lock:
            # another series may have added its own since
            self.runs = self.read() | {f"{experiment}/{run.name}": measured}
            lines = [f"{json.dumps(name)}: {json.dumps(self.runs[name])}" for name in sorted(self.runs)]
            scratch = self.path.with_name(self.path.name + ".new")
            scratch.write_text("{\n" + ",\n".join(lines) + "\n}\n")
            scratch.replace(self.path)


def count(parameters: int) -> str:
    """A number of parameters, in thousands or millions."""
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e6 else f"{parameters / 1000:.1f} K"


def means(layers: list[dict]) -> dict:
    """The factored layers' diagnostics, each the mean over layers."""
    return {name: shortened(statistics.mean(layer[name] for layer in layers)) for name in DIAGNOSTICS} if layers else {}


def shortened(value: float | None) -> float | None:
    """Six digits of a number."""
    return None if value is None else float(f"{value:.6g}")


def step_ms(folder: Path) -> float | None:
    """The time of a step on pictures, in milliseconds: the median of what a run's records of fifty steps each say, but the first."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    batch = json.loads((folder / "report.json").read_text())["options"]["training"]["batch_size"]
    rates = [record["samples_per_sec"] for record in records if record["kind"] == "step"]
    return 1000 * batch / statistics.median(rates[1:]) if len(rates) > 1 else None


def carry_out(run: Run, experiment: Experiment, options: argparse.Namespace, results: Results) -> None:
    """Trains one run, or goes on with it, and keeps what was measured."""
    if results.of(options.experiment, run):
        return
    folder = Path(options.out, options.experiment, run.name)
    if not (folder / "report.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        places = {CHECKPOINT: options.checkpoint, DATA: options.data, CONFIG: str(Path(__file__).parent)}
        arguments = [*run.arguments, *experiment.shared]
        for name, place in places.items():
            arguments = [argument.replace(name, place) if place else argument for argument in arguments]
        command = [options.compress, *arguments, "--out", str(folder), "--quiet"]
        if (folder / "checkpoints" / "state.safetensors").exists():
            command.append("--resume")
        elif folder.exists():
            command.append("--overwrite")
        command += ["--device", options.device]
        done = subprocess.run(command, env={**os.environ, "RAYON_NUM_THREADS": str(options.threads)}, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    report = json.loads((folder / "report.json").read_text())
    timing = {TIMING: shortened(step_ms(folder))} if TIMING in run.columns.values() else {}
    results.add(options.experiment, run, report, timing)
    last = report["epochs"][-1]
    value = {**last, **last.get("scores", {})}[experiment.measure]
    print(f"{run.name}: {experiment.scale * value:.2f}", file=sys.stderr)


def table(experiment: Experiment, runs: list[Run], measured: dict[str, dict]) -> str:
    """What is measured by row and column, and where columns are seeds their mean and standard deviation."""
    columns = list(dict.fromkeys(column for run in runs for column in run.columns))
    seeds = all(column.startswith("seed") or column == TIMED for column in columns)
    lines = ["| | " + " | ".join(["parameters", *columns]) + (" | mean ± deviation |" if seeds else " |")]
    lines.append("| --- |" + " ---: |" * (1 + len(columns) + seeds))
    for row in dict.fromkeys(run.row for run in runs):
        of_row = [(run.columns, measured[run.name]) for run in runs if run.row == row and run.name in measured]
        if not of_row:
            continue
        cells = {
            column: found[TIMING] if what == TIMING else experiment.scale * found["epochs"][what][experiment.measure]
            for filled, found in of_row
            for column, what in filled.items()
            if what != TIMING or found.get(TIMING) is not None
        }
        values = [count(max(found["parameters"] for _, found in of_row))]
        values += [(f"{cells[column]:.0f}" if column == TIMED else f"{cells[column]:.2f}") if column in cells else "" for column in columns]
        if seeds:
            measured_cells = [value for column, value in cells.items() if column != TIMED]
            deviation = f" ± {statistics.stdev(measured_cells):.2f}" if len(measured_cells) > 1 else ""
            values.append(f"{statistics.mean(measured_cells):.2f}{deviation}" if measured_cells else "")
        lines.append(f"| {row} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def curves(experiment: Experiment, runs: list[Run], measured: dict[str, dict]) -> str:
    """What was measured over epochs, the mean over seeds, a panel for each measure and a curve for each row, as SVG."""
    panels = {experiment.title: experiment.measure, "training loss": "train_loss"}
    panels |= {"nuclear norm of A B, mean over layers": "nuclear_norm", "lr / |A B|², mean over layers": "effective_step_size"}
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for title, measure in panels.items():
        for row in dict.fromkeys(run.curve or run.row for run in runs):
            of_row = [measured[run.name]["epochs"] for run in runs if row == (run.curve or run.row) and run.name in measured]
            at_epoch = [[epoch.get(measure) for epoch in epochs] for epochs in zip(*of_row)]
            points = [(epoch, statistics.mean(values)) for epoch, values in enumerate(at_epoch) if None not in values]
            if points:
                scale = experiment.scale if measure == experiment.measure else 1
                series.setdefault(title, {})[row] = [(epoch, scale * value) for epoch, value in points]
    rows = list(dict.fromkeys(row for lines in series.values() for row in lines))
    width, height, columns = 430, 290, 2
    # names side by side, as many as there is room for
    room = 56 + 7 * max(map(len, rows), default=0)
    across = max(1, (columns * width - 50) // room)
    top = 12 + 18 * math.ceil(len(rows) / across)
    tall = height * math.ceil(len(series) / columns) + top
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {tall}" font-family="sans-serif" font-size="12">']
    svg.append(f'<rect width="{columns * width}" height="{tall}" fill="white"/>')
    for index, row in enumerate(rows):
        left, y = 50 + index % across * room, 18 + index // across * 18
        svg.append(f'<path d="M{left} {y}h20" {stroke(index)}/><text x="{left + 26}" y="{y + 4}">{row}</text>')
    for index, (title, lines) in enumerate(series.items()):
        svg += panel(title, lines, rows, index % columns * width, top + index // columns * height, width, height)
    return "\n".join([*svg, "</svg>", ""])


def stroke(index: int) -> str:
    """How a curve is drawn: in its own color, and dashed where the colors begin anew."""
    dashes = f' stroke-dasharray="{2 + 4 * (index // len(COLORS))} 3"' if index >= len(COLORS) else ""
    return f'stroke="{COLORS[index % len(COLORS)]}" stroke-width="2"{dashes}'


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
        svg.append(f'<polyline points="{path}" fill="none" {stroke(rows.index(row))}/>')
    return svg


def main(description: str, experiments: dict[str, Experiment], results: str) -> None:
    """The command line of a script of experiments."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("--data", help="folder of the data")
    parser.add_argument("--out", help="folder of the runs")
    parser.add_argument("--checkpoint", help="trained network that is compressed")
    parser.add_argument("--epochs", type=int, help="where they are no part of the experiment")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", default="*", metavar="GLOB", help="run those of these names, such as '*-frobenius-0'")
    parser.add_argument("--tables", action="store_true", help="run nothing, show what was measured")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent.parent / "docs" / results)
    parser.add_argument("--compress", default="compress", help="the program")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.threads = max(1, cores // options.jobs)
    experiment = experiments[options.experiment]
    runs = experiment.runs(options)
    kept = Results(options.results)
    if not options.tables:
        if not options.data or not options.out:
            parser.error("--data and --out are needed to run")
        if not options.checkpoint and any(CHECKPOINT in run.arguments for run in runs):
            parser.error("--checkpoint is needed")
        wanted = [run for run in runs if fnmatch.fnmatch(run.name, options.only)]
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda run: carry_out(run, experiment, options, kept), wanted))
    measured = {run.name: found for run in runs if (found := kept.of(options.experiment, run))}
    print(table(experiment, runs, measured))
    if measured and any(len(found["epochs"]) > 2 for found in measured.values()):
        drawn = [run for run in runs if run.name in measured and len(measured[run.name]["epochs"]) > 2]
        path = options.results.with_name(f"{options.results.stem}-{options.experiment}.svg")
        path.write_text(curves(experiment, drawn, measured))
        print(f"curves: {path}", file=sys.stderr)
