"""The service with models of one scripted provider, each by another preset."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients.scripted_provider import ScriptedProvider, scripted_provider
from tests.web.serving import Service, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder: Path = tmp_path_factory.mktemp("service")
    model = {"base_url": provider.base_url, "model": "m", "concurrency": 20}
    presets = {"fast": {}, "openai": {"preset": "openai"}, "zhipu": {"preset": "zhipu"}}
    models = {name: model | more for name, more in presets.items()}
    async with serving(folder, models=models, retry={"max_retries": 0}) as running:
        yield running
