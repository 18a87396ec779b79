"""Hostile providers and clients in short: memory, lost tasks and faults count, speed does not."""

import asyncio
import gzip
from collections import Counter
from collections.abc import Awaitable, Callable

import orjson
import pytest

from tests.benchmarks import hostile, hostile_provider, wire
from tests.benchmarks.crowd import enough_files
from tests.benchmarks.hostile import Outcome, judge
from tests.benchmarks.hostile_attackers import Plan, described, names
from tests.benchmarks.hostile_honest import Honest
from tests.benchmarks.hostile_target import ATTACKS, Target
from tests.benchmarks.stage import HOST, free_port

SHORT = Plan(seconds=1.5, warm_s=0.3, back_s=0, scale=0.02, timed=False)
TRIED = (
    "provider:empty-events",
    "provider:endless-tool-arguments",
    "provider:inflated-error",
    "client:slow-heads",
    "client:left-chats",
    "client:half-handshakes",
)
"""Some of each kind; the long form tries them all."""


@pytest.mark.parametrize("name", TRIED)
async def test_an_attack_breaks_nothing(name: str) -> None:
    enough_files()
    outcome = await hostile.measure(name, SHORT)
    assert outcome.broken == []
    assert outcome.most_mb > 0


def test_each_attack_says_what_it_does() -> None:
    words = [described(name) for name in names()]
    assert min(map(len, words)) > 10
    assert len(set(words)) == len(words)


def test_attacks_are_chosen_by_patterns() -> None:
    assert hostile.chosen_by([]) == names()
    assert hostile.chosen_by(["client:slow-*"]) == ["client:slow-heads", "client:slow-bodies"]
    assert hostile.chosen_by(["nothing"]) == []


def test_an_inflated_body_is_small_and_whole() -> None:
    body = hostile_provider.inflated(b"first", b"ab", b"last", 3)
    whole = gzip.decompress(body)
    assert len(body) < 20_000
    assert len(whole) > 3_000_000
    assert whole == b"first" + b"ab" * ((len(whole) - 9) // 2) + b"last"


def fine() -> Outcome:
    return Outcome("none", start_mb=80, most_mb=90, end_mb=85, probe_ms=5, submit_ms=5)


def honest() -> Honest:
    return Honest("http://127.0.0.1", {}, "a")


def faults(
    code: int | None = None,
    lines: tuple[str, ...] = (),
    refused: str = "",
    wrong: str = "",
    timed: bool = True,
    **figures: float,
) -> list[str]:
    outcome, clients = fine(), honest()
    for name, value in figures.items():
        setattr(outcome, name, value)
    clients.refused = Counter([refused] if refused else [])
    clients.wrong = [wrong] if wrong else []
    judge(outcome, clients, code, lines, Plan(timed=timed))
    return outcome.broken + outcome.late


def test_an_attack_without_effect_holds() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (faults(code=-9), "ended with -9"),
        (faults(lines=("Traceback",)), "faults in the log"),
        (faults(refused="submit 503 overloaded"), "honest clients saw"),
        (faults(refused="submit 500 internal"), "an answer was 500"),
        (faults(wrong="x"), "honest answers wrong"),
        (faults(most_mb=500), "500 MB"),
        (faults(end_mb=89), "89 MB stay"),
        (faults(probe_ms=100), "livez p99"),
        (faults(submit_ms=50), "submit p95"),
    ],
)
def test_each_aim_can_fail(found: list[str], named: str) -> None:
    assert any(named in fault for fault in found)


def test_a_short_run_judges_no_speed() -> None:
    assert faults(timed=False, probe_ms=1e6, submit_ms=1e6, end_mb=1000) == []
    assert faults(timed=False, refused="submit 503 overloaded") == []
    assert faults(timed=False, refused="submit 429 too_many_attempts") != []


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(answer: Callable[[bytes], object]) -> Talk:
    """A connection's handler that answers each request with JSON of its first line."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                top = await reader.readuntil(b"\r\n\r\n")
                if length := wire.LENGTH.search(top):
                    await reader.readexactly(int(length[1]))
                body = orjson.dumps(answer(top.partition(b"\r\n")[0]))
                status = b"202 Accepted" if top.startswith(b"POST") else b"200 OK"
                kind = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
                writer.write(hostile_provider.head(kind, status) + body)
        except asyncio.IncompleteReadError:
            writer.close()

    return talk


async def test_a_wrong_answer_to_an_honest_client_is_found() -> None:
    wrong = {"status": "completed", "result": "something else"}

    def answer(line: bytes) -> object:
        return {"task_id": "a"} if line.startswith(b"POST /tasks") else wrong

    port, stop = free_port(), asyncio.Event()
    async with await asyncio.start_server(answering(answer), HOST, port):
        asyncio.get_running_loop().call_later(0.2, stop.set)
        clients = Honest(f"http://{HOST}:{port}", {}, "a")
        await clients.run(stop)
        await clients.check()
    assert clients.accepted == 1
    assert any("something else" in fault for fault in clients.wrong)
    assert len(clients.probes_s) > 3


@pytest.mark.parametrize("name", ["slow-heads", "trailers", "unread-socket-pings"])
async def test_an_attack_ends_with_its_time(name: str) -> None:
    open_: set[asyncio.StreamWriter] = set()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        while await reader.read(1 << 20):
            pass
        open_.remove(writer)
        writer.close()

    port, loop = free_port(), asyncio.get_running_loop()
    async with await asyncio.start_server(silent, HOST, port):
        began = loop.time()
        await ATTACKS[name](Target(port, "", seconds=0.3, scale=1, waits=False))
        assert 0.3 <= loop.time() - began < 5
        async with asyncio.timeout(5):
            while open_:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
