"""`GET /settings`: where values come from, a reload, and no secret anywhere."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from asyncsvc.config.diff import EFFECTS
from asyncsvc.config.load import load
from asyncsvc.server import serve
from tests.web.serving import Service, expect, local_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILE = """
[server]
port = 0
[storage]
path = "{folder}/tasks.db"
[limits]
disk_free_mb = 0
[retry]
max_retries = 7
[tools]
enabled = false
[tools.mcp.search]
command = ["search", "--for", "everything"]
[clients.alice]
token_env = "ALICE_TOKEN"
[models."vendor/fast.1"]
base_url = "http://127.0.0.1:9/v1"
model = "fast"
extra_headers = {{ X-Trace = "secret-of-mine" }}
extra_body = {{ note = "secret-of-mine" }}
rpm = 40
"""
ENVIRON = {
    "ASYNCSVC_RETRY__BASE_S": "2.5",
    "ASYNCSVC_MODELS__VENDOR_FAST_1__RPM": "30",
    "ASYNCSVC_TOKENS": "an administrator's token",
    "ALICE_TOKEN": "alice's token",
}


def by_name(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in answer["settings"]}


async def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(FILE.format(folder=tmp_path), encoding="utf-8")

    def read() -> Any:
        return load(path, ENVIRON, {"queue": {"max_length": 50}})

    async def look(url: str) -> None:
        async with local_client(url) as http:
            await checks(http, path)

    await serve(read(), ENVIRON, lambda _: None, look, read)


def changed(path: Path) -> None:
    path.write_text(path.read_text().replace("max_retries = 7", "max_s = 9"))


async def checks(http: httpx.AsyncClient, path: Path) -> None:
    http.headers["authorization"] = "Bearer an administrator's token"
    answer = await http.get("/settings")
    found = by_name(expect(answer, 200))
    sources = {name: one["source"] for name, one in found.items()}
    assert sources["retry.max_retries"] == "file"
    assert sources["retry.base_s"] == "environment"
    assert sources["retry.max_s"] == "default"
    assert sources["queue.max_length"] == "command line"
    assert sources["queue.ttl_s"] == "default"
    assert sources["models.vendor/fast.1.rpm"] == "environment"
    assert sources["models.vendor/fast.1.base_url"] == "file"
    assert sources["models.vendor/fast.1.tpm"] == "default"
    assert sources["tools.mcp"] == "file"
    rpm = found["models.vendor/fast.1.rpm"]
    assert (rpm["value"], rpm["variable"]) == (30, "ASYNCSVC_MODELS__VENDOR_FAST_1__RPM")
    assert rpm["takes_effect"] == "next call"
    assert rpm["about"]
    assert found["retry.base_s"]["default"] == 1.0
    assert found["tools.mcp"]["value"] == {"search": "***"}
    assert found["clients.alice.token_env"]["value"] == "ALICE_TOKEN"
    for secret in ("secret-of-mine", *ENVIRON.values()):
        assert len(secret) < 5 or secret not in answer.text
    changed(path)
    expect(await http.post("/admin/reload"), 200)
    found = by_name(expect(await http.get("/settings"), 200))
    assert found["retry.max_retries"]["source"] == "default"
    assert (found["retry.max_s"]["source"], found["retry.max_s"]["value"]) == ("file", 9.0)


async def test_every_setting_is_there_and_as_described(service: Service) -> None:
    found = by_name(expect(await service.http.get("/settings"), 200))
    for section, keys in EFFECTS.items():
        where = {"models": "models.fast"}.get(section, section)
        for key in keys if section != "clients" else ():
            assert f"{where}.{key}" in found
