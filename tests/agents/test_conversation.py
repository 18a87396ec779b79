"""What is left of a long conversation, and when an agent repeats itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.agents.conversation import (
    ENDED,
    LONGEST,
    SHORT,
    SUMMARY,
    WARNED,
    WARNING,
    Repeats,
    Verdict,
    fitted,
    shortened,
)
from asyncsvc.agents.history import ToolCall
from asyncsvc.providers.tokens import of_prompt

Object = dict[str, Any]
OWN: list[Object] = [
    {"role": "system", "content": "Mend the test."},
    {"role": "user", "content": "It fails."},
]


def count(messages: list[Object]) -> int:
    return of_prompt(messages, {"tools": [{"name": "read_file"}]})


def step(number: int, *outputs: str, text: str | None = None) -> list[Object]:
    """The model's message with one call for each output, and the outputs."""
    calls = [
        {
            "id": f"c{number}.{place}",
            "type": "function",
            "function": {"name": "read_file", "arguments": f'{{"path":"f{number}.{place}"}}'},
        }
        for place in range(len(outputs))
    ]
    message: Object = {"role": "assistant", "content": text, "tool_calls": calls}
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": output}
        for call, output in zip(calls, outputs, strict=True)
    ]
    return [message, *results]


def steps(*sizes: int) -> list[Object]:
    found = list(OWN)
    for number, size in enumerate(sizes):
        found += step(number, "x" * size)
    return found


