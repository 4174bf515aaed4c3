"""Takes the control plane's calls (logs, shadow reports) and streams the answers to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import ValidationError

from kaon import log
from kaon.agent.act.calls import LogsCall, ShadowCall, compared, logs
from kaon.agent.observe.shadows import Shadows
from kaon.agent.ports import AgentCall, ControlPlane
from kaon.agent.waits import Waits
from kaon.clock import Clock
from kaon.drivers.port import Driver
from kaon.errors import KaonError, NotFound

WAIT_S = 20.0
"""How long the control plane holds a request for a plan or a call open."""

_log = log.get("agent")


class CallAnswers:
    """Answers calls, each in a task of its own. `run` until cancelled."""

    def __init__(self, control: ControlPlane, driver: Driver, shadows: Shadows, clock: Clock) -> None:
        self._control = control
        self._driver = driver
        self._shadows = shadows
        self._clock = clock
        self._waits = Waits(clock)

    async def run(self) -> None:
        """Take and answer calls."""
        failures = idle = 0
        async with asyncio.TaskGroup() as group:
            while True:
                sent_at = self._clock.monotonic()
                try:
                    call = await self._control.next_call(WAIT_S)
                except KaonError as error:
                    failures = await self._waits.after_failure(failures, "no calls from the control plane", error)
                    continue
                failures = 0
                if call is not None:
                    group.create_task(self._answer(call))
                idle = await self._waits.after_answer(idle, sent_at, new=call is not None)

    async def _answer(self, call: AgentCall) -> None:
        lines = _nothing()
        try:
            match call.call:
                case "logs":
                    lines = logs(LogsCall.model_validate(call.arguments), self._driver, self._clock.now())
                case "shadow":
                    lines = compared(ShadowCall.model_validate(call.arguments), self._shadows)
                case _:
                    raise NotFound(f"This agent has no call {call.call!r}.")
        except (NotFound, ValidationError) as error:
            _log.warning("a call of the control plane cannot be answered", error=str(error))
        try:
            await self._control.answer(call.id, lines)
        except (KaonError, OSError):
            pass  # the caller has left, or the place cannot be reached
        except Exception:  # one failing call ends no others
            _log.exception("a call of the control plane was not answered", call=call.call)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
