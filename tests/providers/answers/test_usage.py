"""Usage in the shapes that providers send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.tokens import completed_usage as completed
from asyncsvc.providers.tokens import counted
from asyncsvc.providers.tokens import updated_usage as updated


def counts(*reports: dict[str, Any], answered: str = "Hello world") -> tuple[int, int, int, bool]:
    usage = None
    for report in reports:
        usage = updated(usage, report)
    whole = completed(usage, "hi", answered)
    numbers = [whole[f"{name}_tokens"] for name in ("prompt", "completion", "total")]
    return numbers[0], numbers[1], numbers[2], whole.get("estimated", False)


def report(prompt: Any = None, completion: Any = None, total: Any = None) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


@pytest.mark.parametrize(
    "given",
    [
        *(
            report(5, 7, 12),
            report(5.0, 7.0, 12.0),
            report("5", "7", "12"),
            report("5.0", " 7 ", 12),
        ),
        *(report(5, 7), report(5, 7, 0), report(5, 7, 3), report(5, 7, -1), report(5, 7, "x")),
        *(report(5, None, 12), report(None, 7, 12), report(5, -1, 12), report(5, 0, 12)),
        {"input_tokens": 5, "output_tokens": 7},
        {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12},
        report(0, 0, 0) | {"input_tokens": 5, "output_tokens": 7},
    ],
)
def test_counts_in_any_spelling(given: dict[str, Any]) -> None:
    assert counts(given) == (5, 7, 12, False)


@pytest.mark.parametrize(
    "given",
    [
        *(report(5, None), report(5, -1, 4), report(None, 7), report(5, "many"), report(5, True)),
        *(report(), {}, report(0, 0, 0), report(-1, -1, -1), report(5, float("nan"))),
        *(report(5, 0, 5), report(5, [7]), report(5, 1 << 40), report(None, None, 12)),
    ],
)
def test_what_is_missing_or_impossible_is_estimated_and_marked(given: dict[str, Any]) -> None:
    prompt, completion, total, estimated = counts(given)
    assert estimated
    assert prompt > 0
    assert completion > 0
    assert total >= prompt + completion


def test_an_empty_answer_may_have_no_tokens() -> None:
    assert counts(report(5, 0, 5), answered="") == (5, 0, 5, False)


def test_the_last_true_report_counts() -> None:
    assert counts(report(5, 1), report(5, 7), report(0, 0, 0)) == (5, 7, 12, False)
    assert counts(report(5, 0, 5), report(None, 7)) == (5, 7, 12, False)
    assert counts(report(5, 7), {}, report()) == (5, 7, 12, False)


def test_a_total_may_hold_more_than_both() -> None:
    assert counts(report(5, 7, 40)) == (5, 7, 40, False)


def test_details_are_kept_and_bounded() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "cost": 0.5}
    usage = updated(updated(None, report(5, 7) | details), report(5, 7) | {"cost": None})
    assert usage == {"prompt_tokens": 5, "completion_tokens": 7, **details}
    assert updated(None, report(5, 7) | {"x": "y" * 20_000}) == updated(None, report(5, 7))
    assert "estimated" not in (updated(None, report(5, 7) | {"estimated": True}) or {})


def test_no_counts_are_no_report() -> None:
    assert updated(None, report()) is None
    assert not counted(updated(None, {"cost": 1}))
    assert not counted(updated(None, report(0, 0, 0)))
    assert counted(updated(None, report(5)))


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)


@given(st.lists(st.dictionaries(st.sampled_from([*report(), "output_tokens", "x"]), values)))
def test_any_reports_give_whole_numbers(reports: list[dict[str, Any]]) -> None:
    prompt, completion, total, _ = counts(*reports)
    assert all(isinstance(n, int) and n > 0 for n in (prompt, completion, total))
    assert total >= prompt + completion
