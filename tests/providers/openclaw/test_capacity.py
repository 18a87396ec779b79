from dataclasses import replace

import pytest

from asyncsvc.config.settings import Model
from asyncsvc.providers.agents import crowded
from asyncsvc.providers.dialects import PRESETS
from asyncsvc.providers.upstream import Upstream
from tests.upstreams import gate, upstream

HERE, AWAY = "http://127.0.0.1:18790/v1", "http://gateway.test:18790/v1"


def account(concurrency: int, url: str = HERE, name: str = "claw") -> Upstream:
    made = upstream(url, preset=PRESETS["openclaw"], model="openclaw", concurrency=concurrency)
    return replace(made, name=name, gate=gate(concurrency))


@pytest.mark.parametrize(
    ("url", "cores", "room"), [(HERE, 1, 8), (HERE, 2, 8), (HERE, 4, 16), (AWAY, 16, 8)]
)
def test_what_the_gateway_runs_by_default_is_no_matter(url: str, cores: int, room: int) -> None:
    assert crowded([account(room, url)], cores) == []
    (line,) = crowded([account(room + 1, url)], cores)
    assert f"{room + 1} runs at once" in line
    assert f"runs {room} and queues" in line


def test_all_models_of_one_gateway_count_together() -> None:
    (line,) = crowded([account(5), account(5, name="second"), account(5, AWAY)], 2)
    assert line.startswith("claw, second: 10 runs at once")


def test_a_gateway_teaches_no_limit() -> None:
    made = upstream(HERE, preset=PRESETS["openclaw"], model="openclaw", concurrency="auto")
    (line,) = crowded([made], 2)
    assert "learns nothing" in line


def test_the_default_of_a_model_is_below_the_gateways() -> None:
    assert crowded([account(Model(model="openclaw").concurrency)], 1) == []  # type: ignore[arg-type]


def test_other_providers_are_not_its_business() -> None:
    assert crowded([upstream(HERE, model="m", concurrency=1000)], 1) == []
