"""schemathesis against a running service; `python -m tests.benchmarks.fuzz` is the long form.

`ASYNCSVC_TESTS_FUZZ_CASES` and `ASYNCSVC_TESTS_FUZZ_SEED` say how many cases, and which.
"""

import os
from collections import Counter

import pytest

pytestmark = pytest.mark.slow

CASES = int(os.environ.get("ASYNCSVC_TESTS_FUZZ_CASES", "400"))
SEED = int(os.environ.get("ASYNCSVC_TESTS_FUZZ_SEED", "1"))


@pytest.mark.timeout(900)
async def test_every_answer_is_described() -> None:
    from tests.benchmarks.fuzz import run  # half a second to import: only where it runs

    report = await run(CASES, SEED)
    print(report.text())
    assert report.broken == []
    reached: Counter[str] = Counter()
    for label, _, statuses in report.rows:
        for status in str(statuses).split():
            reached[str(label)] += int(status.partition(":")[2])
            reached[status.partition(":")[0]] += 1
    # A run that is refused everywhere, or leaves an operation out, would prove little.
    assert {"200", "202", "204", "400", "404", "405", "409", "422"} <= reached.keys()
    assert reached["POST /tasks"] > CASES / 50
    assert reached["POST /tasks/batch"] > CASES / 50
