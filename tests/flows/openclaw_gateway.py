"""A real OpenClaw gateway for trying asyncsvc: `python -m tests.flows.openclaw_gateway --dir DIR`.

Owns a scratch folder with node, openclaw, a configuration and the gateway's state, and the one
gateway process that it starts. Promises loopback only, a bounded wait for each step, one line
that says why where a step fails, and that the gateway is gone when it ends. Never touches an
OpenClaw of the user: home, state and configuration are the folder's own.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from asyncsvc.simulator import Profile, running

NODE = "24"
OPENCLAW = "2026.9.6"
TOKEN_VARIABLE = "OPENCLAW_GATEWAY_TOKEN"
INSTALL_S = 600.0
READY_S = 90.0
STOP_S = 20.0
"""A gateway that is asked to stop first lets its runs finish, for up to 315 s by itself."""
POLL_S = 0.1


class GatewayError(Exception):
    """It cannot be had; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that answers. `base_url` ends in /v1; `log` is what it printed."""

    base_url: str
    token: str
    process: asyncio.subprocess.Process
    log: Path
    ready_s: float


def node_in(folder: Path) -> Path:
    return folder / "node_modules/node/bin/node"


def _program(folder: Path) -> Path:
    return folder / "node_modules/openclaw/openclaw.mjs"


def version_in(folder: Path) -> str | None:
    """The version of openclaw that is installed in the folder."""
    try:
        text = _program(folder).with_name("package.json").read_text(encoding="utf-8")
        return str(json.loads(text)["version"])
    except (OSError, ValueError, KeyError):
        return None


async def install(folder: Path) -> None:
    """Put node and openclaw into the folder unless they are there: about 850 MB."""
    if os.name != "posix":
        raise GatewayError("this needs Linux or macOS: it ends processes by their group")
    if node_in(folder).exists() and version_in(folder) == OPENCLAW:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise GatewayError("npm is not on the PATH; install Node.js with npm (any version) first")
    # One after the other: openclaw's own install script already asks for that node.
    await _npm(npm, folder, [f"node@{NODE}"])
    if not node_in(folder).exists():
        raise GatewayError("npm left no node binary: are its install scripts forbidden?")
    await _npm(npm, folder, [f"node@{NODE}", f"openclaw@{OPENCLAW}"])


async def _npm(npm: str, folder: Path, packages: list[str]) -> None:
    log = folder / "install.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *[npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", *packages],
            cwd=folder,
            env={**os.environ, "PATH": _path(folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            status = await asyncio.wait_for(process.wait(), INSTALL_S)
        except TimeoutError:
            raise GatewayError(f"npm install took longer than {INSTALL_S:g} s; see {log}") from None
        finally:
            await _end(process, grace_s=0)
    if status:
        raise GatewayError(f"npm install ended with {status}: {_reason(log)}; see {log}")


def _path(folder: Path) -> str:
    return f"{node_in(folder).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def configuration(folder: Path, port: int, model_url: str) -> dict[str, object]:
    """openclaw.json: the HTTP endpoint on loopback, two agents, one provider at `model_url`."""
    common = {"name": "Simulated", "contextWindow": 131072, "maxTokens": 8192}
    provider = {
        "baseUrl": model_url,
        "apiKey": "none-needed",
        "api": "openai-completions",
        "models": [{"id": "fake-1", **common}, {"id": "other", **common}],
    }
    return {
        "gateway": {
            "mode": "local",
            "port": port,
            "bind": "loopback",
            "auth": {"mode": "token"},
            "controlUi": {"enabled": False},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        },
        "models": {
            "mode": "replace",
            "providers": {"fake": provider},
            "catalogRefresh": {"enabled": False},
        },
        "update": {"checkOnStart": False},
        "logging": {"file": str(folder / "openclaw.log")},
        "agents": {
            "defaults": {
                "model": {"primary": "fake/fake-1"},
                "skipBootstrap": True,
                "heartbeat": {"every": "0m"},
            },
            "list": [{"id": "main", "default": True}, {"id": "second"}],
        },
    }


def token_of(folder: Path, environ: Mapping[str, str]) -> str:
    """The environment's token, else the folder's, made where there is none yet."""
    if given := environ.get(TOKEN_VARIABLE):
        return given
    path = folder / "gateway.token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(24) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


@asynccontextmanager
async def gateway(folder: Path, model_url: str, port: int = 0) -> AsyncIterator[Gateway]:
    """A gateway with the model at `model_url`, ready; stopped at the end. Raises GatewayError."""
    port = _free_port(port)
    token = token_of(folder, os.environ)
    settings, log = folder / "openclaw.json", folder / "gateway.log"
    settings.write_text(
        json.dumps(configuration(folder, port, model_url), indent=2), encoding="utf-8"
    )
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *[str(node_in(folder)), str(_program(folder)), "gateway", "run"],
            cwd=folder,
            env=_environment(folder, settings, token),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        ready_s = await _ready(process, port, log)
        yield Gateway(f"http://127.0.0.1:{port}/v1", token, process, log, ready_s)
    finally:
        await _end(process, grace_s=STOP_S)


def _environment(folder: Path, settings: Path, token: str) -> dict[str, str]:
    """Nothing of the user's but the PATH: ambient keys would enable providers and channels."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": _path(folder),
        "HOME": str(home),
        "OPENCLAW_STATE_DIR": str(folder / "state"),
        "OPENCLAW_CONFIG_PATH": str(settings),
        "OPENCLAW_SKIP_CHANNELS": "1",
        "OPENCLAW_DISABLE_BONJOUR": "1",
        "OPENCLAW_NO_RESPAWN": "1",
        TOKEN_VARIABLE: token,
    }


