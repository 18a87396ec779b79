"""Timestamps there and back."""

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.clock import from_rfc3339, new_id, now_ms, rfc3339

FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 and 9999, in ms since the epoch."""


def test_now_is_the_system_s_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= now_ms() <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_629_200_123, "2025-11-20T09:00:00.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (LAST, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_timestamp_in_words(ms: int, text: str) -> None:
    assert rfc3339(ms) == text
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-20T09:00:00Z",
        "2025-11-20T10:00:00+01:00",
        "2025-11-20 04:00:00.000-05:00",
        "2025-11-20t09:00:00z",
        "2025-11-20T09:00:00.000999Z",
        "2025-11-20T09:00:00." + "0" * 60 + "Z",
        "2025-11-20T09:00:00-00:00",
    ],
)
def test_a_time_may_be_written_in_other_ways(text: str) -> None:
    assert from_rfc3339(text) == 1_763_629_200_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2025-11-20", "2025-11-20T09:00:00", "2025-02-30T00:00:00Z", "\ud800"),
        *("2025-W47-4T09:00:00Z", "2025-324T09:00:00Z", "20251120T090000Z", "2025-11-20T09Z"),
        *("2025-11-20T09:00Z", "2025-11-20T09:00:00+01", "2025-11-20T09:00:00+0100"),
        *("2025-11-20T09:00:00+01:00:30", "2025-11-20T09:00:00,5Z", "2025-11-20T09:00:00.Z"),
        *("2025-11-20T24:00:00Z", "2025-11-20T09:60:00Z", "2025-11-20T09:00:61Z"),
        *("2025-11-20T09:00:00+24:00", "2025-11-20T09:00:00Z ", " 2025-11-20T09:00:00Z"),
        *("2025-11-20T09:00:60Z", "2025-11-20T23:59:60Z", "2016-12-31T23:59:60+01:00"),
        *("٢025-11-20T09:00:00Z", "2025-11-20T09:00:00Z\n", "0000-01-01T00:00:00Z"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|second|must be in|out of range"):
        from_rfc3339(text)


@pytest.mark.parametrize(
    "text",
    [
        *("2016-12-31T23:59:60Z", "2016-12-31T23:59:60.999z", "2016-12-31T15:59:60-08:00"),
        *("2017-01-01T00:59:60+01:00", "2017-01-01T05:29:60+05:30"),
    ],
)
def test_a_leap_second_is_the_first_moment_of_the_next_minute(text: str) -> None:
    assert rfc3339(from_rfc3339(text)) == "2017-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:60Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"]
)
def test_a_time_that_could_not_be_written_again_is_refused(text: str) -> None:
    with pytest.raises(OverflowError):
        from_rfc3339(text)


@given(st.integers(FIRST, LAST))
def test_there_and_back(ms: int) -> None:
    assert from_rfc3339(rfc3339(ms)) == ms


@given(st.integers(0, (1 << 48) - 1))
def test_an_id_is_a_uuid_of_version_7_with_its_time(ms: int) -> None:
    value = uuid.UUID(new_id(ms))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == ms


def test_ids_differ_and_sort_by_time() -> None:
    same = {new_id(5) for _ in range(1000)}
    assert len(same) == 1000
    assert max(same) < new_id(6)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system's zone cannot be set")
def test_the_zone_of_the_machine_of_these_tests_is_not_utc() -> None:
    """Else a time that is read in it would look right."""
    assert time.localtime(0).tm_gmtoff % 3600 == 2700
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
