"""`simulator`: its output and how it ends."""

import signal
import socket

from tests.cli.processes import Place


def test_it_shows_its_models_and_how_to_use_it_and_ends_with_0(place: Place) -> None:
    with place.start("simulator") as process:
        text = process.until("/_sim/stats")
        assert "simulator listening on http://127.0.0.1:" in text
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert (ended.code, ended.err) == (0, "")
    assert "nvidia-1" in text
    assert "40 in 60 s" in text
    assert '#agent [{"calls": [{"name": "list_directory"}]}, "Done."]' in text
    assert "ASYNCSVC_MODELS__SIMULATED__BASE_URL=http://127.0.0.1:" in text


def test_a_model_is_pointed_at_it_as_shown(place: Place, provider: str) -> None:
    variables = {
        "ASYNCSVC_MODELS__SIMULATED__BASE_URL": f"{provider}/v1",
        "ASYNCSVC_MODELS__SIMULATED__MODEL": "glm-4-flash",
    }
    ended = place.run("check", **variables)
    assert ended.code == 0
    assert "simulated" in ended.out.split("disabled")[-1]


def test_a_taken_port_is_one_line_and_exit_code_1(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = place.run("simulator", "--port", str(taken.getsockname()[1]))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1


def test_a_wrong_profile_is_one_line_and_exit_code_2(place: Place) -> None:
    ended = place.run("simulator", "--profile", "none.toml")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "none.toml: No such file" in ended.err


def test_a_profile_with_a_key_is_announced(place: Place) -> None:
    (place.folder / "key.toml").write_text('[server]\napi_key = "k"\nany_model = false\n')
    with place.start("simulator", "--profile", "key.toml") as process:
        text = process.until("/_sim/stats")
    assert "is asked for" in text
    assert "any other name" not in text
