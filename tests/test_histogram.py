import pytest

from asyncsvc.histogram import Histogram


def test_a_value_counts_in_its_bucket_and_all_above() -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in (0.05, 0.1, 0.5, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("0.1", 2.0), ("1", 3.0), ("10", 3.0), ("+Inf", 4.0)]
    assert histogram.count == 4
    assert histogram.total == pytest.approx(99.65)


def test_an_empty_one_has_all_its_buckets() -> None:
    assert Histogram((1.0,)).buckets() == [("1", 0.0), ("+Inf", 0.0)]
