"""The comparisons in short, without the other systems: what they call broken must not be."""

from tests.benchmarks import fanout, scale, through_v1, turnaround


async def test_every_task_completes_with_the_text_of_the_provider() -> None:
    plan = turnaround.Plan(in_flight=[16], rounds=1, tasks=100, calls=5, peers=False)
    assert (await turnaround.run(plan)).broken == []


async def test_every_streamed_call_has_the_whole_text() -> None:
    assert (await through_v1.run(through_v1.Plan(rounds=1, calls=100, peer=False))).broken == []


async def test_every_follower_gets_every_chunk() -> None:
    plan = fanout.Plan(followers=30, tokens=30, rounds=1)
    assert (await fanout.run(plan)).broken == []


def test_a_word_that_was_cut_is_counted_once() -> None:
    for cut in range(1, len(fanout.CHUNK)):
        assert fanout.cut_word(b"x" + fanout.CHUNK[:cut]) == fanout.CHUNK[:cut]
    assert fanout.cut_word(fanout.CHUNK) == b'"'  # the next word may begin with it


async def test_tasks_complete_beside_waiting_ones() -> None:
    plan = scale.Plan(waiting=[5], streaming=[4], tasks=20, seconds=0.5, chunks=40)
    assert (await scale.run(plan)).broken == []
