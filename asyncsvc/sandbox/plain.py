"""The backend without a sandbox: an ordinary process. For `tools.unsafe_no_sandbox` only.

Promises a clean environment, closed descriptors and the limits on time and output, so that
programs behave alike. Holds back nothing else: files, network and processes are open to it.
"""

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.command import Command, Ended, Output
from asyncsvc.sandbox.supervisor import Process, supervise

NOT_FOUND, NOT_STARTED = 127, 126
"""Exit codes, as shells give them."""


class Plain:
    """Runs commands as they are."""

    name = "none"

    async def run(self, command: Command, output: Output) -> Ended:
        words = command.words()
        if not command.workspace.is_dir():
            raise SandboxUnavailable("the workspace's folder does not exist")
        try:
            return await supervise(
                Process(words, command.variables(), command.workspace), command, output
            )
        except OSError as error:
            found = not isinstance(error, FileNotFoundError)
            text = f"{words[0]}: {error.strerror}\n"
            output(text)
            return Ended(NOT_STARTED if found else NOT_FOUND, text, False, False, 0.0)
