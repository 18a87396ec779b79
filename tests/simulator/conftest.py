"""A simulator on a real socket for each test that asks for one."""

from collections.abc import AsyncIterator

import pytest

from asyncsvc.simulator import Profile, Running, running


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    """Any model, no limits, as fast as possible, twelve tokens."""
    async with running(Profile.parse({"default": {"answer_tokens": 12}})) as server:
        yield server
