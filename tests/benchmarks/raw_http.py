"""Raw bytes against the HTTP port: heads, framing, trailers, pipelines, handshakes, frames.

`python -m tests.benchmarks.raw_http --cases N`: each case is one connection whose bytes a seeded
generator makes and spoils, sent whole, in pieces or byte by byte. No answer may be a 5xx, but an
honest 503 where a model or a place is lacking; `/livez` is answered beside them; afterwards memory
and descriptors are what they were, and the log holds no traceback.
"""

import argparse
import asyncio
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence

import psutil
import uvloop

from tests.benchmarks import stage
from tests.benchmarks.report import Report

AT_ONCE = 24
QUIET_S = 0.15
"""A connection that says nothing for so long is closed by the client."""
LIVE_S = 5.0
GROWTH_MB = 60
SETTLE_S = 3.0
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"PRI", b"get"]
TARGETS = [
    b"/", b"/tasks", b"/livez", b"/docs", b"/tasks/x/events", b"/ws", b"/v1/models", b"*", b"//x/",
    b"http://127.0.0.1/livez", b"http://evil/tasks", b"127.0.0.1:80", b"/%00", b"/%2f%2e%2e",
    b"/#x", b"/tasks?limit=\xff", b"/" + b"a" * 9000, b"", b"/livez/../tasks",
    b"/v1/chat/completions", b"/openapi.json", b"/tasks/batch", b"/metrics", b"/health",
]  # fmt: skip
FIELDS = [
    b"host: 127.0.0.1", b"host: evil", b"host: a b", b"host:", b"content-length: 5",
    b"content-length: -1", b"content-length: 99999999999999999999", b"content-length: 5, 5",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"connection: close",
    b"connection: upgrade, keep-alive", b"upgrade: websocket", b"upgrade: h2c",
    b"sec-websocket-version: 13", b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    b"sec-websocket-protocol: asyncsvc, bearer.x", b"sec-websocket-extensions: permessage-deflate",
    b"expect: 100-continue", b"expect: x", b"accept: text/event-stream", b"accept: text/html",
    b"content-encoding: gzip", b"content-type: multipart/form-data; boundary=x", b"origin: null",
    b"authorization: Bearer x", b"x-user: \xff\xfe", b"x-forwarded-for: ,,:[", b"last-event-id: -",
    b"idempotency-key: k", b" folded", b"x\0: y", b"x: a\0b", b": no name", b"no colon", b"x : y",
    b"x: " + b"y" * 5000, b"te: trailers", b"range: bytes=0-", b"transfer-encoding:\tchunked",
]  # fmt: skip
SOUND = [b"host: 127.0.0.1"]
SOUND_FIELDS = [
    b"x: y", b"connection: keep-alive", b"accept: text/event-stream", b"accept: text/html",
    b"te: x", b"x-forwarded-for: ,,:[", b"sec-websocket-protocol: x", b"cookie: a=b",
]  # fmt: skip
BODIES = [b"", b"{}", b"hello", b'{"content": "x"}', b"[" * 3000, b"\xff" * 100, b"\x1f\x8b\x08\0"]
SIZES = [
    b"%x",
    b"%X",
    b"0000%x",
    b"%x;a=b",
    b"%x ;a",
    b"-%x",
    b"0x%x",
    b"fffffffffffffff%x",
    b"%x\t",
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""]
FRAME_HEADS = [
    b"\x81\x80", b"\x01\x80", b"\x80\x80", b"\x00\x80", b"\x89\x80", b"\x8a\x80", b"\x88\x80",
    b"\x88\x81", b"\xf1\x80", b"\x83\x80", b"\x81\x00", b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x81\xfe\x7f\xff",
]  # fmt: skip


