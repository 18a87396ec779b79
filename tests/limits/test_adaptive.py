from asyncsvc.limits.adaptive import Adaptive

SPAN_S = 60.0


def both(concurrency: int = 4, rpm: int = 40, *, proven: bool = True) -> Adaptive:
    """Learns both, from these; `proven`: that many at once and in a window were accepted."""
    adaptive = Adaptive.of(True, True, SPAN_S)
    assert adaptive.concurrency is not None
    assert adaptive.rate is not None
    adaptive.concurrency.value, adaptive.concurrency.settled = concurrency, True
    adaptive.rate.value, adaptive.rate.settled = rpm, True
    if proven:
        adaptive.proven, adaptive.proven_rate = concurrency, rpm
    return adaptive


def values(adaptive: Adaptive) -> tuple[int | None, int | None]:
    at_once, rate = adaptive.concurrency, adaptive.rate
    return at_once.value if at_once else None, rate.value if rate else None


def refused(
    adaptive: Adaptive, beside: int, in_window: int, at: float = 1.0, *, names_it: bool = False
) -> tuple[int | None, int | None]:
    adaptive.refused(names_it, beside, in_window, at, at + 0.1)
    return values(adaptive)


def test_a_provider_that_says_which_is_believed() -> None:
    assert refused(both(), 2, 39, names_it=True) == (2, 40)


def test_a_provider_that_has_named_concurrency_once_means_the_rate_otherwise() -> None:
    adaptive = both()
    refused(adaptive, 3, 5, names_it=True)
    adaptive.accepted(1, 6, 2.0)
    assert refused(adaptive, 2, 30, at=3.0) == (3, 30)


def test_with_nothing_else_under_way_it_was_the_rate() -> None:
    assert refused(both(), 0, 30) == (4, 30)


def test_with_nothing_in_the_window_it_was_the_concurrency() -> None:
    assert refused(both(), 3, 0) == (3, 40)


def test_within_the_usual_number_at_once_and_beyond_the_usual_rate_it_was_the_rate() -> None:
    assert refused(both(rpm=45), 3, 45) == (4, 45)
    assert refused(both(rpm=45, proven=False), 0, 40) == (4, 40)


def test_in_doubt_the_concurrency_is_cut_and_given_back_when_that_does_not_help() -> None:
    adaptive = both()
    assert refused(adaptive, 2, 20, at=1.0) == (2, 40)
    assert refused(adaptive, 1, 20, at=2.0) == (4, 20)


def test_in_doubt_the_cut_stays_where_it_helped() -> None:
    adaptive = both()
    refused(adaptive, 2, 20, at=1.0)
    adaptive.accepted(2, 21, 2.0)
    assert values(adaptive) == (2, 40)


def test_a_limit_that_was_set_is_not_blamed() -> None:
    adaptive = Adaptive.of(False, True, SPAN_S)
    assert not adaptive.refused(True, 3, 20, 1.0, 1.1)
    assert adaptive.refused(False, 3, 20, 2.0, 2.1)
    assert values(adaptive) == (None, 20)
    adaptive = Adaptive.of(True, False, SPAN_S)
    assert not adaptive.refused(False, 0, 20, 1.0, 1.1)
    assert adaptive.refused(False, 1, 20, 2.0, 2.1)
    assert values(adaptive) == (1, None)


def test_calls_sent_together_and_refused_together_are_one_refusal() -> None:
    adaptive = both(concurrency=8)
    for beside in (7, 6, 5):
        adaptive.refused(True, beside, 10, sent=1.0, now=1.1)
        adaptive.accepted(5, 10, 1.2)
    assert adaptive.concurrency is not None
    assert (adaptive.concurrency.value, adaptive.concurrency.between) == (5, 4)


def test_where_nothing_is_known_it_grows_as_soon_as_it_is_used_up() -> None:
    adaptive = Adaptive.of(True, True, SPAN_S)
    adaptive.accepted(2, 30, 0.1)
    assert values(adaptive) == (3, 45)


def test_where_it_is_known_a_window_must_pass_first() -> None:
    adaptive = both(concurrency=1, rpm=40)
    for window in range(1, 5):
        assert values(adaptive) == (1, 40)
        for second in (0.0, 1.0):
            adaptive.accepted(1, 40, window * SPAN_S + second)
    assert values(adaptive) == (2, 41)


def test_calls_below_the_limit_tell_nothing_of_it() -> None:
    adaptive = both()
    for window in range(100):
        adaptive.accepted(3, 39, window * SPAN_S)
    assert values(adaptive) == (4, 40)


def test_a_named_limit_is_believed_unless_it_is_of_another_span() -> None:
    adaptive = both()
    adaptive.named(200, 3600.0)
    assert values(adaptive) == (4, 40)
    adaptive.named(60, 1.0)
    assert values(adaptive) == (4, 60)
    fixed = Adaptive.of(False, False, SPAN_S)
    fixed.named(60, None)
    assert values(fixed) == (None, None)


def test_over_a_restart_a_provider_is_still_known_to_say_which() -> None:
    before = both()
    refused(before, 3, 5, names_it=True)
    again = Adaptive.of(True, True, SPAN_S)
    again.restore(before.as_dict())
    again.accepted(1, 6, 2.0)
    assert refused(again, 2, 30, at=3.0) == (3, 30), "it had named concurrency before"
    silent = Adaptive.of(True, True, SPAN_S)
    silent.restore(both(concurrency=3).as_dict())
    silent.accepted(1, 6, 2.0)
    assert refused(silent, 2, 30, at=3.0) == (2, 40), "it never had"
