"""A simulator and a service for the whole session, each a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Place, prepared, simulated


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulated(tmp_path_factory.mktemp("simulator")) as url:
        yield url


@pytest.fixture(scope="session")
def service(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where commands find a running service."""
    with prepared(tmp_path_factory.mktemp("service"), provider).served() as (_, place):
        yield place


@pytest.fixture
def place(provider: str, tmp_path: Path) -> Place:
    """Settings, and no service."""
    return prepared(tmp_path / "place", provider)