class Generator:
    """The bytes of one connection, and the pieces in which they are sent."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def pieces(self) -> list[bytes]:
        """In order; at most some hundred, so that a case has an end."""
        dice = self._dice
        sent = b"".join(self._message() for _ in range(dice.choice((1, 1, 1, 2, 3, 40))))
        if dice.random() < 0.3:
            sent = self._spoilt(sent)
        way = dice.random()
        if way < 0.4 or not sent:
            return [sent]
        if way < 0.6 and len(sent) < 300:
            return [sent[i : i + 1] for i in range(len(sent))]
        cuts = sorted(dice.randrange(len(sent)) for _ in range(dice.randrange(1, 12)))
        return [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    def _message(self) -> bytes:
        dice = self._dice
        kind = dice.random()
        if kind < 0.15:
            return self._socket()
        sound = dice.random() < 0.5
        end = b"\r\n" if sound else dice.choice(ENDS)
        method = dice.choice(METHODS[:6] if sound else METHODS)
        version = b"HTTP/1.1" if sound else dice.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9", b""))
        lines = [b" ".join((method, dice.choice(TARGETS[:7] if sound else TARGETS), version))]
        lines += SOUND if sound else []
        most = dice.choice((0, 1, 3, 3, 8, 200 if dice.random() < 0.1 else 8))
        lines += [dice.choice(SOUND_FIELDS if sound else FIELDS) for _ in range(most)]
        body = dice.choice(BODIES)
        if sound and dice.random() < 0.15:
            # Some come as far as the check of their fields.
            lines[0] = b"POST /tasks HTTP/1.1"
            return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body])
        framing = dice.random()
        if framing < 0.3:
            lines.append(b"content-length: %d" % (len(body) + dice.choice((0, 0, 0, 1, -1))))
        elif framing < 0.7:
            lines.append(b"transfer-encoding: chunked")
            body = self._chunks(body)
        return end.join(lines) + end + end + body

    def _chunks(self, body: bytes) -> bytes:
        dice, found = self._dice, bytearray()
        step = dice.choice((1, 2, 100, 5000))
        size = dice.choice(SIZES) if dice.random() < 0.3 else b"%x"
        for start in range(0, len(body), step):
            part = body[start : start + step]
            found += size % len(part) + b"\r\n" + part + (b"\r\n" if dice.random() < 0.99 else b"")
        found += dice.choice((b"0\r\n", b"0\r\n", b"0;x\r\n", b"000\r\n", b""))
        for _ in range(dice.choice((0, 0, 1, 5, 100))):
            found += dice.choice(FIELDS) + b"\r\n"
        return bytes(found + dice.choice((b"\r\n", b"\r\n", b"")))

    def _socket(self) -> bytes:
        dice = self._dice
        lines = [b"GET /ws HTTP/1.1", b"host: 127.0.0.1", b"connection: upgrade", *FIELDS[12:13]]
        lines += [each for each in FIELDS[14:18] if dice.random() < 0.9]
        frames = b"".join(
            dice.choice(FRAME_HEADS) + dice.randbytes(4) + dice.randbytes(dice.choice((0, 0, 3)))
            for _ in range(dice.choice((0, 1, 5, 300)))
        )
        return b"\r\n".join([*lines, b"", b""]) + frames

    def _spoilt(self, sent: bytes) -> bytes:
        found = bytearray(sent)
        for _ in range(self._dice.choice((1, 1, 3, 10))):
            if not found:
                break
            at = self._dice.randrange(len(found))
            change = self._dice.random()
            if change < 0.4:
                found[at] = self._dice.randrange(256)
            elif change < 0.7:
                del found[at : at + self._dice.randrange(1, 20)]
            else:
                found[at:at] = found[at : at + self._dice.randrange(1, 50)] * 3
        return bytes(found)


async def case(port: int, pieces: Sequence[bytes]) -> bytes:
    """Send the pieces; what is answered until the server closes or says nothing more."""
    found = bytearray()
    try:
        reader, writer = await asyncio.open_connection(stage.HOST, port)
    except ConnectionError:
        return b""
    try:
        for piece in pieces:
            if writer.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        while part := await asyncio.wait_for(reader.read(1 << 16), QUIET_S):
            found += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return bytes(found)


class Fuzz:
    """Runs the cases; `report.broken` has what must not have happened."""

    def __init__(self, port: int, cases: int, seed: int) -> None:
        self.report = Report(f"raw HTTP, seed {seed}", ("status", "answers"))
        self._port = port
        self._left = cases
        self._generator = Generator(random.Random(seed))
        self._statuses: Counter[int] = Counter()
        self._slowest_s = 0.0

    async def go(self) -> None:
        """All cases, with a supervisor's probe beside them."""
        probe = asyncio.create_task(self._probe())
        await asyncio.gather(*(self._some() for _ in range(AT_ONCE)))
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        for status, count in sorted(self._statuses.items()):
            self.report.row(status, count)
        self.report.notes.append(f"slowest /livez: {self._slowest_s:.2f} s")
        self.report.require(self._slowest_s < LIVE_S, f"/livez took {self._slowest_s:.1f} s")

    async def _some(self) -> None:
        while self._left > 0:
            self._left -= 1
            pieces = self._generator.pieces()
            answer = await case(self._port, pieces)
            for status in map(int, STATUS.findall(answer)):
                self._statuses[status] += 1
                wrong = status >= 500 and not (status == 503 and b'"code":' in answer)
                self.report.require(not wrong, f"{status} for {b''.join(pieces)[:500]!r}")

    async def _probe(self) -> None:
        while True:
            began = time.monotonic()
            asked = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
            reader, writer = await asyncio.open_connection(stage.HOST, self._port)
            try:
                writer.write(asked)
                answer = await reader.read()
            finally:
                writer.close()
            self._slowest_s = max(self._slowest_s, time.monotonic() - began)
            self.report.require(b" 200 " in answer[:20], f"/livez answered {answer[:80]!r}")
            await asyncio.sleep(0.05)


async def run(cases: int, seed: int) -> Report:
    """A service of its own: some cases to warm it up, then those that count."""
    async with stage.workplace() as (folder, _), stage.service(folder, SETTINGS) as service:
        await Fuzz(service.port, min(cases, 300), seed + 1).go()
        process = psutil.Process(service.process.pid)
        await asyncio.sleep(SETTLE_S)
        memory, descriptors = service.memory_mb(), process.num_fds()
        fuzz = Fuzz(service.port, cases, seed)
        await fuzz.go()
        await asyncio.sleep(SETTLE_S)
        grown, more = service.memory_mb() - memory, process.num_fds() - descriptors
        fuzz.report.notes.append(f"memory {grown:+.0f} MB, descriptors {more:+d}")
        fuzz.report.require(grown < GROWTH_MB, f"memory has grown by {grown:.0f} MB")
        fuzz.report.require(more < AT_ONCE, f"{more} descriptors more than before")
        fuzz.report.broken += [f"log: {line}" for line in service.faults()[:10]]
        fuzz.report.require(await service.stop() == 0, "the service did not stop with 0")
        return fuzz.report


SETTINGS = {"server": {"client_timeout_s": 1, "keep_alive_s": 1}, "limits": {"disk_free_mb": 0}}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.raw_http", description=__doc__
    )
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(argv)
    return uvloop.run(run(options.cases, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
