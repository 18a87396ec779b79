"""Real processes of the command line, with bounded waits."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, str(ROOT / "main.py")]
LONGEST_S = 60.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without variables of the service and of rich."""
    ours = ("ASYNCSVC_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUTF8": "1", "TERM": "xterm-256color"} | dict(more or {})


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Process:
    """A command under way; what it writes is gathered by two threads."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.popen = subprocess.Popen(
            [*MAIN, *argv],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._texts = {"out": "", "err": ""}
        self._news = threading.Condition()
        self._open = 2
        streams = {"out": self.popen.stdout, "err": self.popen.stderr}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream))
            for name, stream in streams.items()
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        pending = b""
        while part := os.read(stream.fileno(), 65536):
            pending += part
            text = pending.decode(errors="ignore")
            with self._news:
                self._texts[name] += text
                self._news.notify_all()
            pending = pending[len(text.encode()) :]
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def until(self, text: str, stream: str = "out") -> str:
        """What was written so far, once it holds `text`."""
        with self._news:
            self._news.wait_for(
                lambda: text in self._texts[stream] or not self._open, timeout=LONGEST_S
            )
            assert text in self._texts[stream], self._texts
            return self._texts[stream]

    def has(self, text: str) -> bool:
        with self._news:
            return text in self._texts["out"]

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def ended(self) -> Ended:
        code = self.popen.wait(LONGEST_S)
        for reader in self._readers:
            reader.join(LONGEST_S)
        return Ended(code, self._texts["out"], self._texts["err"])

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.ended()
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


@dataclass(frozen=True)
class Place:
    """A directory with settings, and the environment that commands are given there."""

    folder: Path
    env: Mapping[str, str]

    def run(self, *argv: str, text: str | None = None, **variables: str) -> Ended:
        done = subprocess.run(
            [*MAIN, *argv],
            cwd=self.folder,
            env=dict(self.env) | variables,
            input=(text or "").encode(),
            capture_output=True,
            timeout=LONGEST_S,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def start(self, *argv: str, **variables: str) -> Generator[Process]:
        process = Process(argv, self.folder, dict(self.env) | variables)
        try:
            yield process
        finally:
            process.close()

    @contextmanager
    def served(self, *argv: str) -> Generator[tuple[Process, "Place"]]:
        """A service here, and a place whose commands find it."""
        with self.start("serve", *argv) as process:
            url = process.until("listening on http://").split("listening on ")[1].split()[0]
            process.until("\n")
            yield process, Place(self.folder, dict(self.env) | {"ASYNCSVC_URL": url})


class Terminal:
    """A command in a terminal of its own, of `columns` by 30."""

    def __init__(self, place: Place, columns: int, *argv: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.popen: subprocess.Popen[bytes] = subprocess.Popen(
            [*MAIN, *argv],
            cwd=place.folder,
            env=dict(place.env),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._data = b""

    def until(self, text: str) -> None:
        """Read until `text` was written, or the command has ended."""
        while text not in self._data.decode(errors="ignore") and self._more():
            pass

    def write(self, keys: bytes) -> None:
        """Type keys."""
        os.write(self._ours, keys)

    def ended(self) -> Ended:
        while self._more():
            pass
        os.close(self._ours)
        code = self.popen.wait(LONGEST_S)
        return Ended(code, self._data.decode(errors="replace"), "")

    def _more(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], LONGEST_S)
        assert ready, self._data
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # the command has closed its side
            return False
        self._data += part
        return bool(part)


PROFILE = """
[default]
answer_tokens = 20
[models.slow]
tokens_per_s = 20.0
answer_tokens = 100
"""
SETTINGS = """
[server]
port = 0
grace_s = 0
[models.fast]
base_url = "{url}/v1"
model = "fast-1"
[models.slow]
base_url = "{url}/v1"
model = "slow"
[models.off]
base_url = "{url}/v1"
api_key_env = "A_KEY_THAT_IS_NOT_SET"
model = "off-1"
"""


@contextmanager
def simulated(folder: Path) -> Generator[str]:
    """A simulator as a process of its own; its URL."""
    (folder / "profile.toml").write_text(PROFILE)
    place = Place(folder, environment())
    with place.start("simulator", "--profile", "profile.toml") as process:
        line = process.until("simulator listening on http://")
        yield line.split("simulator listening on ")[1].split()[0]


def prepared(folder: Path, provider: str) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text(SETTINGS.format(url=provider))
    return Place(folder, environment())
