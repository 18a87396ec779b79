"""The file, the environment and the command line; every fault in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.load import earlier_place, load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError

SHIPPED = Path(__file__).parents[2] / "settings.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def faults(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path, environ or {}, overrides)
    assert all("\n" not in line for line in caught.value.lines)
    return caught.value.lines


def faults_of(file: Path, text: str, **environ: str) -> list[str]:
    """The lines without the file's name."""
    file.write_text(text, encoding="utf-8")
    return [line.removeprefix(f"{file}: ") for line in faults(file, environ)]


def loaded(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load(file, environ)


def test_without_a_file_there_are_the_defaults() -> None:
    assert load(None, {}) == Settings()


def test_the_shipped_file_is_right() -> None:
    settings = load(SHIPPED, {})
    assert {"zhipu", "hunyuan", "nvidia1", "nvidia2", "siliconflow", "openclaw"} <= set(
        settings.models
    )


# Precedence -------------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(file: Path) -> None:
    settings = loaded(file, "[server]\nport = 1\nmax_connections = 7", ASYNCSVC_SERVER__PORT="2")
    assert (settings.server.port, settings.server.max_connections) == (2, 7)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai/gpt-5.1", "OPENAI_GPT_5_1"),
        ("qwen3:8b", "QWEN3_8B"),
        ("@cf/meta/llama-3", "_CF_META_LLAMA_3"),
    ],
)
def test_a_name_with_signs_is_written_with_underscores(
    file: Path, name: str, variable: str
) -> None:
    text = f'[models."{name}"]\nmodel = "m"\nbase_url = "http://x"\n'
    settings = loaded(file, text, **{f"ASYNCSVC_MODELS__{variable}__RPM": "30"})
    assert {name: model.rpm for name, model in settings.models.items()} == {name: 30}


def test_the_name_as_it_is_written_goes_before_one_that_is_alike(file: Path) -> None:
    text = "".join(f'[models."{n}"]\nmodel = "m"\nbase_url = "http://x"\n' for n in ("a-b", "a_b"))
    settings = loaded(file, text, ASYNCSVC_MODELS__A_B__RPM="30")
    assert [model.rpm for model in settings.models.values()] == [0, 30]


def test_the_command_line_wins_over_the_environment(file: Path) -> None:
    file.write_text("[server]\nport = 1\ngrace_s = 5\n[storage]\npath = 'a'")
    settings = load(file, {"ASYNCSVC_SERVER__PORT": "2"}, {"server": {"port": 3}})
    assert (settings.server.port, settings.server.grace_s) == (3, 5)
    assert settings.storage.path == str(file.parent / "a")


def test_numbers_are_text_in_the_environment_only(file: Path) -> None:
    settings = loaded(file, "", ASYNCSVC_SERVER__PORT="9", ASYNCSVC_CACHE__ENABLED="false")
    assert (settings.server.port, settings.cache.enabled) == (9, False)
    found = faults_of(file, '[server]\nport = "9"\n[cache]\nenabled = "false"\n')
    assert [line.partition(", got")[0] for line in found] == [
        "server.port: must be a number, not text",
        "cache.enabled: must be true or false",
    ]


def test_tokens_of_no_variable_do_not_open_the_service(file: Path) -> None:
    (fault,) = faults_of(file, '[server]\nhost = "0.0.0.0"\nauth_tokens_env = ""\n')
    assert "so the variable that auth_tokens_env names must hold a token first" in fault


def test_the_names_of_variables_may_be_in_lower_case(file: Path) -> None:
    assert loaded(file, "", asyncsvc_server__port="5").server.port == 5


def test_lists_and_tables_are_json(file: Path) -> None:
    settings = loaded(
        file,
        "",
        ASYNCSVC_SERVER__ALLOWED_ORIGINS='["http://a"]',
        ASYNCSVC_MODELS__NEW='{"model": ["a", "b"], "extra_body": {"x": 1}}',
    )
    assert settings.server.allowed_origins == ["http://a"]
    assert settings.models["new"].model_ids == ["a", "b"]
    assert settings.models["new"].extra_body == {"x": 1}


def test_what_only_looks_like_json_is_text(file: Path) -> None:
    assert loaded(file, "", ASYNCSVC_STORAGE__PATH="[x").storage.path.endswith("/[x")


@pytest.mark.parametrize("name", ["nv-1.x", "NV_1_X", "nv_1-x"])
def test_a_variable_finds_a_model_whose_name_it_cannot_spell(file: Path, name: str) -> None:
    text = f'[models."{name}"]\nmodel = "m"\nrpm = 1'
    settings = loaded(file, text, ASYNCSVC_MODELS__NV_1_X__RPM="30")
    assert {key: model.rpm for key, model in settings.models.items()} == {name: 30}
    replaced = loaded(file, text, ASYNCSVC_MODELS__NV_1_X='{"model": "n"}')
    assert {key: model.model for key, model in replaced.models.items()} == {name: "n"}


