"""Where the service is looked for, and what comes back over a WebSocket that refuses."""

from pathlib import Path

import pytest

from asyncsvc.cli.client import Address, find
from asyncsvc.cli.following import follow
from asyncsvc.cli.options import Failure
from tests.cli.processes import Place


@pytest.mark.parametrize(
    ("given", "url", "direct"),
    [
        ("127.0.0.1:9", "http://127.0.0.1:9", True),
        ("http://[::1]:9/", "http://[::1]:9", True),
        ("https://tasks.example/", "https://tasks.example", False),
    ],
)
def test_an_address_that_is_given(given: str, url: str, direct: bool) -> None:
    found = find(given, {"ASYNCSVC_TOKEN": "t"})
    assert (found.url, found.direct, found.token) == (url, direct, "t")
    assert "t" not in repr(found.token and Address(url, "t")).split("direct")[0].replace(url, "")


@pytest.mark.parametrize("wrong", ["ftp://x", "http://", "http://x:y", "http://x:0"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(Failure) as caught:
        find(wrong, {})
    assert caught.value.code == 2


def test_a_service_for_other_machines_is_found_on_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its tokens are in its own environment, not in that of the client.
    (tmp_path / "settings.toml").write_text('[server]\nhost = "0.0.0.0"\nport = 9\n')
    monkeypatch.chdir(tmp_path)
    assert find(None, {}).url == "http://127.0.0.1:9"
    assert find(None, {"ASYNCSVC_TOKENS": "t"}).url == "http://127.0.0.1:9"


async def test_following_a_task_that_is_not_there_ends_with_a_failure(service: Place) -> None:
    with pytest.raises(Failure, match="task_not_found"):
        async for _ in follow(Address(service.env["ASYNCSVC_URL"]), "nothing"):
            pass
