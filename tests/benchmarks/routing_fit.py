"""Fitting the classifier of prompts: logistic regression over the features of labelled prompts.

A prompt is labelled with its class, or only with whether it wants reasoning: then any of the
other classes is right. The fit is deterministic. It takes the pieces that two prompts have at
least, fits, keeps the `KEPT` that matter most, fits again, and rounds the weights to one byte.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncsvc.routing.classifier import Classifier, extract, pack

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

CLASSES = ("simple", "realtime", "reasoning", "batch", "general")
REASONING = CLASSES.index("reasoning")
STRENGTH = 10.0
"""How much the prompts count against the pull of all weights to zero."""
PARTLY = 0.15
"""The weight of a prompt of which only reasoning or not is known."""
KEPT = 20_000
SURE, RECALL, FALSE = 0.87, 0.88, 0.12
"""Aimed at when the biases are set: precision of realtime, recall and false positives of
reasoning in each language."""
LEAST = 2
FIRST_STEPS, STEPS = 40, 120
INNER_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Prompt:
    """A labelled prompt. `cls` is None where only `reasoning` is known."""

    text: str
    lang: str
    cls: str | None
    reasoning: bool
    source: str
    topic: str

    @classmethod
    def of(cls, row: dict[str, Any], source: str) -> "Prompt":
        name = row.get("class")
        wants = name == "reasoning" if name else bool(row["reasoning"])
        return cls(row["text"], row["lang"], name, wants, source, row.get("topic", ""))


class Table:
    """The features of prompts, one row a prompt, extracted once."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self.langs = np.array([one.lang for one in prompts])
        self.sources = np.array([one.source for one in prompts])
        self.reasoning = np.array([one.reasoning for one in prompts])
        self.known = np.array([one.cls is not None for one in prompts])
        self.labels = np.array(
            [CLASSES.index(one.cls) if one.cls is not None else -1 for one in prompts]
        )
        self.pieces = [_pieces(one.text) for one in prompts]

    def allowed(self) -> Bools:
        """The classes that would be right for each prompt."""
        right = np.zeros((len(self.prompts), len(CLASSES)), dtype=bool)
        right[self.known, self.labels[self.known]] = True
        right[~self.known] = ~self.reasoning[~self.known, None]
        right[~self.known, REASONING] = self.reasoning[~self.known]
        return right

    def weights(self, chosen: Bools) -> Array:
        """Rare classes of a language count more, so that all classes count alike."""
        weight = np.full(len(self.prompts), PARTLY)
        for lang in set(self.langs):
            for label in range(len(CLASSES)):
                same = chosen & self.known & (self.langs == lang) & (self.labels == label)
                weight[same] = 1 / max(same.sum(), 1)
        known = chosen & self.known
        if known.any():
            weight[known] /= weight[known].mean()
        return weight[chosen]

    def of(self, chosen: Bools) -> list[Prompt]:
        return [self.prompts[number] for number in np.flatnonzero(chosen).tolist()]

    @cached_property
    def _groups(self) -> Ints:
        return _groups(self.prompts, self.pieces)

    def groups(self) -> Ints:
        """A number for each prompt; prompts of one topic or of similar text have the same."""
        return self._groups


