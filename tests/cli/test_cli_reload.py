from collections.abc import Callable
from typing import Any, Self

import pytest

from asyncsvc.cli import models
from tests.cli.processes import Place


class _Api:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, path: str) -> dict[str, Any]:
        assert path == "/admin/reload"
        return self.answer


Printed = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    def ask(answer: dict[str, Any]) -> list[str]:
        lists = ["added", "removed", "needs_restart", "variables", "enabled"]
        full = {"changed": {}, "disabled": {}} | {name: [] for name in lists} | answer
        monkeypatch.setattr(models, "reach", lambda _: _Api(full))
        assert models.reload() == 0
        return capsys.readouterr().out.splitlines()

    return ask


def test_each_difference_is_a_line(printed: Printed) -> None:
    answer = {
        "changed": {
            "models.a.rpm": {"from": 30, "to": "auto"},
            "models.a.base_url": {"from": None, "to": "http://x"},
        },
        "added": ["b"],
        "removed": ["c"],
        "needs_restart": ["server.port"],
        "variables": ["A_KEY"],
        "enabled": ["d"],
        "disabled": {"e": "E_KEY is not set"},
    }
    assert printed(answer) == [
        'changed  models.a.rpm  30 -> "auto"',
        'changed  models.a.base_url  not set -> "http://x"',
        "added    models.b",
        "removed  models.c",
        "restart  server.port  stays as it is until the service is started anew",
        "changed  A_KEY, read from .env",
        "enabled  d",
        "disabled e  E_KEY is not set",
    ]


def test_no_difference_is_a_line_too(printed: Printed) -> None:
    assert printed({}) == ["nothing has changed"]


def test_a_running_service_is_asked(service: Place) -> None:
    found = service.run("reload", "--json").json
    assert {"changed", "added", "removed", "needs_restart", "variables", "enabled"} < set(found)
    ended = service.run("reload")
    assert (ended.code, ended.err) == (0, "")
