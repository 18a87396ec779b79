"""The full screen of `watch`: the board with keys, one task with its text, and questions.

Needs the extra `tui`, and nothing else imports textual. Draws at most FRAMES_PER_S times a second,
only where something has changed, and only the rows that are in sight.
"""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any, ClassVar

from rich.console import Group, RenderableType
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Input, Static

from asyncsvc.cli import tables, watch_view
from asyncsvc.cli.agent_lines import how_to_decide
from asyncsvc.cli.client import Api
from asyncsvc.cli.following import follow
from asyncsvc.cli.options import Failure
from asyncsvc.cli.steering import VERBS
from asyncsvc.cli.terminal import plain
from asyncsvc.cli.transcript import TaskView, waiting
from asyncsvc.cli.watch_board import Board, Entry, parsed

FRAMES_PER_S = 8
KEYS = "Enter open · c cancel · p pause/resume · r retry · / filter · ? help · q quit"
TASK_KEYS = "Escape back · c cancel · p pause/resume · r retry"
HELP = """\
Up Down j k       the task above, below
PageUp PageDown   a screen further
Home End g G      the first, the last
Enter             the task with its text, live
c                 cancel it, after a question
p                 pause it, or let it go on
r                 retry it, once it has ended
/                 filter: words of its text, and any of
                  status:failed model:NAME lane:long session:ID
                  type:agent owner:NAME id:END
Escape            back; on the list: all tasks again
q Ctrl-C          leave; the tasks go on

Running tasks come first, then those that wait with the next
first, then those that ended with the latest first. A model
shows its calls under way of its slots, and its calls in the
last 60 s of those that its rpm allows."""


def show(api: Api, unfinished: int, ended: int) -> None:
    """Show the board until the reader leaves. Raises Failure where the service has gone."""
    app = WatchApp(api, unfinished, ended)
    app.run()
    if app.failure is not None:
        raise app.failure


class TaskRows(Widget, can_focus=True):
    """The list: the rows in sight, one of which is chosen. The choice stays with its task."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)"),
        Binding("down,j", "step(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown,space", "page(1)"),
        Binding("home,g", "step(-100000)"),
        Binding("end,G", "step(100000)"),
    ]

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._first = self._at = 0
        self._chosen: str | None = None

    @property
    def chosen(self) -> Entry | None:
        """The chosen task."""
        entries = self._board.entries()
        ids = [each.view.task_id for each in entries]
        if self._chosen in ids:
            self._at = ids.index(self._chosen)
        self._at = max(0, min(self._at, len(entries) - 1))
        return entries[self._at] if entries else None

    def action_step(self, count: int) -> None:
        """Choose the task so many rows further."""
        entries = self._board.entries()
        if self.chosen is not None:
            self._at = max(0, min(self._at + count, len(entries) - 1))
            self._chosen = entries[self._at].view.task_id
        self.refresh()

    def action_page(self, count: int) -> None:
        """Choose a task a screen further."""
        self.action_step(count * max(self.size.height - 2, 1))

    def on_mouse_scroll_down(self) -> None:
        """Scroll by the wheel."""
        self.action_step(3)

    def on_mouse_scroll_up(self) -> None:
        """Scroll by the wheel."""
        self.action_step(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose the row under the pointer."""
        if event.y > 0:
            self.chosen  # noqa: B018  # its row may have moved
            self.action_step(self._first + event.y - 1 - self._at)

    def render(self) -> RenderableType:
        """The rows in sight."""
        room, chosen = max(self.size.height - 1, 1), self.chosen
        entries = self._board.entries()
        self._first = max(min(self._first, self._at, len(entries) - room), self._at - room + 1, 0)
        if chosen is None:
            return Text("no task" if self._board.connected else "", watch_view.DIM)
        seen = entries[self._first : self._first + room]
        return watch_view.rows(seen, self.size.width, chosen.view.task_id)


class Head(Widget):
    """The head of the board."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def render(self) -> RenderableType:
        """The head's lines."""
        return Group(*watch_view.head(self._board, self.size.width))


