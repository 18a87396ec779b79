"""A batch of appends before it is true."""

from copy import deepcopy
from dataclasses import replace

import pytest

from asyncsvc.errors import IllegalTransition, StaleLease, TaskNotFound
from asyncsvc.journal.transaction import (
    Change,
    Entry,
    NewTask,
    PersistedValue,
    Removal,
    Transaction,
)
from asyncsvc.tasks.state import LEASE_MS, Cause, Request, State, Task
from tests.builders import AT, begun, ended, moved, new_task, streamed

RUNNING = Task(Request("r"), State.RUNNING, n=3, attempts=1, seq=5, version=4)
FAILED = Task(Request("f"), State.FAILED, n=4, attempts=1, seq=6, version=5)


def transaction(*tasks: Task) -> Transaction:
    return Transaction({task.id: task for task in tasks}.get, AT, n=10, node="here")


def refused(batch: Transaction, *entries: Entry) -> None:
    with pytest.raises((IllegalTransition, TaskNotFound)):
        batch.accept(entries)


def test_a_new_task_has_a_number_and_a_first_event() -> None:
    batch = transaction()
    (task,) = batch.accept([new_task("a", b"body")])
    assert (task.n, task.seq, task.version, task.queued_at) == (11, 1, 1, AT)
    written = batch.finish()
    assert written.created == [(task, b"body")]
    assert [(e.task_n, e.seq, e.type) for e in written.events] == [(11, 1, "status")]


def test_a_task_is_in_the_batch_once_in_its_last_state() -> None:
    batch = transaction()
    batch.accept([new_task("a")])
    batch.accept([begun("a")])
    (last,) = batch.accept([ended("a", "text")])
    written = batch.finish()
    assert written.created == [(last, b"{}")]
    assert written.changed == []
    assert written.results == {11: "text"}
    assert [row.seq for row in written.events] == [1, 2, 3, 4]


def test_a_known_task_is_changed_from_the_version_that_was_seen() -> None:
    batch = transaction(RUNNING)
    batch.accept([streamed("r", "x")])
    (last,) = batch.accept([ended("r")])
    assert batch.finish().changed == [(RUNNING, last)]


def test_text_alone_changes_no_row() -> None:
    batch = transaction(RUNNING)
    batch.accept([streamed("r", "x", "y")])
    written = batch.finish()
    assert written.changed == []
    assert not written.durable
    assert [row.seq for row in written.events] == [6, 7]


def test_a_refused_append_leaves_no_trace() -> None:
    batch = transaction(RUNNING, FAILED)
    batch.accept([new_task("a")])
    before = deepcopy((batch.n, batch.tasks, batch.bodies, replace(batch.commit, events=[])))
    events = list(batch.commit.events)
    refused(
        batch,
        new_task("b"),
        streamed("r", "x"),
        ended("r"),
        Removal("f"),
        streamed("r", "too late"),
    )
    assert (batch.n, batch.tasks, batch.bodies, replace(batch.commit, events=[])) == before
    assert batch.commit.events == events


def test_an_append_sees_what_the_ones_before_it_did() -> None:
    batch = transaction(RUNNING)
    batch.accept([ended("r")])
    refused(batch, ended("r"))
    batch.accept([Removal("r")])
    refused(batch, streamed("r", "x"))
    refused(batch, Removal("r"))


def test_entries_of_one_append_see_each_other() -> None:
    tasks = transaction().accept([new_task("a"), begun("a"), streamed("a", "x"), ended("a")])
    assert [task.state.value for task in tasks] == ["pending", "running", "running", "completed"]


def test_a_change_may_ask_for_the_state_that_it_saw() -> None:
    batch = transaction(RUNNING)
    refused(batch, Change("r", [], source=State.PENDING))
    batch.accept([Change("r", [], source=State.RUNNING)])


def test_a_missing_task_is_not_found() -> None:
    refused(transaction(), streamed("missing", "x"))
    refused(transaction(), Removal("missing"))


