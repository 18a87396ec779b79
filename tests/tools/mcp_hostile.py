"""An MCP server of the tests that misbehaves, by the name of its tool; without the SDK."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

STARTED = {"lists": 0, "cancelled": 0}
ECHO = {"name": "echo", "inputSchema": {"type": "object"}}
ODD = [
    ECHO,
    {"name": "read_file", "inputSchema": {"type": "object"}, "description": "\x1b[31mred" * 2000},
    {"name": "a.b", "inputSchema": {"type": "object"}},
    {"name": "large", "inputSchema": {"type": "object", "description": "x" * 40_000}},
    {"name": "number", "inputSchema": {"type": "object", "maximum": 1 << 70}},
    *({"name": name, "inputSchema": {"type": "object"}}
      for name in ("", "a b", "a\nb", "\x1b[2J", "../a", "é", "x" * 65, "a\0b")),
]  # fmt: skip


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
    sys.stdout.flush()


def answer(number: Any, **result: Any) -> None:
    send({"id": number, "result": result})


def text(number: Any, words: str) -> None:
    answer(number, content=[{"type": "text", "text": words}])


def endless_line(*_: Any) -> None:
    while True:
        sys.stdout.write("x" * 1_000_000)


def noise(lines: int) -> None:
    sys.stdout.write("not a message\n" * lines)
    sys.stdout.flush()


def some_noise(number: Any, _: Any) -> None:
    noise(300)
    text(number, "after the noise")


def endless_noise(*_: Any) -> None:
    while True:
        noise(1000)


def costly(number: Any, _: Any) -> None:
    answer(number, content=[{"type": "text", "text": "x", "_meta": {"a": [{}] * 300_000}}])


def many_parts(number: Any, _: Any) -> None:
    answer(number, content=[{"type": "text", "text": "x"}] * 20_000)


def picture(number: Any, _: Any) -> None:
    answer(number, content=[{"type": "image", "data": "A" * 4000, "mimeType": "i/" + "\x1b" * 99}])


def surrogate(number: Any, _: Any) -> None:
    sys.stdout.write(
        f'{{"jsonrpc":"2.0","id":{number},"result":{{"content":[{{"type":"text",'
        '"text":"\\ud800"}]}}\n'
    )
    sys.stdout.flush()


def progress(number: Any, token: Any) -> None:
    for step, message in enumerate(("step 0", "step 1", "step 2", "y" * 100_000)):
        params = {"progressToken": token, "progress": step, "message": message}
        send({"method": "notifications/progress", "params": params})
    text(number, "done")


def asks_back(number: Any, _: Any) -> None:
    methods = ("sampling/createMessage", "roots/list", "elicitation/create")
    for asked, method in enumerate(methods):
        params = {"messages": [], "maxTokens": 10}
        send({"id": f"mine-{asked}", "method": method, "params": params})
    text(number, "asked")


def changes(number: Any, _: Any) -> None:
    for _step in range(500):
        send({"method": "notifications/tools/list_changed"})
    text(number, str(STARTED["lists"]))


def child(number: Any, _: Any) -> None:
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    text(number, str(subprocess.Popen([sys.executable, "-c", ignoring]).pid))


CALLS: dict[str | None, Callable[[Any, Any], None]] = {
    None: lambda number, _: text(number, str(os.getpid())),
    "endless line": endless_line,
    "noise": some_noise,
    "endless noise": endless_noise,
    "costly": costly,
    "large": lambda number, _: text(number, "é" * 600_000),
    "many parts": many_parts,
    "picture": picture,
    "surrogate": surrogate,
    "progress": progress,
    "asks back": asks_back,
    "changes": changes,
    "child": child,
    "cancelled": lambda number, _: text(number, str(STARTED["cancelled"])),
    "hang": lambda *_: None,
}


def list_tools(mode: str, number: Any, page: int) -> None:
    STARTED["lists"] += 1
    if mode == "pages":
        tool = {"name": f"t{page}", "inputSchema": {"type": "object"}}
        answer(number, tools=[tool], nextCursor=str(page + 1))
    elif mode == "empty pages":
        answer(number, tools=[ECHO] if page == 0 else [], nextCursor=str(page + 1))
    elif mode == "one wrong":
        answer(number, tools=[ECHO, {"name": "wrong", "inputSchema": []}])
    else:
        answer(number, tools=ODD if mode == "odd" else [ECHO])


def serve(mode: str, asked: dict[str, Any]) -> None:
    method, number, given = asked.get("method"), asked.get("id"), asked.get("params") or {}
    if method == "initialize":
        server = {"name": mode, "version": "1"}
        can = {"tools": {"listChanged": True}}
        answer(number, protocolVersion="2025-06-18", capabilities=can, serverInfo=server)
    elif method == "tools/list":
        list_tools(mode, number, int(given.get("cursor") or 0))
    elif method == "tools/call":
        token = (given.get("_meta") or {}).get("progressToken")
        CALLS[(given.get("arguments") or {}).get("what")](number, token)
    elif method == "notifications/cancelled":
        STARTED["cancelled"] += 1
    elif number is not None and method is not None:
        send({"id": number, "error": {"code": -32601, "message": "no such method"}})


def main(mode: str) -> None:
    if mode == "noisy":
        noise(50)
        print("\x00\x85\x1b[31m{", flush=True)
    if mode == "silent":
        signal.pause()
    if mode == "long":
        endless_line()
    for line in iter(sys.stdin.readline, ""):
        serve(mode, json.loads(line))
    if mode == "stays":
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
