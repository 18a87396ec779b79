import pytest

from asyncsvc.simulator import faults as faults_module
from asyncsvc.simulator.faults import (
    KINDS,
    NEEDS_SECONDS,
    Fault,
    FaultSampler,
    FaultSyntaxError,
    TagCounter,
    parse_fault,
    read_tags,
)


def test_every_kind_can_be_written() -> None:
    for kind in KINDS:
        text = f"{kind}=2" if kind in NEEDS_SECONDS else kind
        assert parse_fault(text).kind == kind


def test_parameters_of_a_fault() -> None:
    fault = parse_fault("huge-line at=7 size=1000 every=0.5 x2")
    assert fault == Fault("huge-line", at=7, size=1000, every_s=0.5, times=2)
    assert parse_fault("429-after=1.5").seconds == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown fault ''"),
        ("teapot", "unknown fault 'teapot'"),
        ("429-after", "write 429-after=SECONDS"),
        ("500=3", "write 500 without a value"),
        ("429-after=soon", "429-after=soon is not a number"),
        ("429-after=-1", "is not a number from 0 up"),
        ("reset at=nan", "at=nan is not a number"),
        ("reset at", "unknown parameter 'at'"),
        ("reset where=3", "unknown parameter 'where=3'"),
    ],
)
def test_a_fault_written_wrong_says_why(text: str, message: str) -> None:
    with pytest.raises(FaultSyntaxError, match=message):
        parse_fault(text)


def test_tags_are_taken_out_of_the_text() -> None:
    tags = read_tags("讲个故事 [[sim:500 x1]] [[sim:tokens=200 first=2.5]] [[id:abc-1]]\n谢谢")
    assert tags.text == "讲个故事\n谢谢"
    assert tags.faults == [Fault("500", times=1)]
    assert tags.settings == {"tokens": 200, "first": 2.5}
    assert tags.marker == "abc-1"


def test_text_without_tags_is_left_alone() -> None:
    for text in (" plain ", "a [[link]] and [[sim]]  "):
        assert read_tags(text).text.strip() == text.strip()
        assert not read_tags(text).faults


@pytest.mark.parametrize("text", ["[[sim:]]", "[[sim:nothing]]", "[[sim:tokens=5 speed=2]]"])
def test_an_unknown_tag_is_an_error(text: str) -> None:
    with pytest.raises(FaultSyntaxError):
        read_tags(text)


def test_several_tags_are_a_script_per_exact_message() -> None:
    counter, faults = TagCounter(), read_tags("[[sim:500 x1]][[sim:429 x2]]").faults

    def kinds(message: str) -> list[str | None]:
        given = [counter.next_fault(message, faults) for _ in range(4)]
        return [fault.kind if fault else None for fault in given]

    assert kinds("a") == ["500", "429", "429", None]
    assert kinds("b") == ["500", "429", "429", None]
    counter.clear()
    assert kinds("a") == ["500", "429", "429", None]


def test_a_tag_without_a_number_holds_for_every_call() -> None:
    counter, faults = TagCounter(), [Fault("503")]
    assert all(counter.next_fault("a", faults) == faults[0] for _ in range(10))
    assert counter.next_fault("a", []) is None


def test_messages_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_module, "MOST_REMEMBERED", 2)
    counter, once = TagCounter(), [Fault("500", times=1)]
    for message in ("a", "b", "c"):
        assert counter.next_fault(message, once)
    assert counter.next_fault("c", once) is None
    assert counter.next_fault("a", once)


def test_samplers_hold_their_shares_and_their_seed() -> None:
    shares = {"429": 0.2, "reset at=5": 0.05, "429-after=2": 0.1}

    def drawn(seed: str) -> list[Fault | None]:
        sampler = FaultSampler(seed)
        return [sampler.draw(shares) for _ in range(10_000)]

    first = drawn("1:m")
    assert first == drawn("1:m")
    assert first != drawn("2:m")
    counts = {kind: sum(1 for f in first if f and f.kind == kind) for kind in KINDS}
    assert 1850 < counts["429"] < 2150
    assert 420 < counts["reset"] < 580
    assert 900 < counts["429-after"] < 1100
    assert FaultSampler("x").draw({}) is None
