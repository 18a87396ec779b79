from collections.abc import Callable
from typing import Any

import pytest

from asyncsvc.cli import asking
from tests.cli.processes import Place


class _Api:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    def post(self, path: str) -> dict[str, Any]:
        assert path == "/admin/reload"
        return self.answer


Said = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def ask(answer: dict[str, Any]) -> list[str]:
        full = {"changed": {}, "added": [], "removed": [], "needs_restart": []} | answer
        assert asking.reload(_Api(full), False) == 0  # type: ignore[arg-type]
        return capsys.readouterr().out.splitlines()

    return ask


def test_each_difference_is_a_line(said: Said) -> None:
    answer = {
        "changed": {
            "models.a.rpm": {"from": 30, "to": "auto"},
            "models.a.base_url": {"from": None, "to": "http://x"},
        },
        "added": ["b"],
        "removed": ["c"],
        "needs_restart": ["server.port"],
    }
    assert said(answer) == [
        'changed  models.a.rpm  30 -> "auto"',
        'changed  models.a.base_url  not set -> "http://x"',
        "added    models.b",
        "removed  models.c",
        "restart  server.port  stays as it is until the service is started anew",
    ]


def test_nothing_is_said_too(said: Said) -> None:
    assert said({}) == ["nothing has changed"]


def test_a_running_service_is_asked(service: Place) -> None:
    found = service.run("reload", "--json").json
    assert list(found) == ["changed", "added", "removed", "needs_restart"]
    ended = service.run("reload")
    assert (ended.code, ended.err) == (0, "")
