"""What a person needs to know of a failed call, before the provider's own words.

Owns the sentences that name the model, the address, the variable of the key with the key's last
characters, and the remedy; and the words for connections that cannot be made. Promises that
no more of a key is shown than its last four characters, and of a short key nothing.
"""

import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

from asyncsvc.errors import (
    AuthUnexplained,
    ModelGone,
    ModelUnexplained,
    ProviderError,
    QuotaExhausted,
    RequestTooCostly,
    UpstreamAuth,
    UpstreamRejected,
)
from asyncsvc.providers.keys import LONG_KEY
from asyncsvc.providers.upstream import Upstream

END_CHARS = 4
SILENT_END = str(aiohttp.ServerDisconnectedError())
"""What the library says where there is nothing to say."""


def explained(error: ProviderError, upstream: Upstream, text: str) -> str:
    """Return the message of an error of that account with what is known about it.

    A request to slow down says nothing about the settings, so it stays as it is.
    """
    if error.slow_down:
        return text
    return f"{_remedy(error, upstream)}: {text}"


def _remedy(error: ProviderError, upstream: Upstream) -> str:
    name, url, key = upstream.name, address(upstream), key_of(upstream)
    match error:
        case UpstreamAuth() if upstream.key is None:
            return (
                f"model {name} at {url} needs a key: name the variable that holds it in "
                f"models.{name}.api_key_env"
            )
        case UpstreamAuth():
            return f"set a valid key, then reload: {url} refuses the {key} of model {name}"
        case AuthUnexplained():
            return (
                f"check the {key} and the address of model {name}: {url}, or a proxy before it, "
                "refuses the call and names no reason"
            )
        case RequestTooCostly():
            return (
                f"top up the account, or ask for fewer tokens: at {url} too little is left with "
                f"the {key} of model {name} for this request"
            )
        case QuotaExhausted():
            return (
                f"top up the account, or wait for its renewal: at {url} nothing is left with the "
                f"{key} of model {name}"
            )
        case ModelGone():
            return (
                f"set models.{name}.model to an id that the account has: {url} has no "
                f"{upstream.model_id}"
            )
        case ModelUnexplained():
            return f"check models.{name}.base_url and models.{name}.model: {url} has no such path"
        case UpstreamRejected():
            return f"mend the request: model {name} ({upstream.model_id}) at {url} refuses it"
    return f"model {name} at {url}"


def key_of(upstream: Upstream) -> str:
    """Return words for the key of an account: its variable, and the end of a long key."""
    key, variable = upstream.key, upstream.variable
    if key is None:
        return "missing key"
    named = f"key in {variable}" if variable else "key"
    return f"{named} (…{key[-END_CHARS:]})" if len(key) >= LONG_KEY else named


def address(upstream: Upstream) -> str:
    """Return the address of an account, without what may be a user or a secret."""
    try:
        parts = urlsplit(upstream.base_url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def unconnected(cause: Exception) -> str:
    """Return words for a connection that could not be made."""
    where = "there"
    if isinstance(cause, aiohttp.ClientConnectorError):
        where = f"at {cause.host}:{cause.port}"
    reason = _deepest(cause)
    match reason:
        case ConnectionRefusedError():
            return f"cannot connect: nothing listens {where}"
        case socket.gaierror():
            name = getattr(cause, "host", None) or "of the address"
            return f"cannot connect: the name {name} is not known; is there a network, and no typo?"
        case ssl.SSLCertVerificationError():
            return (
                f"cannot connect: the certificate {where} is not trusted: {reason.verify_message}; "
                "SSL_CERT_FILE may name the certificate of its authority"
            )
        case ssl.SSLError():
            return f"cannot connect: no TLS {where}; is it http:// rather than https://?"
        case TimeoutError():
            return f"cannot connect: no answer {where}"
        case OSError() if reason.errno is not None:
            return f"cannot connect {where}: {(reason.strerror or 'no reason given').lower()}"
    return f"cannot connect: {cause}"


def _deepest(cause: Exception) -> BaseException:
    """The exception of the system under a library's; of several addresses that of the first."""
    found: BaseException = cause
    for _ in range(8):
        below = getattr(found, "os_error", None) or found.__cause__
        if isinstance(found, BaseExceptionGroup):
            below = found.exceptions[0]
        if not isinstance(below, BaseException):
            break
        found = below
    return found


def broken(cause: BaseException) -> str:
    """Return words for a connection that was made and broke."""
    if isinstance(cause, aiohttp.ServerDisconnectedError) and str(cause) == SILENT_END:
        return "the connection broke: the other side has closed it without an answer"
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"the connection broke: {(cause.strerror or 'no reason given').lower()}"
    return f"the connection broke: {str(cause) or type(cause).__name__}"
