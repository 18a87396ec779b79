"""TLS of the server: the context of a certificate and its key, with the faults in plain words.

A context is made anew whenever the files are read, so that a fault leaves the one in use as it is.
"""

import ssl
from pathlib import Path

from asyncsvc.errors import SettingsError


def server_context(certfile: str, keyfile: str) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3. Raises SettingsError with one line."""
    for key, path in (("certfile", certfile), ("keyfile", keyfile)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(
                [f"server.{key}: {path}: cannot be read: {error.strerror}"]
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password, as OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = str(getattr(error, "reason", None) or "NOT_PEM").replace("_", " ")
        raise SettingsError(
            [
                f"server.certfile: {certfile} and server.keyfile: {keyfile} are no certificate and "
                f"its key in PEM, without a password ({reason})"
            ]
        ) from None
    return context
