"""The exact cache: finished answers, repeated to requests that ask for the same.

An answer is repeated only to a request that is equal in everything that could change the answer,
of the same owner (unless `cache.across_owners`), to models configured as they were then, and not
after `cache.ttl_s`. Memory and the table hold no
more than `cache.max_bytes`; the least recently used answers go first. The cache does not write:
it returns what the closing commit of a task has to write.

The table `kept` mirrors the memory: rows that memory has dropped are deleted a few at a time
with the next answer that is written.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from asyncsvc.clock import Now
from asyncsvc.config.settings import Cache as CacheSettings
from asyncsvc.config.settings import Model
from asyncsvc.journal.journal import Change, PersistedValue
from asyncsvc.providers.answers.delta import Delta, drafts
from asyncsvc.providers.upstream import Upstream
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, Draft, EventType, State, Task, status
from asyncsvc.tasks.submission import Submission

KIND = "answer"
PURGED_AT_ONCE = 16
"""Rows deleted with each answer that is written: more than one, so that the table does not grow,
and few enough to be no burden on the commit."""
ENTRY_BYTES = 512
"""Memory that an entry takes beside its text, about."""


def request_key(submission: Submission, routed_as: str | None = None) -> str | None:
    """SHA-256 (hex) over the request; None where its answer must not be shared.

    The field `cache` decides; by default only requests that always have the same answer are
    shared: embeddings, and chats of temperature 0. `routed_as` is the class by which a task
    without a model is routed, where that decides which models may serve it. An agent's answer
    is never shared: its tools have effects.
    """
    if submission.type == "agent":
        return None
    wanted = submission.cache
    if wanted is None:
        wanted = submission.type == "embedding" or _is_zero(submission.params.get("temperature"))
    if not wanted:
        return None
    messages = submission.messages
    if submission.content is not None:
        messages = [{"role": "user", "content": submission.content}]
    asked = [submission.type, submission.model, None if submission.model else routed_as]
    return _digest([*asked, messages, submission.input, submission.params])


def _is_zero(value: object) -> bool:
    return value == 0 and not isinstance(value, bool)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer; `result` is set where it is not the joined text of the chunks."""

    events: list[tuple[str, dict[str, Any]]]
    """Type and data of each event of the answer, in order."""
    result: str | None
    facts: dict[str, Any]
    """Usage, finish reason, the provider's id of the model, the model's name."""

    @classmethod
    def of_call(cls, deltas: Iterable[Delta], result: str, facts: dict[str, Any]) -> "Answer":
        """The answer of a call."""
        events = [(draft.type.value, draft.data) for draft in drafts(deltas)]
        return cls(events, None if events else result, facts)

    def text(self) -> str:
        """The answer as JSON, for the table."""
        return orjson.dumps([self.events, self.result, self.facts]).decode()

    @classmethod
    def of(cls, text: str) -> "Answer":
        """The answer from the JSON of `text`."""
        events, result, facts = orjson.loads(text)
        return cls([(kind, data) for kind, data in events], result, facts)

    def replay(self, task: Task) -> Change:
        """All events of a task that is given this answer, from start to end, as one change."""
        name = self.facts["name"]
        drafts = [
            status(Cause.STARTED, State.PENDING),
            Draft(
                EventType.ATTEMPT,
                {
                    "number": task.starts + 1,
                    "model": self.facts["model"],
                    "name": name,
                    "why": "cached",
                    "route": {"reason": "cached", "model": name},
                },
            ),
        ]
        drafts += [Draft(EventType(kind), data) for kind, data in self.events]
        facts = self.facts | {"latency": 0.0, "cached": True, "error": None}
        drafts.append(status(Cause.COMPLETED, State.RUNNING, **facts))
        result = self.result
        if result is None:
            chunks = (data["text"] for kind, data in self.events if kind == EventType.CHUNK)
            result = "".join(chunks)
        return Change(task.id, drafts, result=result or None, source=State.PENDING)


