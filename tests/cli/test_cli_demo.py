"""The demo, with a terminal and without one; all play at the same time."""

import itertools
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.processes import Ended, Place, Terminal, environment

MODELS = ("glm-4-flash", "hunyuan-lite", "nvidia/nemotron-3-super-120b-a12b")
PANELS = ("1 问候 · zhipu", "2 提问 · hunyuan", "3 分析 · nvidia1", "4 翻译 · hunyuan")


@dataclass(frozen=True)
class Played:
    """How the demo ended in a pipe, in a terminal, and when it was to keep serving."""

    piped: Ended
    drawn: Ended
    kept: Ended
    counted: Ended
    """Output of `stats` for the service that was kept."""
    left: list[Path]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder, temporary = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("tmp")
    hostile = {
        "ASYNCSVC_SERVER__PROT": "1",
        "ASYNCSVC_TOKENS": "secret",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "TMPDIR": str(temporary),
    }
    place = Place(folder, environment(hostile))
    with place.start("demo") as piped, place.start("demo", "--keep") as kept:
        drawn = Terminal(place, 100, "demo").ended()
        url = kept.until("until Ctrl-C").split("listening on ")[1].split()[0]
        plain = Place(folder, environment())
        counted = plain.run("stats", "--json", "--url", url)
        kept.signal(signal.SIGINT)
        left = [*folder.iterdir()]
        played = Played(piped.ended(), drawn, kept.ended(), counted, left)
    left.extend(temporary.iterdir())
    return played


def test_without_a_terminal_four_answers_come_as_plain_lines(played: Played) -> None:
    assert (played.piped.code, played.piped.err) == (0, "")
    assert "\x1b" not in played.piped.out
    for panel in PANELS:
        lines = [line for line in played.piped.out.splitlines() if line.startswith(f"[{panel}] ")]
        assert len(lines) > 3
        assert "(completed)" in lines[-1]


def test_their_tokens_come_interleaved(played: Played) -> None:
    titles = [line[1:5] for line in played.piped.out.splitlines() if line.startswith("[")]
    changes = sum(one != other for one, other in itertools.pairwise(titles))
    assert changes > 6


def test_the_table_at_the_end_names_models_states_and_tokens(played: Played) -> None:
    table = played.piped.out[played.piped.out.index("provider's id") :]
    for model in MODELS:
        assert model in table
    assert table.count("completed") == 4
    assert "next: " in table


def test_a_terminal_is_drawn_on_and_left_in_order(played: Played) -> None:
    drawn = played.drawn
    assert drawn.code == 0
    assert "Traceback" not in drawn.out
    for panel in PANELS:
        assert panel.split(" · ")[0] in drawn.out
    assert "╭" in drawn.out
    assert "✔ completed" in drawn.out
    assert drawn.out.rindex("\x1b[?25h") > drawn.out.rindex("\x1b[?25l")


def test_it_keeps_serving_when_asked_to(played: Played) -> None:
    assert played.counted.json["completed"] == 4
    assert played.kept.code == 0


def test_it_leaves_nothing_behind(played: Played) -> None:
    assert played.left == []


def test_ctrl_c_ends_it_at_once_without_a_traceback(tmp_path: Path) -> None:
    terminal = Terminal(Place(tmp_path, environment()), 80, "demo")
    terminal.until("›")
    terminal.popen.send_signal(signal.SIGINT)
    ended = terminal.ended()
    assert ended.code == 130
    assert "Traceback" not in ended.out


def test_a_taken_port_is_exit_code_1(service: Place) -> None:
    port = service.env["ASYNCSVC_URL"].rsplit(":", 1)[1]
    ended = service.run("demo", "--port", port)
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert port in ended.err
