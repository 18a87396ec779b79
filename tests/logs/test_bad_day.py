"""The page on operations shows the lines of a bad day as the service writes them."""

from tests.logs.bad_day import BLOCK, PAGE, block, page


def test_the_lines_on_the_page_are_those_of_the_service() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BLOCK.search(text), "the page has lost its marks"
    lines = block()
    assert lines.count("\n") > 15
    assert page(text, lines) == text, "run python -m tests.logs.bad_day"
