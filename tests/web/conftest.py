"""A service with a simulated provider for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web.serving import Service, serving


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """No token, two models without limits, twelve tokens an answer."""
    async with serving(tmp_path) as running:
        yield running