def test_only_a_finished_task_is_deleted() -> None:
    batch = transaction(RUNNING, FAILED)
    refused(batch, Removal("r"))
    batch.accept([Removal("f")])
    assert batch.finish().deleted == [4]


def test_a_rerun_removes_the_result() -> None:
    batch = transaction(FAILED)
    batch.accept([moved("f", State.FAILED, Cause.RERUN)])
    assert batch.finish().results == {4: None}


def test_the_result_of_a_task_that_runs_on_is_not_stored() -> None:
    batch = transaction(RUNNING)
    batch.accept([Change("r", [], result="half")])
    assert batch.finish().results == {}


def test_calls_and_keys_are_written_with_what_they_belong_to() -> None:
    batch = transaction(RUNNING)
    batch.accept([Change("r", [], call="gate"), NewTask(Request("a"), b"", ("key", "print", "{}"))])
    written = batch.finish()
    assert written.calls == [("gate", AT, 0)]
    assert written.keys == [("key", "print", 11, 11, "{}")]
    assert written.durable


def test_the_last_persisted_value_counts_and_is_no_task() -> None:
    batch = transaction(RUNNING)
    assert (
        batch.accept(
            [PersistedValue("a", "k", "1"), streamed("r", "x"), PersistedValue("a", "k", "2")]
        )[0].id
        == "r"
    )
    assert batch.accept([PersistedValue("b", "k", None)]) == []
    written = batch.finish()
    assert written.values == {("a", "k"): "2", ("b", "k"): None}
    assert not written.durable


def test_a_persisted_value_of_a_refused_append_is_not_written() -> None:
    batch = transaction(RUNNING)
    refused(batch, PersistedValue("a", "k", "1"), Removal("r"))
    assert batch.finish().values == {}


def test_a_persisted_value_goes_with_its_append_or_not_at_all() -> None:
    batch = transaction(RUNNING, FAILED)
    assert [task.id for task in batch.accept([ended("r"), PersistedValue("k", "a", "1")])] == ["r"]
    refused(batch, PersistedValue("k", "a", "2"), ended("f"))
    assert batch.finish().values == {("k", "a"): "1"}
    batch.accept([PersistedValue("k", "a", None)])
    assert batch.finish().values == {("k", "a"): None}


def test_only_a_durable_persisted_value_asks_for_a_sync() -> None:
    batch = transaction()
    batch.accept([PersistedValue("a", "k", "1")])
    assert not batch.finish().durable
    refused(batch, PersistedValue("a", "l", "1", durable=True), Removal("r"))
    assert not batch.finish().durable
    batch.accept([PersistedValue("a", "k", None, durable=True)])
    assert batch.finish().durable


def test_a_start_takes_a_lease_that_text_renews_and_an_end_gives_back() -> None:
    waiting = Task(Request("r"), State.PENDING, n=3, epoch=1, seq=1, version=1)
    start = transaction(waiting)
    (running,) = start.accept([begun("r")])
    assert (running.node, running.epoch, running.lease_until) == ("here", 2, AT + LEASE_MS)
    assert start.finish().renewed == []
    (same,) = transaction(running).accept([streamed("r", "x")])
    assert same.lease_until == AT + LEASE_MS
    later = Transaction({"r": running}.get, AT + LEASE_MS, n=3, node="here")
    (renewed,) = later.accept([streamed("r", "x")])
    assert (renewed.epoch, renewed.lease_until) == (2, AT + 2 * LEASE_MS)
    assert later.finish().renewed == [renewed]
    assert not later.commit.durable
    (over,) = later.accept([ended("r")])
    assert (over.node, over.epoch, over.lease_until) == (None, 2, None)


def test_an_earlier_run_is_refused() -> None:
    batch = transaction(replace(RUNNING, epoch=2))
    with pytest.raises(StaleLease):
        batch.accept([Change("r", [], epoch=1)])
    batch.accept([Change("r", [], epoch=2)])
