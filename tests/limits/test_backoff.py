from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.limits.backoff import LONGEST_S, backoff, retry_after
from tests.virtual_time import START_MS


@pytest.mark.parametrize(("tries", "most"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (10**9, 60)])
def test_the_ceiling_doubles_up_to_the_longest(tries: int, most: float) -> None:
    assert backoff(tries, 1.0, 60.0, lambda: 1.0) == most


def test_jitter_covers_the_whole_range_but_the_first_tenth() -> None:
    assert backoff(3, 1.0, 60.0, lambda: 0.5) == 4
    assert backoff(3, 1.0, 60.0, lambda: 0.0) == pytest.approx(0.8)


@given(st.integers(0, 10_000), st.floats(0.001, 100), st.floats(100, 10_000))
def test_no_delay_is_zero_or_above_the_longest(tries: int, base: float, most: float) -> None:
    assert 0 < backoff(tries, base, most) <= most


@pytest.mark.parametrize(
    ("header", "seconds"), [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("1.5", 1.5), ("007", 7.0)]
)
def test_seconds(header: str, seconds: float) -> None:
    assert retry_after(header, START_MS) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(30, 30.0), (0, 0.0), (-30, 0.0)])
def test_a_date_is_as_far_away_as_it_is(ahead: int, seconds: float) -> None:
    assert retry_after(formatdate(START_MS / 1000 + ahead, usegmt=True), START_MS) == seconds


def test_a_date_without_a_zone_is_utc() -> None:
    header = formatdate(START_MS / 1000 + 5, usegmt=True).replace("GMT", "-0000")
    assert retry_after(header, START_MS) == 5


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "soon", "-5", "1e3", ".", "1.2.3", "٣", "²", "inf", "nan", "0x10"),
        "Fri, 99 Nov 2026 00:00:00 GMT",
        "Fri, 20 Nov 99999999999999999999 00:00:00 GMT",
        "Fri, 20 Nov 2026 00:00:00 +99999999",
    ],
)
def test_a_header_without_sense_is_as_if_it_were_not_there(header: str | None) -> None:
    assert retry_after(header, START_MS) is None


@pytest.mark.parametrize(
    "header",
    ["9" * 30, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "2099-01-01T00:00:00Z", "9999999"],
)
def test_a_time_beyond_a_month_makes_no_sense(header: str) -> None:
    assert retry_after(header, START_MS) is None


def test_no_header_asks_for_more_than_a_day() -> None:
    assert retry_after("90000", START_MS) == LONGEST_S


@pytest.mark.parametrize(
    "header",
    [
        f"{START_MS // 1000 + 3}",
        f"{START_MS + 3000}",
        "3s",
        "3000ms",
        formatdate(START_MS / 1000 + 3, usegmt=True),
        datetime.fromtimestamp(START_MS / 1000 + 3, UTC).isoformat(),
    ],
)
def test_each_spelling_of_three_seconds(header: str) -> None:
    assert retry_after(header, START_MS) == pytest.approx(3, abs=0.001)


@given(st.text() | st.from_regex(r"\w{3}, \d{1,2} \w{3} \d{1,22} \d\d?:\d\d?:\d\d? [+\w-]{0,6}"))
def test_no_header_breaks_it(header: str) -> None:
    seconds = retry_after(header, START_MS)
    assert seconds is None or 0 <= seconds <= LONGEST_S
