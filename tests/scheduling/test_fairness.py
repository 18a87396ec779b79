"""Users share each lane, through the whole house, on virtual time."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.tasks.submission import Submission
from tests.engine_house import EngineHouse, model
from tests.scripted import Script, ScriptedClient
from tests.virtual_time import virtual

SLOW: Script = [1.0, "ok"]


async def bring(house: EngineHouse, owner: str, count: int, **fields: Any) -> list[str]:
    """So many tasks of one user; their prompts begin with its name."""
    parts = [Submission.model_validate({"content": f"{owner} {n}"} | fields) for n in range(count)]
    taken = await house.house.intake.submit_all(parts, owner)
    return [one.task_id for one in taken]


def turns(house: EngineHouse) -> list[str]:
    """Whose call it was, in order of the calls."""
    return [prompt.split()[0] for prompt in house.client.prompts]


@pytest.mark.parametrize("named", [None, "a"])
@virtual
async def test_one_task_behind_five_hundred_is_next_but_one(
    tmp_path: Path, named: str | None
) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(SLOW)) as house:
        await bring(house, "A", 500, model=named)
        await asyncio.sleep(10.5)
        (task_id,) = await bring(house, "B", 1)
        before = len(turns(house))
        await house.finished(task_id)
        assert "B" in turns(house)[before : before + 2]


@virtual
async def test_those_who_name_the_model_and_those_who_are_routed_take_turns(
    tmp_path: Path,
) -> None:
    async with EngineHouse(tmp_path, {"a": model(), "b": model()}, ScriptedClient(SLOW)) as house:
        await bring(house, "A", 500, model="a")
        await bring(house, "C", 500, model="b")
        await asyncio.sleep(10.5)
        last = (await bring(house, "B", 20))[-1]
        before = len(turns(house))
        await house.finished(last)
        served = Counter(turns(house)[before:])
        assert abs(served["A"] + served["C"] - 2 * served["B"]) <= 4


@virtual
async def test_shares_follow_the_weights_at_every_moment(tmp_path: Path) -> None:
    queue = {"weights": {"B": 3}}
    client = ScriptedClient(SLOW)
    async with EngineHouse(tmp_path, client=client, queue=queue) as house:
        await bring(house, "A", 200)
        await bring(house, "B", 200, model="a")
        await asyncio.sleep(100.5)
        served = turns(house)
        since = served.index("B")
        for count in range(since, len(served)):
            b = served[since:count].count("B")
            assert abs(b - 0.75 * (count - since)) <= 1
        assert len(served) > 90


@virtual
async def test_between_users_urgency_only_breaks_ties(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(SLOW)) as house:
        await bring(house, "A", 40, priority=9)
        last = (await bring(house, "B", 10, priority=0))[-1]
        await house.finished(last)
        assert 9 <= Counter(turns(house))["A"] <= 11


@virtual
async def test_another_lane_is_not_held_back_by_turns(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(SLOW)) as house:
        await bring(house, "A", 100)
        await asyncio.sleep(5.5)
        before = len(turns(house))
        (task_id,) = await bring(house, "A2", 1, lane="priority")
        await house.finished(task_id)
        assert turns(house)[before] == "A2"


@virtual
async def test_turns_go_on_after_a_reload_with_other_weights(tmp_path: Path) -> None:
    async with EngineHouse(tmp_path, client=ScriptedClient(SLOW)) as house:
        await bring(house, "A", 100)
        await bring(house, "B", 100)
        await asyncio.sleep(20.5)
        await house.reload(queue={"weights": {"A": 4}})
        before = len(turns(house))
        await asyncio.sleep(50)
        served = Counter(turns(house)[before:])
        assert abs(served["A"] - 4 * served["B"]) <= 5
