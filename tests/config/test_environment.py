"""The variables of a `.env` file: its syntax, its place behind the process's own, reading again."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.config.environment import Environment, open_to_others, parsed
from asyncsvc.errors import SettingsError

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=40)
SPACES = st.sampled_from(["", " ", "\t", "  "])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("  A = two words  ", "two words"),
        ("A=x # comment", "x"),
        ("A=x#y", "x#y"),
        ("A=#x", "#x"),
        ("A= # comment", ""),
        ("A=", ""),
        ("A=it's", "it's"),
        ("A='x # y' # comment", "x # y"),
        (r"A='a\nb'", r"a\nb"),
        (r'A="a\nb\t\"c\" \\ \$"', 'a\nb\t"c" \\ $'),
        ("A='two\nlines'", "two\nlines"),
        ("A=$HOME/x", "$HOME/x"),
        ("A=1\nA=2", "2"),
        ("#A=1\n\n  # B=2\nA=3", "3"),
        ("A=1\r\nB=2\r\n", "1"),
    ],
)
def test_a_value_is_what_the_rules_say(line: str, value: str) -> None:
    assert parsed(line)["A"] == value


def test_a_name_without_an_equals_sign_sets_nothing() -> None:
    assert parsed("A\nB=1") == {"B": "1"}


@pytest.mark.parametrize(
    "text",
    [
        "nvapi-" + "abcdefghijklmnopqrstu",
        "A KEY=sk-secret",
        "A-KEY=sk-secret",
        "1KEY=sk-secret",
        "=sk-secret",
        "A='sk-secret",
        'A="sk-secret',
        'A="sk-secret" more',
        "A: sk-secret",
    ],
)
def test_what_is_no_variable_is_a_fault_that_repeats_nothing_of_it(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parsed(f"B=1\n{text}\nC=2", "folder/.env")
    (line,) = caught.value.lines
    assert line.startswith("folder/.env: line 2 ")
    assert "secret" not in line
    assert "nvapi" not in line


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parsed("a b\nA=1\nc d\n'")
    assert [line.split()[2] for line in caught.value.lines] == ["1", "3", "4"]


@given(st.lists(st.tuples(NAMES, TEXTS, SPACES, st.sampled_from(["'", '"'])), max_size=6))
def test_a_quoted_value_is_read_as_it_was_written(
    written: list[tuple[str, str, str, str]],
) -> None:
    text, expected = "", dict[str, str]()
    for name, value, space, mark in written:
        if mark == "'":
            value = value.replace("'", "")
            shown = value
        else:
            shown = value.replace("\\", "\\\\").replace('"', '\\"')
        text += f"{space}{name}{space}={space}{mark}{shown}{mark}{space}\n"
        expected[name] = value
    assert parsed(text) == expected


@given(NAMES, TEXTS)
def test_a_bare_value_ends_at_a_space_and_a_hash(name: str, value: str) -> None:
    value = " ".join(value.replace("#", "").split()).lstrip("'\"").strip()
    assert parsed(f"{name}={value} # {value}\n") == {name: value}


@given(st.text(max_size=200))
def test_any_text_is_variables_or_a_fault(text: str) -> None:
    found = dict[str, str]()
    with suppress(SettingsError):
        found = parsed(text)
    assert all(name.isidentifier() for name in found)


def test_the_variables_of_the_process_win_also_empty_ones(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=file\nB=file\nC=file\n", encoding="utf-8-sig")
    environ = Environment({"B": "process", "C": ""}, file)
    assert dict(environ) == {"A": "file", "B": "process", "C": ""}
    assert len(environ) == 3
    assert "A" not in os.environ
    assert environ.get("D") is None


@pytest.mark.parametrize("beside", [True, False])
def test_it_lies_beside_the_settings_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    (tmp_path / ".env").write_text("A=1")
    settings = tmp_path / "settings.toml" if beside else None
    if not beside:
        monkeypatch.chdir(tmp_path)
    assert Environment.beside(settings, {})["A"] == "1"


def test_there_need_be_no_file(tmp_path: Path) -> None:
    assert dict(Environment({"A": "1"}, tmp_path / "absent" / ".env")) == {"A": "1"}
    (tmp_path / ".env").mkdir()
    assert dict(Environment({}, tmp_path / ".env")) == {}


@pytest.mark.parametrize("data", [b"A=\xff\xfe", b"A=" + b"x" * (1 << 20)])
def test_a_file_that_cannot_be_one_is_a_fault(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".env").write_bytes(data)
    with pytest.raises(SettingsError, match=r"\.env: "):
        Environment({}, tmp_path / ".env")


def test_reading_again_names_what_has_changed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nB=1\nC=1\nD=1")
    environ = Environment({"D": "process"}, file)
    file.write_text("A=1\nB=2\nD=2\nE=2")
    with environ.reread() as changed:
        assert changed == ["B", "C", "E"]
    assert dict(environ) == {"D": "process", "A": "1", "B": "2", "E": "2"}


def test_reading_again_is_undone_by_a_fault(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1")
    environ = Environment({}, file)
    file.write_text("A=2")
    with pytest.raises(SettingsError), environ.reread():
        assert environ["A"] == "2"
        raise SettingsError(["the settings have a fault"])
    assert environ["A"] == "1"
    file.write_text("A 2")
    with pytest.raises(SettingsError), environ.reread():
        raise AssertionError("unreachable")
    assert environ["A"] == "1"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert open_to_others(file) is None
    file.touch(0o600)
    assert open_to_others(file) is None
    file.chmod(0o640)
    assert "chmod 600" in (open_to_others(file) or "")
