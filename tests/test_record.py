"""Records: plain dataclasses that types keep from being changed."""

from dataclasses import fields, replace

import pytest

from asyncsvc.record import record


@record
class Point:
    x: int
    y: int = 2


def test_a_record_has_fields_values_and_a_hash() -> None:
    point = Point(1)
    assert [field.name for field in fields(point)] == ["x", "y"]
    assert point == Point(1, 2)
    assert hash(point) == hash(Point(1, 2))
    assert replace(point, y=3) == Point(1, 3) != point
    assert {point: "here"}[Point(1)] == "here"


def test_a_record_takes_no_other_field() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]
