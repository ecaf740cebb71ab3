"""Runs the comparisons on networks for text whose results are in BENCHMARKS.md, with the program `compress`.

    python text_experiments.py sst2        --data DIR --out DIR --checkpoint all-MiniLM-L6-v2
    python text_experiments.py similarity  --data DIR --out DIR --checkpoint all-MiniLM-L6-v2
    python text_experiments.py translation --data DIR --out DIR [--epochs 2] [--seeds 1]
    python text_experiments.py masked      --data DIR --out DIR --checkpoint all-MiniLM-L6-v2 [--epochs 1] [--seeds 1]
    python text_experiments.py language    --data DIR --out DIR --checkpoint smollm2
    python text_experiments.py translation --tables

`sst2` fine-tunes a sentence encoder on SST-2 (16384 sentences at most), dense and with half and a quarter of its layers' parameters, from plain (SI) and from calibrated
factors, with Frobenius decay (FD) and with weight decay. `similarity` learns the dense network's vectors of STS-B's sentences, without labels. `translation` trains a small Marian
on Multi30k de-en from scratch at rank ratio 0.5 and 0.25: with default or spectral initialization, with weight decay, with FD on linear layers, and with FD
on queries with keys and outputs with values too. `masked` trains a small BERT on WikiText-2, its attention with half of its parameters. `language`
learns a compressed language model on from the dense one. After Khodak, Tenenholtz, Mackey, Fusi, ICLR 2021.

DIR of --data holds sst2-{train,dev}.tsv, stsb-en-{train,dev}.csv, multi30k-{train,val}.{de,en} and wikitext2-{train,valid}.txt; every run is a folder
in DIR of --out. What each run measured is kept in the file of --results, docs/text.json as this project keeps it: a run that stands there is not repeated.
Tables are printed as Markdown; curves go beside the results. Needs Python 3.9 and nothing else.
"""

from __future__ import annotations

import argparse

from experiments import CHECKPOINT, CONFIG, DATA, Experiment, Run, main


def sst2(options: argparse.Namespace) -> list[Run]:
    runs = []
    for seed in range(options.seeds or 2):
        common = ("--train-limit", "16384", "--epochs", str(options.epochs or 2), "--seed", str(seed))
        column = {f"seed {seed}": -1}
        runs.append(Run("dense", f"dense-{seed}", ("finetune", CHECKPOINT, *common), column))
        for keep in ("0.5", "0.25"):
            for start, title in (("plain", "SI"), ("calibrated", "calibrated")):
                calibration = ("--calibrate", f"sst2:{DATA}") if start == "calibrated" else ()
                for decay, decayed in (("frobenius", "FD"), ("weight", "weight decay")):
                    arguments = ("finetune", CHECKPOINT, "--layer-keep", keep, *calibration, "--factor-decay", decay, *common)
                    runs.append(Run(f"{keep}, {title}, {decayed}", f"{keep}-{start}-{decay}-{seed}", arguments, column))
    return runs


