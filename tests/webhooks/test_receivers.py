"""The hosts that deliveries go to."""

from asyncsvc.webhooks.deliveries import FAILURES, LONGEST_S, REMEMBERED, REST_S, Receivers


def failed(receivers: Receivers, host: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        receivers.failed(host, now)


def test_one_host_takes_its_share_and_no_more() -> None:
    receivers = Receivers(2)
    receivers.begin("a")
    assert receivers.has_room("a", 0)
    receivers.begin("a")
    assert receivers.shut(0) == ["a"]
    assert receivers.has_room("b", 0)
    receivers.end("a")
    assert receivers.shut(0) == []


def test_a_host_that_fails_again_and_again_rests_and_is_then_asked_by_one() -> None:
    receivers = Receivers(4)
    failed(receivers, "a", FAILURES - 1)
    assert receivers.has_room("a", 0)
    assert receivers.opens(0) is None
    receivers.failed("a", 10.0)
    assert not receivers.has_room("a", 10.0 + REST_S - 0.1)
    assert receivers.opens(10.0) == 10.0 + REST_S
    assert receivers.has_room("a", 10.0 + REST_S)
    receivers.begin("a")
    assert not receivers.has_room("a", 10.0 + REST_S)
    receivers.end("a")
    receivers.failed("a", 20.0)
    assert receivers.opens(20.0) == 20.0 + 2 * REST_S
    receivers.answered("a")
    assert receivers.shut(20.0) == []
    assert receivers.opens(20.0) is None


def test_a_rest_has_an_end() -> None:
    receivers = Receivers(4)
    failed(receivers, "a", 5_000)
    assert receivers.opens(0) == LONGEST_S


def test_what_is_remembered_is_bounded() -> None:
    receivers = Receivers(4)
    failed(receivers, "first", FAILURES)
    for number in range(REMEMBERED):
        receivers.failed(str(number), 0)
    assert receivers.has_room("first", 0)
    assert len(receivers.troubles) == REMEMBERED
