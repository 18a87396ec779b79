"""The settings: what can be set, what is allowed, and what it means.

Owns names, types, defaults, limits and the description of each value. Promises that an unknown
key is a fault. Never holds a secret: the file names the variables that hold them. Reading the
file and the environment is `loading.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema


def _not_bool(value: object) -> object:
    # In Python True is 1, so `rpm = true` would silently mean one call a minute.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_not_bool)]
Seconds = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class OrAuto:
    """A whole number within bounds, or the word "auto"."""

    ge: int
    le: int

    def __get_pydantic_core_schema__(self, _: object, __: object) -> core_schema.CoreSchema:
        number = core_schema.int_schema(ge=self.ge, le=self.le)
        return core_schema.no_info_wrap_validator_function(self._check, number)

    def _check(self, value: object, number: core_schema.ValidatorFunctionWrapHandler) -> object:
        return value if value == "auto" else number(_not_bool(value))


IntOrAuto = int | Literal["auto"]


class Section(BaseModel):
    """A table of the file; unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    auth_tokens_env: str = Field(
        "ASYNCSVC_TOKENS",
        description="variable with the bearer tokens, separated by commas; empty: no auth, "
        "allowed on loopback only",
    )
    allowed_origins: list[str] = Field([], description="browser origins allowed beside our own")
    max_connections: Int = Field(1000, ge=1, le=100_000, description="open connections at once")
    grace_s: Seconds = Field(
        10.0, ge=0, le=3600, description="how long a stop lets running tasks finish"
    )


class Storage(Section):
    path: str = Field("data/asyncsvc.db", min_length=1, description="the SQLite file")
    retention_days: Seconds = Field(
        7, gt=0, le=36500, description="finished tasks older than this are purged"
    )
    max_file_bytes: Int = Field(
        209_715_200, ge=1024, le=1 << 40, description="largest file of /v1/files"
    )


class Queue(Section):
    max_length: Int = Field(10_000, ge=1, le=10_000_000, description="tasks not yet finished")
    max_task_bytes: Int = Field(
        10_485_760, ge=1024, le=1 << 30, description="largest body of a request"
    )
    ttl_s: Seconds = Field(
        604_800, gt=0, description="a task not started by then fails with code expired"
    )
    weights: dict[str, Annotated[Seconds, Field(gt=0, le=1000)]] = Field(
        {}, description="a user's turns beside one turn of anybody else, by the task's owner"
    )


class Timeouts(Section):
    short_s: Seconds = Field(300, gt=0, description="whole task, lanes short and priority")
    long_s: Seconds = Field(86_400, gt=0, description="whole task, lane long")
    connect_s: Seconds = Field(10, gt=0, description="to connect to the provider")
    first_token_s: Seconds = Field(120, gt=0, description="from sending to the first token")
    idle_s: Seconds = Field(120, gt=0, description="silence within a stream")


class Retry(Section):
    max_retries: Int = Field(3, ge=0, le=100, description="tries after the first")
    base_s: Seconds = Field(1.0, gt=0, description="first delay; doubles with each try")
    max_s: Seconds = Field(60.0, gt=0, description="longest delay")

    @model_validator(mode="after")
    def _order(self) -> "Retry":
        if self.max_s < self.base_s:
            raise ValueError("retry.max_s must not be below retry.base_s")
        return self


class Breaker(Section):
    failures: Int = Field(5, ge=1, le=1000, description="consecutive failures that open it")
    cooldown_s: Seconds = Field(30, gt=0, description="how long it stays open before one probe")


class Cache(Section):
    enabled: bool = Field(True, description="answer repeated deterministic requests from memory")
    ttl_s: Seconds = Field(3600, gt=0, description="how long an answer may be repeated")
    max_bytes: Int = Field(67_108_864, ge=0, description="memory for cached answers")


class Limits(Section):
    memory_mb: Int = Field(500, ge=64, description="resident memory above which intake refuses")
    disk_free_mb: Int = Field(200, ge=0, description="free disk below which intake refuses")


class Tools(Section):
    enabled: bool = Field(True, description="let agent tasks use tools")
    workspace: str = Field("data/workspaces", min_length=1, description="folder of the tools")
    timeout_s: Seconds = Field(30, gt=0, description="longest run of one tool call")
    max_output_bytes: Int = Field(65_536, ge=1024, description="output kept of one call")
    exec_allow: list[str] = Field(
        ["python3", "ls", "cat", "grep", "head", "tail", "wc", "sort", "find"],
        description="programs that exec_command may start",
    )
    unsafe_no_sandbox: bool = Field(False, description="run tools without a sandbox; do not")


ModelClass = Literal["simple", "realtime", "reasoning", "batch", "general"]


