"""How well the router tells prompts that want reasoning from the rest, and how fast.

`python -m tests.benchmarks.routing FILE.jsonl …` reads labelled prompts (`text`, `lang`, and
`reasoning`: true, false, or null for everyday tasks), one file a set. It prints recall and false
positives of the shipped weights, of weights fitted in 5-fold cross-validation, and of weights
fitted without each set in turn and tested on it; and exits 1 where a target is missed. `--fit`
prints newly fitted weights.

The fit is logistic regression around the hand-set weights below: with the sign of each weight
fixed and pulled towards its start, it transfers to prompts of another kind, which plain
regression does not.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncsvc.providers.features import Features

Array = NDArray[np.float64]

PRIOR = {
    "zh_math": 0.6,
    "zh_math_ask": 1.0,
    "zh_logic": 0.8,
    "zh_deep": 2.6,
    "zh_code": 1.2,
    "en_math": 0.6,
    "en_logic": 0.8,
    "en_deep": 2.6,
    "en_code": 0.9,
    "task": 1.5,
    "numbers": 0.4,
    "operators": 0.3,
    "code_block": 1.0,
    "choices": 0.8,
    "questions": 0.2,
    "zh_plain": -0.7,
    "en_plain": -0.7,
    "plain_opener": -1.0,
    "length": -0.6,
}
PRIOR_BIAS = -1.6
PULL = 0.1
RECALL, FALSE_POSITIVES, TRANSFER, MEDIAN_US = 0.80, 0.15, 0.65, 100.0
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Prompts:
    """Feature values (one row a prompt) with label, set and language of each."""

    values: Array
    wants: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    sets: NDArray[np.str_]
    langs: NDArray[np.str_]
    median_us: float


def read(files: list[Path], features: Features) -> Prompts:
    """The prompts of all files, one set a file."""
    rows: list[tuple[str, dict[str, Any]]] = []
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        rows += [(file.stem, json.loads(line)) for line in lines if line.strip()]
    values, times = [], []
    for _, row in rows:
        started = time.perf_counter()
        reading = features.read(row["text"])
        times.append((time.perf_counter() - started) * 1e6)
        found = {hit.name: hit.value for hit in reading.hits}
        values.append([found.get(name, 0.0) for name in PRIOR])
    return Prompts(
        np.array(values),
        np.array([bool(row["reasoning"]) for _, row in rows]),
        np.array([row["reasoning"] is not None for _, row in rows]),
        np.array([name for name, _ in rows]),
        np.array([row["lang"] for _, row in rows]),
        statistics.median(times),
    )


def fit(prompts: Prompts, chosen: NDArray[np.bool_]) -> Array:
    """Weights, the bias last, by damped Newton steps."""
    start = np.array([*PRIOR.values(), PRIOR_BIAS])
    wants = prompts.wants[chosen].astype(float)
    rows = np.c_[prompts.values[chosen], np.ones(len(wants))]
    weight = np.ones(len(wants))
    for name in set(prompts.sets[chosen]):
        for label in (True, False):
            same = (prompts.sets[chosen] == name) & (prompts.wants[chosen] == label)
            if same.any():
                weight[same] = 1 / np.sqrt(same.sum())  # a large set must not drown the others
    weight /= weight.mean()
    pull = PULL * (1 + np.r_[np.maximum(prompts.values[chosen].std(0), 0.15) ** 2, 0.3])
    found = start.copy()
    for _ in range(200):
        likely = 1 / (1 + np.exp(-np.clip(rows @ found, -30, 30)))
        slope = rows.T @ (weight * (likely - wants)) / len(wants) + pull * (found - start)
        curve = (rows * (weight * likely * (1 - likely))[:, None]).T @ rows / len(wants)
        step = np.linalg.solve(curve + np.diag(pull), slope)
        found -= 0.5 * step
        wrong = found[:-1] * np.sign(start[:-1]) < 0
        found[:-1][wrong] = 0.0
        if np.abs(step).max() < 1e-6:
            break
    return found


def scores(prompts: Prompts, weights: Array) -> Array:
    result: Array = prompts.values @ weights[:-1] + weights[-1]
    return result


def rates(prompts: Prompts, score: Array, chosen: NDArray[np.bool_]) -> tuple[float, float, str]:
    """(recall, false positive rate, both in words); nan where there is nothing to count."""
    chosen = chosen & prompts.labelled
    yes, no = chosen & prompts.wants, chosen & ~prompts.wants
    recall = float((score[yes] >= 0).mean()) if yes.any() else float("nan")
    false = float((score[no] >= 0).mean()) if no.any() else float("nan")
    said = f"recall {recall:.3f} of {yes.sum():4d}   false positives {false:.3f} of {no.sum():4d}"
    return recall, false, said


def crossed(prompts: Prompts) -> Array:
    """Each prompt's score by weights that have not seen it."""
    fold = np.random.default_rng(0).permutation(len(prompts.wants)) % FOLDS
    score = np.zeros(len(fold))
    for number in range(FOLDS):
        score[fold == number] = scores(prompts, fit(prompts, fold != number))[fold == number]
    return score


def report(prompts: Prompts, features: Features) -> bool:
    """Print the figures; whether all targets are met."""
    everything = np.ones(len(prompts.wants), dtype=bool)
    names = sorted(set(prompts.sets[prompts.labelled]))
    shipped = np.array([_weight(features, name) for name in PRIOR] + [features.bias])
    good = True
    for title, score in (
        ("shipped weights", scores(prompts, shipped)),
        ("5-fold cross-validation", crossed(prompts)),
    ):
        recall, false, said = rates(prompts, score, everything)
        good &= recall >= RECALL and false <= FALSE_POSITIVES
        print(f"{title:26} {said}")
        for name in names:
            print(f"  {name:24} {rates(prompts, score, prompts.sets == name)[2]}")
        for lang in sorted(set(prompts.langs)):
            print(f"  {lang:24} {rates(prompts, score, prompts.langs == lang)[2]}")
    for name in names:
        score = scores(prompts, fit(prompts, prompts.sets != name))
        recall, false, said = rates(prompts, score, prompts.sets == name)
        good &= recall >= TRANSFER and not false > FALSE_POSITIVES
        print(f"fitted without {name:11} {said}")
    print(f"median time of a prompt    {prompts.median_us:.0f} µs")
    return good and prompts.median_us < MEDIAN_US


def _weight(features: Features, name: str) -> float:
    if name == features.length["name"]:
        return float(features.length["weight"])
    return next(feature.weight for feature in features.features if feature.name == name)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--fit", action="store_true", help="print newly fitted weights")
    options = parser.parse_args()
    features = Features.builtin()
    prompts = read(options.files, features)
    if options.fit:
        found = fit(prompts, np.ones(len(prompts.wants), dtype=bool))
        for name, value in zip([*PRIOR, "bias"], found, strict=True):
            print(f"{name:14} {value:6.2f}")
    good = report(prompts, features)
    print("all targets met" if good else "a target was missed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
