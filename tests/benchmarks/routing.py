"""How often the router finds the right class, and how fast; and the training of its classifier.

`python -m tests.benchmarks.routing FILE.jsonl …` reads labelled prompts, one author a file:
objects with `text`, `lang`, and `class` or `reasoning` (true, false; null: not labelled), and
`topic` where it is known. It prints the figures of the shipped weights, of five folds (prompts
of one topic or of similar text stay in one fold), and of weights that were trained without the
author's prompts, for each author that gives classes. It exits 1 where a target is missed by the
figures of unseen prompts. `--shipped` judges the shipped weights alone.

`python -m tests.benchmarks.routing train FILE.jsonl … --out FILE` writes new weights.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asyncsvc.routing.classifier import Classifier
from tests.benchmarks.routing_fit import (
    CLASSES,
    REASONING,
    Array,
    Bools,
    Ints,
    Prompt,
    Table,
    crossed,
    folds,
    macro_f1,
    scores,
    shift,
    train,
)

FOLDS = 5
RECALL, FALSE_POSITIVES, SURE, FOUND, MACRO_F1 = 0.85, 0.15, 0.85, 0.6, 0.78
MEDIAN_US = 300.0


def read(files: Sequence[Path]) -> list[Prompt]:
    """The labelled prompts of all files, without repeated ones."""
    found: dict[str, Prompt] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "class" in row or row["reasoning"] is not None:
                found.setdefault(row["text"], Prompt.of(row, file.stem))
    return list(found.values())


def report(table: Table, score: Array, chosen: Bools) -> bool:
    """Print the figures of the chosen prompts; whether they meet all targets."""
    good = True
    found = score.argmax(axis=1)
    known = chosen & table.known
    if known.any():
        _confusion(table, found, known)
        total = macro_f1(table.labels[known], found[known])
        right = float((table.labels[known] == found[known]).mean())
        print(f"  accuracy {right:.3f}   macro-F1 {total:.3f}")
        good = total >= MACRO_F1 and _realtime(table, found, known)
    for lang in sorted(set(table.langs[chosen])):
        one = chosen & (table.langs == lang)
        yes, no = one & table.reasoning, one & ~table.reasoning
        recall = float((found[yes] == REASONING).mean()) if yes.any() else float("nan")
        false = float((found[no] == REASONING).mean()) if no.any() else float("nan")
        good &= not recall < RECALL and not false > FALSE_POSITIVES
        print(
            f"  {lang}: reasoning recall {recall:.3f} of {yes.sum()}, "
            f"false positives {false:.3f} of {no.sum()}"
        )
    return good


def _realtime(table: Table, found: Ints, known: Bools) -> bool:
    number = CLASSES.index("realtime")
    labels, found = table.labels[known], found[known]
    precision = (labels[found == number] == number).mean() if (found == number).any() else 0.0
    recall = (found[labels == number] == number).mean() if (labels == number).any() else 0.0
    return bool(precision >= SURE and recall >= FOUND)


def _confusion(table: Table, found: Ints, known: Bools) -> None:
    print("  label \\ found " + "".join(f"{name:>10}" for name in CLASSES))
    for number, name in enumerate(CLASSES):
        row = found[known & (table.labels == number)]
        print(f"  {name:14}" + "".join(f"{(row == one).sum():10d}" for one in range(len(CLASSES))))
    for lang in ("zh", "en"):
        one = known & (table.langs == lang)
        if not one.any():
            continue
        parts = []
        for number, name in enumerate(CLASSES):
            wants, got = table.labels[one] == number, found[one] == number
            both = (wants & got).sum()
            precision, recall = both / max(got.sum(), 1), both / max(wants.sum(), 1)
            f1 = 2 * both / max(wants.sum() + got.sum(), 1)
            parts.append(f"{name} {precision:.2f}/{recall:.2f}/{f1:.2f}")
        total = macro_f1(table.labels[one], found[one])
        print(f"  {lang} precision/recall/F1: {', '.join(parts)}; macro-F1 {total:.3f}")


def unseen(table: Table) -> bool:
    """The figures of prompts that the weights have not seen; whether they meet the targets."""
    print(f"{FOLDS} folds, topics and similar texts kept together, prompts with a class")
    fold = folds(table.groups(), FOLDS)
    score = crossed(table, np.ones(len(fold), dtype=bool), fold)
    moved = score.copy()
    for number in range(FOLDS):
        moved[fold == number] += shift(table, score, fold != number)
    good = report(table, moved, table.known)
    authors = sorted(set(table.sources[table.known]))
    for author in authors if len(authors) > 1 else []:
        held = table.sources == author
        score[held] = scores(train(table, ~held), table.of(held))
        print(f"trained without {author}, tested on it")
        good &= report(table, score, held)
    return good


def speed(model: Classifier, prompts: Sequence[Prompt]) -> float:
    """The median time of a prompt in microseconds, each the best of three."""
    times = []
    for prompt in prompts:
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            model.classify(prompt.text)
            best = min(best, time.perf_counter() - started)
        times.append(best * 1e6)
    longest = "“深入 analysis 12, " * 600_000
    started = time.perf_counter()
    model.classify(longest)
    large = (time.perf_counter() - started) * 1e3
    median = statistics.median(times)
    print(f"median time of a prompt {median:.0f} µs; {len(longest) / 1e6:.0f} MB: {large:.2f} ms")
    return median


def evaluate(files: Sequence[Path], shipped_only: bool) -> int:
    table = Table(read(files))
    model = Classifier.builtin()
    score = scores(model, table.prompts)
    for source in sorted(set(table.sources)):
        print(f"shipped weights, {source} (they may have been trained on it)")
        report(table, score, table.sources == source)
    good = True if shipped_only else unseen(table)
    good &= speed(model, table.prompts) < MEDIAN_US
    print("all targets met" if good else "a target was missed")
    return 0 if good else 1


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    training = argv[:1] == ["train"]
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    if training:
        parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    else:
        parser.add_argument("--shipped", action="store_true", help="judge the shipped weights only")
    options = parser.parse_args(argv[1:] if training else argv)
    if not training:
        return evaluate(options.files, options.shipped)
    table = Table(read(options.files))
    options.out.write_bytes(train(table, np.ones(len(table.prompts), dtype=bool)).write())
    print(f"{options.out}: {options.out.stat().st_size} bytes from {len(table.prompts)} prompts")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
