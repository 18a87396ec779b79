"""No answer and no log line holds a secret of the settings or of the environment."""

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.web.serving import expect, serving

TOKEN, KEY, HEADER, BODY = (f"{name}-of-the-settings-0123" for name in ("tk", "ky", "hd", "bd"))
WEBHOOK = "d2ViaG9va3dlYmhvb2t3ZWJob29rd2ViaG9vaw=="
SECRETS = (TOKEN, KEY, HEADER, BODY, WEBHOOK)
ENVIRON = {"ASYNCSVC_TOKENS": TOKEN, "A_KEY": KEY, "ASYNCSVC_WEBHOOK_SECRET": WEBHOOK}
SHAPE = {"model": "sim", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "A_KEY"}
HIDDEN = {"extra_headers": {"X-Api-Key": HEADER}, "extra_body": {"password": BODY}}


async def test_no_door_shows_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    models: dict[str, Any] = {
        "fast": SHAPE | HIDDEN,
        "off": SHAPE | HIDDEN | {"api_key_env": "NOT_SET"},
    }
    async with serving(tmp_path, ENVIRON, models=models, retry={"max_retries": 0}) as service:
        service.http.headers["Authorization"] = f"Bearer {TOKEN}"
        body = {"content": "hello", "params": {"temperature": 0}}
        accepted = expect(await service.http.post("/tasks", json=body), 202)
        task = await service.done(accepted["task_id"])
        assert task["status"] == "failed"
        paths = expect(await service.http.get("/openapi.json"), 200)["paths"]
        names = {"{task_id}": task["task_id"], "{name}": "fast", "{model_id}": "fast"}
        seen = 0
        for path in paths:
            if "get" not in paths[path]:
                continue
            for name, value in names.items():
                path = path.replace(name, value)
            answer = await service.http.get(path)
            shown = f"{answer.text} {answer.headers}"
            assert not [secret for secret in SECRETS if secret in shown], path
            seen += answer.is_success
        assert seen > 10
        for path, sent in (("/route", body), ("/admin/reload", None)):
            answer = await service.http.post(path, json=sent)
            assert not [secret for secret in SECRETS if secret in answer.text], path
    assert not [secret for secret in SECRETS if secret in caplog.text]
