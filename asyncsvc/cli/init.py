"""`init`: a first settings file, and a `.env` for the keys that it names.

Owns the two files, and the list of places where each key is to be had. Promises that no file is
overwritten, that a key is neither shown nor written anywhere but into `.env`, which only its owner
can read, and that nothing is asked where there is no terminal.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from getpass import getpass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.options import HERE, MISUSED, Failure, program
from asyncsvc.cli.terminal import has_person, say
from asyncsvc.config.environment import ENV_FILE
from asyncsvc.config.listening import DEFAULT_FILE
from asyncsvc.config.secrets import unwrapped

app = Commands()

KEYS: Mapping[str, tuple[str, str, str]] = {
    "ZHIPU_API_KEY": ("zhipu", "Zhipu", "https://open.bigmodel.cn/usercenter/apikeys"),
    "HUNYUAN_API_KEY": (
        "hunyuan",
        "Tencent Hunyuan",
        "https://console.cloud.tencent.com/hunyuan/api-key",
    ),
    "NVIDIA_API_KEY_1": ("nvidia1", "NVIDIA", "https://build.nvidia.com, Get API Key"),
    "NVIDIA_API_KEY_2": ("nvidia2", "NVIDIA, another account", "https://build.nvidia.com"),
    "SILICONFLOW_API_KEY": (
        "siliconflow",
        "SiliconFlow, embeddings",
        "https://cloud.siliconflow.cn/account/ak",
    ),
    "OPENCLAW_GATEWAY_TOKEN": ("openclaw", "OpenClaw", "the token of your own gateway"),
    "TOKENHUB_API_KEY": (
        "tokenhub",
        "Tencent TokenHub",
        "https://cloud.tencent.com/document/product/1823",
    ),
    "DEEPSEEK_API_KEY": ("deepseek", "DeepSeek", "https://platform.deepseek.com/api_keys"),
    "MOONSHOT_API_KEY": ("moonshot", "Moonshot", "https://platform.moonshot.cn/console/api-keys"),
    "DASHSCOPE_API_KEY": (
        "dashscope",
        "Alibaba DashScope",
        "https://bailian.console.aliyun.com/?tab=model#/api-key",
    ),
    "OPENAI_API_KEY": ("openai", "OpenAI", "https://platform.openai.com/api-keys"),
}
"""By the variable of a key: the model in the template, its provider, where to get the key."""
HEAD = """\
# Keys for asyncsvc: write each behind its =. All commands read this file. It must stay secret, so
# it does not belong into a repository. Variables that are set elsewhere win over it.
"""
TAIL = """
# Bearer tokens of clients, separated by commas; needed where other machines may call.
# ASYNCSVC_TOKENS=

# The secret that signs webhooks (docs/webhooks.md).
# ASYNCSVC_WEBHOOK_SECRET=
"""
IGNORED = (ENV_FILE, "data/")
_SIMPLE = re.compile(r"[A-Za-z0-9_.+/=:@-]*")


@app.command(group=HERE)
def init(
    folder: Annotated[Path, Option("--dir", metavar="DIR", help="Where to write.")] = Path(),
) -> int:
    """Write a first settings.toml and a .env for its keys; overwrite nothing."""
    settings, variables = folder / DEFAULT_FILE, folder / ENV_FILE
    if os.path.lexists(settings):
        raise Failure(f"{settings} exists already, so nothing was written; see --dir DIR", MISUSED)
    held = os.path.lexists(variables)
    keys = {} if held else _asked()
    with suppress(FileExistsError):
        _made(folder)
    if held:
        say(f"kept      {variables}, which exists already; it needs the keys that `check` names")
    else:
        _written(variables, env_text(keys), 0o600)
        say(f"wrote     {variables}, for your keys; only you can read it")
    _written(settings, template(keys), 0o644)
    say(f"wrote     {settings}")
    if (ignore := _ignored(folder)) is not None:
        say(f"wrote     {ignore}, so that git leaves out {' and '.join(IGNORED)}")
    here = "" if folder == Path() else f"cd {folder} && "
    if not keys:
        say(f"next      write a key into {variables}")
    say(f"next      {here}{program()} check --try   makes one small call for each key")
    say(f"next      {here}{program()}               starts the service")
    say(f"or        {program()} demo          shows it at work without any key")
    return 0


def template(keys: Iterable[str] = ()) -> str:
    """Return the text of a first settings file; the models of these keys are in use."""
    text = (files("asyncsvc.cli") / DEFAULT_FILE).read_text(encoding="utf-8")
    for variable in keys:
        text = with_model(text, KEYS[variable][0])
    return text


def with_model(text: str, name: str) -> str:
    """Return the text of settings with that model's table, which may be a comment, in use."""
    lines = text.splitlines(keepends=True)
    header = f"# [models.{name}]"
    start = next((at for at, line in enumerate(lines) if line.rstrip() == header), len(lines))
    for at in range(start, len(lines)):
        if not lines[at].startswith("# "):
            break
        lines[at] = lines[at][2:]
    return "".join(lines)


def env_text(keys: Mapping[str, str]) -> str:
    """Return the text of a first `.env` with these keys."""
    parts = [HEAD]
    for variable, (_, provider, where) in KEYS.items():
        parts.append(f"\n# {provider}: {where}\n{variable}={_quoted(keys.get(variable, ''))}\n")
    return "".join([*parts, TAIL])


def _quoted(key: str) -> str:
    if _SIMPLE.fullmatch(key):
        return key
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _asked() -> dict[str, str]:
    """The keys that a person types; none where there is no terminal."""
    if not has_person():
        return {}
    say("Keys of providers, which go into .env alone. Nothing that you type or paste is shown.")
    say("Enter skips one, Ctrl-D the rest, Ctrl-C writes nothing.")
    keys = {}
    for variable, (_, provider, where) in KEYS.items():
        say(f"{provider} ({where})")
        try:
            while (key := unwrapped(getpass(f"  {variable}: "))) and not _usable(key):
                say("  that cannot be a key: it holds signs that no HTTP header can carry")
        except EOFError:
            say("")
            break
        if key:
            keys[variable] = key
    return keys


def _usable(key: str) -> bool:
    return key.isascii() and key.isprintable()


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{folder} cannot be made: {error.strerror or error}", MISUSED) from None


def _written(file: Path, text: str, mode: int) -> None:
    """Write a new file. Raises Failure where there is one already."""
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            out.write(text.encode())
    except FileExistsError:
        raise Failure(f"{file} exists already; it was left as it is", MISUSED) from None
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror or error}", MISUSED) from None


def _ignored(folder: Path) -> Path | None:
    """Add what does not belong into a repository to `.gitignore`; None: nothing was added."""
    place = folder.absolute()
    if not any((each / ".git").exists() for each in (place, *place.parents)):
        return None
    file = folder / ".gitignore"
    try:
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = {line.strip().strip("/") for line in there.splitlines()}
        missing = [name for name in IGNORED if name.strip("/") not in lines]
        if not missing:
            return None
        lead = "\n" if there and not there.endswith("\n") else ""
        with file.open("a", encoding="utf-8") as out:
            out.write(lead + "".join(f"{name}\n" for name in missing))
    except (OSError, UnicodeDecodeError) as error:
        say(f"warning   {file} cannot be written ({error}); keep .env out of git", sys.stderr)
        return None
    return file
