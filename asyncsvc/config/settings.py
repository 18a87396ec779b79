"""The settings: what can be set, what is allowed, and what it means.

Owns names, types, defaults, limits and the description of each value. Promises that an unknown
key is a fault. Never holds a secret: the file names the variables that hold them. Reading the
file and the environment is `loading.py`.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from asyncsvc.config.listening import is_loopback as is_loopback
from asyncsvc.config.model import Model as Model
from asyncsvc.config.secrets import looks_like_key
from asyncsvc.config.telemetry import Log as Log
from asyncsvc.config.telemetry import Otel as Otel
from asyncsvc.config.value_types import Bool, Int, Seconds, Section, Table, web_address
from asyncsvc.config.value_types import Variable as Variable
from asyncsvc.net.allowed_hosts import AllowedHosts
from asyncsvc.net.egress import Egress


class Server(Section):
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    auth_tokens_env: str = Field(
        "ASYNCSVC_TOKENS",
        description="variable with the bearer tokens, separated by commas; empty: no auth, "
        "allowed on loopback only",
    )
    allowed_origins: list[str] = Field([], description="browser origins allowed beside our own")
    certfile: str = Field(
        "", description="certificate with its chain, PEM: serve https; SIGHUP reads it again"
    )
    keyfile: str = Field("", description="key of the certificate, PEM, without a password")
    trusted_proxies: list[str] = Field(
        [],
        description="addresses and networks of reverse proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto count",
    )
    max_connections: Int = Field(1000, ge=1, le=100_000, description="open connections at once")
    max_subscriptions: Int = Field(
        10_000, ge=1, le=1_000_000, description="tasks that all WebSockets together may follow"
    )
    max_subscriptions_per_socket: Int = Field(
        1000, ge=1, le=1_000_000, description="tasks that one WebSocket may follow, beside all"
    )
    keep_alive_s: Int = Field(
        15, ge=1, le=3600, description="how long a connection may wait for its next request"
    )
    client_timeout_s: Seconds = Field(
        10.0, ge=0.1, le=3600, description="for a request's head, and for a body without progress"
    )
    wrong_tokens: Int = Field(
        20, ge=1, le=10_000, description="wrong tokens a minute from one address, then 429"
    )
    grace_s: Seconds = Field(
        10.0, ge=0, le=3600, description="how long a stop lets running tasks finish"
    )

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            parts = urlsplit(origin.rstrip("/"))
            if not (parts.scheme and parts.hostname) or parts.path or parts.query:
                raise ValueError("must be origins, each such as https://app.example.org:8443")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError("must be addresses or networks, such as 10.0.0.0/8") from None
        return value

    @model_validator(mode="after")
    def _both(self) -> "Server":
        if bool(self.certfile) != bool(self.keyfile):
            raise ValueError("server.certfile and server.keyfile must both be set, or neither")
        return self

    @property
    def scheme(self) -> str:
        """Of the service's own URL."""
        return "https" if self.certfile else "http"


