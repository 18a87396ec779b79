"""A pytest plugin that writes down which tests run which lines, for the mutation run.

Active where ASYNCSVC_TESTS_MAP names a folder and the tests run under `coverage run`. Writes
the times of the tests there, and tells coverage which test is running. Tests are named by
file and function: the cases of a parametrized test count as one.
"""

import json
import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

FOLDER = "ASYNCSVC_TESTS_MAP"
PASSED = "passed.json"
"""The seconds that each test took; one that failed is left out."""


def pytest_configure(config: pytest.Config) -> None:
    if folder := os.environ.get(FOLDER):
        config.pluginmanager.register(_Writer(Path(folder)))


class _Writer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds: dict[str, float] = defaultdict(float)
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        measured = coverage.Coverage.current()
        if measured is not None:
            measured.switch_context(item.nodeid.partition("[")[0])
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        self._seconds[test] += report.duration
        if report.failed:
            self._failed.add(test)

    def pytest_sessionfinish(self) -> None:
        if "PYTEST_XDIST_WORKER" not in os.environ:  # the controller has the reports of all
            passed = {t: s for t, s in self._seconds.items() if t not in self._failed}
            (self._folder / PASSED).write_text(json.dumps(passed), encoding="utf-8")
