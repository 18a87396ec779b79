import asyncio
import os
import signal
import sys

import pytest

from asyncsvc.lifecycle import reload as module
from asyncsvc.lifecycle.reload import hangup

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


async def heard(terminal_after: bool) -> str:
    """What a hangup calls, in a service that was started in a terminal."""
    said: asyncio.Queue[str] = asyncio.Queue()
    module.has_terminal = lambda: True
    with hangup(lambda: said.put_nowait("reload"), lambda: said.put_nowait("stop")):
        module.has_terminal = lambda: terminal_after
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            return await said.get()


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_terminal", module.has_terminal)


async def test_it_reloads_while_thehas_terminal_is_there_and_ends_with_it() -> None:
    assert await heard(True) == "reload"
    assert await heard(False) == "stop"


async def test_a_process_that_ignores_sighup_is_not_ended_by_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert await heard(False) == "reload"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_system_without_the_signal_notices_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    with hangup(lambda: None, lambda: None):
        assert signal.getsignal(signal.Signals(1)) is before


def test_ahas_terminal_is_there_or_not() -> None:
    assert module.has_terminal() in (True, False)