async def _ready(process: asyncio.subprocess.Process, port: int, log: Path) -> float:
    """Wait for it; how long that took, in seconds."""
    url, loop = f"http://127.0.0.1:{port}/readyz", asyncio.get_running_loop()
    started = loop.time()
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_S), httpx.AsyncClient(trust_env=False) as client:
            while process.returncode is None:
                # Refused at first, then left without an answer until it is up.
                with suppress(httpx.TransportError):
                    if (await client.get(url, timeout=2)).status_code == 200:
                        return loop.time() - started
                await asyncio.sleep(POLL_S)
    if process.returncode is None:
        raise GatewayError(f"the gateway was not ready within {READY_S:g} s; see {log}")
    raise GatewayError(f"the gateway ended with {process.returncode}: {_reason(log)}; see {log}")


def _free_port(wanted: int) -> int:
    """`wanted`, or any for 0. Another user's gateway would look as ready as ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError as error:
            raise GatewayError(f"port {wanted} cannot be had: {error.strerror}") from None
        found: int = probe.getsockname()[1]
        return found


def _reason(log: Path) -> str:
    """The last line that a process printed, but for npm's pointer to its own log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    printed = [line for line in lines if line and "A complete log of this run" not in line]
    return printed[-1][:300] if printed else "it printed nothing"


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Each process leads a group of its own, so what it has started ends with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _end(process: asyncio.subprocess.Process, *, grace_s: float) -> None:
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), grace_s)
    _signal(process, signal.SIGKILL)
    await process.wait()


async def _run(options: argparse.Namespace) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(options.dir, options))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    print("stopped", flush=True)


async def _work(folder: Path, options: argparse.Namespace) -> None:
    if version_in(folder) != OPENCLAW:
        print(f"installing node {NODE} and openclaw {OPENCLAW} into {folder} ...", flush=True)
    await install(folder)
    async with AsyncExitStack() as stack:
        model_url = options.model_url
        if model_url is None:
            simulator = await stack.enter_async_context(running(Profile.builtin()))
            model_url = simulator.base_url
        found = await stack.enter_async_context(gateway(folder, model_url, options.port))
        print(f"model    {model_url}")
        print(f"gateway  {found.base_url}  pid {found.process.pid}, log {found.log}")
        print(f"token    {TOKEN_VARIABLE} as it is set, else in {folder / 'gateway.token'}")
        print(f"ready    after {found.ready_s:.1f} s", flush=True)
        if not options.check:
            status = await found.process.wait()
            raise GatewayError(f"the gateway ended with {status}: {_reason(found.log)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C or until the gateway ends; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.flows.openclaw_gateway")
    parser.add_argument("--dir", type=Path, required=True, help="scratch folder, made if missing")
    parser.add_argument("--port", type=int, default=0, help="of the gateway; 0 takes a free one")
    parser.add_argument("--model-url", help="its model, up to /v1; without it a simulated one")
    parser.add_argument("--check", action="store_true", help="stop as soon as it is ready")
    options = parser.parse_args(argv)
    try:
        options.dir = options.dir.expanduser().resolve()
        options.dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(_run(options))
    except (GatewayError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
