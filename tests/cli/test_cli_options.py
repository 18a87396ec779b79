"""Values of options that several commands share."""

from datetime import datetime

import pytest

from asyncsvc.cli import moments
from asyncsvc.cli.moments import moment
from asyncsvc.cli.options import duration
from asyncsvc.cli.parser import run
from tests.cli.scripted_service import scripted_service


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        (" 1D ", 86400),
        ("2w", 1209600),
        ("1h30m", 5400),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-5m", "1h30", "1.5.5", "1e3", "5 m", "inf", "٣"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="30s, 5m, 1h or 1d"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("09:00", "2026-11-30T09:00:00.000+13:45"),
        ("12:00", "2026-11-29T12:00:00.000+13:45"),
        ("2026-12-24 18:00", "2026-12-24T18:00:00.000+13:45"),
        ("2026-07-01T18:00:30", "2026-07-01T18:00:30.000+12:45"),
        ("2026-12-24T18:00:00Z", "2026-12-25T07:45:00.000+13:45"),
    ],
)
def test_a_moment_is_local_unless_it_has_a_zone(
    text: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.fromisoformat("2026-11-29T10:00:00+13:45")  # the zone of all tests
    monkeypatch.setattr(moments, "now_ms", lambda: int(now.timestamp() * 1000))
    assert moment(text) == meant


@pytest.mark.parametrize("text", ["", "9", "25:00", "tomorrow", "2026-13-01", "0001-01-01 00:00"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="one looks like 09:00"):
        moment(text)


def test_times_of_a_submit(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_service() as service:
        service.answers["POST /tasks"] = {"task_id": "t", "status": "scheduled"}
        line = ["submit", "hi", "--url", service.url]
        assert (
            run([*line, "--delay", "5m", "--timeout=2h", "--max-wait", "90", "--session", "s"]) == 0
        )
        assert run([*line, "--at", "2026-12-24T18:00:00Z"]) == 0
        assert run([*line, "--at", "09:00", "--delay", "1h"]) == 2
    first, second = (body for _, _, body in service.requests)
    given = {"delay_s": 300.0, "timeout_s": 7200.0, "max_wait_s": 90.0, "session_id": "s"}
    assert {name: first[name] for name in given} == given
    assert "run_at" not in first
    assert datetime.fromisoformat(second["run_at"]) == datetime.fromisoformat("2026-12-24T18:00Z")
    assert "give --delay or --at, not both" in capsys.readouterr().err
