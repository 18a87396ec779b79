"""`chat`: a conversation, in a real terminal and without one."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tests.cli.processes import LONGEST_S, MAIN, Place


class Screen:
    """`chat` with a terminal of its own that controls it: keys are typed, not signals sent."""

    def __init__(self, place: Place, *argv: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.popen: subprocess.Popen[bytes] = subprocess.Popen(
            [*MAIN, "chat", *argv],
            cwd=place.folder,
            env=dict(place.env),
            preexec_fn=lambda: os.login_tty(theirs),
        )
        os.close(theirs)
        self._shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C at the prompt until a new one is shown.

        CPython's readline looks for a signal only when one ends its wait for a key: a Ctrl-C that
        comes between two waits, which no person can aim at, is noticed with the next key alone.
        """
        self._shown = ""
        for _ in range(int(LONGEST_S)):
            self.type("\x03")
            while select.select([self._ours], [], [], 1)[0] and self._more():
                pass
            if re.search("\n.*> ", self._shown):
                self._shown = ""
                return
        raise AssertionError(self._shown)

    def until(self, text: str) -> str:
        """What was shown up to it; what follows is for the next look."""
        while text not in self._shown:
            assert self._more(), self._shown
        before, _, self._shown = self._shown.partition(text)
        return before

    def left(self) -> int:
        while self._more():
            pass
        return self.popen.wait(LONGEST_S)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        os.close(self._ours)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], LONGEST_S)
        assert ready, repr(self._shown)
        try:
            part = os.read(self._ours, 65536)
        except OSError:
            return False
        self._shown += self._decoder.decode(part)  # a part may end within a character
        return bool(part)


@contextmanager
def screen(place: Place, *argv: str) -> Generator[Screen]:
    made = Screen(place, *argv)
    try:
        yield made
    finally:
        made.close()


def newest(place: Place) -> dict[str, Any]:
    """The task that was submitted last."""
    found = place.run("tasks", "--limit", "1", "--json").json["tasks"][0]
    task: dict[str, Any] = place.run("show", found["task_id"], "--json").json
    return task


def test_a_conversation_in_a_terminal(service: Place) -> None:
    with screen(service, "--model", "slow") as shown:
        assert "slow at http" in shown.until("> ")
        shown.type("What is tea?\r")
        shown.until("[simulated answer]")
        shown.type("\x03")
        shown.until("[cancelled]")
        shown.until("> ")
        first = newest(service)
        assert first["status"] == "cancelled"
        assert first["result"].startswith("#")
        shown.type("Go on.\r")
        shown.until("[simulated answer]")
        shown.type("\x03")
        shown.until("> ")
        messages = newest(service)["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]
        assert messages[1]["content"] == first["result"]
        assert messages[2]["content"] == "Go on."
        shown.type("half a line")
        shown.until("half a line")
        shown.interrupt()
        shown.type("\x04")
        assert shown.left() == 0


def test_lines_of_stdin_are_questions(service: Place) -> None:
    ended = service.run("chat", "--model", "fast", text="one\n\n  \ntwo\n")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("[simulated answer]") == 2
    assert [message["role"] for message in newest(service)["messages"]] == [
        "user",
        "assistant",
        "user",
    ]


def test_a_question_without_an_answer_is_not_kept(service: Place) -> None:
    text = "[[sim:400 x9]] no\nyes\n"
    ended = service.run("chat", "--model", "fast", text=text)
    assert ended.code == 0
    assert "upstream_rejected" in ended.err
    assert len(newest(service)["messages"]) == 1
    ended = service.run("chat", "--model", "fast", text="[[sim:400 x9]] no\n")
    assert ended.code == 1


def test_a_model_that_is_not_there_or_disabled_is_written_at_once(service: Place) -> None:
    ended = service.run("chat", "--model", "nosuch")
    assert ended.code == 1
    assert "there is no model 'nosuch'" in ended.err
    ended = service.run("chat", "--model", "off")
    assert ended.code == 1
    assert "A_KEY_THAT_IS_NOT_SET" in ended.err


def test_a_restart_of_the_service_costs_no_text(place: Place) -> None:
    with place.served() as (process, found), screen(found, "--model", "slow") as shown:
        port = found.env["ASYNCSVC_URL"].rpartition(":")[2]
        shown.until("> ")
        shown.type("Tell me.\r")
        shown.until("[simulated answer]")
        process.signal(signal.SIGKILL)
        process.popen.wait(LONGEST_S)
        shown.until("connection lost")
        with place.served("--port", port):
            shown.until("> ")
            shown.type("\x04")
            assert shown.left() == 0
            task = newest(found)
    assert task["status"] == "completed"
    assert len(task["result"]) > 100


def test_no_client_there_is_one_line(place: Place) -> None:
    ended = place.run("chat", "--url", "http://127.0.0.1:9", text="hello\n")
    assert ended.code == 1
    assert "cannot reach" in ended.err
    assert "Traceback" not in ended.err
