"""Callers, their scopes, and the clients of the settings."""

import hashlib
from typing import Any

import pytest

from asyncsvc.access import ALL, SERVICE, UNKNOWN, Caller, Clients, Permission, anybody
from asyncsvc.config.load import load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import Forbidden, SettingsError

READ, SUBMIT, ADMIN = Permission.READ, Permission.SUBMIT, Permission.ADMIN


def clients(environ: dict[str, str], **named: dict[str, Any]) -> Clients:
    return Clients(Settings.model_validate({"clients": named}), environ)


def test_a_caller_sees_its_own_and_an_administrator_all() -> None:
    alice = Caller("alice", frozenset({READ}))
    assert [alice.sees(owner) for owner in ("alice", "bob", "", None)] == [True] + [False] * 3
    assert alice.only == "alice"
    for boss in (SERVICE, anybody("alice"), anybody(""), Caller("boss", ALL)):
        assert all(boss.sees(owner) for owner in ("alice", None))
        assert boss.only is None
    assert not UNKNOWN.sees(None)
    assert UNKNOWN.only == ""


def test_a_scope_that_is_missing_is_named() -> None:
    alice = Caller("alice", frozenset({READ}))
    alice.require(READ)
    UNKNOWN.require(Permission.OPEN)
    for caller, scope in ((alice, SUBMIT), (alice, ADMIN), (UNKNOWN, READ)):
        with pytest.raises(Forbidden, match=f"the scope {scope.value}") as refusal:
            caller.require(scope)
        assert refusal.value.code == "forbidden_scope"


def test_tokens_lead_to_their_callers() -> None:
    digest = hashlib.sha256(b"two").hexdigest()
    found = clients(
        {"ASYNCSVC_TOKENS": "first, second", "ONE": " one "},
        alice={"token_env": "ONE", "scopes": ["read"]},
        boss={"token_sha256": digest.upper(), "scopes": ["admin"]},
    )
    assert found.caller("one") == Caller("alice", frozenset({READ}))
    assert found.caller("two") == Caller("boss", ALL)
    first, second = found.caller("first"), found.caller("second")
    assert first is not None
    assert second is not None
    assert first.owner != second.owner
    assert first.scopes == ALL
    for wrong in ("", "three", " one ", digest, "first, second"):
        assert found.caller(wrong) is None


def test_a_client_without_its_token_cannot_come_in_and_opens_no_door(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = clients({}, alice={"token_env": "NOT_SET"})
    assert found.in_use
    assert found.caller("") is None
    assert "clients.alice cannot come in: NOT_SET is not set" in caplog.text
    assert not clients({}).in_use


def test_what_goes_on_behind_a_request_keeps_to_its_owner() -> None:
    found = clients(
        {"ASYNCSVC_TOKENS": "first", "ONE": "one", "TWO": "two"},
        alice={"token_env": "ONE"},
        boss={"token_env": "TWO", "scopes": ["admin"]},
    )
    first = found.caller("first")
    assert first is not None
    assert found.of(first.owner) == first
    assert found.of("boss").only is None
    assert found.of("alice").only == "alice"
    assert found.of("removed since").only == "removed since"
    assert found.of("token:of an earlier process").only is None
    assert found.of(None).only is None
    assert clients({}).of("alice").only is None


@pytest.mark.parametrize(
    ("client", "words"),
    [
        ({}, "either token_env or token_sha256"),
        ({"token_env": "A", "token_sha256": "0" * 64}, "either token_env or token_sha256"),
        ({"token_sha256": "0" * 63}, "token_sha256"),
        ({"token_env": "A", "scopes": []}, "scopes"),
        ({"token_env": "A", "scopes": ["write"]}, "scopes"),
        ({"token_env": "A", "rpm": -1}, "rpm"),
        ({"token_env": "A", "token": "x"}, "token: unknown key"),
    ],
)
def test_an_impossible_client_stops_the_start(
    client: dict[str, Any], words: str, tmp_path: Any
) -> None:
    lines = [f"{key} = {value!r}" for key, value in client.items()]
    file = tmp_path / "settings.toml"
    file.write_text("\n".join(["[clients.alice]", *lines]), encoding="utf-8")
    with pytest.raises(SettingsError) as refusal:
        load(file, {})
    assert "clients.alice" in str(refusal.value)
    assert words in str(refusal.value)


@pytest.mark.parametrize("name", ["", "token:x", "a b", "ä", "a" * 65, "x/y", "a\n"])
def test_the_name_of_a_client_is_plain(name: str) -> None:
    with pytest.raises(ValueError, match="client name"):
        Settings.model_validate({"clients": {name: {"token_env": "A"}}})


def test_two_callers_with_one_token_stop_the_start() -> None:
    same = {"ASYNCSVC_TOKENS": "x", "ONE": "x"}
    with pytest.raises(SettingsError, match="alice: its token is another's already"):
        clients(same, alice={"token_env": "ONE"})


def test_beyond_this_machine_clients_are_enough(tmp_path: Any) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[server]\nhost = "0.0.0.0"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"\[clients"):
        load(file, {})
    file.write_text('[server]\nhost = "0.0.0.0"\n[clients.alice]\ntoken_env = "A"\n')
    assert load(file, {}).clients["alice"].token_env == "A"
