"""Programs for Node.js as they come, against the service's process. Opt-in: `-m release`.

Packages are installed below a temporary folder; without `node` and `npm`, or where nothing can be
installed, the tests are skipped.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.flows.process import Remote
from tests.release.conftest import TOKEN

pytestmark = [
    pytest.mark.release,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]
INSTALL_S = 200.0
RUN_S = 60.0
CODEX = """
model = "fast"
model_provider = "service"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.service]
name = "service"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "SERVICE_KEY"
"""


async def run(folder: Path, *argv: str, seconds: float, **environ: str) -> tuple[int, str]:
    """Exit status and output of a program."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env=os.environ | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return -1, f"no end after {seconds} s"
    assert child.returncode is not None
    return child.returncode, output.decode(errors="replace")


async def installed(folder: Path, *packages: str) -> None:
    """Skips the test where the packages cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    (folder / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
    argv = ("npm", "install", "--no-audit", "--no-fund", *packages)
    status, output = await run(folder, *argv, seconds=INSTALL_S)
    if status != 0:
        pytest.skip(f"npm install {' '.join(packages)}: {output[-300:]}")


async def test_the_ai_sdk(remote: Remote, tmp_path: Path) -> None:
    await installed(tmp_path, "ai@6", "@ai-sdk/openai@3", "zod")
    shutil.copy(Path(__file__).with_name("ai_sdk.mjs"), tmp_path)
    environ = {"SERVICE_URL": f"{remote.url}/v1", "SERVICE_KEY": TOKEN}
    status, output = await run(tmp_path, "node", "ai_sdk.mjs", seconds=RUN_S, **environ)
    assert status == 0, output
    found = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    assert found["steps"] == 2
    assert all(found[name] for name in ("first", "second", "searching", "completed"))


async def test_codex(remote: Remote, tmp_path: Path) -> None:
    await installed(tmp_path, "@openai/codex")
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(CODEX.format(url=remote.url), encoding="utf-8")
    environ = {"CODEX_HOME": str(home), "SERVICE_KEY": TOKEN}
    codex = str(tmp_path / "node_modules" / ".bin" / "codex")
    say = ("exec", "--skip-git-repo-check")
    status, output = await run(tmp_path, codex, *say, "Say hi.", seconds=RUN_S, **environ)
    assert status == 0, output
    assert "simulated answer" in output, output
    again = (*say, "resume", "--last", "And again.")
    status, output = await run(tmp_path, codex, *again, seconds=RUN_S, **environ)
    assert status == 0, output
    assert "simulated answer" in output, output
    tasks = (await remote.http.get("/tasks", params={"limit": 5})).json()["tasks"]
    assert {task["status"] for task in tasks} == {"completed"}
