"""The comparisons in short, without the other systems: what they call broken must not be."""

from tests.benchmarks import turnaround


async def test_every_task_completes_with_the_text_of_the_provider() -> None:
    plan = turnaround.Plan(in_flight=[16], rounds=1, tasks=100, calls=5, peers=False)
    assert (await turnaround.run(plan)).broken == []
