"""Each command of the README and of the tour does what it says, in a clean environment.

The README exists twice, with the same commands in both languages: they run once. What is for
PowerShell and cmd is compared with what is for sh, and run where `pwsh` is there.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asyncsvc.cli.init import KEYS
from asyncsvc.cli.parser import run
from asyncsvc.config.load import load
from asyncsvc.providers.dialects import PRESETS
from tests.cli.processes import simulated
from tests.documents.blocks import Block, blocks, columns, headings
from tests.documents.clean_place import ROOT, CleanPlace, clean_place

README, CHINESE = ROOT / "README.md", ROOT / "docs/README.zh-CN.md"
TOUR, OPERATIONS = ROOT / "docs/tour.md", ROOT / "docs/operations.md"
SHELLS = ("bash, zsh", "PowerShell", "cmd")
WHERE = "127.0.0.1:8000"


def of(page: Path, language: str) -> list[str]:
    """The blocks of a page in a language, the two of the installation left out."""
    texts = [block.text for block in blocks(page) if block.language == language]
    return [text for text in texts if ".venv" not in text]


def keyed(page: Path) -> dict[str, list[str]]:
    """The commands by which each shell sets a key and starts the service."""
    heads = SHELLS if page is README else ("bash、zsh", *SHELLS[1:])
    return dict(zip(SHELLS, columns(page, *heads).values(), strict=True))


def test_both_languages_have_the_same_commands_sections_and_links() -> None:
    assert blocks(README) == blocks(CHINESE)
    assert keyed(README) == keyed(CHINESE)
    assert headings(README) == headings(CHINESE)
    inline = re.compile(r"`((?:python|py) [^`]+)`")
    texts = [page.read_text(encoding="utf-8") for page in (README, CHINESE)]
    assert inline.findall(texts[0]) == inline.findall(texts[1])
    lead = [
        sorted((page.parent / link).resolve() for link in re.findall(r"\]\(([^):]+)\)", text))
        for page, text in zip((README, CHINESE), texts, strict=True)
    ]
    lead[0].remove(CHINESE)
    lead[1].remove(README)
    assert lead[0] == lead[1]


def test_it_is_one_screen() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 80


def test_each_shell_sets_the_same_key_and_starts_the_same_program() -> None:
    shells = keyed(README)
    assert {rows[1] for rows in shells.values()} == {"python main.py"}
    shapes = {
        "bash, zsh": r"export (\w+)=\S+",
        "PowerShell": r'\$env:(\w+) = "[^"$`]+"',
        "cmd": r'set (\w+)=[^"\s]+',  # cmd takes quotes and spaces for a part of the value
    }
    found = {re.fullmatch(shapes[shell], shells[shell][0]) for shell in SHELLS}
    (name,) = {match[1] for match in found if match}
    assert None not in found
    models = tomllib.loads((ROOT / "settings.toml").read_text(encoding="utf-8"))["models"]
    assert name in {model.get("api_key_env") for model in models.values()}


def test_powershell_installs_as_sh_does() -> None:
    (line,) = re.findall(r"`(py -m venv [^`]+)`", README.read_text(encoding="utf-8"))
    sh = next(block.text for block in blocks(README) if "demo" in block.text)
    steps = [step.strip() for step in sh.replace("&&", ";").split(";")]
    alike = {
        "python3 -m venv .venv": "py -m venv .venv",
        ". .venv/bin/activate": r".venv\Scripts\Activate.ps1",
    }
    assert [alike.get(step, step) for step in steps] == [step.strip() for step in line.split(";")]
    pwsh = shutil.which("pwsh")
    if pwsh is None:
        pytest.skip("pwsh is absent: PowerShell's lines were compared with those of sh, not run")
    lines = [keyed(README)["PowerShell"][0], "$env:ZHIPU_API_KEY.Length"]
    done = subprocess.run([pwsh, "-NoProfile", "-Command", "; ".join(lines)], capture_output=True)
    assert done.returncode == 0
    assert int(done.stdout) > 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> CleanPlace:
    """The README's two lines were run: a virtual environment is there, and active from now on."""
    place = clean_place(tmp_path_factory.mktemp("readme"))
    demo, test = [block.text for block in blocks(README) if ".venv" in block.text]
    place.sh(test)
    assert (place.folder / "called").read_text() == "pip install .[test]\ntests all\n"
    # The demo to its end is tests/cli/test_cli_demo.py: here its answers have begun.
    with place.started(demo, until="[1 ") as shown:
        assert "four tasks to http://127.0.0.1:" in shown
    assert (place.folder / "called").read_text().endswith("pip install .\n")
    programs = place.folder / ".venv" / "bin"
    (programs / "python3").unlink()  # what is typed from now on is `python`
    return replace(place, env=dict(place.env) | {"PATH": f"{programs}:{place.env['PATH']}"})


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulated(tmp_path_factory.mktemp("provider")) as url:
        yield url


