from asyncsvc.providers.dialects import PLAIN, Preset
from tests.upstreams import ASK, KEY, upstream


def test_a_chat_body_streams_and_asks_for_usage() -> None:
    assert upstream().chat_body(ASK, {"temperature": 0}) == {
        "temperature": 0,
        "messages": ASK,
        "stream": True,
        "stream_options": {"include_usage": True},
        "model": "some-model",
    }


def test_usage_is_not_asked_for_where_that_is_refused() -> None:
    body = upstream(preset=Preset(ask_usage=False)).chat_body(ASK, {})
    assert "stream_options" not in body


def test_parameters_cannot_turn_a_call_into_another() -> None:
    spoilt = {"stream": False, "messages": [], "model": "dearer", "input": "x"}
    body = upstream().chat_body(ASK, spoilt)
    assert (body["stream"], body["messages"], body["model"]) == (True, ASK, "some-model")
    assert upstream().embedding_body("text", spoilt)["input"] == "text"


def test_the_body_of_the_settings_wins_but_for_the_model() -> None:
    thinking = {"thinking": {"type": "disabled"}, "model": "other", "temperature": 0.1}
    body = upstream(extra_body=thinking).chat_body(ASK, {"temperature": 1})
    assert body["thinking"] == {"type": "disabled"}
    assert body["temperature"] == 0.1
    assert body["model"] == "some-model"


def test_an_embedding_body_neither_streams_nor_asks_for_usage() -> None:
    body = upstream(extra_body={"input_type": "query"}).embedding_body(["a"], {"dimensions": 8})
    expected = {"input": ["a"], "model": "some-model", "input_type": "query", "dimensions": 8}
    assert body == expected


def test_parameters_are_renamed_and_dropped() -> None:
    preset = Preset(drop=frozenset({"a"}), rename={"b": "c"})
    body = upstream(preset=preset).embedding_body("x", {"a": 1, "b": 2})
    assert body == {"input": "x", "model": "some-model", "c": 2}


def test_a_body_leaves_the_parameters_as_they_were() -> None:
    params = {"max_completion_tokens": 5}
    upstream(preset=Preset(rename={"max_completion_tokens": "max_tokens"})).chat_body(ASK, params)
    assert params == {"max_completion_tokens": 5}


def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    account = upstream()
    assert account.headers() == {"Authorization": f"Bearer {KEY}"}
    assert account.secrets == [KEY]
    assert KEY not in repr(account)
    assert KEY not in str(account.chat_body(ASK, {}))


def test_without_a_key_there_is_no_such_header() -> None:
    account = upstream(key=None, extra_headers={"x-agent": "main"})
    assert account.headers() == {"x-agent": "main"}
    assert account.secrets == []


def test_model_ids_are_tried_in_order() -> None:
    account = upstream(preset=PLAIN, model=["a", "b"])
    assert account.model_id == "a"
    assert account.drop_model("a") is True
    assert account.model_id == "b"
    assert account.drop_model("b") is False
    assert account.model_id == "a"
