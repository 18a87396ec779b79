"""Which JSON of an answer with status 200 is an error, and what an error body says."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.errors import error_in, report_of, report_of_body

NOTHING: list[Any] = [{}, "", None, [], 0, False, {"code": 0}, "null"]
KEYS = ["error", "errors", "code", "msg", "detail", "loc", "metadata", "raw", "base_resp", "data"]
CHUNK = {"id": "x", "object": "chat.completion.chunk"}


@pytest.mark.parametrize(
    ("value", "codes", "text"),
    [
        ({"code": 500, "msg": "404 NOT_FOUND", "success": False}, ["500"], "404 NOT_FOUND"),
        (
            {**CHUNK, "choices": None, "base_resp": {"status_code": 1039, "status_msg": "TPM"}},
            *(["base_resp 1039"], "TPM"),
        ),
        (
            {"choices": [{"delta": {}}], "base_resp": {"status_code": "1008", "status_msg": "x"}},
            *(["base_resp 1008"], "x"),
        ),
        ({"error_code": 18, "error_msg": "qps"}, ["error_code 18"], "qps"),
        ({"success": False, "errors": [{"code": 7, "message": "no"}]}, ["7"], "no"),
        ({"data": None, "errors": [{"message": "no"}, {"message": "nor"}]}, [], "no; nor"),
        ({"message": "plain"}, [], "plain"),
        ({"detail": "plain"}, [], "plain"),
        ({"code": 20012, "message": "y", "data": None}, ["20012"], "y"),
        ({"object": "error", "message": "z", "code": 400}, ["400"], "z"),
        ({"type": "error", "error": {"type": "a", "message": "b"}}, ["a"], "b"),
        ({"error": "why", "code": "model_not_found"}, ["model_not_found"], "why"),
        ([{"error": {"code": 400, "message": "k"}}], ["400"], "k"),
        ({"error": {"error": {"code": "c", "message": "deep"}}}, ["c"], "deep"),
        ({"error": '{"error": {"message": "in a string"}}'}, [], "in a string"),
        ({"error": True, "message": "words beside"}, [], "words beside"),
        ({"choices": None, "code": 500, "message": "q"}, ["500"], "q"),
        ({"Response": {"Error": {"Code": "AuthFailure", "Message": "m"}}}, ["AuthFailure"], "m"),
        ({"choices": [{"delta": {}}], "error": {"message": "late"}}, [], "late"),
        ({"error": {"code": 0, "message": "bad thing"}}, ["0"], "bad thing"),
        ("upstream request timeout", [], "upstream request timeout"),
    ],
)
def test_an_error_inside_a_200_is_found(value: Any, codes: list[str], text: str) -> None:
    error = error_in(value)
    assert error is not None
    report = report_of(error)
    assert (report.codes, report.text) == (codes, text)


@pytest.mark.parametrize(
    "value",
    [
        *[{"error": nothing} for nothing in NOTHING],
        {"error": {"code": 0, "message": ""}},
        {"error": {"code": "0", "message": "success"}},
        {"code": 0, "msg": "ok"},
        {"code": 200, "message": "fine by all means", "data": {}},
        {"choices": [{"delta": {}}], "code": 0, "message": "x"},
        {"choices": [{"delta": {}}], "base_resp": {"status_code": 0, "status_msg": "all is well"}},
        {**CHUNK, "choices": []},
        {**CHUNK, "choices": [], "usage": {"total_tokens": 1}},
        {"choices": [], "message": "x"},
        {"usage": {"total_tokens": 1}},
        {"object": "list", "data": [{"embedding": [1.0]}], "message": "x"},
        {"type": "ping"},
        {"success": True, "errors": [], "result": {"response": "x"}},
        *([], {}, None, 3, True, ""),
    ],
)
def test_an_answer_without_an_error_holds_none(value: Any) -> None:
    assert error_in(value) is None


@pytest.mark.parametrize(
    ("body", "text", "page"),
    [
        (
            b"<html><head><title>404 Not Found</title></head><body><h1>x</h1></body></html>",
            *("an HTML page: 404 Not Found", True),
        ),
        (b"\n <!DOCTYPE HTML>\n<p>Sorry,\n <b>blocked</b>", "an HTML page: Sorry, blocked", True),
        (b"404 page not found\n", "404 page not found", False),
        (b"a < b is wrong", "a < b is wrong", False),
        (b"", "", False),
    ],
)
def test_text_and_pages_are_read(body: bytes, text: str, page: bool) -> None:
    report = report_of_body(body)
    assert (report.text, report.page) == (text, page)


def test_the_words_behind_a_relay_come_after_its_own() -> None:
    raw = orjson.dumps({"error": {"message": "at most 1 image", "code": "inner"}}).decode()
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}
    report = report_of(body)
    assert report.text == "Provider returned error; at most 1 image"
    assert report.codes == ["400", "inner"]
    assert report.relayed


def test_a_list_of_faults_names_the_fields() -> None:
    faults = [
        {"loc": ["body", "top_p"], "msg": "must be at most 1", "type": "le"},
        {"loc": ["body", "n"], "msg": "must be whole", "type": "int"},
    ]
    assert (
        report_of({"detail": faults}).text == "body.top_p: must be at most 1; body.n: must be whole"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


@given(json_values)
def test_any_value_is_read(value: Any) -> None:
    error = error_in(value)
    assert error is None or isinstance(report_of(error).text, str)
    assert isinstance(report_of(value).text, str)
