"""Tests that need something of the machine.

Promises that they skip with the reason where it is absent, and fail where the machine was
prepared to have everything (`ASYNCSVC_TESTS_REQUIRE_ALL`).
"""

import os

import pytest


def need(lacking: str | None) -> None:
    """Go on only where nothing is lacking."""
    if lacking is None:
        return
    if os.environ.get("ASYNCSVC_TESTS_REQUIRE_ALL"):
        pytest.fail(lacking)
    pytest.skip(lacking)
