from pathlib import Path
from typing import Any

import pytest

from asyncsvc.simulator import ModelSettings, Profile, ProfileError


def test_builtin_has_the_models_of_the_mission_with_their_limits() -> None:
    profile = Profile.builtin()
    limits = {name: (m.concurrency, m.rpm) for name, m in profile.models.items()}
    assert limits == {
        "glm-4-flash": (1, 0),
        "hunyuan-lite": (5, 0),
        "nvidia-1": (5, 40),
        "nvidia-2": (5, 40),
        "bge-m3": (5, 0),
    }
    bge = profile.settings_for("bge-m3")
    assert bge is not None
    assert bge.type == "embedding"
    other = profile.settings_for("anything")
    assert other is not None
    assert (other.concurrency, other.rpm) == (0, 0)


def test_load_reads_toml(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(
        '[server]\napi_key = "k"\nany_model = false\nseed = 7\n'
        "[default]\nanswer_tokens = 9\n"
        '[models.a]\nrpm = 3\nhead = "first_token"\nfaults = { "429" = 0.2, "reset at=5" = 0.1 }\n'
        '[models."b/c"]\nanswer_tokens = 4\n',
        encoding="utf-8",
    )
    profile = Profile.load(file)
    assert profile.server.api_key == "k"
    assert profile.server.seed == 7
    a, b = profile.settings_for("a"), profile.settings_for("b/c")
    assert a is not None
    assert (a.rpm, a.answer_tokens, a.head) == (3, 9, "first_token")
    assert a.faults == {"429": 0.2, "reset at=5": 0.1}
    assert b is not None
    assert b.answer_tokens == 4
    assert profile.settings_for("other") is None


def test_a_models_own_value_wins_even_where_it_is_the_usual_one() -> None:
    profile = Profile.parse({"default": {"rpm": 5}, "models": {"a": {"rpm": 0}, "b": {}}})
    assert [profile.settings_for(n).rpm for n in ("a", "b", "c")] == [0, 5, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"models": {"a": {"rmp": 1}}}, "models.a.rmp: unknown key"),
        ({"sever": {}}, "sever: unknown key"),
        (
            {"default": {"concurrency": -1}},
            "default.concurrency: input should be greater than or equal to 0 (given: -1)",
        ),
        ({"default": {"window_s": 0}}, "default.window_s: input should be greater than 0"),
        ({"default": {"head": "late"}}, "default.head: input should be 'at_once' or 'first_token'"),
        ({"default": {"faults": {"599": 0.1}}}, "default.faults: unknown fault '599'"),
        ({"default": {"faults": {"500": 1.5}}}, "the share of '500' is 1.5, allowed is 0 to 1"),
        ({"default": {"faults": {"500": 0.6, "429": 0.6}}}, "the shares add up to 1.2"),
        ({"models": 3}, "models: input should be a valid dictionary (given: 3)"),
    ],
)
def test_a_mistake_is_one_line_with_the_keys_name(data: dict[str, Any], line: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.parse(data)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_mistake_has_its_line_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("[default]\nrpm = -1\nspeed = 2\n")
    with pytest.raises(ProfileError) as caught:
        Profile.load(file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{file}: default.") for line in lines)


def test_load_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        Profile.load(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[models")
    with pytest.raises(ProfileError, match="not valid TOML"):
        Profile.load(tmp_path / "bad.toml")


def test_changed_replaces_single_keys_and_leaves_the_old_profile() -> None:
    old = Profile.parse({"models": {"a": {"rpm": 3, "concurrency": 2}}})
    new = old.changed({"models": {"a": {"rpm": 9}, "b": {"rpm": 1}}, "default": {"jitter": 0.5}})
    assert new.models["a"] == ModelSettings(rpm=9, concurrency=2)
    assert new.models["b"].rpm == 1
    assert new.default.jitter == pytest.approx(0.5)
    assert old.models["a"].rpm == 3
    assert "b" not in old.models
    with pytest.raises(ProfileError, match=r"models\.a"):
        old.changed({"models": {"a": 5}})
    with pytest.raises(ProfileError, match="models: "):
        old.changed({"models": 5})
