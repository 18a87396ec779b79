"""Values of options that several commands share."""

import pytest

from asyncsvc.cli.options import duration


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
