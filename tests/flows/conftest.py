"""A simulated provider in a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.process import Provider, provider


@pytest.fixture
async def sim(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider(tmp_path) as running:
        yield running
