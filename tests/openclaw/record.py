"""Records what a real gateway says, for the quick tests: `python -m tests.openclaw.record DIR`.

Owns the files in `recorded/`. Promises that no token, path or address of this machine is in them.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from tests.flows.openclaw_gateway import install
from tests.openclaw import record_http
from tests.openclaw.stage import Stage, staged

HERE = Path(__file__).with_name("recorded")
KEPT = {"chat", "agent", "connect.challenge", "shutdown"}
HELLO = ("type", "protocol", "server", "policy")


async def record(folder: Path) -> None:
    await install(folder)
    async with staged(folder) as stage:
        await stage.pace(12, 20)
        assert stage.gateway is not None
        token = stage.gateway.token
        _write("chat.json", await _exchange(stage, token, abort=False), token, folder)
        await stage.pace(200, 20)
        _write("abort.json", await _exchange(stage, token, abort=True), token, folder)
        _write("wrong_token.json", await _handshake(stage, "not-the-token"), token, folder)
        await record_http.record(stage, folder)


async def _handshake(stage: Stage, token: str) -> list[dict[str, Any]]:
    async with connect(f"ws://127.0.0.1:{stage.port}/", proxy=None) as socket:
        found = [_kept(await socket.recv())]
        await _say(socket, found, "0", "connect", _hello(token))
        found.append(_kept(await socket.recv()))
    return [each for each in found if each]


def _hello(token: str) -> dict[str, Any]:
    from asyncsvc.providers.openclaw.socket import SCOPES

    client = {"id": "gateway-client", "version": "1", "platform": "python", "mode": "backend"}
    return {
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": client,
        "role": "operator",
        "scopes": SCOPES,
        "caps": ["tool-events"],
        "auth": {"token": token},
    }


async def _exchange(stage: Stage, token: str, *, abort: bool) -> list[dict[str, Any]]:
    key = f"agent:main:asyncsvc:recorded-{abort:d}:1"
    async with connect(f"ws://127.0.0.1:{stage.port}/", proxy=None, max_size=None) as socket:
        found = [_kept(await socket.recv())]
        await _say(socket, found, "0", "connect", _hello(token))
        sending = {
            "sessionKey": key,
            "message": "Tell me.",
            "idempotencyKey": f"asyncsvc:recorded-{abort:d}:1",
            "deliver": False,
            "suppressCommandInterpretation": True,
        }
        sent = aborted = False
        async with asyncio.timeout(60):
            async for frame in socket:
                kept = _kept(frame)
                if kept:
                    found.append(kept)
                message = orjson.loads(frame)
                if message.get("id") == "0" and not sent:
                    sent = True
                    await _say(socket, found, "1", "chat.send", sending)
                state = (message.get("payload") or {}).get("state")
                if abort and state == "delta" and not aborted:
                    aborted = True
                    asked = {"sessionKey": key, "runId": f"asyncsvc:recorded-{abort:d}:1"}
                    await _say(socket, found, "2", "chat.abort", asked)
                if state in ("final", "aborted"):
                    break
    return [each for each in found if each]


async def _say(
    socket: ClientConnection, found: list[dict[str, Any]], number: str, method: str, params: Any
) -> None:
    await socket.send(
        orjson.dumps({"type": "req", "id": number, "method": method, "params": params}).decode()
    )
    found.append({"asked": method})


def _kept(frame: str | bytes) -> dict[str, Any]:
    message: dict[str, Any] = orjson.loads(frame)
    if message.get("type") == "event" and message.get("event") not in KEPT:
        return {}
    if message.get("id") == "0" and message.get("ok"):
        message["payload"] = {k: v for k, v in message["payload"].items() if k in HELLO}
    return message


def _write(name: str, found: list[dict[str, Any]], token: str, folder: Path) -> None:
    HERE.mkdir(exist_ok=True)
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    for secret in (token, str(folder)):
        text = text.replace(secret, "***")
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1])))
