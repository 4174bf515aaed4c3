"""`python -m kaon.stack server|agent`: one role, as `kaon up` starts it."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import uvloop

from kaon import log
from kaon.clock import SystemClock
from kaon.errors import KaonError
from kaon.stack.roles import ROLES, ProcessRole, live, read_settings


def main() -> int:
    """Run one role until SIGTERM; the exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
        print(f"usage: python -m kaon.stack {'|'.join(ROLES)}", file=sys.stderr)
        return 2
    os.umask(0o077)
    settings = read_settings()
    log.configure(level=settings.log_level)
    role, clock = ProcessRole(sys.argv[1], settings), SystemClock()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(role, clock))
    except (KaonError, BaseExceptionGroup) as error:
        for leaf in _leaves(error):
            if not isinstance(leaf, KaonError):
                raise
            log.get("stack").error("the role ends", role=role.name, cause=leaf.cause, hint=leaf.hint)
        return 1
    return 0


async def _run(role: ProcessRole, clock: SystemClock) -> None:
    # Each role imports its own parts only, to save memory.
    if role.name == "server":
        from kaon.stack.server import serve
    else:
        from kaon.stack.agent import serve
    gc.freeze()  # loaded modules stay: without them a full collection is a tenth of a second shorter
    await live(role, serve(role.settings, clock), clock)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


if __name__ == "__main__":
    sys.exit(main())
