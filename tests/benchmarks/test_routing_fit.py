"""The training of the classifier of prompts, on a few prompts."""

import json
from pathlib import Path

import numpy as np
import pytest

from asyncsvc.routing.classifier import Classifier
from tests.benchmarks.routing import main, read
from tests.benchmarks.routing_fit import CLASSES, Bools, Prompt, Table, fit, folds, scores, train
from tests.test_floors import ROOT

SECOND = ROOT / "tests/data/prompts/second.jsonl"
TEXTS = {
    "simple": "what is the capital of {}",
    "realtime": "hurry, they are waiting: {}",
    "reasoning": "why did {} fail although it was tested",
    "batch": "tag each of the 300 rows about {}",
    "general": "write a poem about {}",
}
SUBJECTS = ("Peru", "bridges", "the market", "owls", "my printer", "tea", "Tuesday", "a lamp")


def _prompts(subjects: tuple[str, ...] = SUBJECTS) -> list[Prompt]:
    return [
        Prompt(text.format(subject), "en", name, name == "reasoning", "one", subject)
        for subject in subjects
        for name, text in TEXTS.items()
    ]


def _all(table: Table) -> Bools:
    return np.ones(len(table.prompts), dtype=bool)


def test_what_is_learned_holds_for_other_subjects() -> None:
    table = Table(_prompts())
    model = fit(table, _all(table))
    for name, text in TEXTS.items():
        assert model.classify(text.format("canals in Ghent")).name == name


def test_the_same_prompts_give_the_same_bytes() -> None:
    first, second = (train(table := Table(_prompts()), _all(table)).write() for _ in range(2))
    assert first == second
    assert Classifier.of(first).write() == first


def test_prompts_with_reasoning_alone_teach_reasoning_and_no_other_class() -> None:
    partly = [
        Prompt(f"integrate {text} dx", "en", None, True, "two", text)
        for text in ("sin x", "x squared", "the log of x", "1/x")
    ]
    before, after = (Table(_prompts()), Table([*_prompts(), *partly]))
    text = [Prompt("integrate cos x dx", "en", None, True, "", "")]
    number = CLASSES.index("reasoning")
    old, new = (scores(fit(table, _all(table)), text)[0] for table in (before, after))
    assert new[number] - np.delete(new, number).max() > old[number] - np.delete(old, number).max()


def test_a_topic_and_similar_texts_stay_in_one_fold() -> None:
    prompts = _prompts()
    text = "how do I get candle wax out of a velvet sofa"
    twins = [Prompt(one, "en", "general", False, "two", "") for one in (text, f"{text}, please")]
    table = Table([*prompts, *twins])
    fold = folds(table.groups(), 3)
    for subject in SUBJECTS:
        of_subject = [n for n, one in enumerate(prompts) if one.topic == subject]
        assert len({int(fold[n]) for n in of_subject}) == 1
    assert fold[-1] == fold[-2]
    assert set(fold.tolist()) == {0, 1, 2}


def test_unlabelled_and_repeated_prompts_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    rows = [
        {"text": "a", "lang": "en", "reasoning": None},
        {"text": "b", "lang": "en", "reasoning": True},
        {"text": "b", "lang": "en", "reasoning": True},
        {"text": "c", "lang": "en", "class": "batch"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [(one.text, one.cls, one.reasoning) for one in read([file])] == [
        ("b", None, True),
        ("c", "batch", False),
    ]


def test_training_by_command_and_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, weights = tmp_path / "set.jsonl", tmp_path / "weights.bin"
    rows = [
        {"text": one.text, "lang": "en", "class": one.cls, "topic": one.topic} for one in _prompts()
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["train", str(file), "--out", str(weights)]) == 0
    assert Classifier.of(weights.read_bytes()).classify("write a poem about mud").name == "general"
    capsys.readouterr()
    main([str(file)])
    printed = capsys.readouterr().out
    assert "macro-F1" in printed
    assert "reasoning recall" in printed
    assert "median time" in printed


def test_the_shipped_weights_know_the_prompts_of_their_training() -> None:
    prompts = read([SECOND])
    found = scores(Classifier.builtin(), prompts).argmax(axis=1)
    right = [CLASSES[number] == one.cls for number, one in zip(found, prompts, strict=True)]
    assert sum(right) / len(right) > 0.95
