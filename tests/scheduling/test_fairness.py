"""Users share each lane, through the whole service, on virtual time."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.tasks.submission import Submission
from tests.engine_services import EngineServices, model
from tests.scripted import Script, ScriptedClient
from tests.virtual_time import virtual

SLOW: Script = [1.0, "ok"]


async def bring(services: EngineServices, owner: str, count: int, **fields: Any) -> list[str]:
    """So many tasks of one user; their prompts begin with its name."""
    parts = [Submission.model_validate({"content": f"{owner} {n}"} | fields) for n in range(count)]
    taken = await services.services.intake.submit_all(parts, owner)
    return [one.task_id for one in taken]


def turns(services: EngineServices) -> list[str]:
    """Whose call it was, in order of the calls."""
    return [prompt.split()[0] for prompt in services.client.prompts]


@pytest.mark.parametrize("named", [None, "a"])
@virtual
async def test_one_task_behind_five_hundred_is_next_but_one(
    tmp_path: Path, named: str | None
) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(SLOW)) as services:
        await bring(services, "A", 500, model=named)
        await asyncio.sleep(10.5)
        (task_id,) = await bring(services, "B", 1)
        before = len(turns(services))
        await services.finished(task_id)
        assert "B" in turns(services)[before : before + 2]


@virtual
async def test_users_who_name_the_model_and_users_who_are_routed_take_turns(
    tmp_path: Path,
) -> None:
    async with EngineServices(
        tmp_path, {"a": model(), "b": model()}, ScriptedClient(SLOW)
    ) as services:
        await bring(services, "A", 500, model="a")
        await bring(services, "C", 500, model="b")
        await asyncio.sleep(10.5)
        last = (await bring(services, "B", 20))[-1]
        before = len(turns(services))
        await services.finished(last)
        served = Counter(turns(services)[before:])
        assert abs(served["A"] + served["C"] - 2 * served["B"]) <= 4


@virtual
async def test_shares_follow_the_weights_at_every_moment(tmp_path: Path) -> None:
    queue = {"weights": {"B": 3}}
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, client=client, queue=queue) as services:
        await bring(services, "A", 200)
        await bring(services, "B", 200, model="a")
        await asyncio.sleep(100.5)
        served = turns(services)
        since = served.index("B")
        for count in range(since, len(served)):
            b = served[since:count].count("B")
            assert abs(b - 0.75 * (count - since)) <= 1
        assert len(served) > 90


@virtual
async def test_between_users_urgency_only_breaks_ties(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(SLOW)) as services:
        await bring(services, "A", 40, priority=9)
        last = (await bring(services, "B", 10, priority=0))[-1]
        await services.finished(last)
        assert 9 <= Counter(turns(services))["A"] <= 11


@virtual
async def test_another_lane_is_not_held_back_by_turns(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(SLOW)) as services:
        await bring(services, "A", 100)
        await asyncio.sleep(5.5)
        before = len(turns(services))
        (task_id,) = await bring(services, "A2", 1, lane="priority")
        await services.finished(task_id)
        assert turns(services)[before] == "A2"


@virtual
async def test_turns_go_on_after_a_reload_with_other_weights(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(SLOW)) as services:
        await bring(services, "A", 100)
        await bring(services, "B", 100)
        await asyncio.sleep(20.5)
        await services.reload(queue={"weights": {"A": 4}})
        before = len(turns(services))
        await asyncio.sleep(50)
        served = Counter(turns(services)[before:])
        assert abs(served["A"] - 4 * served["B"]) <= 5
