"""`langchain-openai` as it comes, against the service's process. Opt-in: `pytest -m release`."""

import asyncio
from importlib import import_module
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError
from pydantic import BaseModel

from tests.flows.process import Remote
from tests.release.conftest import TOKEN

pytestmark = [
    pytest.mark.release,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("default"),
]
BOTH = pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])


class Weather(BaseModel):
    """The weather of a place."""

    city: str
    days: int


@pytest.fixture(scope="module")
def library() -> Any:
    pytest.importorskip("langchain_openai", reason="pip install '.[release]'")
    return import_module("langchain_openai")


@pytest.fixture
def model(library: Any, remote: Remote) -> Any:
    """Makes a ChatOpenAI of the service."""

    def made(**more: Any) -> Any:
        given: dict[str, Any] = {"model": "fast", "api_key": TOKEN, "max_retries": 0} | more
        return library.ChatOpenAI(base_url=f"{remote.url}/v1", **given)

    return made


@pytest.fixture
def embedder(library: Any, remote: Remote) -> Any:
    def made(**more: Any) -> Any:
        given: dict[str, Any] = {"model": "embed", "api_key": TOKEN, "max_retries": 0} | more
        return library.OpenAIEmbeddings(base_url=f"{remote.url}/v1", **given)

    return made


@BOTH
async def test_a_question_and_its_usage(model: Any, remote: Remote, responses: bool) -> None:
    answer = model(use_responses_api=responses, temperature=0.5).invoke(
        [("system", "Be short."), ("human", "What is HTTP?")]
    )
    assert len(answer.text.split()) > 5
    assert answer.usage_metadata["output_tokens"] == 12
    assert answer.usage_metadata["total_tokens"] == answer.usage_metadata["input_tokens"] + 12
    assert answer.response_metadata["model_name"] == "fast"
    stats = (await remote.http.get("/tasks/stats")).json()
    assert stats["failed"] == 0


@BOTH
async def test_a_stream_with_usage(model: Any, responses: bool) -> None:
    asked = model(use_responses_api=responses, stream_usage=True)
    streamed = list(asked.stream("Tell me. [[sim:tokens=30 rate=60]]"))
    whole = streamed[0]
    for piece in streamed[1:]:
        whole += piece
    assert len([piece for piece in streamed if piece.text]) > 5
    assert len(whole.text) > 50
    assert whole.usage_metadata["output_tokens"] == 30


@BOTH
async def test_many_at_once_asynchronously(model: Any, responses: bool) -> None:
    asked = model(use_responses_api=responses)
    single = await asked.ainvoke("What is HTTP?")
    pieces = [piece.text async for piece in asked.astream("What is HTTP?")]
    many = await asked.abatch([f"Question {number}" for number in range(8)])
    assert single.text
    assert "".join(pieces)
    assert len(many) == 8
    assert all(answer.text for answer in many)


async def test_a_batch_of_threads(model: Any) -> None:
    answers = await asyncio.to_thread(model().batch, [f"Question {n}" for n in range(6)])
    assert len(answers) == 6
    assert all(answer.text for answer in answers)


@BOTH
async def test_tool_calls_there_and_back(model: Any, responses: bool) -> None:
    messages = import_module("langchain_core.messages")
    asked = model(use_responses_api=responses).bind_tools([Weather])
    history: list[Any] = [messages.HumanMessage("How is it there? [[sim:calls=2]]")]
    answer = asked.invoke(history)
    assert [call["name"] for call in answer.tool_calls] == ["Weather", "Weather"]
    assert answer.tool_calls[0]["args"] == {"city": "simulated", "days": 1}
    assert not answer.invalid_tool_calls
    results = [messages.ToolMessage("fine", tool_call_id=c["id"]) for c in answer.tool_calls]
    after = asked.invoke([*history, answer, *results])
    assert after.text
    assert not after.tool_calls


@BOTH
async def test_tool_calls_of_a_stream(model: Any, responses: bool) -> None:
    asked = model(use_responses_api=responses).bind_tools([Weather], tool_choice="Weather")
    pieces = [piece async for piece in asked.astream("[[sim:calls=2]] go")]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert [call["args"] for call in whole.tool_calls] == [{"city": "simulated", "days": 1}] * 2
    assert not whole.invalid_tool_calls


@BOTH
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
async def test_an_answer_of_a_given_shape(model: Any, responses: bool, method: str) -> None:
    if method == "json_mode":
        shaped = model(use_responses_api=responses).with_structured_output(None, method=method)
        assert isinstance(shaped.invoke("Answer in JSON."), dict)
        return
    shaped = model(use_responses_api=responses).with_structured_output(Weather, method=method)
    assert shaped.invoke("Where? [[sim:calls=1]]") == Weather(city="simulated", days=1)


async def test_a_conversation_by_response_id(model: Any) -> None:
    asked = model(use_responses_api=True, use_previous_response_id=True)
    first = asked.invoke("My name is Ada.")
    again = asked.invoke([("human", "My name is Ada."), first, ("human", "Who am I?")])
    assert again.text
    assert again.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]


@BOTH
async def test_what_was_thought_comes_back_in_the_history(model: Any, responses: bool) -> None:
    asked = model(use_responses_api=responses, output_version="v1")
    first = asked.invoke("Think. [[sim:reasoning=4]]")
    pieces = list(asked.stream("Think. [[sim:reasoning=4 rate=60]]"))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    if responses:
        kinds = [block["type"] for block in whole.content_blocks]
        assert kinds == ["reasoning", "text"]
    assert asked.invoke([("human", "Think."), first, whole, ("human", "And?")]).text


async def test_what_cannot_be_honoured_is_a_bad_request(model: Any) -> None:
    for given in ({"n": 2}, {"logprobs": True}):
        with pytest.raises(BadRequestError, match=next(iter(given))):
            model(**given).invoke("x")


async def test_an_image_goes_along(model: Any) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    question = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    assert model().invoke(question).text
    assert model(use_responses_api=True).invoke(question).text


@BOTH
async def test_a_file_goes_along(model: Any, responses: bool) -> None:
    file = {"type": "file", "base64": "eA==", "mime_type": "application/pdf", "filename": "x.pdf"}
    question = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, file]}]
    assert model(use_responses_api=responses).invoke(question).text


async def test_embeddings(embedder: Any) -> None:
    asked = embedder(check_embedding_ctx_length=False, dimensions=8)
    rows = asked.embed_documents(["one", "two"])
    assert len(rows) == 2
    assert rows[1] == pytest.approx(await asked.aembed_query("two"))


async def test_embeddings_of_tokens_are_refused_with_what_to_do(
    embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiktoken = import_module("tiktoken")
    letters = {bytes([number]): number for number in range(256)}
    own = tiktoken.Encoding("letters", pat_str="(?s).", mergeable_ranks=letters, special_tokens={})
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _: own)
    with pytest.raises(BadRequestError, match="check_embedding_ctx_length=False") as refused:
        embedder().embed_documents(["one", "two"])
    assert refused.value.param == "input"


async def test_a_wrong_token(model: Any) -> None:
    with pytest.raises(AuthenticationError):
        model(api_key="wrong").invoke("x")
