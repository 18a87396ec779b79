"""Which models may serve a task, and which of those that stand ready takes it.

Owns the choice: the filters (type, context, what has refused the task), the order of
preference, the expected time, the models that stand in. Promises that a model which stands in is
asked only while all that are meant for the class are out of service, and that the reasons can
be read. Never waits, never hands out anything.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import Any

from asyncsvc.limits.account import Gate
from asyncsvc.providers.upstream import Upstream
from asyncsvc.routing.router import NAMED, Router
from asyncsvc.scheduling.account_slots import NOBODY, Bars, Options, Seat
from asyncsvc.scheduling.hold_back import Lending
from asyncsvc.tasks.state import Request

RANK = 0.05
"""How much longer a model may be expected to take per place that it is more preferred."""
LENT_AFTER_S = 60.0
"""A single slot for real-time work serves other classes after so long without any."""
GUESS_S = 1.0
"""Expected of a model while no model of the pool has been measured; only the order counts then."""


Rivals = Callable[[Options], int]


class Chooser:
    """`options` when a task comes, `pick` when one of them may be free."""

    def __init__(self, seats: Sequence[Seat], router: Router, balance: bool = True) -> None:
        self._router = router
        self._lending = Lending()
        self.apply(seats, balance)

    def apply(self, seats: Sequence[Seat], balance: bool) -> None:
        """Other seats from now on, and what the router says now."""
        self._seats = seats
        self.balance = balance
        self._realtime = self._router.realtime
        self._contexts = sorted({seat.upstream.settings.context for seat in seats})
        self._usual: dict[tuple[str, int], Options] = {}
        """By class, and by how many of the contexts are too small."""
        self._named = {
            name: Options(None, tuple(seat for seat in seats if seat.upstream.name == name))
            for name in {seat.upstream.name for seat in seats}
        }

    def options(self, request: Request, bars: Bars | None = None) -> Options:
        """The seats for a request, without those that its bars rule out."""
        if request.model is not None:
            named = self._named.get(request.model, NOBODY)
            return Options(None, tuple(_unbarred(named.seats, bars))) if bars else named
        name = (request.route or {}).get("class") or self._class_of(request)
        if bars is not None:
            return self._able(name, request.need, bars)
        fitting = name, bisect_left(self._contexts, request.need)
        if fitting not in self._usual:
            self._usual[fitting] = self._able(name, request.need, Bars())
        return self._usual[fitting]

    def _able(self, name: str, need: int, bars: Bars) -> Options:
        first, rest = self._router.pool(name)
        able = _unbarred(_large_enough(self._of(first + rest), need), bars)
        primary = tuple(seat for seat in able if seat.upstream.name in first)
        standing_in = tuple(seat for seat in able if seat.upstream.name not in first)
        if not primary:
            primary, standing_in = standing_in, ()
        return Options(name, primary, standing_in)

    def arrived(self, options: Options) -> None:
        """A task waits; real-time work keeps its slot from now on."""
        if options.name == "realtime":
            self._lending.arrived()

    def pick(
        self, options: Options, long: bool, held: Collection[Seat], rivals: Rivals
    ) -> Seat | None:
        """The seat that takes the task now; None where it has to wait. `held` are not asked.

        `rivals` tells for how many tasks a slot of real-time work may be lent: those that wait
        for the same seats, 0 while a real-time task waits itself.
        """

        def free_now(seat: Seat) -> bool:
            if seat in held or not _free(seat, long):
                return False
            return not self._kept(seat, options) or self._lent(seat, options, rivals)

        free = [seat for seat in options.primary if free_now(seat)]
        if free:
            return self._best(free, options.primary) if self.balance else free[0]
        if self._in_service(options):
            return None
        return next((seat for seat in options.standing_in if free_now(seat)), None)

    def waited_for(self, options: Options) -> list[Seat]:
        """The seats meant for the class that are worth waiting for."""
        return [
            seat
            for seat in options.primary
            if seat.gate.out_of_service() is None and not self._kept(seat, options)
        ]

    def serving(self, options: Options) -> tuple[Seat, ...]:
        """The seats that the task waits for as things stand."""
        alone = not options.standing_in or self._in_service(options)
        return options.primary if alone else options.seats

    def explain(
        self,
        options: Options,
        lacks: dict[str, str],
        ahead: int = 0,
        taking: Seat | None = None,
    ) -> list[dict[str, Any]]:
        """Each model of the pool: eligible or why not, and seconds until it would be done.

        `taking`: the seat that takes the task now.
        """
        if options.name is None:
            names = list(dict.fromkeys(seat.upstream.name for seat in options.seats))
        else:
            first, rest = self._router.pool(options.name)
            names = first + rest
        return [self._row(name, options, lacks, ahead, taking) for name in names]

    def why(self, seat: Seat, options: Options) -> str:
        """Why it went there, in words."""
        if options.name is None:
            return "named by the task"
        if seat not in options.primary:
            out = dict.fromkeys(s.upstream.name for s in options.primary)
            return f"stands in for {', '.join(out)}, out of service"
        if len({s.upstream.name for s in options.primary}) == 1:
            return f"the model for {options.name} tasks"
        if self._kept(seat, options):
            return "lent: those that wait gain more than real-time tasks lose"
        if not self.balance:
            return f"the first with room of the models for {options.name} tasks"
        return f"expected to be done first of the models with room for {options.name} tasks"

    def _row(
        self,
        name: str,
        options: Options,
        lacks: dict[str, str],
        ahead: int,
        taking: Seat | None,
    ) -> dict[str, Any]:
        seats = [seat for seat in options.seats if seat.upstream.name == name]
        row = {"model": name, "eligible": False, "reason": lacks.get(name), "eta_s": None}
        if not seats:
            if name not in lacks:
                row["reason"] = "context too small, or it has refused the task"
            return row
        best = min(seats, key=lambda seat: (seat.gate.out_of_service() is not None, seat.gate.busy))
        row["reason"] = best.gate.out_of_service()
        if row["reason"] is not None:
            return row
        if best not in self.serving(options):
            return row | {"reason": "stands in only while no model for the class is in service"}
        if best is not taking and self._kept(best, options):
            return row | {"reason": "kept free for real-time tasks"}
        eta = _eta(best.gate, ahead)
        return row | {"eligible": True, "reason": best.gate.describe(), "eta_s": eta}

    def _best(self, free: Sequence[Seat], order: Sequence[Seat]) -> Seat:
        names = list(dict.fromkeys(seat.upstream.name for seat in order))
        known = [s for seat in free if (s := seat.gate.expected_s()) is not None]
        guess = min(known, default=GUESS_S)

        def rated(seat: Seat) -> tuple[float, float]:
            gate, rank = seat.gate, names.index(seat.upstream.name)
            expected = gate.expected_s() or guess * gate.burden
            weighed = expected * (1 + RANK * rank) / seat.upstream.settings.weight
            return weighed, gate.busy / gate.concurrency

        return min(free, key=rated)

    def _in_service(self, options: Options) -> bool:
        """Whether any seat that is meant for the class is worth waiting for."""
        return any(
            s.gate.out_of_service() is None and not self._kept(s, options) for s in options.primary
        )

    def _lent(self, seat: Seat, options: Options, rivals: Rivals) -> bool:
        """Whether the slot that is kept does more good to those that wait now."""
        if not self.balance or not (waiting := rivals(options)):
            return False
        return self._lending.pays(seat.upstream, _accounts(self.waited_for(options)), waiting)

    def _kept(self, seat: Seat, options: Options) -> bool:
        """Whether the seat's only slot is kept for real-time work, and others can serve."""
        if options.name in (None, "realtime") or not self._single(seat):
            return False
        if self._lending.since() >= LENT_AFTER_S:
            return False
        return any(not self._single(s) and s.gate.out_of_service() is None for s in options.seats)

    def _single(self, seat: Seat) -> bool:
        return seat.gate.concurrency == 1 and seat.upstream.name in self._realtime

    def _of(self, names: Sequence[str]) -> list[Seat]:
        return [seat for name in names for seat in self._seats if seat.upstream.name == name]

    @staticmethod
    def _class_of(request: Request) -> str:
        return "embedding" if request.type == "embedding" else "general"


def decision(request: Request) -> dict[str, Any]:
    """What was decided when the request came."""
    return request.route or dict(NAMED)


def _accounts(seats: Sequence[Seat]) -> list[Upstream]:
    return [seat.upstream for seat in seats]


def _free(seat: Seat, long: bool) -> bool:
    return seat.ready and seat.gate.admits(long)


def _large_enough(seats: list[Seat], tokens: int) -> list[Seat]:
    """Without any, the largest: the number is an estimate, and the provider has the last word."""
    fitting = [seat for seat in seats if seat.upstream.settings.context >= tokens]
    most = max((seat.upstream.settings.context for seat in seats), default=0)
    return fitting or [seat for seat in seats if seat.upstream.settings.context == most]


def _unbarred(seats: Sequence[Seat], bars: Bars) -> list[Seat]:
    able = [
        seat
        for seat in seats
        if seat.gate.name not in bars.refused and seat.upstream.settings.context > bars.context
    ]
    return [seat for seat in able if seat.gate.name not in bars.failed] or able


def _eta(gate: Gate, ahead: int) -> float | None:
    """Seconds until a task behind so many others would be done there; None: not known."""
    service, wait = gate.expected_s(), max(gate.wait(), gate.spread_wait())
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
