import asyncio
from pathlib import Path

from asyncsvc.storage.connection import Connection
from tests.virtual_time import loop, virtual, wall_ms


@virtual
async def test_a_day_passes_at_once() -> None:
    before = wall_ms()
    await asyncio.sleep(86_400)
    assert loop().time() == 86_400
    assert wall_ms() - before == 86_400_000


@virtual
async def test_alarms_ring_in_order() -> None:
    rang: list[float] = []
    for delay in (3.0, 1.0, 2.0):
        loop().call_later(delay, rang.append, delay)
    await asyncio.sleep(5)
    assert rang == [1.0, 2.0, 3.0]


@virtual
async def test_the_clock_stands_while_the_database_works(tmp_path: Path) -> None:
    database = await Connection.open(tmp_path / "x.db", 10)
    async with asyncio.timeout(0.001):
        for _ in range(50):
            await database.execute("SELECT 1")
    await database.close()
    assert loop().time() < 0.001