def test_a_variable_reaches_into_a_model_s_tables(file: Path) -> None:
    text = '[models.a]\nmodel = "m"\nextra_headers = { X-Agent = "main", other = "1" }'
    settings = loaded(file, text, ASYNCSVC_MODELS__A__EXTRA_HEADERS__X_AGENT="second")
    assert settings.models["a"].extra_headers == {"X-Agent": "second", "other": "1"}


@pytest.mark.parametrize("name", ["ASYNCSVC_TOKENS", "ASYNCSVC_URL", "ASYNCSVC_OTHER", "PATH__X"])
def test_other_variables_are_left_alone(file: Path, name: str) -> None:
    assert loaded(file, "", **{name: "x"}) == loaded(file, "")


def test_a_byte_order_mark_is_no_fault(file: Path) -> None:
    assert loaded(file, "\ufeff[server]\nport = 9").server.port == 9


# Faults -----------------------------------------------------------------------------------


def test_all_faults_are_reported_at_once(file: Path) -> None:
    lines = faults_of(
        file,
        '[serv]\na = 1\n[server]\nhosst = ""\nport = 70000\n[models.a]\nrpm = true',
        ASYNCSVC_CASH__TTL_S="1",
        ASYNCSVC_RETRY__MAX_RETRIES="many",
    )
    assert sorted(line.split(", got")[0].split("; known")[0] for line in lines) == [
        "ASYNCSVC_CASH__TTL_S: unknown section 'cash'; did you mean 'cache'?",
        "ASYNCSVC_RETRY__MAX_RETRIES: retry.max_retries: input should be a valid integer, "
        "unable to parse string as an integer",
        "models.a.model: is required (the provider's model id, or several in order)",
        "models.a.rpm: must be a number, not true or false",
        "serv: unknown key; did you mean 'server'?",
        "server.hosst: unknown key; did you mean 'host'?",
        "server.port: input should be less than or equal to 65535",
    ]


def test_a_fault_says_what_was_given_and_what_the_key_means(file: Path) -> None:
    assert faults_of(file, "[queue]\nmax_length = 0") == [
        "queue.max_length: input should be greater than or equal to 1, got 0 "
        "(tasks not yet finished)"
    ]


@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_password_in_an_address_is_not_repeated(file: Path, source: str) -> None:
    address, text = "https://user:hunter2pw@host/v1", '[models.a]\nmodel = "m"\n'
    if source == "file":
        (line,) = faults_of(file, f'{text}base_url = "{address}"')
    else:
        (line,) = faults_of(file, text, ASYNCSVC_MODELS__A__BASE_URL=address)
    assert "must not hold a user name or a password" in line
    assert "base_url" in line
    assert "hunter2pw" not in line


@pytest.mark.parametrize("key", ["concurrency", "type", "server.port"])
def test_an_address_in_another_key_s_place_is_not_repeated(file: Path, key: str) -> None:
    given = '"https://user:hunter2pw@host/v1"'
    rows = f"[server]\nport = {given}" if key == "server.port" else f"[models.a]\n{key} = {given}"
    assert not any("hunter2pw" in line for line in faults_of(file, rows))


def test_a_word_like_no_key_is_answered_with_the_keys(file: Path) -> None:
    assert faults_of(file, "[breaker]\nzzz = 1") == [
        "breaker.zzz: unknown key; known: failures, cooldown_s"
    ]


def test_a_model_s_unknown_key(file: Path) -> None:
    (line,) = faults_of(file, '[models.a]\nmodel = "m"\nrmp = 1')
    assert line == "models.a.rmp: unknown key; did you mean 'rpm'?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server = 5", "server: input should be"),
        ("models = 5", "models: input should be"),
        ("[models]\na = 5", "models.a: input should be"),
        ('[models.a]\nmodel = ""', "models.a.model: must be a model id, or a list of them"),
        ('[models."a b"]\nmodel = "m"', "models: model name 'a b' may hold"),
        ('[models.a]\nmodel = "m"\ngood_at = ["x"]', "models.a.good_at: input should be 'simple'"),
        ("[retry]\nbase_s = 5\nmax_s = 1", "retry: retry.max_s must not be below retry.base_s"),
    ],
)
def test_faults_of_whole_tables(file: Path, text: str, expected: str) -> None:
    (line,) = faults_of(file, text)
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("text", "variable", "where"),
    [
        ("server = 5", "ASYNCSVC_SERVER__PORT", "server"),
        ("models = [1]", "ASYNCSVC_MODELS__A__RPM", "models.a"),
        ("[models]\na = 'x'", "ASYNCSVC_MODELS__A__RPM", "models.a"),
        ("[server]\nport = 1", "ASYNCSVC_SERVER__PORT__X", "server.port"),
        ("[server]\nport = 1", "ASYNCSVC_SERVER__PORT__X__Y", "server.port.x"),
    ],
)
def test_a_variable_that_reaches_into_no_table(
    file: Path, text: str, variable: str, where: str
) -> None:
    lines = faults_of(file, text, **{variable: "1"})
    assert lines[0] == f"{variable}: cannot be set: {where} is no table"


