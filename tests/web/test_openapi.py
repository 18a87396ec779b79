"""The document that is made from the routes, and the page that is made from it."""

import re
import subprocess
import sys
from typing import Any

import pytest
import schemathesis
from jsonschema_rs import Draft202012Validator
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.routing import Route

from asyncsvc.access import Permission
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.admin import health
from asyncsvc.web.http.resources import Resource, declared, operation, resource
from asyncsvc.web.openapi import routes as docs
from asyncsvc.web.openapi.asyncapi import asyncapi
from asyncsvc.web.openapi.document import document, served, statuses
from asyncsvc.web.openapi.error_codes import REQUEST_CODES, TASK_CODES
from asyncsvc.web.openapi.page import page
from tests.web.description import ROUTES, operations


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


def test_every_method_served_is_described_and_nothing_else(described: dict[str, Any]) -> None:
    found = {(path, method) for path, method, _ in operations(described)}
    really = set()
    for route in ROUTES:
        if isinstance(route, Route):
            assert isinstance(route, Resource), f"{route.path} cannot be described"
            really |= {(route.path_format, method) for method in route.verbs}
    assert found == really


def test_every_operation_says_what_it_takes_and_gives() -> None:
    silent = [f"{one.method} {one.path}" for one in served(ROUTES) if not declared(one.function)]
    assert silent == []


def test_every_operation_has_words_and_a_name_of_its_own(described: dict[str, Any]) -> None:
    names = [one["operationId"] for _, _, one in operations(described)]
    assert len(set(names)) == len(names)
    for path, method, one in operations(described):
        assert one["summary"], path
        assert not one["summary"].startswith(method), path
        assert one["responses"]


def test_it_is_openapi_3_1(described: dict[str, Any]) -> None:
    assert described["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(described).validate()


def test_every_reference_leads_somewhere_and_every_type_is_used(described: dict[str, Any]) -> None:
    text = str(described)
    mentioned = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert mentioned == described["components"]["schemas"].keys()


def test_a_route_that_declares_little_is_described_as_far_as_can_be_seen() -> None:
    @operation(scope=Permission.READ)
    async def bare(_: Any) -> Any:
        """No more than a sentence."""

    found = document([resource("/bare/{name:path}", PUT=bare)])
    entry = found["paths"]["/bare/{name}"]
    assert entry["parameters"][0]["name"] == "name"
    assert entry["put"]["summary"] == "No more than a sentence"
    assert {"200", "401", "403", "503"} == entry["put"]["responses"].keys()


def test_an_unknown_code_is_a_mistake() -> None:
    route = resource("/x", GET=_with_a_typo)
    with pytest.raises(KeyError, match="task_not_fond"):
        document([route])


@operation(scope=Permission.READ, errors=("task_not_fond",))
async def _with_a_typo(_: Any) -> Any:
    """GET /x: nothing."""


def test_every_code_of_a_refusal_has_its_status() -> None:
    known = statuses()
    assert known["task_not_found"] == 404
    assert known["idempotency_conflict"] == 409
    assert known["shutting_down"] == 503
    assert known["forbidden_origin"] == 403
    assert set(known.values()) == {400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 503}


BODIES: list[dict[str, Any]] = [
    {},
    {"content": "x"},
    {"content": ""},
    {"content": None},
    {"content": "x", "messages": None, "input": None},
    {"content": "x", "messages": []},
    {"content": "x", "type": "embedding"},
    {"content": "x", "type": "chat"},
    {"input": "x"},
    {"input": "x", "type": "embedding"},
    {"input": [], "type": "embedding"},
    {"input": ["x"], "type": "embedding"},
    {"messages": []},
    {"messages": [{}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "king", "content": "x"}]},
    {"messages": [{"role": "user", "content": 1}]},
    {"content": "x", "params": {"stream": True}},
    {"content": "x", "params": {"n": 2}},
    {"content": "x", "params": {"n": 1}},
    {"content": "x", "params": {"thinking": "perhaps"}},
    {"content": "x", "params": {"thinking": {"budget": 1}}},
    {"content": "x", "priority": 10},
    {"content": "x", "lane": "fast"},
    {"content": "x", "run_at": 1},
    {"content": "x", "timeout_s": 0},
    {"content": "x", "contnet": "x"},
]


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_what_may_be_submitted_is_described(body: dict[str, Any], described: Any) -> None:
    schema = {"$ref": "#/components/schemas/Submission", "components": described["components"]}
    allowed = Draft202012Validator(schema).is_valid(body)
    try:
        Submission.model_validate(body)
    except ValidationError:
        assert not allowed
    else:
        assert allowed