class Cache:
    """Answers by `key` of a task; `load` them once, before tasks are admitted."""

    def __init__(self, settings: CacheSettings, upstreams: Sequence[Upstream], now: Now) -> None:
        self.hits = 0
        self.misses = 0
        """Calls that were made because there was no answer in the cache."""
        self.shared = 0
        """Tasks that shared the call of another."""
        self.bytes = 0
        self._settings = settings
        self._upstreams = upstreams
        self._now = now
        self._answers: OrderedDict[str, tuple[int, str]] = OrderedDict()
        """Time (ms) and JSON by key, the least recently used first."""
        self._dropped: dict[str, None] = {}
        """Keys of rows that are still to be deleted, in order."""
        self._fingerprints: dict[tuple[str, str | None], str] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def apply(self, settings: CacheSettings) -> None:
        """Use other settings from now on, and the models as the upstreams now are."""
        self._settings = settings
        self._fingerprints.clear()
        self._shrink()

    async def load(self, store: Store) -> None:
        """Take over the answers of the last process that are still fresh."""
        if not self._settings.enabled:
            return
        for key, at, value in await store.persisted_values(KIND):
            if self._fresh(at):
                self._insert(key, at, value)
            else:
                self._dropped[key] = None

    def key(self, task: Task) -> str | None:
        """The key of tasks that can share an answer; None where the task can share none."""
        request = task.request
        if request.cache_key is None or not self._settings.enabled:
            return None
        if request.cache is None and request.model and self._acts(request.model):
            return None  # an agent that is asked twice is to act twice
        key = f"{request.cache_key}{self._fingerprint(request.type, request.model)}"
        return key if self._settings.across_owners else f"{key}{request.owner or ''}"

    def get(self, key: str) -> Answer | None:
        """The answer, if it is present and fresh; it then counts as used."""
        found = self._answers.get(key)
        if found is None:
            return None
        if not self._fresh(found[0]):
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return Answer.of(found[1])

    def worth(self, task: Task, upstream: Upstream) -> bool:
        """Whether the upstream's answer to the task may be repeated to others."""
        if not self._in_use(upstream):
            return False
        return bool(task.request.cache) or not upstream.preset.acts

    def entries(self, key: str, value: str) -> list[PersistedValue]:
        """The rows to write with the event that ends the task; call `keep` afterwards."""
        if self._size(key, value) > self._settings.max_bytes:
            return []
        self._dropped.pop(key, None)
        dropped = islice(self._dropped, PURGED_AT_ONCE)
        return [
            PersistedValue(KIND, key, value),
            *(PersistedValue(KIND, each, None) for each in dropped),
        ]

    def keep(self, written: Sequence[PersistedValue]) -> None:
        """Take over rows that are on the disk now."""
        for entry in written:
            if entry.value is None:
                self._dropped.pop(entry.key, None)
            else:
                self._insert(entry.key, self._now(), entry.value)

    def figures(self) -> dict[str, int]:
        """Counters for monitoring."""
        return {
            "entries": len(self._answers),
            "bytes": self.bytes,
            "hits": self.hits,
            "misses": self.misses,
            "shared": self.shared,
        }

    def _insert(self, key: str, at: int, value: str) -> None:
        if old := self._answers.pop(key, None):
            self.bytes -= self._size(key, old[1])
        self._answers[key] = (at, value)
        self.bytes += self._size(key, value)
        self._dropped.pop(key, None)
        self._shrink()

    def _shrink(self) -> None:
        while self.bytes > self._settings.max_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: str) -> None:
        _, value = self._answers.pop(key)
        self.bytes -= self._size(key, value)
        self._dropped[key] = None

    def _fresh(self, at: int) -> bool:
        # By the distance: where the clock is set back, an answer does not live for ever.
        return abs(self._now() - at) < self._settings.ttl_s * 1000

    @staticmethod
    def _size(key: str, value: str) -> int:
        return ENTRY_BYTES + len(key) + len(value.encode())

    def _in_use(self, upstream: Upstream) -> bool:
        """Whether a call would be made the same way now: settings may have changed meanwhile."""
        shape = _shape(upstream.settings, upstream.base_url)
        return any(
            u.name == upstream.name and _shape(u.settings, u.base_url) == shape
            for u in self._upstreams
        )

    def _acts(self, name: str) -> bool:
        return any(u.preset.acts for u in self._upstreams if u.name == name)

    def _fingerprint(self, kind: str, name: str | None) -> str:
        """A digest of the settings that shape the answer, of all models that could serve."""
        found = self._fingerprints.get((kind, name))
        if found is None:
            wanted = "embedding" if kind == "embedding" else "chat"
            models = {
                upstream.name: _shape(upstream.settings, upstream.base_url)
                for upstream in self._upstreams
                if upstream.settings.type == wanted and name in (None, upstream.name)
            }
            found = self._fingerprints[kind, name] = _digest(models)
        return found


def _shape(model: Model, base_url: str) -> list[Any]:
    return [model.model_ids, base_url, model.preset, model.extra_body, model.extra_headers]
