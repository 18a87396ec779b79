"""Candidates: which accounts may serve a task, and which of those that are ready takes it.

The choice goes by filters (type, context, the task's exclusions), the order of preference and
the expected time. A stand-in model is asked only while all models meant for the task's class are
out of service. Each choice and each refusal has a reason for people to read.
"""

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.errors import ProviderError
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.limits.verdict import Stage
from asyncsvc.providers.upstream import Upstream
from asyncsvc.routing.router import NAMED, Router
from asyncsvc.scheduling.hold_back import ReservedSlot
from asyncsvc.tasks.state import Request


@dataclass(frozen=True, slots=True)
class Claim:
    """A task that is handed to a worker, and the record of why its model was chosen."""

    task_id: str
    route: dict[str, Any]


PASSED_ON = Claim("", {})
"""In place of a task: the worker's permit went to a task that is under way already."""


@dataclass(eq=False, slots=True)
class AccountSlot:
    """An account in the scheduler: `offer` is set while a worker with a permit waits for a task.
    The gate stays the same; a reload replaces the upstream when its settings have changed."""

    upstream: Upstream
    permit: Permit | None = None
    offer: "asyncio.Future[Claim | None] | None" = None

    @property
    def ready(self) -> bool:
        """Whether a worker with a permit waits for a task."""
        return self.offer is not None and not self.offer.done()

    @property
    def gate(self) -> AccountLimiter:
        return self.upstream.gate


@dataclass(slots=True)
class Exclusions:
    """The accounts that must not be called again for one task."""

    refused: set[str] = field(default_factory=set)
    """Gates that will refuse the task again: their key, quota or model is at an end."""
    failed: set[str] = field(default_factory=set)
    """Gates whose call failed; they are called again where no other is left."""
    context: int = 0
    """The task is too long for models with a context of so many tokens; 0: for none."""


@dataclass(frozen=True, slots=True)
class Options:
    """The account slots that may serve a task. `name`: the task's class; None where the task names
    its model."""

    name: str | None
    primary: tuple[AccountSlot, ...]
    standing_in: tuple[AccountSlot, ...] = ()

    @property
    def account_slots(self) -> tuple[AccountSlot, ...]:
        return self.primary + self.standing_in if self.standing_in else self.primary


NO_OPTIONS = Options(None, ())


def all_disabled(account_slots: Sequence[AccountSlot]) -> bool:
    """Whether each account is disabled by a fault; False where there is none."""
    return bool(account_slots) and all(slot.gate.fault is not None for slot in account_slots)


RANK = 0.05
"""Share by which a model's expected time may be longer per place that it is preferred."""
RESERVED_S = 60.0
"""Seconds without a real-time task after which its only slot serves other classes."""
GUESS_S = 1.0
"""Expected time while no model of the pool has been measured; then only the order counts."""


Competing = Callable[[Options], int]


