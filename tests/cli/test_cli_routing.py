import json
from pathlib import Path

import pytest

from asyncsvc.cli.options import Failure
from asyncsvc.cli.routing import route, route_eval
from tests.cli.processes import Place, environment


@pytest.fixture
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSVC_SERVER__PORT", "9")


def _file(folder: Path, *lines: object) -> Path:
    file = folder / "labelled.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n", "utf-8")
    return file


@pytest.mark.usefixtures("no_service")
def test_without_a_service_the_settings_decide_and_the_output_names_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert route("深入分析人工智能对社会的影响") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("no service is running")
    assert "class     reasoning" in printed
    assert "深入分析" in printed
    assert "chosen    nvidia1" in printed


@pytest.mark.usefixtures("no_service")
def test_json_says_that_it_was_offline(capsys: pytest.CaptureFixture[str]) -> None:
    assert route("什么是AI？", as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["class"], answer["chosen"], answer["offline"]) == ("simple", "hunyuan", True)


def test_a_service_that_is_named_must_be_there() -> None:
    with pytest.raises(Failure, match="cannot reach"):
        route("x", url="http://127.0.0.1:9")


def test_a_running_service_is_asked(service: Place) -> None:
    before = service.run("stats", "--json").json
    answer = service.run("route", "--json", "你好").json
    assert (answer["offline"], answer["class"]) == (False, "simple")
    assert answer["chosen"] in [row["model"] for row in answer["candidates"]]
    assert service.run("stats", "--json").json == before


def test_the_matrix_counts_labels_against_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(
        tmp_path,
        {"text": "你好", "class": "simple"},
        {"text": "证明勾股定理", "class": "simple"},
        {"text": "Prove that sqrt(2) is irrational", "class": "reasoning"},
    )
    assert route_eval(file, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matrix"]["simple"] == {"reasoning": 1, "simple": 1}
    assert (found["total"], found["accuracy"]) == (3, 0.6667)
    assert found["recall"] == {"reasoning": 1.0, "simple": 0.5}
    assert found["false_positive_rate"]["reasoning"] == pytest.approx(0.5)


def test_reasoning_labels_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _file(
        tmp_path,
        {"text": "你好", "reasoning": False},
        {"text": "证明勾股定理", "reasoning": True},
        {"text": "not labelled", "reasoning": None},
    )
    assert route_eval(file) == 0
    assert "2 prompts, 100.0% right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [{"text": "x"}, {"class": "simple"}, {"text": "x", "class": "poetry"}, [], 5]
)
def test_a_wrong_line_is_named(tmp_path: Path, line: object) -> None:
    with pytest.raises(Failure, match=r"labelled\.jsonl:1: "):
        route_eval(_file(tmp_path, line))


def test_a_file_without_labels_or_without_existence_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no labelled line"):
        route_eval(_file(tmp_path, {"text": "x", "reasoning": None}))
    with pytest.raises(Failure, match="cannot be read"):
        route_eval(tmp_path / "none")


def test_the_commands_are_in_the_help(tmp_path: Path) -> None:
    ended = Place(tmp_path, environment()).run("--help")
    assert "route-eval" in ended.out
