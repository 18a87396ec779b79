"""Many stories from one seed, until one breaks.

Owns how hypothesis is set up for stories. No phase climbs towards a target: it spends half of the
runs on variations of one story. Promises that the same seed gives the same stories,
and that what is raised for a broken law belongs to the shortest story that breaks it.
"""

from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, event, given, seed, settings

from tests.properties.runner import tell
from tests.properties.steps import Story, stories

Watcher = Callable[[Story, Counter[str]], None]


class Shown(AssertionError):
    """The shortest story that breaks a law; the law is its cause."""

    def __init__(self, story: Story, broken: BaseException) -> None:
        super().__init__(f"{broken}\n\nThe shortest story that shows it:\n{story!r}")


def explore(runs: int, number: int, watch: Watcher = lambda story, happened: None) -> None:
    """Tell `runs` stories of the seed `number`. Raises Shown."""
    broken: list[Story] = []

    @seed(number)
    @settings(
        max_examples=runs,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(stories)
    def machine(story: Story) -> None:
        try:
            happened = tell(story)
        except Exception:
            broken[:] = [story]
            raise
        watch(story, happened)
        for kind in happened:
            event(kind)

    try:
        machine()
    except Exception as error:
        raise Shown(broken[0], error) from error
