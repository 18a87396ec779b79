"""Who sits where: an account's place at the desk, and those that may serve a task.

Owns what choice and scheduler speak of. Promises nothing by itself. Never chooses.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.limits.account import Gate
from asyncsvc.limits.permit import Permit
from asyncsvc.providers.upstream import Upstream
from asyncsvc.scheduling.priority_queue import Entry


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that was handed to a worker, and how it was chosen for that model."""

    entry: Entry
    route: dict[str, Any]


@dataclass(eq=False, slots=True)
class AccountSlot:
    """One account's place at the desk: its clerk stands ready there while there is room. The
    gate stays the same; the upstream is another one when its settings have changed."""

    upstream: Upstream
    permit: Permit | None = None
    offer: "asyncio.Future[Taken | None] | None" = None

    @property
    def ready(self) -> bool:
        return self.offer is not None and not self.offer.done()

    @property
    def gate(self) -> Gate:
        return self.upstream.gate


@dataclass(slots=True)
class Exclusions:
    """What must not be asked again for one task."""

    refused: set[str] = field(default_factory=set)
    """Gates whose key, quota or model is at an end."""
    failed: set[str] = field(default_factory=set)
    """Gates that broke off; they are asked again where no other is left."""
    context: int = 0
    """The task is too long for models of this context."""


@dataclass(frozen=True, slots=True)
class Options:
    """Account slots that may serve a task. `name`: its class; None: the task names the model."""

    name: str | None
    primary: tuple[AccountSlot, ...]
    standing_in: tuple[AccountSlot, ...] = ()

    @property
    def account_slots(self) -> tuple[AccountSlot, ...]:
        return self.primary + self.standing_in if self.standing_in else self.primary


NOBODY = Options(None, ())


def all_gone(account_slots: Sequence[AccountSlot]) -> bool:
    """Whether all of them, and there are some, take no call any more."""
    for account_slot in account_slots:
        if account_slot.upstream.gate.fault is None:
            return False
    return bool(account_slots)
