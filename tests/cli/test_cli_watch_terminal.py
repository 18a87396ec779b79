"""`watch` as a process at a terminal: the table and the full screen, and how each is left."""

import signal

import pyte
import pytest

from tests.cli.processes import Ended, Place, Terminal

LEAVES_SCREEN = "\x1b[?1049l"


def screen(ended: Ended) -> str:
    """What the terminal shows at the end."""
    found = pyte.Screen(80, 30)
    pyte.Stream(found).feed(ended.out)
    return "\n".join(line.rstrip() for line in found.display)


def test_the_table_is_shown_in_colours_until_ctrl_c(service: Place) -> None:
    task_id = service.run("submit", "in the table", "--model", "fast", "--wait", "--json")
    terminal = Terminal(service, 80, "watch", "--plain")
    terminal.until("in the table")
    terminal.popen.send_signal(signal.SIGINT)
    ended = terminal.ended()
    assert ended.code == 0
    assert "Traceback" not in ended.out
    lines = screen(ended).splitlines()
    header = next(line for line in lines if "tokens/s" in line)
    # Tasks of other tests are in the table as well; their texts may hold the sign for ESC.
    row = next(line for line in lines if task_id.json["task_id"][-8:] in line)
    assert "\x1b[" in ended.out
    assert "␛" not in header + row


@pytest.mark.parametrize("keys", [b"q", b"\x03", signal.SIGINT, signal.SIGTERM])
def test_the_full_screen_gives_the_terminal_back(
    service: Place, keys: bytes | signal.Signals
) -> None:
    service.run("submit", "on the screen", "--model", "fast", "--wait")
    terminal = Terminal(service, 80, "watch")
    terminal.until("on the screen")
    if isinstance(keys, bytes):
        terminal.write(keys)
    else:
        terminal.popen.send_signal(keys)
    ended = terminal.ended()
    assert (ended.code, "Traceback" in ended.out) == (0, False)
    assert LEAVES_SCREEN in ended.out
