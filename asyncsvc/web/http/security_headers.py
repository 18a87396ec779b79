"""Security headers of all HTTP answers, in one place.

Each answer forbids guessing its type. An HTML page may load, run and be framed by nothing unless it
brings a Content-Security-Policy of its own. Over TLS a browser learns to use nothing
else.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOSNIFF = (b"x-content-type-options", b"nosniff")
HSTS = (b"strict-transport-security", b"max-age=31536000")
"""A year, as is usual; browsers ignore it for an address without a name."""
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
HTML = b"text/html"


def with_security_headers(app: ASGIApp) -> ASGIApp:
    """The application; its answers have the headers that they lack."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        secure = scope["scheme"] == "https"

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _completed(list(message.get("headers", ())), secure)
            await send(message)

        await app(scope, receive, sent)

    return guarded


def _completed(headers: list[tuple[bytes, bytes]], secure: bool) -> list[tuple[bytes, bytes]]:
    held = {name.lower(): value for name, value in headers}
    if NOSNIFF[0] not in held:
        headers.append(NOSNIFF)
    if secure:
        headers.append(HSTS)
    if held.get(b"content-type", b"").lower().startswith(HTML):
        headers += [pair for pair in PAGE if pair[0] not in held]
    return headers
