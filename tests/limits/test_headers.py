import pytest

from asyncsvc.limits.headers import RateHeaders, duration, rate_headers, written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("6m0s", 360.0),
        ("1h2m", 3720.0),
        ("1.5s", 1.5),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("soon", None),
        ("", None),
        ("5s later", None),
        ("-3", None),
        (None, None),
    ],
)
def test_a_duration_is_read_or_is_none(text: str | None, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0121, "13ms"),
        (1.0, "1s"),
        (8.6401, "8.641s"),
        (59.9999, "60s"),
        (360.0, "6m0s"),
        (360.2, "6m1s"),
        (3630.0, "1h0m30s"),
    ],
)
def test_a_duration_is_written_so_that_it_is_read_and_never_shorter(
    seconds: float, text: str
) -> None:
    assert written(seconds) == text
    read = duration(text)
    assert read is not None
    assert read >= seconds


def of(**fields: str) -> RateHeaders | None:
    return rate_headers({f"x-ratelimit-{name}-requests": text for name, text in fields.items()}, 0)


def test_all_three_are_read() -> None:
    assert of(limit="60", remaining="0", reset="1s") == RateHeaders(60, 0, 1.0)


def test_without_them_there_is_nothing() -> None:
    assert rate_headers({"retry-after": "3"}, 0) is None
    assert of(reset="1s") is None
    assert of(limit="many", remaining="²") is None


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        ({"remaining": "0", "reset": "20s"}, 20.0),
        ({"remaining": "1", "reset": "20s"}, 0.0),
        ({"remaining": "0"}, 0.0),
        ({"limit": "60", "reset": "20s"}, 0.0),
    ],
)
def test_only_nothing_left_is_a_reason_to_wait(fields: dict[str, str], wait: float) -> None:
    found = of(**fields)
    assert found is not None
    assert found.wait_s == wait