class Chooser:
    """The choice of accounts: `options` when a task comes, `pick` when an account may be free."""

    def __init__(
        self, account_slots: Sequence[AccountSlot], router: Router, balance: bool = True
    ) -> None:
        self._router = router
        self._reserved = ReservedSlot()
        self.apply(account_slots, balance)

    def apply(self, account_slots: Sequence[AccountSlot], balance: bool) -> None:
        """Use other account slots and the router's present routes from now on."""
        self._account_slots = account_slots
        self.balance = balance
        self._realtime = self._router.realtime
        self._contexts = sorted({slot.upstream.settings.context for slot in account_slots})
        self._usual: dict[tuple[str, bool, int], Options] = {}
        """The options by class, for agents or others, and by how many of the contexts are too
        small."""
        self._named = {
            name: Options(
                None,
                tuple(slot for slot in account_slots if slot.upstream.name == name),
            )
            for name in {slot.upstream.name for slot in account_slots}
        }

    def options(self, request: Request, exclusions: Exclusions | None = None) -> Options:
        """The account slots for a request, without those that the exclusions rule out."""
        if request.model is not None:
            named = self._named.get(request.model, NO_OPTIONS)
            return (
                Options(None, tuple(_not_excluded(named.account_slots, exclusions)))
                if exclusions
                else named
            )
        name = (request.route or {}).get("class") or self._class_of(request)
        agent = request.type == "agent"
        if exclusions is not None:
            return self._able(name, agent, request.need, exclusions)
        fitting = name, agent, bisect_left(self._contexts, request.need)
        if fitting not in self._usual:
            self._usual[fitting] = self._able(name, agent, request.need, Exclusions())
        return self._usual[fitting]

    def _able(self, name: str, agent: bool, need: int, exclusions: Exclusions) -> Options:
        first, rest = self._router.pool(name)
        pool = self._of(first + rest)
        if agent:  # a gateway runs tools of its own and takes none of ours
            pool = [slot for slot in pool if not slot.upstream.preset.acts]
        able = _not_excluded(_large_enough(pool, need), exclusions)
        primary = tuple(slot for slot in able if slot.upstream.name in first)
        standing_in = tuple(slot for slot in able if slot.upstream.name not in first)
        if not primary:
            primary, standing_in = standing_in, ()
        return Options(name, primary, standing_in)

    def arrived(self, options: Options) -> None:
        """Count a task that waits: a real-time task reserves its slot from now on."""
        if options.name == "realtime":
            self._reserved.arrived()

    def pick(
        self, options: Options, long: bool, skipped: Collection[AccountSlot], competing: Competing
    ) -> AccountSlot | None:
        """The account slot that takes the task now; None where the task has to wait.

        `skipped` account slots are left out. `competing` gives the number of tasks for which the
        slot reserved for real-time work may be used: those that wait for the same account slots,
        0 while a real-time task waits itself.
        """

        def free_now(slot: AccountSlot) -> bool:
            if slot in skipped or not _free(slot, long):
                return False
            return not self._is_reserved(slot, options) or self._may_use_reserved(
                slot, options, competing
            )

        free = [slot for slot in options.primary if free_now(slot)]
        if free:
            return self._best(free, options.primary) if self.balance else free[0]
        if self._in_service(options):
            return None
        return next((slot for slot in options.standing_in if free_now(slot)), None)

    def waited_for(self, options: Options) -> list[AccountSlot]:
        """The primary account slots that are in service and not reserved."""
        return [
            slot
            for slot in options.primary
            if slot.gate.verdict(Stage.QUEUE).ready and not self._is_reserved(slot, options)
        ]

    def serving(self, options: Options) -> tuple[AccountSlot, ...]:
        """The account slots that the task waits for at this moment."""
        alone = not options.standing_in or self._in_service(options)
        return options.primary if alone else options.account_slots

    def has_account(self, request: Request, exclusions: Exclusions) -> bool:
        """Whether an account is left that the exclusions do not rule out."""
        account_slots = self.options(request, exclusions).account_slots
        return bool(account_slots) and not all_disabled(account_slots)

    def all_paused(self, request: Request, exclusions: Exclusions | None = None) -> bool:
        """Whether each model that could serve the request is paused by an operator."""
        account_slots = self.options(request, exclusions).account_slots
        verdicts = [slot.gate.verdict(Stage.PERMIT) for slot in account_slots]
        able = [verdict for verdict in verdicts if not verdict.never]
        return bool(able) and all(verdict.reason == "held" for verdict in able)

    def open_gates(
        self, request: Request, exclusions: Exclusions | None = None
    ) -> list[AccountLimiter]:
        """The gates for which the request waits and that neither an operator nor a fault closes."""
        return [
            slot.gate
            for slot in self.serving(self.options(request, exclusions))
            if slot.gate.verdict(Stage.PERMIT).reason not in ("disabled", "held")
        ]

    def refusal(
        self, request: Request, exclusions: Exclusions | None = None
    ) -> ProviderError | None:
        """The provider's answer because of which no model that could serve the request takes a call
        now; None where one does."""
        gates = self.open_gates(request, exclusions)
        soonest = min(gates, key=lambda gate: gate.wait(), default=None)
        return None if soonest is None else soonest.refusal()

    def explain(
        self,
        options: Options,
        lacks: dict[str, str],
        ahead: int = 0,
        taking: AccountSlot | None = None,
    ) -> list[dict[str, Any]]:
        """Each model of the pool: whether it is eligible or why not, and seconds until the task
        would be done there. `taking`: the account slot that takes the task now."""
        if options.name is None:
            names = list(dict.fromkeys(slot.upstream.name for slot in options.account_slots))
        else:
            first, rest = self._router.pool(options.name)
            names = first + rest
        return [self._row(name, options, lacks, ahead, taking) for name in names]

    def why(self, slot: AccountSlot, options: Options) -> str:
        """Why the task went to that account, for people."""
        if options.name is None:
            return "named by the task"
        if slot not in options.primary:
            out = dict.fromkeys(s.upstream.name for s in options.primary)
            return f"stands in for {', '.join(out)}, out of service"
        if len({s.upstream.name for s in options.primary}) == 1:
            return f"the model for {options.name} tasks"
        if self._is_reserved(slot, options):
            return "the reserved slot: those that wait gain more than real-time tasks lose"
        if not self.balance:
            return f"the first with room of the models for {options.name} tasks"
        return f"expected to be done first of the models with room for {options.name} tasks"

    def _row(
        self,
        name: str,
        options: Options,
        lacks: dict[str, str],
        ahead: int,
        taking: AccountSlot | None,
    ) -> dict[str, Any]:
        account_slots = [slot for slot in options.account_slots if slot.upstream.name == name]
        row = {"model": name, "eligible": False, "reason": lacks.get(name), "eta_s": None}
        if not account_slots:
            if name not in lacks:
                row["reason"] = "context too small, takes no tools, or it has refused the task"
            return row
        best = min(
            account_slots,
            key=lambda slot: (
                not slot.gate.verdict(Stage.QUEUE).ready,
                slot.gate.busy,
            ),
        )
        row["reason"] = best.gate.describe(Stage.QUEUE)
        if row["reason"] is not None:
            return row
        if best not in self.serving(options):
            return row | {"reason": "stands in only while no model for the class is in service"}
        if best is not taking and self._is_reserved(best, options):
            return row | {"reason": "kept free for real-time tasks"}
        eta = _eta(best.gate, ahead)
        return row | {"eligible": True, "reason": best.gate.describe(), "eta_s": eta}

    def _best(self, free: Sequence[AccountSlot], order: Sequence[AccountSlot]) -> AccountSlot:
        names = list(dict.fromkeys(slot.upstream.name for slot in order))
        known = [s for slot in free if (s := slot.gate.statistics.expected_s()) is not None]
        guess = min(known, default=GUESS_S)

        def rated(slot: AccountSlot) -> tuple[float, float]:
            gate, rank = slot.gate, names.index(slot.upstream.name)
            expected = gate.statistics.expected_s() or guess * gate.statistics.burden
            weighed = expected * (1 + RANK * rank) / slot.upstream.settings.weight
            return weighed, gate.busy / gate.concurrency

        return min(free, key=rated)

    def _in_service(self, options: Options) -> bool:
        """Whether any primary account slot is worth waiting for."""
        return any(
            s.gate.verdict(Stage.QUEUE).ready and not self._is_reserved(s, options)
            for s in options.primary
        )

    def _may_use_reserved(self, slot: AccountSlot, options: Options, competing: Competing) -> bool:
        """Whether the reserved slot does more good to the tasks that wait now."""
        if not self.balance or not (waiting := competing(options)):
            return False
        return self._reserved.pays(slot.upstream, _accounts(self.waited_for(options)), waiting)

    def _is_reserved(self, slot: AccountSlot, options: Options) -> bool:
        """Whether the account's only slot is reserved for real-time work, and others can serve."""
        if options.name in (None, "realtime") or not self._single(slot):
            return False
        if self._reserved.since() >= RESERVED_S:
            return False
        return any(
            not self._single(s) and s.gate.verdict(Stage.QUEUE).ready for s in options.account_slots
        )

    def _single(self, slot: AccountSlot) -> bool:
        return slot.gate.concurrency == 1 and slot.upstream.name in self._realtime

    def _of(self, names: Sequence[str]) -> list[AccountSlot]:
        return [
            slot for name in names for slot in self._account_slots if slot.upstream.name == name
        ]

    @staticmethod
    def _class_of(request: Request) -> str:
        return "embedding" if request.type == "embedding" else "general"


