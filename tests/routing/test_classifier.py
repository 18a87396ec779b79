import time
from importlib import resources

import pytest

from asyncsvc.routing.classifier import FILE, SHOWN_AGAINST, SHOWN_FOR, Classifier, extract, pack

CLASSIFIER = Classifier.builtin()


def _small() -> Classifier:
    """Two classes: `cat` speaks for the first, `dog` for the second, `the` for neither."""
    pieces = {
        "\x1f\x1fcat": pack([100, -100], 200),
        "\x1f\x1fdog": pack([-100, 127], 200),
        "\x1f\x1fthe": pack([0, 0], 50),
    }
    return Classifier(("cats", "dogs"), (0.5, 0.0), (1.0, 1.0), 0.01, pieces)


def test_the_class_is_the_one_with_the_highest_score() -> None:
    model = _small()
    assert model.classify("the cat").name == "cats"
    assert model.classify("the dog").name == "dogs"


def test_a_text_without_known_pieces_is_decided_by_the_bias() -> None:
    verdict = _small().classify("")
    assert (verdict.name, verdict.scores, verdict.hits) == ("cats", {"cats": 0.5, "dogs": 0.0}, ())


def test_a_score_is_the_weight_of_the_pieces_over_the_length_of_their_vector() -> None:
    verdict = _small().classify("cat")
    assert verdict.scores == pytest.approx({"cats": 0.5 + 100 / 2, "dogs": -100 / 2})
    assert verdict.lead("cats") == pytest.approx(100.5)
    assert verdict.lead("dogs") == pytest.approx(-100.5)


def test_a_text_of_many_pieces_has_no_higher_score_than_its_length_allows() -> None:
    text = " ".join(f"{first}{second}" for first in "bcdfghjklm" for second in "aeiou")
    pieces = {piece: pack([1, 0], 255) for piece in extract(text).spans}
    assert len(pieces) > 400
    verdict = Classifier(("a", "b"), (0.0, 0.0), (1.0, 1.0), 1.0, pieces).classify(text)
    assert verdict.scores == pytest.approx({"a": len(pieces) ** 0.5 / 255, "b": 0})


def test_hits_speak_for_the_class_or_for_the_second_one() -> None:
    hits = _small().classify("Dog and the Cat").hits
    assert [(hit.name, hit.cls, hit.matched) for hit in hits] == [
        ("text", "dogs", "Dog"),
        ("text", "cats", "Cat"),
    ]
    assert hits[0].weight > 0 > hits[1].weight


def test_what_is_written_is_read_again() -> None:
    model = _small()
    assert Classifier.of(model.write()) == model


def test_the_shipped_file_is_small_and_read_fast() -> None:
    data = (resources.files("asyncsvc.routing") / FILE).read_bytes()
    assert len(data) <= 1_000_000
    times = []
    for _ in range(5):
        started = time.perf_counter()
        Classifier.of(data)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.1


@pytest.mark.parametrize(
    ("text", "name", "passage"),
    [
        ("深入分析人工智能对社会的影响", "reasoning", "深入分析"),
        ("Prove that sqrt(2) is irrational", "reasoning", "Prove that"),
        ("translate each of these 300 lines into Dutch", "batch", "300"),
        ("快点，客人在柜台等我回话", "realtime", "等"),
    ],
)
def test_the_passages_that_decided_are_shown(text: str, name: str, passage: str) -> None:
    verdict = CLASSIFIER.classify(text)
    assert verdict.name == name
    hits = [hit.matched for hit in verdict.hits if hit.weight > 0]
    assert any(passage in one for one in hits)


def test_shown_passages_stand_in_the_text_and_the_strongest_come_first() -> None:
    text = "Our churn is 2.1% monthly, new cohort 4.9, old 0.8. The board thinks we're fine"
    hits = CLASSIFIER.classify(text).hits
    speaking, against = (
        [hit for hit in hits if hit.weight > 0],
        [hit for hit in hits if hit.weight < 0],
    )
    assert 0 < len(speaking) <= SHOWN_FOR
    assert len(against) <= SHOWN_AGAINST
    for group in (speaking, against):
        weights = [abs(hit.weight) for hit in group]
        assert weights == sorted(weights, reverse=True)
    assert all(hit.matched in text for hit in hits)


def test_the_border_between_two_classes_is_marked() -> None:
    model = _small()
    assert not model.classify("cat").ambiguous
    assert Classifier(model.classes, (0.1, 0.0), model.scales, 0.01, {}).classify("x").ambiguous


@pytest.mark.parametrize("part", ["深入分析, ", "a b, ", "“", "\n", "1", "prove all 20 lines\n"])
def test_ten_megabytes_are_classified_without_a_pause(part: str) -> None:
    text = part * (10_000_000 // len(part))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        CLASSIFIER.classify(text)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.005
