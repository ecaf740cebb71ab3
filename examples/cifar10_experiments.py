"""Runs the comparisons on CIFAR-10 whose results are in BENCHMARKS.md, with the program `compress`.

    python cifar10_experiments.py finetuning   --data DIR --out DIR --checkpoint resnet56.safetensors
    python cifar10_experiments.py pruning      --data DIR --out DIR --checkpoint resnet56.safetensors
    python cifar10_experiments.py ablation     --data DIR --out DIR [--epochs 10] [--seeds 3]
    python cifar10_experiments.py overcomplete --data DIR --out DIR [--epochs 3] [--seeds 1]
    python cifar10_experiments.py formats      --data DIR --out DIR --checkpoint resnet56.safetensors
    python cifar10_experiments.py wide         --data DIR --out DIR [--epochs 4] [--seeds 1]
    python cifar10_experiments.py ablation --tables

`finetuning` compresses a trained ResNet-56 to a half, a quarter and a tenth of its parameters and fine-tunes it, with Frobenius
decay, with weight decay, with Frobenius decay and the dense network as its teacher, from calibrated factors, and as components (cp); `pruning`
leaves out weights by magnitude instead, to as many parameters. `ablation` trains ResNet-20 from scratch at rank ratio 1/9 with default or spectral initialization
(SI) and with weight decay on the factors or Frobenius decay on their product (FD). `overcomplete` trains the plain network, three factors of full
rank (deep) and two factors of three times the full rank (wide), collapsed at the end. `formats` compresses ResNet-56 to a half and a quarter of
its layers' parameters by every format, of matrices and of tensors, and by the best of each layer; `wide` trains a wide ResNet from scratch with
1.667 % and 6.667 % of its layers' parameters, as matrices and as tensors, with and without SI and FD, on 20,000 pictures, and times their steps. After Khodak, Tenenholtz, Mackey, Fusi, ICLR 2021.

DIR of --data holds the six files of CIFAR-10's binary version. Every run is a folder in DIR of --out; a run that was interrupted goes on where it
was. What each run measured is kept in the file of --results, docs/cifar10.json as this project keeps it: a run that stands there is not repeated,
so that `--results mine.json` begins anew. `--jobs 2` runs two at a time, each on its part of the cores; the results don't depend on that, but times do: `--only 'timing-*'` with one job.
Tables are printed as Markdown from whatever was measured; curves go beside the results. Needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import argparse

from experiments import CHECKPOINT, DATA, TIMED, TIMING, Experiment, Run, main

RANK_RATIO = "0.11111111"
KEEPS = ("0.5", "0.25", "0.1")
EPOCHS, SEEDS = 10, 3
OVERCOMPLETE_EPOCHS = 3


def ablation(options: argparse.Namespace) -> list[Run]:
    runs = []
    for seed in range(options.seeds or SEEDS):
        for init in ("default", "spectral"):
            for decay in ("weight", "frobenius"):
                row = {"defaultweight": "neither", "spectralweight": "SI", "defaultfrobenius": "FD"}.get(init + decay, "SI and FD")
                arguments = ("train", "--arch", "resnet20", "--rank-ratio", RANK_RATIO, "--init", init, "--factor-decay", decay)
                runs.append(Run(row, f"{init}-{decay}-{seed}", (*arguments, *training(options, seed, EPOCHS)), {f"seed {seed}": -1}))
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
    for seed in range(options.seeds or 1):
        for row, arguments in kinds.items():
            name = f"{row.replace(', ', '-').replace(' ', '-')}-{seed}"
            arguments = ("train", "--arch", "resnet20", *arguments, *training(options, seed, OVERCOMPLETE_EPOCHS))
            runs.append(Run(row, name, arguments, {f"seed {seed}": -1}))
    return runs


def training(options: argparse.Namespace, seed: int, epochs: int) -> tuple[str, ...]:
    return ("--epochs", str(options.epochs or epochs), "--seed", str(seed))


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
        arguments = (*start, "--calibrate", f"cifar10:{DATA}", "--epochs", "5")
        columns = {"calibrated": 0} | {f"calibrated, FD, epoch {epoch}": epoch for epoch in (1, 5)}
        runs.append(Run(row, f"{keep}-calibrated", arguments, columns, f"{row}, calibrated, FD"))
        # So near a start is left by small steps, with the statistics that it has.
        arguments = (*start, "--scheme", "cp", "--learning-rate", "0.001", "--epochs", "5")
        columns = {"cp": 0} | {f"cp, FD, epoch {epoch}": epoch for epoch in (1, 5)}
        runs.append(Run(row, f"{keep}-cp", arguments, columns, f"{row}, cp, FD"))
    return runs


def pruning(_: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in KEEPS:
        for until, title in (("0", "at once"), ("0.5", "gradually")):
            arguments = ("finetune", CHECKPOINT, "--prune-keep", keep, "--prune-until", until, "--epochs", "5")
            columns = {f"pruned {title}, epoch {epoch}": epoch for epoch in (1, 5)}
            runs.append(Run(f"keep {keep}", f"{keep}-pruned-{until}", arguments, columns, f"keep {keep}, {title}"))
    return runs


SCHEMES = ("spatial", "channel", "tucker", "cp", "tensor-train", "auto")


def formats(options: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in ("0.5", "0.25"):
        for scheme in SCHEMES:
            start, row = ("finetune", CHECKPOINT, "--layer-keep", keep, "--scheme", scheme), f"{keep}, {scheme}"
            runs.append(Run(row, f"{keep}-{scheme}-none", (*start, "--epochs", "0"), {"no training": 0}))
            recalibrated = (*start, "--recalibrate", "--epochs")
            runs.append(Run(row, f"{keep}-{scheme}-recalibrated", (*recalibrated, "0"), {"recalibrated": 0}))
            columns = {f"epoch {epoch}": epoch for epoch in (1, 3)}
            runs.append(Run(row, f"{keep}-{scheme}", (*recalibrated, str(options.epochs or 3)), columns, row))
    return runs


def wide(options: argparse.Namespace) -> list[Run]:
    runs = []
    arch = ("train", "--arch", "wrn-16-2")
    # a hundred steps, to be timed with nothing beside them
    timed = ("--epochs", "1", "--train-limit", "12800", "--test-limit", "128")
    runs.append(Run("dense", "timing-dense", (*arch, *timed), {TIMED: TIMING}))
    for seed in range(options.seeds or 1):
        common = ("--train-limit", "20000", "--epochs", str(options.epochs or 4), "--seed", str(seed))
        runs.append(Run("dense", f"dense-{seed}", (*arch, *common), {f"seed {seed}": -1}))
        for keep in ("0.06667", "0.01667"):
            for scheme in ("spatial", "tucker", "cp", "tensor-train"):
                for init, decay, what in (
                    ("default", "weight", "neither"), ("spectral", "weight", "SI"), ("default", "frobenius", "FD"), ("spectral", "frobenius", "SI and FD")
                ):
                    row = f"{keep}, {scheme}, {what}"
                    factors = ("--layer-keep", keep, "--allocate", "uniform", "--scheme", scheme, "--init", init, "--factor-decay", decay)
                    runs.append(Run(row, f"{keep}-{scheme}-{init}-{decay}-{seed}", (*arch, *factors, *common), {f"seed {seed}": -1}))
                    # where they start does not change how long they take
                    if seed == 0 and init == "default":
                        runs.append(Run(row, f"timing-{keep}-{scheme}-{decay}", (*arch, *factors, *timed), {TIMED: TIMING}))
    return runs


EXPERIMENTS = {
    name: Experiment(runs, shared=("--data", f"cifar10:{DATA}"))
    for name, runs in {"finetuning": finetuning, "pruning": pruning, "ablation": ablation, "overcomplete": overcomplete, "formats": formats, "wide": wide}.items()
}

if __name__ == "__main__":
    main(__doc__, EXPERIMENTS, "cifar10.json")