class Model(Section):
    enabled: bool = Field(True, description="false takes the model out of service")
    type: Literal["chat", "embedding"] = Field("chat", description="what the model does")
    protocol: Literal["openai", "openclaw-ws"] = Field("openai", description="how it is spoken to")
    preset: str | None = Field(None, description="provider's dialect: base URL and parameters")
    base_url: str | None = Field(None, description="address up to and without /chat/completions")
    api_key_env: str | None = Field(None, description="variable that holds the key")
    api_key_envs: list[str] = Field([], description="several such variables, one gate each")
    model: str | list[str] = Field(description="the provider's model id, or several in order")
    concurrency: Annotated[IntOrAuto, OrAuto(1, 10_000)] = Field(
        5, description='calls at once, per key; "auto" learns it'
    )
    rpm: Annotated[IntOrAuto, OrAuto(0, 1_000_000)] = Field(
        0, description='calls in any window; 0 is unlimited, "auto" learns it'
    )
    rpm_window_s: Seconds = Field(60.0, gt=0, le=86_400, description="length of that window")
    tpm: Int = Field(
        0, ge=0, le=1_000_000_000, description="tokens in any such window; 0 is unlimited"
    )
    context: Int = Field(131_072, ge=1, description="tokens of context")
    good_at: list[ModelClass] = Field(["general"], description="classes of tasks it is meant for")
    weight: Seconds = Field(1.0, gt=0, description="preference among equals")
    extra_body: dict[str, Any] = Field({}, description="merged into each request")
    extra_headers: dict[str, str] = Field({}, description="headers sent with each request")

    @field_validator("base_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://", "ws://", "wss://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value else value

    @field_validator("model", mode="before")
    @classmethod
    def _some_model(cls, value: object) -> object:
        ids = [value] if isinstance(value, str) else value
        if not isinstance(ids, list) or not ids or not all(isinstance(i, str) and i for i in ids):
            raise ValueError("must be a model id, or a list of them")
        return value

    @model_validator(mode="after")
    def _one_way_to_keys(self) -> "Model":
        if self.api_key_env is not None and self.api_key_envs:
            raise ValueError("give api_key_env or api_key_envs, not both")
        return self

    @property
    def model_ids(self) -> list[str]:
        """The provider's ids, in the order in which they are tried."""
        return [self.model] if isinstance(self.model, str) else list(self.model)

    @property
    def counted(self) -> bool:
        """Whether calls count against something that outlives the process."""
        return bool(self.rpm or self.tpm)

    @property
    def key_variables(self) -> list[str]:
        """The variables that hold keys; empty where none is needed."""
        return [self.api_key_env] if self.api_key_env else list(self.api_key_envs)


Pool = list[str] | None


class Routes(Section):
    simple: Pool = Field(None, description="models for short everyday questions, in order")
    realtime: Pool = Field(None, description="models for what wants an answer now, in order")
    reasoning: Pool = Field(None, description="models for analysis, mathematics, code, in order")
    batch: Pool = Field(None, description="models for mass work, in order")
    general: Pool = Field(None, description="models for all other chats, in order")
    embedding: Pool = Field(None, description="models for embeddings, in order")

    def of(self, name: str) -> list[str] | None:
        """The models named for a class; None: whatever is good at it."""
        pool: Pool = getattr(self, name)
        return pool


class Routing(Section):
    balance: bool = Field(
        True,
        description="among models with room the one expected to be done first; false: the first "
        "in order of preference",
    )


class Settings(Section):
    """Everything the service can be told. Build it with `loading.load`.

    The one in force is shared by all parts, which ask it at the moment of use; `live.adopt`
    replaces its sections when the file is read again. A section itself never changes.
    """

    model_config = ConfigDict(extra="forbid", frozen=False)

    server: Server = Server()
    storage: Storage = Storage()
    queue: Queue = Queue()
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    cache: Cache = Cache()
    limits: Limits = Limits()
    tools: Tools = Tools()
    models: dict[str, Model] = Field({}, description="the models, one table each")
    routing: Routing = Routing()
    routes: Routes = Routes()

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, Model]) -> dict[str, Model]:
        for name in models:
            if not name or len(name) > 64 or not all(c.isalnum() or c in "_-." for c in name):
                raise ValueError(f"model name {name!r} may hold letters, digits and _ - . only")
            if name == "auto":
                raise ValueError("no model can be called auto: that word asks for routing")
        return models

    @field_validator("routes")
    @classmethod
    def _known_models(cls, routes: Routes, info: ValidationInfo) -> Routes:
        models: dict[str, Model] = info.data.get("models", {})
        for name in Routes.model_fields if "models" in info.data else ():
            pool = routes.of(name)
            if pool is not None:
                _check_pool(name, pool, models)
        return routes


def _check_pool(name: str, pool: list[str], models: Mapping[str, Model]) -> None:
    if not pool or len(set(pool)) < len(pool):
        raise ValueError(f"{name} must name at least one model, each once")
    kind = "embedding" if name == "embedding" else "chat"
    for model in pool:
        if model not in models:
            raise ValueError(f"{name}: there is no model {model!r}; known: {', '.join(models)}")
        if models[model].type != kind:
            raise ValueError(f"{name}: {model} is of type {models[model].type}, not {kind}")


def tokens(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """The bearer tokens that clients may use; empty means that none is asked for."""
    held = environ.get(settings.server.auth_tokens_env, "")
    return [token.strip() for token in held.split(",") if token.strip()]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