@pytest.fixture(scope="module")
def served(installed: CleanPlace, provider: str) -> Iterator[tuple[CleanPlace, str]]:
    """The service, started as the README says, and its host and port."""
    script = "\n".join(keyed(README)["bash, zsh"]).replace("…", "any")
    variables = {
        "ASYNCSVC_SERVER__PORT": "0",
        "ASYNCSVC_MODELS__ZHIPU__BASE_URL": f"{provider}/v1",
        "ASYNCSVC_MODELS__ZHIPU__CONCURRENCY": "9",
        # The tour's model; it is started there by itself, at a simulator with a fixed port.
        "ASYNCSVC_MODELS__HUNYUAN__BASE_URL": f"{provider}/v1",
        "HUNYUAN_API_KEY": "any",
    }
    with installed.started(script, "listening on ", **variables) as shown:
        assert re.search(r"^enabled +zhipu ", shown, re.MULTILINE)
        where = shown.split("listening on http://")[1].strip()
        env = dict(installed.env) | {"ASYNCSVC_URL": f"http://{where}"}
        yield replace(installed, env=env), where


def at(text: str, where: str) -> str:
    """A block that speaks to the service which was started."""
    assert "8000" not in text.replace(WHERE, "")
    return text.replace(WHERE, where)


@pytest.mark.slow
def test_each_command_runs(
    served: tuple[CleanPlace, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One test, as each process of pytest would install and start all of it for itself."""
    place, where = served
    the_readme_runs(place, where)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("ASYNCSVC_URL", f"http://{where}")
    the_tour_runs(place, where, capsys)


def the_readme_runs(place: CleanPlace, where: str) -> None:
    command, curl = of(README, "sh")
    shown = place.sh(at(command, where))
    assert "simulated answer" in shown
    assert "completed" in shown
    task = json.loads(place.sh(at(curl, where)))
    assert task["status"] == "pending"
    (text,) = of(README, "python")
    assert "simulated answer" in place.sh('python -c "$1"', at(text, where))


def the_tour_runs(place: CleanPlace, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    start, submit, commands, steer = of(TOUR, "sh")
    simulator, serve = start.splitlines()
    assert simulator == "python main.py simulator --port 8001 &"
    assert serve.split()[-2:] == ["python", "main.py"]
    shown = place.sh(at(submit, where) + "echo; echo $id").strip()
    assert '"status":"completed"' in shown
    (text,) = of(TOUR, "python")
    followed = place.sh('python -c "$1" "$2"', at(text, where), shown.splitlines()[-1])
    assert "模拟器的回答" in followed
    shown = run_in_this_process(commands, capsys)
    assert "模拟器的回答" in shown
    assert "hunyuan-lite" in shown
    run_in_this_process(steer, capsys)
    assert Path("copy.db").is_file()


def run_in_this_process(script: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a script of our own commands alone without a process for each; its output."""
    held: dict[str, str] = {}
    shown = ""
    for line in script.splitlines():
        parts = re.fullmatch(
            r"(?:(\w+)=\$\()?python main\.py (.*?)\)?", line.partition(" #")[0].strip()
        )
        assert parts, line
        words = [held.get(word, word) for word in shlex.split(parts[2])]
        assert run(words) == 0, line
        out = capsys.readouterr().out
        held[f"${parts[1]}"] = out.strip()
        shown += out
    return shown


def test_a_restore_is_rehearsed_where_nothing_can_be_called(tmp_path: Path) -> None:
    """How a backup and a restore work by themselves is in tests/cli/test_cli_storage.py."""
    text = next(text for text in of(OPERATIONS, "sh") if "rehearsal" in text)
    backup, write, restore, serve = text.splitlines()
    subprocess.run(["sh", "-eu", "-c", write], cwd=tmp_path, check=True)
    settings = load(tmp_path / "rehearsal.toml", {})
    assert not settings.models
    assert settings.server.port == 8099
    assert backup.split()[-1] == restore.split()[3]
    assert restore.endswith("--settings rehearsal.toml")
    assert serve == (
        f"{settings.webhooks.secret_env}= python main.py serve --settings rehearsal.toml"
    )


def test_the_page_of_keys_has_each_key_and_preset() -> None:
    text = (ROOT / "docs/keys.md").read_text(encoding="utf-8")
    for variable, (_, provider, where) in KEYS.items():
        assert f"`{variable}`" in text, provider
        for address in re.findall(r"https://[^\s,]+", where):
            assert f"({address})" in text, provider
    assert not [name for name in PRESETS if f"`{name}`" not in text]


def test_blocks_and_tables_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n```sh\n# no heading\n```\n| a | b |\n| - | - |\n| `x` | `y` |\n\n## B\n")
    assert blocks(page) == [Block("sh", "# no heading\n")]
    assert columns(page, "b", "a") == {"b": ["y"], "a": ["x"]}
    assert headings(page) == [1, 2]
    with pytest.raises(AssertionError, match="no table"):
        columns(page, "c")
