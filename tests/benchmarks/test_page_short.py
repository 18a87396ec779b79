"""The benchmark of the web page in short, and how it takes the delay of a paint."""

import pytest

from tests.benchmarks import page
from tests.benchmarks.page import Plan, delays
from tests.needs import need
from tests.page.browser import executable


def chunk(at_ms: int, text: str) -> dict[str, object]:
    return {"ts": f"1970-01-01T00:00:0{at_ms / 1000:.3f}Z", "data": {"text": text}}


def test_a_chunk_is_painted_with_the_first_frame_that_has_all_of_it() -> None:
    chunks = [chunk(0, "before"), chunk(1000, " ab"), chunk(1100, "cd "), chunk(1200, "e")]
    paints = [(500.0, 6.0), (1050.0, 7.0), (1130.0, 10.0)]
    assert delays(chunks, paints) == pytest.approx([130.0, 30.0])
    assert delays(chunks, []) == []


async def test_the_page_shows_the_text_of_a_task_while_others_stream() -> None:
    need(None if executable() else "there is no Chromium on this machine")
    report = await page.run(Plan(tasks=20, minutes=0.03, watched_s=3))
    assert not report.broken, report.text()
