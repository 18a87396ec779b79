"""What the log says about tasks: one line for each that has failed.

The line names the task, its model and the code of its error. What was asked, and words of a
provider, which may repeat it, are in it only where `log.prompts` is set.
"""

import logging
from collections.abc import Callable

from asyncsvc.config.settings import Log
from asyncsvc.tasks.state import Task

log = logging.getLogger(__name__)


class TaskLog:
    """`settings` gives the section `[log]` that is in force; `tracing`: each task has a trace, not
    only one whose client has sent a context."""

    def __init__(self, settings: Callable[[], Log], tracing: bool = False) -> None:
        self._settings = settings
        self._tracing = tracing

    def failed(self, task: Task) -> None:
        """A task has ended with an error."""
        error = task.error or {}
        code, model = error.get("code"), task.name or task.request.model
        fields = {
            "task_id": task.id,
            "attempt": task.starts,
            "model": model,
            "code": code,
            "lane": task.request.lane,
            "seconds": task.latency,
        }
        if task.request.traceparent is not None or self._tracing:
            fields["trace_id"] = task.request.trace_id
        where = f"attempt {task.starts} at model {model}" if task.starts else "before its start"
        text, values = "task %s failed with %s, %s", [task.id, code, where]
        if self._settings().prompts:
            fields |= {"prompt": task.request.preview, "error": error.get("message")}
            text, values = f"{text}: %s; asked: %s", [*values, error.get("message"),
                                                      task.request.preview]  # fmt: skip
        log.info(text, *values, extra=fields)
