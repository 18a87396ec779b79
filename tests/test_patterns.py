"""No regular expression of the package takes long for any text."""

import ast
import json
import subprocess
import sys

import pytest

from tests.patterns import calls, modules

MOST_S = 3.0
"""Time for a million characters; the slowest pattern that is linear takes half a second."""
NOT_IN_SOURCE = {
    "asyncsvc.providers.dialects",
    "asyncsvc.providers.errors",
    "asyncsvc.providers.upstream",
}
"""Modules that make a pattern of a table of names or of a key, which tests here look at alone."""
GROUPS = 4
TIMEOUT_S = 100


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_pattern_is_slow_for_a_hostile_text(group: int) -> None:
    names = modules()[group::GROUPS]
    found = subprocess.run(
        [sys.executable, "-m", "tests.patterns", *names],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    timed = [json.loads(line) for line in found.stdout.splitlines()]
    assert timed
    assert [each for each in timed if each[2] > MOST_S] == []


def test_each_pattern_stands_in_the_source() -> None:
    unknown = {
        module
        for module in modules()
        for method, call in calls(module)
        if method != "compile" and not isinstance(call.args[0], ast.Constant)
    }
    assert unknown == NOT_IN_SOURCE