class Question(ModalScreen[bool]):
    """A question to which y is yes and any other key is no."""

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question at the bottom."""
        yield Static(tables.one_line(f"{self._question} [y/N]", "bold yellow"), id="note")

    def on_key(self, event: events.Key) -> None:
        """Take the answer."""
        event.stop()
        self.dismiss(event.key in ("y", "Y"))


class Help(ModalScreen[None]):
    """The keys; any key leaves."""

    def compose(self) -> ComposeResult:
        """The keys in the middle."""
        yield Static(Text(HELP), id="help")

    def on_key(self, event: events.Key) -> None:
        """Leave."""
        event.stop()
        self.dismiss()


class TaskScreen(Screen[None]):
    """One task: its state, what was asked, and its text as it comes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,backspace", "app.pop_screen"),
        Binding("j", "scroll(1)"),
        Binding("k", "scroll(-1)"),
    ]

    def __init__(self, api: Api, view: TaskView) -> None:
        super().__init__()
        self._api = api
        self._view = TaskView(view.task_id, view.status, name=view.name)
        self._asked = ""
        self._changed = True
        self._follower: asyncio.Task[None] | None = None

    @property
    def view(self) -> TaskView:
        """The task as it stands."""
        return self._view

    def compose(self) -> ComposeResult:
        """Facts, texts, keys."""
        yield Static(id="facts")
        with VerticalScroll(id="texts"):
            yield Static(id="text")
        yield Static(Text(TASK_KEYS, watch_view.DIM), id="note")

    def on_mount(self) -> None:
        """Begin to follow the task."""
        self._follower = asyncio.create_task(self._follow())
        self.set_interval(1 / FRAMES_PER_S, self._draw)
        self.query_one(VerticalScroll).focus()

    def on_unmount(self) -> None:
        """Follow it no more."""
        if self._follower is not None:
            self._follower.cancel()

    def action_scroll(self, lines: int) -> None:
        """Scroll the text."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    async def _follow(self) -> None:
        try:
            task = await asyncio.to_thread(self._api.task, self._view.task_id)
            asked = task.get("content") or task.get("messages") or task.get("input")
            self._asked = asked if isinstance(asked, str) else repr(asked)
            async with aclosing(follow(self._api.address, self._view.task_id)) as found:
                async for event in found:
                    self._view.take(event)
                    self._changed = True
            if isinstance(task["result"], str) and not self._view.text:
                self._view.text = task["result"]
        except Failure as failure:
            self._view.error = {"code": "not followed", "message": str(failure)}
        self._changed = True

    def _draw(self) -> None:
        if not self._changed:
            return
        self._changed = False
        view = self._view
        facts = Text.assemble((view.task_id, "bold"), "  ", tables.status(view.status))
        facts.append("  ").append_text(tables.one_line(view.name))
        state = watch_view.progress(view) if view.error else tables.one_line(waiting(view), "cyan")
        if view.waits and view.asked:
            state.append(f"  {how_to_decide(view.asked, view.task_id)}", "magenta")
        if view.ended and not view.error:
            rate = f", {view.mean_rate:.0f} tokens/s" if view.mean_rate else ""
            took = f"{tables.duration(view.latency)}{rate}" if view.latency else ""
            state = Text(took, "green")
        self.query_one("#facts", Static).update(Group(facts, state))
        texts = self.query_one(VerticalScroll)
        at_end = texts.scroll_y >= texts.max_scroll_y - 1
        body = Text.assemble((plain(self._asked), watch_view.DIM), "\n\n", plain(view.text))
        if view.thoughts and not view.text:
            body.append(plain(view.thoughts), "italic")
        self.query_one("#text", Static).update(body)
        if at_end and not view.ended:
            texts.scroll_end(animate=False)


class WatchApp(App[None]):
    """The program of the full screen."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layers: base; }
    Head { height: 3; }
    TaskRows { height: 1fr; }
    Input { display: none; border: none; height: 1; padding: 0; background: ansi_default; }
    Input.open { display: block; }
    #note { height: 1; dock: bottom; }
    #facts { height: 3; }
    #texts { height: 1fr; scrollbar-size-vertical: 1; scrollbar-color: ansi_bright_black;
             scrollbar-color-active: ansi_bright_black; scrollbar-color-hover: ansi_bright_black;
             scrollbar-background: ansi_default; scrollbar-background-hover: ansi_default;
             scrollbar-background-active: ansi_default; }
    #text { height: auto; }
    Question, Help { background: transparent; }
    Help { align: center middle; }
    #help { width: auto; height: auto; max-width: 100%; border: round ansi_blue; padding: 0 1;
            background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c,ctrl+q", "leave", priority=False),
        Binding("enter", "open"),
        Binding("c", "steer('cancel')"),
        Binding("p", "steer('pause')"),
        Binding("r", "steer('retry')"),
        Binding("slash", "filter"),
        Binding("escape", "unfilter"),
        Binding("question_mark", "help"),
    ]

    def __init__(self, api: Api, unfinished: int, ended: int) -> None:
        super().__init__(ansi_color=True)
        self.failure: Failure | None = None
        self._api = api
        self.board = Board(api, unfinished, ended)
        self._drawn = -1, 0.0
        self._notice = ""
        self._tasks: set[asyncio.Task[None]] = set()

    def compose(self) -> ComposeResult:
        """Head, list, filter, keys."""
        yield Head(self.board)
        yield TaskRows(self.board)
        yield Input(placeholder="words, or status:failed model:NAME session:ID")
        yield Static(id="note")

    def on_mount(self) -> None:
        """Begin to follow the service."""
        self.query_one(TaskRows).focus()
        with suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread
            # Else a program that is ended leaves the terminal without echo.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)
        self._start(self._keep_up())
        self.set_interval(1 / FRAMES_PER_S, self._draw)

    def on_unmount(self) -> None:
        """Follow it no more."""
        with suppress(NotImplementedError, RuntimeError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_up(self) -> None:
        try:
            await self.board.keep_up()
        except Failure as failure:
            self.failure = failure
            self.exit()

    def _draw(self) -> None:
        """Draw what has changed; times of running tasks go on each second."""
        now = asyncio.get_running_loop().time()
        if len(self.screen_stack) > 1 and isinstance(self.screen, TaskScreen):
            return
        changes, at = self._drawn
        if changes == self.board.changes and now - at < 1:
            return
        self._drawn = self.board.changes, now
        base = self.screen_stack[0]
        base.query_one(Head).refresh()
        base.query_one(TaskRows).refresh()
        base.query_one("#note", Static).update(self._note())

    def _note(self) -> Text:
        board = self.board
        if not board.connected:
            return Text("connection lost; looking for the service", "yellow")
        if self._notice:
            return tables.one_line(self._notice, "yellow")
        if board.fault is not None:
            return tables.one_line(board.fault, "red")
        if board.query:
            text = " ".join(f"{name}={value}" for name, value in board.query.items())
            return tables.one_line(f"filter {text}  Escape shows all", "yellow")
        return tables.one_line(KEYS, watch_view.DIM)

    def _say(self, notice: str) -> None:
        self._notice = notice
        self._drawn = -1, 0.0

    def _subject(self) -> TaskView | None:
        """The task that a key is about: the one that is open, else the chosen one."""
        if isinstance(self.screen, TaskScreen):
            return self.screen.view
        entry = self.query_one(TaskRows).chosen
        return None if entry is None else entry.view

    def action_leave(self) -> None:
        """Leave the program; the tasks go on."""
        self.exit()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def action_open(self) -> None:
        """Open the chosen task."""
        view = None if isinstance(self.screen, TaskScreen) else self._subject()
        if view is not None:
            self.push_screen(TaskScreen(self._api, view))

    def action_steer(self, verb: str) -> None:
        """Cancel, pause, resume or retry the task; cancelling is asked about."""
        view = self._subject()
        if view is None:
            return
        if verb == "pause" and view.status == "paused":
            verb = "resume"
        known = VERBS[verb]
        if view.status not in (*known.states, *known.asked):
            self._say(f"{verb} is not for a task that is {view.status}")
            return
        task_id = view.task_id
        if verb != "cancel":
            self._start(self._steer(verb, task_id))
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._start(self._steer(verb, task_id))

        self.push_screen(Question(f"cancel {task_id}, which is {view.status}?"), answered)

    async def _steer(self, verb: str, task_id: str) -> None:
        try:
            task = await asyncio.to_thread(self._api.command, task_id, verb)
            self._say(f"{task_id} is {task['status']}")
        except Failure as failure:
            self._say(str(failure))

    def action_filter(self) -> None:
        """Ask for a filter."""
        if not isinstance(self.screen, TaskScreen):
            self._notice = ""
            line = self.query_one(Input)
            line.add_class("open")
            line.focus()

    def action_unfilter(self) -> None:
        """Leave the line of the filter, or show all."""
        self._notice = ""
        line = self.query_one(Input)
        if line.has_class("open"):
            line.remove_class("open")
            self.query_one(TaskRows).focus()
        elif self.board.query:
            line.value = ""
            self.board.filter({})

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the filter."""
        self.board.filter(parsed(event.value))
        event.input.remove_class("open")
        self.query_one(TaskRows).focus()
