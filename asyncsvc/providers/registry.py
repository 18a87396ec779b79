"""The catalogue: the models of the settings, which can be used, and what the others lack.

The catalogue owns the upstreams and their limiters. A model without its key is listed as disabled
with the variable that it lacks; an account goes on with its limiter when the settings are read
again, also where the account was gone for a while. A key is kept in its account alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from asyncsvc.config.settings import Settings
from asyncsvc.errors import ModelNotFound, NoModel
from asyncsvc.limits.account import AccountLimiter, Listener
from asyncsvc.limits.verdict import Stage
from asyncsvc.providers import accounts
from asyncsvc.providers.accounts import Account, Accounts
from asyncsvc.providers.upstream import Upstream

NO_MODEL_S = 60.0
"""When to ask again for a model that cannot be used."""


class Catalogue:
    """All models by name. Raises SettingsError for what only shows when they are built."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.upstreams: list[Upstream] = []
        """One a key; the list stays the same when the settings are read again."""
        self.disabled: dict[str, str] = {}
        """Why a model cannot be used, for people."""
        self.listener = Listener()
        """The callbacks of all accounts."""
        self._environ = environ
        self._gates: dict[tuple[str, str | None], AccountLimiter] = {}
        """Those in use, and those whose past calls still count."""
        self.adopt(self.plan(settings))

    def plan(self, settings: Settings) -> Accounts:
        """What those settings would make of it; raises SettingsError. Nothing changes yet."""
        return accounts.read(settings, self._environ)

    def adopt(self, found: Accounts) -> list[AccountLimiter]:
        """Go on with these; the gates that are new. `settings` must hold theirs already.

        A call under way keeps its upstream and its gate, whatever becomes of them here.
        """
        before = {id(upstream.gate): upstream for upstream in self.upstreams}
        fresh: list[AccountLimiter] = []
        upstreams = []
        for account in found.usable:
            gate = self._gates.get(account.identity)
            if gate is None:
                gate = self._gates[account.identity] = accounts.new_limiter(
                    account, self.settings, self.listener
                )
                fresh.append(gate)
            else:
                accounts.adapt(gate, account, self.settings)
            upstreams.append(_upstream(account, gate, before.get(id(gate))))
        self.upstreams[:] = upstreams
        self._named = {
            name: [upstream for upstream in upstreams if upstream.name == name]
            for name in self.settings.models
        }
        self._aliases = {
            alias: name for name, model in self.settings.models.items() for alias in model.aliases
        }
        self.disabled.clear()
        self.disabled.update(found.disabled)
        self._tidy(found.usable)
        return fresh

    def _tidy(self, usable: Sequence[Account]) -> None:
        """Forget the gates that no account uses and whose calls no longer count."""
        kept = {account.identity for account in usable}
        for identity, gate in list(self._gates.items()):
            if identity in kept:
                continue
            now = gate.time()
            if not (gate.busy or gate.window.used(now) or gate.budget.used(now)):
                del self._gates[identity]

    def name_of(self, asked: str) -> str:
        """The model's name for a name or an alias; the word itself where there is no such model."""
        return self._aliases.get(asked, asked)

    def of(self, name: str) -> list[Upstream]:
        """The upstreams of one model, one a key."""
        return self._named.get(name, [])

    def lacking(self) -> dict[str, str]:
        """Why a model cannot be used, from the start or since its provider refused for good or
        again and again."""
        found = dict(self.disabled)
        for upstream in self.upstreams:
            reasons = [each.gate.describe(Stage.SUBMIT) for each in self.of(upstream.name)]
            if all(reasons):
                found[upstream.name] = str(reasons[-1])
        return found

    def require(self, name: str | None, kind: str) -> None:
        """Raises ModelNotFound or NoModel where no task of that kind can be served."""
        if name is not None and name not in self.settings.models:
            known = ", ".join(self.settings.models) or "none"
            raise ModelNotFound(f"there is no model {name!r}; known: {known}", param="model")
        retry_after = NO_MODEL_S
        for upstream in self.upstreams if name is None else self._named.get(name, ()):
            if name or upstream.settings.type == kind:
                if upstream.gate.verdict(Stage.SUBMIT).ready:
                    return
                retry_after = min(retry_after, upstream.gate.wait())
        lacking = self.lacking()
        if name is not None:
            why = f"model {name} is disabled: {lacking[name]}"
            raise NoModel(why, retry_after=retry_after)
        lacks = "; ".join(
            f"{other}: {why}"
            for other, why in lacking.items()
            if self.settings.models[other].type == kind
        )
        raise NoModel(
            f"no {kind} model is enabled. {lacks or 'The settings name none'}",
            retry_after=retry_after,
        )

    @property
    def gates(self) -> list[AccountLimiter]:
        return [upstream.gate for upstream in self.upstreams]

    def restore(
        self,
        calls: list[tuple[str, int, int]],
        now_ms: int,
        gates: Sequence[AccountLimiter] | None = None,
    ) -> None:
        """Enter the calls that were begun before into windows and budgets; None: of all gates."""
        for gate in self.gates if gates is None else gates:
            gate.restore_calls(
                [((now_ms - at) / 1000, n) for name, at, n in calls if name == gate.name]
            )

    def learned(self, kept: dict[str, Any], gates: Sequence[AccountLimiter] | None = None) -> None:
        """Let the gates go on with the limits that earlier processes have learned, by gate."""
        for gate in self.gates if gates is None else gates:
            if gate.name in kept:
                gate.restore_learned(kept[gate.name])

    def longest_window_s(self) -> float:
        return max((u.settings.rpm_window_s for u in self.upstreams), default=60.0)


def _upstream(account: Account, gate: AccountLimiter, before: Upstream | None) -> Upstream:
    """The one in use where nothing of it has changed; a run may hold it."""
    if before is not None and before.settings == account.model:
        before.gone.clear()
        before.refused.clear()
        return before
    return Upstream(
        account.name,
        account.model,
        account.preset,
        gate,
        account.base_url,
        account.key,
        account.variable,
    )