class Storage(Section):
    path: str = Field("data/asyncsvc.db", min_length=1, description="the SQLite file")
    retention_days: Seconds = Field(
        7, ge=0, le=36500, description="finished tasks older than this are purged; 0: never"
    )
    max_file_bytes: Int = Field(
        209_715_200, ge=1024, le=1 << 40, description="largest file of /v1/files"
    )
    max_files_mb: Int = Field(
        2000, ge=0, le=1 << 30, description="all files of one owner together; 0: no limit"
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
    first_token_s: Seconds = Field(
        120, gt=0, description="from sending to the first token, whatever comes before it"
    )
    idle_s: Seconds = Field(
        120, gt=0, description="silence within a stream; comments and empty events are none"
    )


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


class Client(Section):
    token_env: str | None = Field(None, description="variable with the client's token")
    token_sha256: str | None = Field(
        None, pattern="^[0-9a-fA-F]{64}$", description="or the token's SHA-256 hash in hex"
    )
    scopes: list[Literal["read", "submit", "admin"]] = Field(
        ["read", "submit"],
        min_length=1,
        description="what the client may do; admin sees and steers everybody's and the service",
    )
    max_unfinished: Int = Field(
        0, ge=0, description="the client's tasks not yet finished, then 429; 0: no limit of its own"
    )
    rpm: Int = Field(
        0, ge=0, le=1_000_000, description="the client's new tasks in any 60 s, then 429; 0: any"
    )

    @model_validator(mode="after")
    def _one_token(self) -> "Client":
        if (self.token_env is None) == (self.token_sha256 is None):
            raise ValueError("needs either token_env or token_sha256")
        return self


class Cache(Section):
    enabled: Bool = Field(True, description="answer repeated deterministic requests from memory")
    ttl_s: Seconds = Field(3600, gt=0, description="how long an answer may be repeated")
    max_bytes: Int = Field(67_108_864, ge=0, description="memory for cached answers")
    across_owners: Bool = Field(
        False, description="repeat an answer also to others than the owner who has asked for it"
    )


MB = 1_000_000


class Limits(Section):
    memory_mb: Int = Field(500, ge=64, description="resident memory above which intake refuses")
    disk_free_mb: Int = Field(200, ge=0, description="free disk below which intake refuses; 0: any")
    loop_lag_ms: Int = Field(
        2000,
        ge=0,
        description="delay of the loop (p90 of 10 s) above which intake refuses; 0: any",
    )
    fds_share: Seconds = Field(
        0.9, gt=0, le=1, description="share of the allowed descriptors above which intake refuses"
    )
    answer_mb: Int = Field(
        32,
        ge=1,
        le=1024,
        description="largest answer of a provider, decompressed: its text, or the document that it "
        "comes in; beyond it the call is closed and the task fails with upstream_too_large. A "
        "stream may have eight times as much with all that stands around its text",
    )

    @property
    def answer_bytes(self) -> int:
        return self.answer_mb * MB


class McpServer(Section):
    command: list[str] = Field([], description="program with its arguments, spoken to over stdio")
    url: str = Field("", description="address of a server over HTTP (streamable), instead")
    pass_envs: list[str] = Field(
        [], description="variables that the program is given beside PATH, HOME and the like"
    )
    token_env: str | None = Field(None, description="variable with the bearer token for the url")

    @model_validator(mode="after")
    def _one_way(self) -> "McpServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        if self.command and not self.command[0]:
            raise ValueError("command: the first item names the program")
        if any("\0" in part for part in self.command):
            raise ValueError("command: no item may hold a NUL")
        if (self.token_env and self.command) or (self.pass_envs and self.url):
            raise ValueError("token_env belongs to a url, pass_envs to a command")
        return self

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = web_address(value, "https://example.org/mcp")
        if parts and "@" in parts.netloc:
            raise ValueError("holds a user or a password; name a variable in token_env instead")
        return value


class Tools(Section):
    enabled: Bool = Field(True, description="let agent tasks use tools")
    workspace: str = Field("data/workspaces", min_length=1, description="folder of the tools")
    timeout_s: Seconds = Field(30, gt=0, description="longest run of one tool call")
    max_output_bytes: Int = Field(65_536, ge=1024, description="output kept of one call")
    exec_allow: list[str] = Field(
        ["python3", "ls", "cat", "grep", "head", "tail", "wc", "sort", "find"],
        description="programs that exec_command may start",
    )
    fetch_allow: list[str] = Field(
        [],
        description="hosts that fetch_url may call: example.org, *.example.org, an address or a "
        "network, with :port where it is not 80 or 443; empty: no such tool",
    )
    approve: list[str] = Field([], description="tools that wait for a person's approval")
    checkpoint_mb: Int = Field(
        256,
        ge=0,
        description="largest workspace that is put back to what it was where a call was cut off, "
        "and most that all checkpoints of a task take; 0: none is put back",
    )
    unsafe_no_sandbox: Bool = Field(False, description="run tools without a sandbox; do not")
    mcp: dict[str, McpServer] = Field(
        {}, description="MCP servers, whose tools join as NAME.tool; a table each"
    )

    @field_validator("fetch_allow")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        AllowedHosts(value, "tools.fetch_allow")
        return value

    @field_validator("mcp")
    @classmethod
    def _server_names(cls, servers: dict[str, McpServer]) -> dict[str, McpServer]:
        for name in servers:
            if not _SERVER.fullmatch(name):
                raise ValueError(
                    f"the name of an MCP server, {name[:40]!r}, may hold at most 32 letters, "
                    "digits and _ -"
                )
        return servers


class Webhooks(Section):
    secret_env: str = Field(
        "ASYNCSVC_WEBHOOK_SECRET",
        min_length=1,
        description="variable with the signing secret (base64, whsec_ before it or not); several, "
        "separated by spaces, each sign; empty: callback_url is refused",
    )
    allow: list[str] = Field(
        [], description="networks and host names that may be called though they are not public"
    )
    at_once: Int = Field(16, ge=1, le=1000, description="deliveries at once")
    per_host: Int = Field(4, ge=1, le=1000, description="of these, to one host")
    timeout_s: Seconds = Field(20, gt=0, le=300, description="one try, from the name to the answer")
    retry_s: list[Annotated[Seconds, Field(gt=0, le=604_800)]] = Field(
        [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400],
        max_length=50,
        description="waits between the tries, each a fifth more or less by chance",
    )

    @field_validator("allow")
    @classmethod
    def _rules(cls, value: list[str]) -> list[str]:
        Egress(value)
        return value


_SERVER = re.compile(r"[A-Za-z0-9_-]{1,32}")
_OWNER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
Pool = list[str] | None
NAME_CHARS = 64
NAME_SIGNS = "_-./:@"
"""What a model's name may hold beside letters and digits, as the names of vendors do."""


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
    balance: Bool = Field(
        True,
        description="among models with room the one expected to be done first; false: the first "
        "in order of preference",
    )


class Settings(Table):
    """All settings of the service. Build them with `loading.load`.

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
    webhooks: Webhooks = Webhooks()
    log: Log = Log()
    otel: Otel = Otel()
    clients: dict[str, Client] = Field(
        {}, description="who may come in beside the tokens of server.auth_tokens_env, a table each"
    )
    models: dict[str, Model] = Field({}, description="the models, one table each")
    routing: Routing = Routing()
    routes: Routes = Routes()
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> dict[str, str]:
        """Where a value comes from, by its full name: file, environment or command line; one that
        is absent has its default."""
        return self._sources

    @field_validator("clients")
    @classmethod
    def _owners(cls, clients: dict[str, Client]) -> dict[str, Client]:
        for name in clients:
            if not _OWNER.fullmatch(name):
                raise ValueError(
                    f"client name {name[:NAME_CHARS]!r} may hold at most {NAME_CHARS} letters, "
                    "digits and _ - . @"
                )
        return clients

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, Model]) -> dict[str, Model]:
        owners: dict[str, str] = {}
        for name, model in models.items():
            _check_name(name)
            for alias in model.aliases:
                _check_name(alias)
                if alias in models:
                    raise ValueError(f"{name}.aliases: {alias!r} is the name of a model")
                if alias in owners:
                    raise ValueError(
                        f"{name}.aliases: {alias!r} is an alias of {owners[alias]} already"
                    )
                owners[alias] = name
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


def _check_name(name: str) -> None:
    """Names stand in addresses: each part between slashes must be one that no client rewrites."""
    if looks_like_key(name):
        raise ValueError("the name of a model looks like a key; it is not repeated here")
    sound = name.isprintable() and all(c.isalnum() or c in NAME_SIGNS for c in name)
    parts = name.split("/")
    if not name or len(name) > NAME_CHARS or not sound or {"", ".", ".."} & set(parts):
        raise ValueError(
            f"model name {name[:NAME_CHARS]!r} may hold at most {NAME_CHARS} letters, digits and "
            f"{' '.join(NAME_SIGNS)}, in parts between slashes that are neither empty nor . or .."
        )
    if name == "auto" or name.startswith("auto:"):
        raise ValueError(f"no model can be called {name}: the word auto asks for routing")


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
