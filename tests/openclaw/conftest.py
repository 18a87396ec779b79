"""One real gateway for all tests of `pytest -m openclaw`; without that option they are skipped."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flows.openclaw_gateway import GatewayError, install, token_of
from tests.openclaw.stage import Stage, staged

FOLDER = "OPENCLAW_TEST_DIR"


def _folder() -> Path:
    folder = Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / "asyncsvc-openclaw")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """`OPENCLAW_TEST_DIR` is where node and openclaw are, or are put."""
    if "openclaw" not in (request.config.getoption("-m") or ""):
        pytest.skip("opt-in: pytest -m openclaw")
    folder = _folder()
    try:
        await install(folder)
    except (GatewayError, OSError) as error:
        pytest.skip(f"no gateway to test with: {error}")
    monkeypatch.setenv("OPENCLAW_GATEWAY_TOKEN", token_of(folder, {}))
    monkeypatch.setenv("WRONG_TOKEN", "not-the-token")
    async with staged(folder) as made:
        yield made
