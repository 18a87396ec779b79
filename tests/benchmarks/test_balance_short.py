"""The comparison of policies in short: every task of it ends, by each policy, where it should."""

import argparse

import pytest

from tests.benchmarks.balance import BALANCED, BOUND, LATE, Policy, arrivals, gain, measured, orders

SECONDS, SLOW = 40.0, "nvidia1"


@pytest.mark.parametrize("pools", ["one", "shipped"])
@pytest.mark.parametrize("policy", [BOUND, LATE, BALANCED], ids=lambda policy: policy.name)
def test_each_policy_serves_every_task(policy: Policy, pools: str) -> None:
    tasks = arrivals(SECONDS, pools, seed=1)
    took = measured(tasks, argparse.Namespace(pools=pools, seconds=SECONDS, slow=SLOW), policy)
    assert len(took) == len(tasks) > 50
    assert min(took) > 0


def test_a_class_asks_its_own_models_first() -> None:
    assert orders("one")["simple"] == ["hunyuan", "nvidia2", "zhipu", "nvidia1"]
    assert orders("shipped")["simple"] == ["hunyuan", "nvidia2"]


def test_a_gain_is_the_share_by_which_it_is_less() -> None:
    assert gain([10.0, 10.0], [7.5, 7.5]) == (0.25, 0.25)
