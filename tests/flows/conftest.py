"""A simulated provider for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.flows.process import Provider, provider


@pytest.fixture
async def sim() -> AsyncIterator[Provider]:
    async with provider() as running:
        yield running