def outputs(messages: list[Object]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def paired(messages: list[Object]) -> bool:
    """Whether each call has its result directly behind it, and each result its call."""
    rest = list(messages)
    while rest:
        calls = rest.pop(0).get("tool_calls") or []
        for call in calls:
            if not rest or rest.pop(0).get("tool_call_id") != call["id"]:
                return False
        if rest and rest[0]["role"] == "tool":
            return False
    return True


def test_what_fits_is_sent_as_it_is() -> None:
    messages = steps(5000, 5000)
    assert fitted(messages, 2, count(messages), count) == messages


def test_old_outputs_are_shortened_first_and_the_newest_stays_whole() -> None:
    messages = steps(8000, 8000, 8000)
    found = fitted(messages, 2, count(messages) - 1, count)
    first, second, last = outputs(found)
    assert first == f"{'x' * 500}\n[… 7,000 characters left out]\n{'x' * 500}"
    assert last == "x" * 8000
    assert len(second) == 8000 or second == first
    assert len(found) == len(messages)


def test_the_oldest_steps_become_a_summary() -> None:
    messages = steps(*[4000] * 40)
    failed = step(40, "exit code 2\nno such file\n", text="I try another one.")
    found = fitted([*messages, *failed, *step(41, "y" * 400)], 2, 4000, count)
    assert found[:2] == OWN
    assert found[2]["role"] == "user"
    assert found[2]["content"].startswith(SUMMARY)
    assert '- read_file {"path":"f3.0"}: ok' in found[2]["content"]
    assert count(found) <= 4000
    assert outputs(found)[-1] == "y" * 400
    assert paired(found)


def test_the_summary_says_what_failed_and_what_was_written() -> None:
    messages = [*OWN, *step(0, "exit code 2\nno such file\n", text="I look first.")]
    messages += [message for number in range(1, 9) for message in step(number, "x" * 900)]
    found = fitted(messages, 2, 900, count)
    lines = found[2]["content"].splitlines()
    assert "- you wrote: I look first." in lines
    assert '- read_file {"path":"f0.0"}: exit code 2 no such file' in lines


def test_a_long_summary_counts_the_oldest_calls_by_name() -> None:
    found = fitted(steps(*[2000] * 600), 2, 4000, count)
    assert count(found) <= 4000
    assert "- before that: read_file " in found[2]["content"]


def test_what_a_person_has_written_later_stays() -> None:
    messages = [*steps(*[3000] * 9), {"role": "user", "content": "Now the other one."}]
    for number in range(9, 30):
        messages += step(number, "x" * 3000)
        found = fitted(messages, 2, 4000, count)
        assert {"role": "user", "content": "Now the other one."} in found
        assert paired(found)
        assert count(found) <= 4000


def test_an_output_larger_than_the_room_is_cut() -> None:
    found = fitted(steps(400_000), 2, 2000, count)
    (output,) = outputs(found)
    assert "characters left out]" in output
    assert len(output) > SHORT
    assert count(found) <= 2000


def test_one_large_output_does_not_drive_out_all_others() -> None:
    found = fitted([*steps(800, 800), *step(2, "x" * 400_000)], 2, 3000, count)
    assert outputs(found)[:2] == ["x" * 800] * 2
    assert count(found) <= 3000


def test_parallel_calls_are_cut_alike() -> None:
    found = fitted([*OWN, *step(0, "x" * 99_000, "y" * 99_000, "z")], 2, 3000, count)
    first, second, third = outputs(found)
    assert len(first) == len(second)
    assert third == "z"
    assert count(found) <= 3000


def test_what_cannot_fit_is_as_small_as_it_gets() -> None:
    own = [{"role": "user", "content": "x" * 90_000}]
    for room in (0, 100, 5000):
        found = fitted([*own, *step(0, "a" * 5000), *step(1, "b" * 5000)], 1, room, count)
        assert found[0] == own[0]
        assert outputs(found) == ["[… 5,000 characters left out]"]
        assert paired(found)


def test_images_of_old_outputs_are_left_out() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    old = step(0, "")
    old[1]["content"] = [{"type": "text", "text": "x" * 9000}, image]
    found = fitted([*OWN, *old, *step(1, "y" * 900)], 2, 800, count)
    assert found[3]["content"] == [
        {"type": "text", "text": shortened("x" * 9000, SHORT)},
        {"type": "text", "text": "[image_url left out]"},
    ]


def test_what_was_shortened_stays_so_while_the_history_grows() -> None:
    """A provider's cache needs the same beginning: it changes now and then, not at each step."""
    messages, before, changes = list(OWN), list(OWN), 0
    for number in range(300):
        messages += step(number, f"{number} " * 400)
        found = fitted(messages, 2, 12_000, count)
        assert count(found) <= 12_000
        assert paired(found)
        if found[: len(before)] != before:
            changes += 1
            known = {
                message["tool_call_id"]: message for message in before if "tool_call_id" in message
            }
            for message in found:
                old = known.get(message.get("tool_call_id"), message)["content"]
                assert message["content"] == old or len(message["content"]) < len(old)
        before = found
    assert 0 < changes < 60


def test_counting_is_no_quadratic_work() -> None:
    messages = steps(*[3000] * 1000)
    asked = 0

    def counting(given: list[Object]) -> int:
        nonlocal asked
        asked += max(len(given), 1)
        return count(given)

    fitted(messages, 2, 20_000, counting)
    assert len(messages) == 2002
    assert asked < 6 * len(messages)


sizes = st.lists(st.lists(st.integers(0, 9000), min_size=1, max_size=3), max_size=12)


@given(sizes, st.integers(0, 9000))
def test_calls_and_results_are_never_torn_apart(given_sizes: list[list[int]], room: int) -> None:
    messages = list(OWN)
    for number, each in enumerate(given_sizes):
        messages += step(number, *("é" * size for size in each))
    found = fitted(messages, 2, room, count)
    assert found[:2] == OWN
    assert paired(found)
    assert found == fitted(list(messages), 2, room, count)
    if count(messages) > room:
        assert count(found) < count(messages) + 60
    last = given_sizes[-1] if given_sizes else []
    if 120 * len(last) + 200 < room:
        assert count(found) <= room


def test_a_shortened_text_is_never_longer() -> None:
    assert shortened("x" * 1020, 1000) == "x" * 1020
    assert shortened("abc" * 1000, 0) == "[… 3,000 characters left out]"
    assert shortened("a" * 50 + "b" * 50, 9) == "aaaaa\n[… 91 characters left out]\nbbbb"


def called(
    name: str = "read_file", arguments: Any = "{}", output: str = "same", code: int = 0
) -> ToolCall:
    call = ToolCall("c", name, arguments, 1, 1)
    call.result = {"ok": True, "output": output, "exit_code": code}
    return call


def verdicts(*given_steps: list[ToolCall]) -> list[Verdict]:
    repeats, found = Repeats(), []
    for each in given_steps:
        repeats.add(each)
        found.append(repeats.verdict)
    return found


GO, WARN, STOP = Verdict.GO, Verdict.WARN, Verdict.STOP


def test_the_same_call_with_the_same_result_is_warned_of_and_then_stopped() -> None:
    assert verdicts(*[[called()]] * 5) == [GO, GO, WARN, WARN, STOP]


@pytest.mark.parametrize("length", range(1, LONGEST + 1))
def test_a_circle_is_noticed(length: int) -> None:
    circle = [[called(arguments={"n": number})] for number in range(length)]
    found = verdicts(*circle * ENDED)
    assert found.index(WARN) == length * WARNED - 1
    assert found.index(STOP) == length * ENDED - 1


def test_a_longer_circle_is_none() -> None:
    circle = [[called(arguments={"n": number})] for number in range(LONGEST + 1)]
    assert set(verdicts(*circle * 9)) == {GO}


def test_polling_for_a_result_that_changes_is_no_repetition() -> None:
    assert set(verdicts(*[[called(output=f"{number} %")] for number in range(50)])) == {GO}
    assert set(verdicts(*[[called(code=number)] for number in range(50)])) == {GO}


def test_other_calls_between_end_a_repetition() -> None:
    same, other = [called()], [called("write_file")]
    assert verdicts(same, same, other, same, same) == [GO] * 5
    assert verdicts(same, same, same, other) == [GO, GO, WARN, GO]


def test_calls_of_one_step_count_once_and_in_any_order() -> None:
    one, other = called(arguments={"a": 1}), called(arguments={"a": 2})
    assert verdicts([one, one, one, one, one]) == [GO]
    assert verdicts([one, other], [other, one], [one, other, one]) == [GO, GO, WARN]


def test_arguments_are_compared_whatever_their_order() -> None:
    given_steps = [[called(arguments=each)] for each in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    assert verdicts(*given_steps, *given_steps)[-1] is WARN


def test_a_warning_in_a_result_makes_it_no_other_result() -> None:
    warned = [called(output=f"same\n\n{WARNING}")]
    assert verdicts(*[[called()]] * 3, warned, warned) == [GO, GO, WARN, WARN, STOP]