SOCKETS = asyncapi(ROUTES)


def test_the_page_names_whose_api_it_is_and_shows_code_as_code(described: dict[str, Any]) -> None:
    contents, shown = page(described, SOCKETS).split('<main id="main">')
    assert ">OpenAI</a>" in contents
    assert ">v1</a>" not in contents
    assert "<code>stream=true</code>" in shown
    assert "`openapi" not in shown


def test_the_page_lists_each_operation_by_its_path_and_each_message(described: Any) -> None:
    contents = page(described, SOCKETS).split('<main id="main">')[0]
    listed = [re.sub("<[^>]+>", "", one) for one in re.findall(r"<li>(.*?)</li>", contents)]
    assert {f"{method}{path}" for path, method, _ in operations(described)} < set(listed)
    assert {"submit", "event chunk", "close codes"} < set(listed)
    own = [one for one in listed if re.match("(GET|POST|DELETE)/tasks(/|$)", one)]
    assert own[:3] == ["GET/tasks", "POST/tasks", "POST/tasks/batch"]


def test_the_page_escapes_what_it_shows(described: dict[str, Any]) -> None:
    sly = "<script>alert(1)</script>"
    info = described["info"] | {"title": sly, "version": sly, "description": f"`{sly}`"}
    shown = page(described | {"info": info}, SOCKETS | {"info": info})
    assert shown.count("<script") == 1
    assert sly not in shown


def test_the_commands_of_a_service_with_tokens_send_one(described: dict[str, Any]) -> None:
    assert "ASYNCSVC_TOKEN" not in page(described, SOCKETS)
    shown = page(described, SOCKETS, tokens=True)
    closed = [one for _, _, one in operations(described) if one.get("security") != []]
    assert shown.count("Bearer $ASYNCSVC_TOKEN") == len(closed)
    assert shown.count("Bearer $env:ASYNCSVC_TOKEN") == len(closed)
    assert "bearer.${token}" in shown


def test_each_error_code_has_its_meaning_and_conversely(described: dict[str, Any]) -> None:
    refused = {one["code"] for one in described["x-error-codes"]}
    assert statuses().keys() | REQUEST_CODES.keys() <= refused
    assert refused <= REQUEST_CODES.keys() | TASK_CODES.keys()
    assert {one["code"] for one in described["x-task-error-codes"]} == TASK_CODES.keys()
    shown = page(described, SOCKETS)
    assert set(re.findall(r'href="#error-(\w+)"', shown)) <= refused
    assert set(re.findall(r' id="error-(\w+)"', shown)) == refused


@pytest.mark.slow
def test_a_start_does_not_import_the_document() -> None:
    asked = (
        "import sys, asyncsvc.server;"
        "made = {f'asyncsvc.web.openapi.{name}' for name in ('document', 'asyncapi', 'page')};"
        "assert not made & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_other_applications_have_documents_of_their_own() -> None:
    one, two = Starlette(), Starlette(routes=[*health.ROUTES])
    assert docs.make(one.routes).document != docs.make(two.routes).document


def test_the_links_of_a_submit_lead_to_what_can_be_done_with_the_task(described: Any) -> None:
    links = described["paths"]["/tasks"]["post"]["responses"]["202"]["links"]
    ways = {one["operationId"]: path for path, _, one in operations(described)}
    assert {ways[link["operationId"]] for link in links.values()} == {
        path for path in described["paths"] if "{task_id}" in path
    }
