"""`chat`: a conversation in the terminal.

Ctrl-C ends the answer, Ctrl-D the conversation. A broken connection or a restart of the service
costs no text. At a terminal a line that begins with / is a command; each line of a pipe is a
question.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

from asyncsvc.cli.agent_chat import AgentConversation
from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.chat_input import Questions, history_file
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.conversation import Conversation, Look, ModelConversation
from asyncsvc.cli.options import (
    FAILED,
    THERE,
    AgentFlag,
    Approvals,
    Failure,
    Files,
    ModelOption,
    MostSteps,
    Tools,
    Url,
    agent_fields,
)
from asyncsvc.cli.start_offer import offer_start
from asyncsvc.cli.terminal import say

app = Commands()

HELP = {
    "/help": "this list",
    "/model [NAME]": "the models, or the one that answers from now on; auto: routed",
    "/system [TEXT]": "what the model reads before all questions; off: nothing",
    "/clear": "forget all questions and answers",
    "/retry": "ask the last question again, in the place of its answer",
    "/save FILE": "keep the conversation in a new file: Markdown, or messages (.json)",
}
NOTES = (
    "A line that ends with \\ goes on in the next one.",
    'Three double quotes (""") begin and end a text of many lines.',
    "A question that begins with / needs a space before it.",
    "Ctrl-C cancels an answer, Ctrl-D leaves.",
)
ROUTED = "auto"


@app.command(group=THERE)
def chat(
    model: ModelOption = None,
    system: Annotated[
        str | None, Option(metavar="TEXT", help="What the model reads before all questions.")
    ] = None,
    markdown: Annotated[bool, Option(help="Render answers as Markdown at a terminal.")] = False,
    no_history: Annotated[bool, Option(help="Keep no history of what is typed.")] = False,
    agent: AgentFlag = False,
    tool: Tools = None,
    approve: Approvals = None,
    max_steps: MostSteps = None,
    file: Files = None,
    url: Url = None,
) -> int:
    """Converse in the terminal: Ctrl-C cancels the answer, Ctrl-D leaves, /help lists more."""
    own = agent_fields(agent, tool, approve, max_steps, file)
    offer_start(url)
    with reach(url) as api:
        _check_model(api, model)
        lively = sys.stdin.isatty()
        fields = {"lane": "priority"} | own | ({} if model is None else {"model": model})
        look = Look(names_model=lively, markdown=markdown)
        talk: Conversation = (
            AgentConversation(api, fields, asks=lively, look=look)
            if agent
            else ModelConversation(api, fields, look)
        )
        talk.system = system
        if not lively:
            return _answer_lines(talk)
        what = "agent, " if agent else ""
        say(
            f"{what}{model or 'routed'} at {api.address.url}; Ctrl-C cancels, Ctrl-D leaves, "
            "/help lists more"
        )
        words = [each.split()[0] for each in HELP]
        Chat(api, talk).converse(Questions(None if no_history else history_file(), words))
        return 0


def _check_model(api: Api, model: str | None) -> None:
    models = {item["name"]: item for item in api.get("/models")["models"]}
    if model is not None and model not in models:
        raise Failure(f"there is no model {model!r}; known: {', '.join(models) or 'none'}")
    if model is not None and not models[model]["enabled"]:
        raise Failure(f"model {model} is disabled: {models[model]['reason']}")


def _answer_lines(talk: Conversation) -> int:
    """Answer each line of stdin; 1 where the last had no answer."""
    answered = True
    for question in _lines():
        answered = _safely(talk.ask, question)
    return 0 if answered else FAILED


def _lines() -> Iterator[str]:
    for raw in sys.stdin.buffer:
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise Failure("what stdin holds is not UTF-8 text") from None
        if line:
            yield line


class Chat:
    """A conversation with a person at a terminal, who asks questions and gives commands."""

    def __init__(self, api: Api, talk: Conversation) -> None:
        self._api = api
        self._talk = talk
        self._commands = {
            "/help": self._help,
            "/model": self._model,
            "/system": self._system,
            "/clear": self._clear,
            "/retry": self._retry,
            "/save": self._save,
        }

    def converse(self, questions: Iterable[str]) -> None:
        """Answer until there are no more questions."""
        for question in questions:
            name, _, rest = question.strip().partition(" ")
            if question.startswith("/") and "/" not in name[1:]:
                _safely(self._command, name, rest.strip())
            else:
                _safely(self._talk.ask, question.strip())

    def _command(self, name: str, rest: str) -> None:
        command = self._commands.get(name)
        if command is None:
            raise Failure(
                f"there is no command {name}; /help lists them. To ask this as a question, "
                "type a space before it"
            )
        command(rest)

    def _help(self, _: str) -> None:
        for name, meaning in HELP.items():
            say(f"{name:16}{meaning}")
        for note in NOTES:
            say(note)

    def _model(self, name: str) -> None:
        if not name:
            self._list_models()
            return
        if name != ROUTED:
            _check_model(self._api, name)
            self._talk.fields["model"] = name
        else:
            self._talk.fields.pop("model", None)
        self._tell(f"{name} answers" if name != ROUTED else "each question is routed")

    def _list_models(self) -> None:
        chosen = self._talk.fields.get("model", ROUTED)
        for item in self._api.get("/models")["models"]:
            if item.get("type", "chat") != "chat":
                continue
            mark = "*" if item["name"] == chosen else " "
            state = "" if item["enabled"] else f"  disabled: {item['reason']}"
            say(f"{mark} {item['name']:16}{item['model']}{state}")
        say(f"{'*' if chosen == ROUTED else ' '} {ROUTED:16}routed by what is asked")

    def _system(self, text: str) -> None:
        if not text:
            say(self._talk.system or "there is no system message; /system TEXT sets one")
            return
        self._talk.system = None if text == "off" else text
        self._tell("no system message" if text == "off" else "the system message is set")

    def _tell(self, what: str) -> None:
        """Say what was set, and from when on it counts."""
        later = "; the conversation under way goes on as it is, /clear begins a new one"
        say(f"{what}{later if self._talk.under_way else ' from now on'}")

    def _clear(self, _: str) -> None:
        self._talk.clear()
        say("all questions and answers are forgotten")

    def _retry(self, _: str) -> None:
        self._talk.retry()

    def _save(self, name: str) -> None:
        from asyncsvc.cli.new_files import written

        if not name:
            raise Failure("name a file: /save FILE")
        if not self._talk.turns:
            raise Failure("there is nothing to save yet")
        file = Path(name).expanduser()
        text = _messages(self._talk) if file.suffix == ".json" else _document(self._talk)
        with written(str(file)) as out:
            out.write(text.encode())
        say(f"saved in {file.absolute()}")


def _messages(talk: Conversation) -> str:
    return json.dumps(talk.messages("")[:-1], ensure_ascii=False, indent=2) + "\n"


def _document(talk: Conversation) -> str:
    parts = [] if talk.system is None else [f"## System\n\n{talk.system}"]
    for turn in talk.turns:
        parts.append(f"## Question\n\n{turn.question}")
        parts.append(f"## {turn.model or 'Answer'}\n\n{turn.answer}")
    return "\n\n".join(parts) + "\n"


def _safely(call: Callable[..., bool | None], *arguments: str) -> bool:
    """Make a call; its failure or a Ctrl-C ends this turn, not the conversation."""
    try:
        return bool(call(*arguments))
    except Failure as error:
        say(f"asyncsvc: {error}", sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return False