def similarity(_: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in ("0.5", "0.35"):
        for start in ("plain", "calibrated"):
            calibration = ("--calibrate", f"stsb:{DATA}") if start == "calibrated" else ()
            arguments = ("finetune", CHECKPOINT, "--layer-keep", keep, *calibration, "--teacher", CHECKPOINT, "--teacher-weight", "1")
            columns = {"before": 0, "epoch 1": 1, "epoch 3": 3}
            runs.append(Run(f"{keep}, {start}", f"{keep}-{start}", (*arguments, "--epochs", "3"), columns))
    return runs


def decays(linear: str, products: str) -> tuple[str, ...]:
    return ("--factor-decay", linear, "--query-key-decay", products, "--output-value-decay", products)


def translation(options: argparse.Namespace) -> list[Run]:
    runs = []
    shared = ("--config", f"{CONFIG}/marian-small.json", "--vocabulary", "4000", "--dropout", "0.1", "--batch-size", "512")
    for seed in range(options.seeds or 1):
        common = ("train", *shared, "--epochs", str(options.epochs or 2), "--seed", str(seed))
        column = {f"seed {seed}": -1}
        runs.append(Run("dense", f"dense-{seed}", common, column))
        runs.append(Run("dense, FD on products", f"dense-products-{seed}", (*common, *decays("weight", "frobenius")), column))
        for ratio in ("0.5", "0.25"):
            # feed-forward layers; attention's own factors are its heads
            target = ("--rank-ratio", ratio, "--target", "**.fc*")
            for init, start in (("default", ""), ("spectral", "SI")):
                for decay, (linear, products, decayed) in {
                    "weight": ("weight", "weight", ""),
                    "linear": ("frobenius", "weight", "FD on linear layers"),
                    "all": ("frobenius", "frobenius", "FD on linear layers and products"),
                }.items():
                    what = ", ".join(filter(None, (start, decayed))) or "neither"
                    arguments = (*common, *target, "--init", init, *decays(linear, products))
                    runs.append(Run(f"{ratio}, {what}", f"{ratio}-{init}-{decay}-{seed}", arguments, column))
    return runs


def masked(options: argparse.Namespace) -> list[Run]:
    runs = []
    shared = ("--config", f"{CONFIG}/bert-small.json", "--tokenizer", CHECKPOINT)
    for seed in range(options.seeds or 1):
        common = ("train", *shared, "--epochs", str(options.epochs or 1), "--seed", str(seed), "--batch-size", "8", "--learning-rate", "5e-4")
        column = {f"seed {seed}": -1}
        runs.append(Run("dense", f"dense-{seed}", common, column))
        for init, start in (("default", ""), ("spectral", "SI")):
            for decay, decayed in (("weight", ""), ("frobenius", "FD")):
                what = " and ".join(filter(None, (start, decayed))) or "neither"
                factors = ("--layer-keep", "0.5", "--allocate", "uniform", "--target", "**.attention.**", "--init", init, "--factor-decay", decay)
                arguments = (*common, *factors)
                runs.append(Run(what, f"{init}-{decay}-{seed}", arguments, column))
    return runs


def language(_: argparse.Namespace) -> list[Run]:
    runs = []
    for keep in ("0.9", "0.8", "0.6"):
        for method in ("plain", "diagonal", "whitened", "fisher"):
            data = ("--calibrate", f"text:{DATA}/wikitext2-train.txt", "--calibration-tokens", "4096") if method != "plain" else ()
            teacher = ("--teacher", CHECKPOINT, "--teacher-weight", "0.5", "--temperature", "1")
            training = ("--train-limit", "16", "--epochs", "1", "--batch-size", "1")
            arguments = ("finetune", CHECKPOINT, "--layer-keep", keep, *data, "--method", method, *teacher, *training)
            runs.append(Run(f"{keep}, {method}", f"{keep}-{method}", arguments, {"before": 0, "after": 1}))
    return runs


PAIRS = f"parallel:{DATA}/multi30k-{{split}}.de,{DATA}/multi30k-{{split}}.en"
TEXT = ("--data", f"text:{DATA}/wikitext2-train.txt", "--test-data", f"text:{DATA}/wikitext2-valid.txt")

EXPERIMENTS = {
    "sst2": Experiment(sst2, shared=("--data", f"sst2:{DATA}")),
    "similarity": Experiment(similarity, "spearman", 100, "Spearman on STS-B dev, times 100", ("--data", f"stsb:{DATA}")),
    "translation": Experiment(translation, "bleu", 1, "BLEU on the validation pairs, greedy", ("--data", PAIRS)),
    "masked": Experiment(masked, "test_loss", 1, "loss on hidden tokens", TEXT),
    "language": Experiment(language, "perplexity", 1, "perplexity", (*TEXT, "--test-limit", "10")),
}

if __name__ == "__main__":
    main(__doc__, EXPERIMENTS, "text.json")
