import tomllib
from typing import Any
from unittest.mock import Mock

import pytest

from asyncsvc.config.settings import Model, Routes, Settings
from asyncsvc.routing.classifier import Classifier
from asyncsvc.routing.router import CLASSES, Asked, Decision, Router
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
def test_what_is_written_explicitly_wins(
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
    first = shown["features"][0]
    assert (first["matched"], first["class"]) == (["深入分析"], "reasoning")
    assert first["weight"] > 0


UNMARKED = [
    ("zh", "reasoning", "两家供应商，一家便宜但常晚两天，一家贵一成从不误，我们是医院食堂"),
    ("zh", "reasoning", "换了新路由器之后，视频会议流畅了，可打印机每到下午就掉线"),
    ("en", "reasoning", "Since the new manager came, sick days halved and resignations doubled."),
    ("en", "reasoning", "keep the corner shop or take the offer, lease runs out in 14 months"),
    ("zh", "general", "帮我给孩子的班主任写条短信，明天请半天假，语气自然点"),
    ("en", "general", "Write a cheerful note for the neighbour who watered our plants"),
    ("zh", "batch", "剩下那四十二张照片也各写一句说明"),
    ("en", "batch", "Item 41 of 90: blue wool scarf. Same three fields as the others."),
    ("zh", "simple", "“蹒跚”怎么读"),
    ("en", "simple", "capital of Estonia?"),
    ("zh", "realtime", "司机在楼下按喇叭了，行李箱密码忘了怎么开"),
    ("en", "realtime", "they're calling my name at the gate and I can't find my boarding pass"),
]
"""Prompts without words that name their class; none of them is a prompt of the training."""


@pytest.mark.parametrize(("lang", "name", "text"), UNMARKED)
def test_the_class_needs_no_word_that_names_it(lang: str, name: str, text: str) -> None:
    assert _classify(text).name == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('Make this sound calmer: "I need this ASAP, please respond immediately!!"', "general"),
        ("“紧急”用英语怎么说", "simple"),
        ("write a limerick about an analyst who proved everything", "general"),
    ],
)
def test_a_word_of_another_class_does_not_decide(text: str, name: str) -> None:
    assert _classify(text).name == name


@pytest.mark.parametrize("name", ["simple", "general"])
def test_lane_long_makes_batch_of_what_is_not_pressing(name: str) -> None:
    text = {"simple": "capital of Estonia?", "general": "Write a poem about moss"}[name]
    assert _classify(text).name == name
    assert _classify(text, lane="long").rule == "field: lane"
    assert _classify("Prove that sqrt(2) is irrational", lane="long").name == "reasoning"


def _model(**fields: Any) -> Model:
    return Model(model="id", **fields)


def test_a_class_no_client_is_good_at_is_served_by_all() -> None:
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
        assert first
        assert not set(first) & set(rest)


def test_a_class_that_is_named_decides_before_all_else() -> None:
    asked = Asked("chat", "/think why?", "priority", {"thinking": "on"}, "batch")
    decision = Router({}, Routes()).classify(asked)
    assert (decision.name, decision.rule) == ("batch", "field: route_as")


def test_the_classifier_is_read_only_for_a_prompt_without_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builtin = Mock(return_value=Classifier.builtin())
    monkeypatch.setattr(Classifier, "builtin", builtin)
    router = Router(SHIPPED.models, SHIPPED.routes)
    assert router.classify(Asked("chat", "hello", wanted="simple")).name == "simple"
    assert builtin.call_count == 0
    assert router.classify(Asked("chat", "什么是AI？")).name == "simple"
    assert builtin.call_count == 1