def test_a_fault_of_a_variable_names_the_variable(file: Path) -> None:
    text = '[models.nv-1]\nmodel = "m"'
    (line,) = faults_of(file, text, asyncsvc_models__nv_1__rpm="x")
    assert line.startswith("asyncsvc_models__nv_1__rpm: models.nv-1.rpm: ")


def test_without_a_file_the_settings_are_to_blame() -> None:
    (line,) = faults(None, {}, {"server": {"port": 70000}})
    assert line.startswith("settings: server.port: input should be less than")


def test_an_unknown_section_like_no_other_is_answered_with_the_sections() -> None:
    (line,) = faults(None, {"ASYNCSVC_ZZZ__A": "1"})
    assert line.startswith("ASYNCSVC_ZZZ__A: unknown section 'zzz'; known: server, storage")


def test_a_file_that_is_not_there(file: Path) -> None:
    assert faults(file) == [f"{file}: no such file; give one with --settings FILE"]


def test_a_file_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    assert "cannot be read" in faults(tmp_path)[0]
    file.write_bytes(b"\xff")
    assert "cannot be read" in faults(file)[0]


def test_a_file_that_is_no_toml(file: Path) -> None:
    (line,) = faults_of(file, "[server]\nport = ")
    assert line.startswith("not valid TOML: ")


# Exposure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [{}, {"ASYNCSVC_TOKENS": ""}, {"ASYNCSVC_TOKENS": " , "}])
def test_other_machines_need_a_token(tokens: dict[str, str]) -> None:
    (line,) = faults(None, tokens, {"server": {"host": "0.0.0.0"}})
    assert line.startswith("server.host: '0.0.0.0' can be reached from other machines")
    assert "ASYNCSVC_TOKENS" in line


def test_the_environment_s_host_is_checked_too() -> None:
    assert "server.host" in faults(None, {"ASYNCSVC_SERVER__HOST": "::"})[0]


def test_with_a_token_any_host_will_do() -> None:
    settings = load(None, {"ASYNCSVC_TOKENS": "secret"}, {"server": {"host": "0.0.0.0"}})
    assert settings.server.host == "0.0.0.0"


def test_a_secret_is_in_no_fault() -> None:
    environ = {"ASYNCSVC_TOKENS": "secret", "ASYNCSVC_SERVER__PORT": "x"}
    assert "secret" not in "".join(faults(None, environ, {"server": {"host": "0.0.0.0"}}))


# Places -----------------------------------------------------------------------------------


def test_relative_paths_count_from_the_folder_of_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = loaded(
        file,
        '[server]\ncertfile = "a.pem"\nkeyfile = "/b.pem"\n[storage]\npath = "sub/x.db"',
        ASYNCSVC_TOOLS__WORKSPACE="work",
    )
    assert settings.storage.path == str(tmp_path / "sub/x.db")
    assert settings.tools.workspace == str(tmp_path / "work")
    assert (settings.server.certfile, settings.server.keyfile) == (
        str(tmp_path / "a.pem"),
        "/b.pem",
    )
    assert load(file, {}, {"storage": {"path": "y.db"}}).storage.path == "y.db"
    assert load(Path("../settings.toml"), {}).storage.path.startswith(str(tmp_path))
    assert loaded(file, "").server.certfile == ""


@pytest.mark.parametrize("given", ["data/x.db", "x.db", "../x.db"])
def test_a_database_where_paths_counted_from_before_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    folder, here = tmp_path / "conf", tmp_path / "work/here"
    folder.mkdir()
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    file = folder / "settings.toml"
    settings = loaded(file, f'[storage]\npath = "{given}"')
    assert earlier_place(settings, file, "storage.path") is None
    earlier = here / given
    earlier.parent.mkdir(exist_ok=True)
    earlier.touch()
    assert earlier_place(settings, file, "storage.path") == earlier
    flag = load(file, {}, {"storage": {"path": given}})
    assert earlier_place(flag, file, "storage.path") is None
    Path(settings.storage.path).parent.mkdir(exist_ok=True)
    Path(settings.storage.path).touch()
    assert earlier_place(settings, file, "storage.path") is None


def test_an_absolute_path_has_no_earlier_place(file: Path, tmp_path: Path) -> None:
    settings = loaded(file, f'[storage]\npath = "{tmp_path}/../x.db"')
    assert earlier_place(settings, file, "storage.path") is None
    assert earlier_place(load(None, {}), None, "storage.path") is None


@pytest.mark.parametrize("ending", ["/chat/completions", "/embeddings/", "/v1/responses"])
def test_an_address_with_an_endpoint_is_a_fault_that_has_the_right_one(
    file: Path, ending: str
) -> None:
    text = f'[models.a]\nmodel = "m"\nbase_url = "https://x.example{ending}"'
    (line,) = faults_of(file, text)
    assert "which each call adds by itself; write https://x.example" in line
    assert line.count("/chat/completions") <= 2
