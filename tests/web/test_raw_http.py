"""Raw bytes against the HTTP port; `python -m tests.benchmarks.raw_http` is the long form."""

import os

import pytest

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("ASYNCSVC_TESTS_FUZZ_CASES", "400")) * 2
SEED = int(os.environ.get("ASYNCSVC_TESTS_FUZZ_SEED", "1"))


@pytest.mark.timeout(600)
async def test_no_bytes_break_the_service() -> None:
    from tests.benchmarks.raw_http import run

    report = await run(CASES, SEED)
    print(report.text())
    assert report.broken == []
    seen = {int(str(row[0])) for row in report.rows}
    # A run in which all is refused, or nothing is, would prove little.
    assert {101, 200, 204, 400, 403, 404, 405, 422} <= seen
