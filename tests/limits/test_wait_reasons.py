from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.limits.verdict import FINE, KEPT, REASONS, Reason, WaitReasons


def test_the_seconds_of_each_reason_are_counted() -> None:
    waits = WaitReasons()
    waits.note("rate", 10.0)
    waits.note("concurrency", 12.0)
    waits.note(None, 15.0)
    waits.note("rate", 20.0)
    assert waits.between(0.0, 21.0) == {"rate": 3.0, "concurrency": 3.0}
    assert waits.between(11.0, 13.0 + 8.0) == {"rate": 2.0, "concurrency": 3.0}
    assert waits.between(15.0, 20.0) == {}


def test_before_the_first_reason_there_is_none() -> None:
    assert WaitReasons().between(1.0, 5.0) == {}


def test_the_same_reason_goes_on() -> None:
    waits = WaitReasons()
    waits.note("held", 1.0)
    waits.note("held", 2.0)
    assert waits.between(1.5, 4.0) == {"held": 2.5}


steps = st.lists(
    st.tuples(st.sampled_from([None, *REASONS]), st.floats(0.001, 100)), min_size=1, max_size=30
)


@given(steps, st.floats(0, 1))
def test_clocks_are_exact_while_nothing_was_thinned(
    life: list[tuple[Reason | None, float]], share: float
) -> None:
    waits, now, noted = WaitReasons(), 0.0, []
    for reason, lasts in life:
        waits.note(reason, now)
        noted.append((reason, now, now + lasts))
        now += lasts
    start = share * now
    found = waits.between(start, now)
    for name in REASONS:
        true = sum(max(end - max(begin, start), 0.0) for r, begin, end in noted if r == name)
        assert abs(found.get(name, 0.0) - true) < 1e-6


def test_what_is_long_past_is_thinned_and_still_right() -> None:
    waits, now = WaitReasons(), 0.0
    for _ in range(20 * KEPT):  # a quarter of each second is one reason
        waits.note("rate", now)
        waits.note(None, now + 0.25)
        now += 1.0
    assert len(waits) <= KEPT
    for ago in (10.0, 1_000.0, 50_000.0):
        found = waits.between(now - ago, now)["rate"]
        assert abs(found - ago / 4) <= 0.5 + ago / FINE
