"""Agent libraries of Python as they come, against the service's process. Opt-in: `-m release`."""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.flows.process import Remote
from tests.release.conftest import TOKEN

pytestmark = [
    pytest.mark.release,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("default"),
]
CALLING = "How is it there? [[sim:calls=1]]"
APIS = pytest.mark.parametrize("api", ["responses", "chat"])


class Weather(BaseModel):
    """The weather of a place."""

    city: str
    days: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk(remote: Remote) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{remote.url}/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def agents() -> Any:
    pytest.importorskip("agents", reason="pip install '.[release]'")
    found = import_module("agents")
    found.set_tracing_disabled(True)
    return found


def agent(agents: Any, sdk: AsyncOpenAI, api: str, **more: Any) -> Any:
    kind = "OpenAIResponsesModel" if api == "responses" else "OpenAIChatCompletionsModel"
    model = getattr(agents, kind)(model="fast", openai_client=sdk)

    @agents.function_tool  # type: ignore[untyped-decorator]
    def weather(city: str, days: int) -> str:
        return f"{days} days of sun in {city}"

    return agents.Agent(name="A", model=model, tools=[weather], **more)


@APIS
async def test_openai_agents_call_tools_and_go_on(agents: Any, sdk: AsyncOpenAI, api: str) -> None:
    made = agent(agents, sdk, api, instructions="Be short.")
    first = await agents.Runner.run(made, CALLING)
    assert first.final_output
    later = [*first.to_input_list(), {"role": "user", "content": "And now?"}]
    assert (await agents.Runner.run(made, later)).final_output
    streamed = agents.Runner.run_streamed(made, CALLING)
    kinds = {event.type async for event in streamed.stream_events()}
    assert streamed.final_output
    assert "run_item_stream_event" in kinds


async def test_openai_agents_with_all_their_settings(agents: Any, sdk: AsyncOpenAI) -> None:
    settings = agents.ModelSettings(
        truncation="auto", store=True, metadata={"a": "b"}, prompt_cache_retention="24h",
        response_include=["reasoning.encrypted_content"], parallel_tool_calls=True,
        verbosity="low", extra_body={"seed": 3, "params": {"top_k": 4}},
    )  # fmt: skip
    made = agent(agents, sdk, "responses", model_settings=settings)
    made.tools.append(agents.WebSearchTool())
    first = await agents.Runner.run(made, "Hello.")
    again = await agents.Runner.run(made, "More.", previous_response_id=first.last_response_id)
    assert again.final_output


@APIS
async def test_openai_agents_of_a_given_shape(agents: Any, sdk: AsyncOpenAI, api: str) -> None:
    made = agent(agents, sdk, api, output_type=Weather)
    made.tools = []
    found = (await agents.Runner.run(made, "Where?")).final_output
    assert isinstance(found, Weather)


@pytest.fixture(scope="module")
def pydantic_ai() -> Any:
    pytest.importorskip("pydantic_ai", reason="pip install '.[release]'")
    return import_module("pydantic_ai")


@APIS
async def test_pydantic_ai(pydantic_ai: Any, sdk: AsyncOpenAI, api: str) -> None:
    models = import_module("pydantic_ai.models.openai")
    providers = import_module("pydantic_ai.providers.openai")
    kind = models.OpenAIResponsesModel if api == "responses" else models.OpenAIChatModel
    model = kind("fast", provider=providers.OpenAIProvider(openai_client=sdk))
    made = pydantic_ai.Agent(model)

    @made.tool_plain  # type: ignore[untyped-decorator]
    def weather(city: str, days: int) -> str:
        return f"{days} days of sun in {city}"

    first = await made.run(CALLING)
    assert first.output
    assert (await made.run("And now?", message_history=first.all_messages())).output
    async with made.run_stream("Tell me.") as streamed:
        assert await streamed.get_output()
    shaped = pydantic_ai.Agent(model, output_type=pydantic_ai.NativeOutput(Weather))
    assert isinstance((await shaped.run("Where?")).output, Weather)


async def test_llm_asks_both_endpoints(
    remote: Remote, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llm", reason="pip install '.[release]'")
    lines = [
        f"- model_id: svc-{kind}\n  model_name: fast\n  api_base: {remote.url}/v1\n"
        f"  api_key_name: svc\n  completion: {str(kind == 'text').lower()}\n"
        for kind in ("chat", "text")
    ]
    (tmp_path / "extra-openai-models.yaml").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    cli, runner = import_module("llm.cli").cli, import_module("click.testing").CliRunner()
    for kind in ("chat", "text"):
        run = runner.invoke(cli, ["-m", f"svc-{kind}", "--key", TOKEN, "Tell me."])
        assert run.exit_code == 0, run.output
        assert len(run.output) > 20, run.output