def decision(request: Request) -> dict[str, Any]:
    """The routing decision that was made when the request came."""
    return request.route or dict(NAMED)


def _accounts(account_slots: Sequence[AccountSlot]) -> list[Upstream]:
    return [slot.upstream for slot in account_slots]


def _free(slot: AccountSlot, long: bool) -> bool:
    return slot.ready and slot.gate.verdict(Stage.SLOT, long=long).ready


def _large_enough(account_slots: list[AccountSlot], tokens: int) -> list[AccountSlot]:
    """The models whose context is large enough; without any, the largest: the number of tokens is
    an estimate, and the provider decides."""
    fitting = [slot for slot in account_slots if slot.upstream.settings.context >= tokens]
    most = max((slot.upstream.settings.context for slot in account_slots), default=0)
    return fitting or [slot for slot in account_slots if slot.upstream.settings.context == most]


def _not_excluded(
    account_slots: Sequence[AccountSlot], exclusions: Exclusions
) -> list[AccountSlot]:
    able = [
        slot
        for slot in account_slots
        if slot.gate.name not in exclusions.refused
        and slot.upstream.settings.context > exclusions.context
    ]
    return [slot for slot in able if slot.gate.name not in exclusions.failed] or able


def _eta(gate: AccountLimiter, ahead: int) -> float | None:
    """Seconds until a task behind so many others would be done at the gate; None: not known."""
    service, wait = gate.statistics.expected_s(), gate.wait(spread=True)
    if service is None or wait == math.inf:
        return None
    before = max(gate.busy + ahead + 1 - gate.concurrency, 0)
    return round(wait + service * (1 + before / gate.concurrency), 3)


def soonest(rows: list[dict[str, Any]]) -> str | None:
    """The model expected to be done first; the order decides where nothing is known."""
    known = [row for row in rows if row["eta_s"] is not None]
    best = min(known, key=lambda row: row["eta_s"]) if len(known) == len(rows) and rows else None
    found = best or (rows[0] if rows else None)
    return None if found is None else str(found["model"])
