from typing import Any

import pytest

from asyncsvc.config.diff import EFFECTS, NAMED, Effect, adopt, difference, fields
from asyncsvc.config.secrets import HIDDEN
from asyncsvc.config.settings import Settings
from tests.engine_services import model


def made(**sections: Any) -> Settings:
    return Settings.model_validate({"models": {"a": model(), "b": model()}} | sections)


def test_the_table_has_each_key_of_the_settings_and_no_other() -> None:
    assert {section: frozenset(keys) for section, keys in EFFECTS.items()} == dict(fields())


def test_nothing_is_different_from_the_same() -> None:
    found = difference(made(), made())
    assert not any(found.as_dict().values())
    assert str(found) == "nothing has changed"


def test_what_was_changed_added_and_removed_is_reported() -> None:
    new = made(models={"a": model(rpm=40), "c": model()}, retry={"max_retries": 1})
    found = difference(made(), new)
    assert found.as_dict() == {
        "changed": {
            "retry.max_retries": {"from": 3, "to": 1},
            "models.a.rpm": {"from": 0, "to": 40},
        },
        "added": ["c"],
        "removed": ["b"],
        "needs_restart": [],
        "variables": [],
        "enabled": [],
        "disabled": {},
    }
    assert "models.a.rpm 0 -> 40" in str(found)
    assert "model c added; model b removed" in str(found)


def test_what_needs_a_restart_stays_and_is_reported_each_time() -> None:
    force = made()
    new = made(server={"port": 1, "grace_s": 2.0}, storage={"path": "other.db"})
    for _ in range(2):
        found = difference(force, new)
        assert found.needs_restart == ["server.port", "storage.path"]
        adopt(force, new)
    assert found.changed == {}
    assert (force.server.port, force.server.grace_s) == (8000, 2.0)
    assert force.storage.path == "data/asyncsvc.db"


def test_the_settings_in_force_become_those_that_were_read() -> None:
    force = made()
    new = made(routing={"balance": False}, routes={"simple": ["b"]}, queue={"max_length": 5})
    adopt(force, new)
    assert force == new


@pytest.mark.parametrize("section", EFFECTS)
def test_each_section_is_compared_and_adopted(section: str) -> None:
    """A value of each key that is unlike the default."""
    for key, effect in EFFECTS[section].items():
        if section in NAMED:
            continue
        force = made()
        there = getattr(force, section).model_copy(update={key: "another"})
        new = force.model_copy(update={section: there})
        found = difference(force, new)
        adopt(force, new)
        listed = [*found.changed, *found.needs_restart]
        assert listed == [f"{section}.{key}"]
        assert (getattr(getattr(force, section), key) == "another") is (
            effect is not Effect.RESTART
        )


SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"extra_headers": {"Authorization": f"Bearer {SECRET}"}}),
        ({"extra_body": {"key": SECRET}}, {}),
        ({}, {"api_key_env": SECRET}),
        ({}, {"api_key_envs": [SECRET, "KEY_2"]}),
    ],
)
def test_no_difference_shows_a_secret(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Not even one that was never checked, as `model_copy` makes them."""
    old, new = made(), made()
    for settings, values in ((old, before), (new, after)):
        settings.models["a"] = settings.models["a"].model_copy(update=values)
    found = difference(old, new)
    assert found.changed
    assert SECRET not in f"{found} {found.as_dict()}"
    assert HIDDEN in str(found)


def test_names_of_variables_and_addresses_are_no_secrets() -> None:
    old = made(models={"a": model(api_key_envs=["KEY_1"])})
    new = made(models={"a": model(api_key_env="KEY_2", base_url="https://example.com/v1")})
    shown = difference(old, new).changed
    assert shown["models.a.api_key_env"] == {"from": None, "to": "KEY_2"}
    assert shown["models.a.api_key_envs"] == {"from": ["KEY_1"], "to": []}
    assert shown["models.a.base_url"]["to"] == "https://example.com/v1"