def _pieces(text: str) -> frozenset[str]:
    found = extract(text)
    return frozenset(found.spans) | found.shape


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix of rows of weighed pieces, with what both products need."""

    values: Floats
    columns: Ints
    starts: Ints
    rows_by_column: Ints
    values_by_column: Floats
    column_starts: Ints
    used: Ints
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Sequence[Ints], rarity: Array) -> "Sparse":
        """Rows of unit length. The last column is 1 everywhere, for the bias."""
        size = len(rarity)
        columns, values = [], []
        for row in rows:
            weighed = rarity[row]
            norm = np.sqrt((weighed**2).sum())
            columns.append(np.r_[row, size])
            values.append(np.r_[weighed / norm if norm else weighed, 1.0])
        lengths = np.array([len(one) for one in columns])
        flat = np.concatenate(columns)
        order = np.argsort(flat, kind="stable")
        used, column_starts = np.unique(flat[order], return_index=True)
        starts = np.r_[0, np.cumsum(lengths)[:-1]]
        joined = np.concatenate(values).astype(np.float32)
        row_of = np.repeat(np.arange(len(rows)), lengths)
        return cls(
            joined,
            flat,
            starts,
            row_of[order],
            joined[order, None],
            column_starts,
            used,
            (len(rows), size + 1),
        )

    def times(self, weights: Array) -> Array:
        """One row a prompt, one column a class."""
        product: Array = np.add.reduceat(
            weights.astype(np.float32)[self.columns] * self.values[:, None], self.starts, axis=0
        )
        return product

    def transposed_times(self, residuals: Array) -> Array:
        flat = residuals.astype(np.float32)[self.rows_by_column] * self.values_by_column
        product = np.zeros((self.shape[1], residuals.shape[1]))
        product[self.used] = np.add.reduceat(flat, self.column_starts, axis=0)
        return product


def _exp(scores: Array) -> Array:
    result: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    return result


def _solve(rows: Sparse, allowed: Bools, weight: Array, steps: int) -> Array:
    """Weights by L-BFGS; the bias is not pulled to zero."""
    pull = np.full((rows.shape[1], 1), 1 / STRENGTH)
    pull[-1] = 1e-6

    def loss(weights: Array) -> tuple[float, Array]:
        likely = _exp(rows.times(weights))
        total = likely.sum(axis=1)
        right = np.where(allowed, likely, 0)
        share = right.sum(axis=1)
        cost = weight @ (np.log(total) - np.log(share)) + 0.5 * (pull * weights**2).sum()
        wrong = likely / total[:, None] - right / share[:, None]
        return float(cost), rows.transposed_times(weight[:, None] * wrong) + pull * weights

    return _lbfgs(loss, np.zeros((rows.shape[1], len(CLASSES))), steps)


def _lbfgs(loss: Any, at: Array, limit: int, memory: int = 10) -> Array:
    """Minimise by limited-memory BFGS with halved steps."""
    cost, slope = loss(at)
    steps: list[tuple[Array, Array, float]] = []
    for _ in range(limit):
        direction = slope.copy()
        alphas = []
        for move, change, scale in reversed(steps):
            alphas.append(scale * (move * direction).sum())
            direction -= alphas[-1] * change
        if steps:
            move, change, scale = steps[-1]
            direction *= 1 / (scale * (change * change).sum())
        for (move, change, scale), alpha in zip(steps, reversed(alphas), strict=True):
            direction += (alpha - scale * (change * direction).sum()) * move
        length = 1.0 if steps else 1 / np.abs(slope).sum()
        while True:
            new = at - length * direction
            new_cost, new_slope = loss(new)
            if new_cost <= cost - 1e-4 * length * (direction * slope).sum() or length < 1e-9:
                break
            length /= 2
        move, change = new - at, new_slope - slope
        if (curve := (move * change).sum()) > 1e-12:
            steps = [*steps[1 - memory :], (move, change, 1 / curve)]
        done = cost - new_cost < 1e-5 * max(abs(cost), 1)
        at, cost, slope = new, new_cost, new_slope
        if done:
            break
    return at


def train(table: Table, chosen: Bools) -> Classifier:
    """The classifier of the chosen prompts, its biases set by folds that were held out."""
    fold = folds(table.groups(), INNER_FOLDS)
    score = crossed(table, chosen, fold)
    model = fit(table, chosen)
    moved = np.array(model.bias) + shift(table, score, chosen)
    return replace(model, bias=tuple(round(float(one), 4) for one in moved))


def crossed(table: Table, chosen: Bools, fold: Ints) -> Array:
    """The scores of the chosen prompts by weights that have not seen their fold."""
    score = np.zeros((len(fold), len(CLASSES)))
    for number in sorted(set(fold.tolist())):
        held = chosen & (fold == number)
        score[held] = scores(fit(table, chosen & (fold != number)), table.of(held))
    return score


def shift(table: Table, score: Array, chosen: Bools) -> Array:
    """What to add to the biases so that the chosen prompts are judged best."""
    labelled = chosen & table.known
    return _shift(score[labelled], table.labels[labelled], table.langs[labelled])


def _shift(score: Array, labels: Ints, langs: NDArray[np.str_]) -> Array:
    """The best shift found by moving one bias at a time."""
    best = np.zeros(len(CLASSES))
    most = _worth(score, labels, langs)
    for step in (0.4, 0.2, 0.1, 0.1):
        for number in range(len(CLASSES)):
            for sign in (1, -1):
                moved = best.copy()
                moved[number] += sign * step
                worth = _worth(score + moved, labels, langs)
                while worth > most + 1e-4:
                    best, most = moved.copy(), worth
                    moved[number] += sign * step
                    worth = _worth(score + moved, labels, langs)
    return best


def _worth(score: Array, labels: Ints, langs: NDArray[np.str_]) -> float:
    """The mean F1 of the classes, less what is missing at the figures that matter most."""
    found = score.argmax(axis=1)
    worth = macro_f1(labels, found)
    realtime = CLASSES.index("realtime")
    precise = (labels[found == realtime] == realtime).mean() if (found == realtime).any() else 0.0
    worth -= max(0.0, SURE - float(precise))
    for lang in set(langs):
        wants = (langs == lang) & (labels == REASONING)
        others = (langs == lang) & (labels != REASONING)
        worth -= max(0.0, RECALL - float((found[wants] == REASONING).mean()))
        worth -= max(0.0, float((found[others] == REASONING).mean()) - FALSE)
    return worth


def macro_f1(labels: Ints, found: Ints) -> float:
    """The mean of the classes' F1."""
    shares = []
    for number in range(len(CLASSES)):
        both = int(((labels == number) & (found == number)).sum())
        either = int((labels == number).sum() + (found == number).sum())
        shares.append(2 * both / either if either else 0.0)
    return sum(shares) / len(shares)


