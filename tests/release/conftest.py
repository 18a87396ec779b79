"""The service in a process of its own, for other projects' clients; opt-in: `pytest -m release`."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.flows.process import Provider, Remote, process, service
from tests.web.serving import local_client

TOKEN = "release-token"
SETTINGS = """
[server]
port = 0
grace_s = 0
auth_tokens_env = "RELEASE_TOKENS"
[storage]
path = "{folder}/tasks.db"
[limits]
disk_free_mb = 0
loop_lag_ms = 0
[breaker]
failures = 1000
[models.fast]
base_url = "{url}/v1"
model = "sim"
concurrency = 20
[models.embed]
type = "embedding"
base_url = "{url}/v1"
model = "sim-embed"
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "release" in (config.getoption("-m") or ""):
        return
    for item in items:
        if item.get_closest_marker("release"):
            item.add_marker(pytest.mark.skip(reason="opt-in: pytest -m release"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hung_up() -> AsyncIterator[None]:
    """Both libraries keep their connections for ever, and offer no way to end them all."""
    yield
    for found in gc.get_objects():
        if isinstance(found, asyncio.Transport):
            found.abort()
    await asyncio.sleep(0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sim(tmp_path_factory: pytest.TempPathFactory, hung_up: None) -> AsyncIterator[Provider]:
    """A simulator in a process of its own, as the tests of these clients block their loop."""
    folder = tmp_path_factory.mktemp("provider")
    profile = folder / "profile.toml"
    profile.write_text("[default]\nanswer_tokens = 12\n", encoding="utf-8")
    argv = ("-m", "asyncsvc.simulator", "--profile", str(profile))
    async with process(folder / "simulator.log", *argv) as running:
        url = running.line.rpartition(" ")[2]
        async with local_client(url) as http:
            yield Provider(url, http)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def remote(tmp_path_factory: pytest.TempPathFactory, sim: Provider) -> AsyncIterator[Remote]:
    """It wants a token, which its own client sends as well."""
    folder: Path = tmp_path_factory.mktemp("service")
    path = folder / "settings.toml"
    url = str(sim.http.base_url).rstrip("/")
    path.write_text(SETTINGS.format(folder=folder, url=url), encoding="utf-8")
    os.environ["RELEASE_TOKENS"] = TOKEN
    try:
        async with service(path) as running:
            running.http.headers["Authorization"] = f"Bearer {TOKEN}"
            yield running
    finally:
        del os.environ["RELEASE_TOKENS"]
