import pytest

from tests.web.serving import Service, expect, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_reload_without_a_file_changes_nothing(service: Service) -> None:
    for body in (None, b"", b" ", b"{}"):
        answer = await service.http.post("/admin/reload", content=body)
        found = expect(answer, 200)
        assert list(found) == [
            "changed", "added", "removed", "needs_restart", "variables", "enabled", "disabled",
        ]  # fmt: skip
        assert not any(found.values())


async def test_a_field_that_does_not_exist_is_named(service: Service) -> None:
    answer = await service.http.post("/admin/reload", json={"force": True})
    assert refused(answer, 422, "invalid_request")["param"] == "force"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 422, "invalid_request"),
        (b"{", 400, "invalid_json"),
        (b"\xff", 400, "invalid_json"),
        (b"{" + b" " * 2000, 413, "task_too_large"),
    ],
)
async def test_bad_bodies_are_the_clients_mistake(
    service: Service, body: bytes, status: int, code: str
) -> None:
    refused(await service.http.post("/admin/reload", content=body), status, code)


async def test_other_methods_are_reported_the_right_one(service: Service) -> None:
    answer = await service.http.get("/admin/reload")
    refused(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]