def fit(table: Table, chosen: Bools, kept: int = KEPT) -> Classifier:
    """The classifier of the chosen prompts."""
    pieces = [table.pieces[number] for number in np.flatnonzero(chosen).tolist()]
    counts = Counter(piece for one in pieces for piece in one)
    vocabulary = sorted(piece for piece, count in counts.items() if count >= LEAST)
    allowed, weight = table.allowed()[chosen], table.weights(chosen)
    matter, _, _ = _fit(pieces, vocabulary, counts, allowed, weight, FIRST_STEPS)
    best = np.argsort(-matter, kind="stable")[:kept]
    vocabulary = [vocabulary[number] for number in sorted(best)]
    _, weights, rarity = _fit(pieces, vocabulary, counts, allowed, weight, STEPS)
    return _rounded(vocabulary, weights, rarity)


def _fit(
    pieces: Sequence[Iterable[str]],
    vocabulary: Sequence[str],
    counts: Counter[str],
    allowed: Bools,
    weight: Array,
    steps: int,
) -> tuple[Array, Array, Array]:
    """(how much each piece matters, weights with the bias last, rarity of each piece)."""
    numbers = {piece: number for number, piece in enumerate(vocabulary)}
    rows = [
        np.array(sorted(numbers[piece] for piece in one if piece in numbers), dtype=np.int64)
        for one in pieces
    ]
    often = np.array([counts[piece] for piece in vocabulary])
    rarity = np.log((1 + len(pieces)) / (1 + often)) + 1
    weights = _solve(Sparse.of(rows, rarity), allowed, weight, steps)
    weights -= weights.mean(axis=1, keepdims=True)
    matter: Array = np.abs(weights[:-1]).max(axis=1) * rarity * np.sqrt(often)
    return matter, weights, rarity


def _rounded(vocabulary: Sequence[str], weights: Array, rarity: Array) -> Classifier:
    weighed = weights[:-1] * rarity[:, None]
    scales = np.abs(weighed).max(axis=0) / 127
    columns = np.rint(weighed / scales).astype(int)
    rarity_scale = float(f"{rarity.max() / 255:.6g}")
    rarities = np.rint(rarity / rarity_scale).astype(int).clip(1, 255)
    packed = (pack(row, one) for row, one in zip(columns.tolist(), rarities.tolist(), strict=True))
    return Classifier(
        CLASSES,
        tuple(round(float(one), 4) for one in weights[-1]),
        tuple(float(f"{one:.6g}") for one in scales),
        rarity_scale,
        dict(zip(vocabulary, packed, strict=True)),
    )


def scores(model: Classifier, prompts: Iterable[Prompt]) -> Array:
    """One row a prompt, one column a class."""
    found = [model.classify(one.text).scores for one in prompts]
    return np.array([[one[name] for name in CLASSES] for one in found])


def folds(groups: Ints, count: int) -> Ints:
    """A fold for each prompt; a group stays together, the folds are about equally large."""
    sizes = Counter(groups.tolist())
    order = np.random.default_rng(0).permutation(sorted(sizes))
    filled = [0] * count
    fold = {}
    for group in sorted(order.tolist(), key=lambda one: -sizes[one]):
        fold[group] = filled.index(min(filled))
        filled[fold[group]] += sizes[group]
    return np.array([fold[group] for group in groups.tolist()])


def _groups(prompts: Sequence[Prompt], pieces: Sequence[frozenset[str]]) -> Ints:
    """The group of each prompt: prompts of one topic, or with many pieces in common, share one."""
    parent = list(range(len(prompts)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    shared: Counter[tuple[int, int]] = Counter()
    for piece, found_in in _places(prompts, pieces).items():
        if "\n" in piece:
            for number in found_in:
                parent[root(number)] = root(found_in[0])
        elif len(found_in) <= 6:
            shared.update((a, b) for a in found_in for b in found_in if a < b)
    for (a, b), count in shared.items():
        if count >= 0.25 * min(len(pieces[a]), len(pieces[b])) / 2:
            parent[root(a)] = root(b)
    return np.array([root(number) for number in range(len(prompts))])


def _places(prompts: Sequence[Prompt], pieces: Sequence[frozenset[str]]) -> dict[str, list[int]]:
    """The prompts of each topic (its key has a line break) and with each piece of text."""
    places: dict[str, list[int]] = defaultdict(list)
    for number, (prompt, found) in enumerate(zip(prompts, pieces, strict=True)):
        if prompt.topic:
            places[f"{prompt.source}\n{prompt.topic}"].append(number)
        for piece in found:
            if len(piece) >= 5:
                places[piece].append(number)
    return places
