"""A replica's life: loading, ready, draining, ended.

The loop has a thread of its own and serves the control socket from the start, while the user's class is imported and
constructed in the main thread. The service socket is bound from the start as well and answers 503 until the service is
ready, so that no connection is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from pathlib import Path
from typing import Any

from kaon.clock import Clock, SystemClock
from kaon.errors import ConfigError
from kaon.runtime import forks, logs
from kaon.runtime.access_list import AccessList
from kaon.runtime.app import App
from kaon.runtime.control import Control
from kaon.runtime.inflight import NOWHERE, Flights
from kaon.runtime.mounts import Mounts
from kaon.runtime.protocol import ReplicaProtocol
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.server import Server, bound, server
from kaon.runtime.serving import Serving
from kaon.runtime.signals import Signals
from kaon.runtime.site import site_of
from kaon.runtime.steps import in_context
from kaon.runtime.threads import MainThread
from kaon.sdk import handle
from kaon.sdk.load import load
from kaon.sdk.service import Service, construct
from kaon.sdk.setting import deployment_variables
from kaon.types.launch import EXIT_CONFIG, Launch
from kaon.types.replica import Phase

KEEP_ALIVE_S = 3600.0
"""Longer than the edge's: the side that sends requests must be the one that closes idle connections."""
QUIET_S = 0.3
"""A draining replica ends after this long without requests."""
_POLL_S = 0.05
_HOOK_LIMIT_S = 10.0

_log = logging.getLogger("kaon.runtime")


class Replica:
    """The replica of this process. `run` is its whole life."""

    def __init__(self, launch: Launch, main: MainThread, signals: Signals, clock: Clock | None = None) -> None:
        self._launch = launch
        self._main = main
        self._signals = signals
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._instance: Any = None
        self._home = Context()
        """The context in which the class was imported and constructed; hooks run in it."""

    async def run(self) -> int:
        """Serve until stopped; the exit code. Raises OSError when a socket cannot be bound."""
        began_at = time.monotonic()
        loop = asyncio.get_running_loop()
        self._signals.listen(loop, self._stop.set)
        flights = Flights(Path(self._launch.flights_file)) if self._launch.flights_file else NOWHERE
        site = site_of(self._launch.service_address, without_edge=self._launch.without_edge)
        checks = RequestChecks(AccessList(self._launch.access, self._clock), site)
        serving = Serving(checks, loop, self._launch.prefix, flights)
        serving.tune(self._launch.knobs)
        control = Control(serving, self._launch.cpus, self._launch.control_token)
        public = server(
            App(serving),
            http=partial(ReplicaProtocol, serving),
            keep_alive_s=KEEP_ALIVE_S,
            drain_s=self._launch.drain_s,
        )
        private = server(control, http="httptools", keep_alive_s=KEEP_ALIVE_S, drain_s=1.0)
        tasks = [
            asyncio.create_task(private.serve(sockets=[bound(self._launch.control_address)])),
            asyncio.create_task(public.serve(sockets=[bound(self._launch.service_address)])),
        ]
        stopping = asyncio.create_task(self._stop.wait())
        opening = asyncio.create_task(self._open(serving))
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                code = opening.result()
                if code:
                    return code
                control.phase = Phase.READY
                _log.info("ready after %.2f s", time.monotonic() - began_at)
                await stopping
            control.phase = Phase.DRAINING
            await self._drain(serving, public)
            await serving.mounts.stop()
            await self._hooks(serving, "on_stop")
            return 0
        finally:
            serving.close()
            for task in (stopping, opening):
                task.cancel()
            public.should_exit = private.should_exit = True
            await asyncio.wait(tasks, timeout=2.0)

    async def _open(self, serving: Serving) -> int:
        """Import, construct, run the start hooks, begin to serve; the exit code on failure, else 0."""
        forks.isolate((self._launch.service_address, self._launch.control_address), self._signals.reset_in_child)
        try:
            service, self._instance, self._home = await self._in_main(partial(_constructed, self._launch))
            await self._run_hooks(service.on_start)
            mounts = Mounts(service.mounted(self._instance))
            await in_context(self._home, mounts.start())
            serving.open(service, self._instance, mounts, self._home, self._main)
        except ConfigError as error:
            print(f"ConfigError: {error.cause} {error.hint}".rstrip(), file=sys.stderr, flush=True)
            return EXIT_CONFIG
        except (Exception, SystemExit, KeyboardInterrupt):
            _log.exception("the service did not start")
            return 1
        return 0

    async def _drain(self, serving: Serving, public: Server) -> None:
        """Serve what is in flight and still arrives, until there is nothing more or the time is over."""
        serving.checks.closing = True
        began_at = time.monotonic()
        end_at = began_at + self._launch.drain_s
        _log.info("draining, %d in flight", serving.in_flight)
        answered, quiet_since = serving.answered, began_at
        while (now := time.monotonic()) < end_at and now - quiet_since < QUIET_S:
            await asyncio.sleep(_POLL_S)
            if serving.in_flight or serving.answered != answered:
                answered, quiet_since = serving.answered, time.monotonic()
        public.config.timeout_graceful_shutdown = max(1, round(end_at - time.monotonic()))
        public.should_exit = True
        left = serving.in_flight
        _log.log(logging.WARNING if left else logging.INFO, "drained, %d not answered", left)

    async def _hooks(self, serving: Serving, when: str) -> None:
        if serving.service is None:
            return
        if self._main.busy:
            _log.warning("a handler still runs in the main thread: stop hooks are not called")
            return
        try:
            async with asyncio.timeout(_HOOK_LIMIT_S):
                await self._run_hooks(getattr(serving.service, when))
        except Exception:
            _log.exception("a hook failed")

    async def _run_hooks(self, names: tuple[str, ...]) -> None:
        """Call the instance's hooks in order: async ones on the loop, others in the main thread."""
        for name in names:
            hook = getattr(self._instance, name)
            if inspect.iscoroutinefunction(hook):
                await in_context(self._home, hook())
            else:
                await self._in_main(partial(self._home.run, hook))

    def _in_main(self, work: Callable[[], Any]) -> Awaitable[Any]:
        """The result of `work()` in the main thread. It may set signal handlers: ours are installed again after it."""

        def run_work() -> Any:
            try:
                return work()
            finally:
                self._signals.install()

        return in_thread(self._main, run_work)


def _constructed(launch: Launch) -> tuple[Service, Any, Context]:
    """The service, its instance, and their context. Raises ConfigError, or what the class raises."""
    try:
        service = load(launch.entry, Path(launch.code_dir))
    except ConfigError:
        raise
    except Exception as error:
        _log.exception("the service cannot be imported")
        raise ConfigError(
            f"{launch.entry} cannot be imported: {type(error).__name__}: {error}",
            hint="The traceback is in the log.",
        ) from error
    handle.allow(None if launch.uses_any else service.uses)
    try:
        instance = construct(service, deployment_variables())
    finally:
        logs.restore()
    return service, instance, copy_context()


def in_thread(main: MainThread, work: Callable[[], Any]) -> Awaitable[Any]:
    """The result of `work()` in the main thread."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: Any, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(value)
        elif isinstance(error, Exception):
            result.set_exception(error)
        else:
            result.set_exception(RuntimeError(f"the service raised {error!r}"))

    main.run(work, done)
    return result
