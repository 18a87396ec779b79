"""Trace contexts: which are taken, what is kept, what goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from asyncsvc.tasks.marks import AGAIN
from asyncsvc.tasks.state import Request
from asyncsvc.tasks.trace import (
    Trace,
    attempt_span,
    of_headers,
    parent_span,
    passed_on,
    read,
    sampled,
    task_span,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
TASK = "0198c0de-0000-7000-8000-000000000001"
OWN = TASK.replace("-", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (PARENT, PARENT),
        (f" \t{PARENT} ", PARENT),
        (PARENT[:-1] + "0", PARENT[:-1] + "0"),
        (PARENT[:-2] + "ff", PARENT[:-2] + "03"),
        (f"cc-{TRACE}-{SPAN}-01", PARENT),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", PARENT),
    ],
)
def test_a_context_is_kept_in_the_form_of_version_00(given: str, kept: str) -> None:
    assert read([given]) == Trace(kept)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{PARENT}-more",
        f"{PARENT}more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-٠١",
        f"{PARENT}\n",
    ],
)
def test_a_context_that_breaks_the_rules_is_ignored(given: str) -> None:
    assert read([given], ["a=b"]) is None


def test_two_contexts_are_none() -> None:
    assert read([PARENT, PARENT]) is None
    assert read([]) is None


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["a=1"], "a=1"),
        (["a=1,b=2", "c@d=x y"], "a=1,b=2,c@d=x y"),
        (["a=1, ,b=2\t"], "a=1,b=2"),
        ([""], None),
        ([], None),
        (["a=1,a=2"], None),
        (["A=1"], None),
        (["a"], None),
        (["a=b=c"], None),
        (["a=\x1b"], None),
        (["a=é"], None),
        ([",".join(f"k{i}=1" for i in range(33))], None),
        (["a=" + "x" * 256, "b=" + "x" * 256], None),
    ],
)
def test_a_state_is_kept_where_it_keeps_the_rules(states: list[str], kept: str | None) -> None:
    assert read([PARENT], states) == Trace(PARENT, kept)


@given(st.text(max_size=80), st.lists(st.text(max_size=40), max_size=3))
def test_whatever_comes_what_is_kept_can_be_a_header(parent: str, states: list[str]) -> None:
    found = read([parent], states) or read([PARENT], states)
    assert found is not None
    for value in found.headers.values():
        assert value.isascii()
        assert value.isprintable()


def test_headers_may_hold_a_name_twice_in_any_case() -> None:
    raw = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert of_headers(Headers(raw=raw)) == Trace(PARENT, "a=1,b=2")
    assert of_headers(Headers({"TraceParent": PARENT})) == Trace(PARENT)
    assert of_headers(Headers(raw=[raw[0], raw[0]])) is None
    assert of_headers(Headers()) is None
    assert of_headers({"traceparent": PARENT, "op": "submit"}) == Trace(PARENT)


def test_a_task_without_a_context_has_the_trace_of_its_own_id() -> None:
    assert Request(TASK).trace_id == TASK.replace("-", "")
    assert Request(TASK, traceparent=PARENT).trace_id == TRACE
    assert (parent_span(None), parent_span(PARENT)) == (None, SPAN)
    assert (sampled(None), sampled(PARENT), sampled(PARENT[:-1] + "2")) == (True, True, False)


def test_spans_are_named_alike_by_each_process_and_apart_from_each_other() -> None:
    names = [attempt_span(TASK, 1), attempt_span(TASK, 2), task_span(TASK, ())]
    names.append(task_span(TASK, ((AGAIN, 5), ("pending", 5))))
    assert len(set(names)) == 4
    assert all(len(name) == 16 and int(name, 16) for name in names)
    assert attempt_span(TASK, 1) == names[0]


def test_the_clients_context_goes_on_as_it_came_or_with_our_span() -> None:
    assert passed_on(OWN, None, None, None) is None
    assert passed_on(TRACE, PARENT, "a=1", None) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert passed_on(TRACE, PARENT, None, "1" * 16) == {"traceparent": f"00-{TRACE}-{'1' * 16}-01"}
    own = passed_on(OWN, None, None, "1" * 16)
    assert own == {"traceparent": f"00-{TASK.replace('-', '')}-{'1' * 16}-01"}
