"""A service whose answers a test writes itself, on a loopback port, for commands run in this
process."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ScriptedService:
    """`answers` by method and path, without the query: a JSON value, bytes, or a status with a JSON
    value. `requests` are (method, path with query, JSON of the body)."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)


@contextmanager
def scripted_service() -> Generator[ScriptedService]:
    found = ScriptedService()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            given = json.loads(body) if body else None
            found.requests.append((self.command, self.path, given))
            answer = found.answers.get(f"{self.command} {self.path.partition('?')[0]}")
            status = 200
            if isinstance(answer, tuple):
                status, answer = answer
            if answer is None:
                status, answer = 404, {"error": {"message": f"nothing at {self.path}"}}
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
