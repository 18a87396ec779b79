import tomllib
from typing import Any

import pytest

from asyncsvc.providers.routing import CLASSES, Asked, Decision, Router
from asyncsvc.settings import Model, Routes, Settings
from tests.test_floors import ROOT

SHIPPED = Settings.model_validate(tomllib.loads((ROOT / "settings.toml").read_text("utf-8")))
ROUTER = Router(SHIPPED.models, SHIPPED.routes)


def _classify(text: str, **fields: Any) -> Decision:
    return ROUTER.classify(Asked(fields.pop("type", "chat"), text, **fields))


@pytest.mark.parametrize(
    ("text", "name", "models"),
    [
        ("什么是AI？", "simple", ["hunyuan", "nvidia2"]),
        ("深入分析人工智能对社会的影响", "reasoning", ["nvidia1"]),
        ("现在马上回答：你好", "realtime", ["zhipu"]),
        *((f"翻译第{n}句", "batch", ["hunyuan"]) for n in range(1, 11)),
    ],
)
def test_the_shipped_settings_send_the_examples_where_they_belong(
    text: str, name: str, models: list[str]
) -> None:
    assert _classify(text).name == name
    assert ROUTER.pool(name)[0] == models


def test_embeddings_have_their_model() -> None:
    assert _classify("证明", type="embedding").name == "embedding"
    assert ROUTER.pool("embedding") == (["siliconflow"], [])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hello", "simple"),
        ("What is the capital of France?", "simple"),
        ("Prove that sqrt(2) is irrational", "reasoning"),
        ("小明有5个苹果，吃了2个，还剩几个？", "reasoning"),
        ("Tell me right now", "realtime"),
        ("Translate each line", "batch"),
    ],
)
def test_the_text_tells_the_class(text: str, name: str) -> None:
    assert _classify(text).name == name


@pytest.mark.parametrize(
    ("text", "fields", "name", "rule"),
    [
        ("/think 你好", {}, "reasoning", "tag: /think"),
        ("  /FAST prove it", {}, "realtime", "tag: /fast"),
        ("/batch x", {}, "batch", "tag: /batch"),
        ("/no_think 证明勾股定理", {}, "simple", "tag: /no_think"),
        ("你好", {"params": {"thinking": "on"}}, "reasoning", "field: params"),
        ("你好", {"params": {"reasoning_effort": "high"}}, "reasoning", "field: params"),
        ("证明勾股定理", {"lane": "priority"}, "realtime", "field: lane"),
        ("a story about a cat", {"lane": "long"}, "batch", "field: lane"),
    ],
)
def test_what_is_said_explicitly_wins(
    text: str, fields: dict[str, Any], name: str, rule: str
) -> None:
    decision = _classify(text, **fields)
    assert (decision.name, decision.rule) == (name, rule)


def test_a_tag_is_a_whole_word() -> None:
    assert _classify("/thinking about you").rule is None
    assert _classify("/fast") == Decision("realtime", "tag: /fast")


def test_a_decision_by_text_shows_score_and_features() -> None:
    shown = _classify("深入分析人工智能对社会的影响").as_dict()
    assert (shown["class"], shown["rule"], shown["ambiguous"]) == ("reasoning", None, False)
    assert shown["score"] > 0
    assert shown["features"][0]["matched"] == ["深入分析"]


def test_a_long_everyday_text_is_general() -> None:
    assert _classify("the cat sat on the mat and looked at me, " * 20).name == "general"


def _model(**fields: Any) -> Model:
    return Model(model="id", **fields)


def test_a_class_nobody_is_good_at_is_served_by_all() -> None:
    router = Router({"a": _model(), "b": _model(good_at=["batch"])}, Routes())
    assert router.pool("reasoning") == (["a", "b"], [])
    assert router.pool("batch") == (["b"], ["a"])
    assert router.realtime == frozenset()


def test_routes_win_over_good_at() -> None:
    models = {"a": _model(good_at=["realtime"]), "b": _model(), "c": _model()}
    router = Router(models, Routes(realtime=["c", "a"]))
    assert router.pool("realtime") == (["c", "a"], [])
    assert router.realtime == {"a", "c"}


def test_every_class_has_a_pool() -> None:
    for name in CLASSES:
        first, rest = ROUTER.pool(name)
        assert first and not set(first) & set(rest)


def test_a_class_that_is_named_decides_before_all_else() -> None:
    asked = Asked("chat", "/think why?", "priority", {"thinking": "on"}, "batch")
    decision = Router({}, Routes()).classify(asked)
    assert (decision.name, decision.rule) == ("batch", "field: route_as")
