"""A service with a simulated provider: one for all tests of a module, or a test's own.

A module that uses them runs its tests in one loop:
`pytestmark = pytest.mark.asyncio(loop_scope="module")`.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio

from tests.web.description import as_described
from tests.web.serving import Service, serving

ROOM = 100
"""Calls at once of the shared service: a test may leave some behind that never end."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """No token, the models `fast` and `embed`; it holds what earlier tests have left."""
    async with serving(tmp_path_factory.mktemp("shared"), concurrency=ROOM) as running:
        running.http.event_hooks["response"].append(as_described)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(tmp_path: Path) -> AsyncIterator[Service]:
    """The same, empty, and with five calls at once."""
    async with serving(tmp_path) as running:
        running.http.event_hooks["response"].append(as_described)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client of OpenAI's API, for the shared service."""
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [as_described]})
    url = f"{service.url}/v1"
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http
    ) as client:
        yield client
