"""Finish reasons: the words that providers use, and what they mean.

Owns one table of data. Promises that a word is either one of OpenAI's four reasons, or a failure,
or no end at all, and that an unknown word means `stop`. Never looks at text.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from asyncsvc.errors import (
    ContentFiltered,
    ContextTooLong,
    ProviderError,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
)

STOP, LENGTH, TOOL_CALLS = "stop", "length", "tool_calls"
FIELDS = ("finish_reason", "finishReason", "stop_reason")
"""Where a choice or its delta may have the word; the first that stands for an end is taken."""
WORD_CHARS = 100
"""The longest part of a provider's word that is stored."""

Kind = type[ProviderError]


def _each(meaning: str | Kind | None, words: str) -> dict[str, str | Kind | None]:
    return dict.fromkeys(words.split(), meaning)


MEANINGS: Mapping[str, str | Kind | None] = {
    **_each(
        STOP,
        "stop stopped stopsequence eos eostoken eosid eot endofturn endofsequence endofstream "
        "endturn end complete completed done finish finished success normal ok",
    ),
    **_each(
        LENGTH,
        "length maxtokens maxtoken maxlength maxlengthreached maxtokensreached modellength "
        "maxoutputtokens maxoutputtokensreached maxcompletiontokens maxnewtokens tokenlimit "
        "tokenlimitreached tokenslimit lengthlimit truncated incomplete",
    ),
    **_each(
        TOOL_CALLS,
        "toolcalls toolcall tooluse tooluses tool tools functioncall functioncalls functions",
    ),
    # A provider that stops for the content; the task ends with `content_filtered`.
    **_each(
        ContentFiltered,
        "contentfilter contentfiltered contentfiltering filter filtered sensitive safety "
        "recitation blocklist blocked prohibitedcontent spii imagesafety imageprohibitedcontent "
        "moderation guardrailintervened refusal language",
    ),
    **_each(ContextTooLong, "modelcontextwindowexceeded contextlengthexceeded contextwindow"),
    **_each(
        UpstreamDisconnected,
        "abort aborted cancel cancelled canceled interrupted disconnect disconnected "
        "connectionerror networkerror clientdisconnected killed preempted",
    ),
    **_each(
        UpstreamOverloaded,
        "error errors failed failure fail exception internalerror internalservererror servererror "
        "providererror upstreamerror modelerror unavailable serviceunavailable overloaded busy "
        "insufficientsystemresource insufficientsystemresources insufficientresources "
        "outofmemory oom timeout timedout timelimit deadlineexceeded ratelimit ratelimited",
    ),
    **_each(
        UpstreamInvalid,
        "malformedfunctioncall malformedresponse malformedtoolcall unexpectedtoolcall "
        "toomanytoolcalls missingthoughtsignature invalidtoolcall",
    ),
    # Nothing has ended: a frame in the middle of an answer has this.
    **_each(None, "null none nil nan undefined unspecified notset unfinished inprogress continue"),
}
"""What a word means, by its letters and digits in lower case: a reason of OpenAI's, the error that
it stands for, or None where it is no end."""

_OTHERS = re.compile(r"[^a-z0-9]+")
_PREFIX = "finishreason"


class Ending(NamedTuple):
    """An end: the provider's own `word`, and what it means."""

    word: str
    meaning: str | Kind


def ending(value: Any) -> Ending | None:
    """The end that a `finish_reason` stands for; None where it stands for none."""
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    if value is None or value is False or isinstance(value, dict | list | float):
        return None
    word = str(value).strip()[:WORD_CHARS]
    letters = _OTHERS.sub("", word.lower()).removeprefix(_PREFIX)
    meaning = MEANINGS.get(letters, STOP) if letters else None
    return None if meaning is None else Ending(word, meaning)


def of_choice(choice: Mapping[str, Any], delta: Any) -> Ending | None:
    """The end that a choice tells of, by itself or in its delta."""
    for holder in (choice, delta if isinstance(delta, dict) else {}):
        for name in FIELDS:
            if name in holder and (found := ending(holder[name])) is not None:
                return found
    return None


def reason_of(meaning: str, calls: bool) -> str:
    """The reason as OpenAI's clients need it: a whole answer with tool calls ends with
    `tool_calls`, and an answer without calls never does."""
    if meaning == LENGTH:
        return LENGTH
    return TOOL_CALLS if calls else STOP
