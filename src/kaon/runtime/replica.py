"""A replica's life: alive at once, loading, ready, draining, gone.

The control socket answers from the first turn of the loop, while the user's class is imported and constructed in a
thread. The public socket is bound from the start as well, and says 503 until the service is ready, so that nobody is
refused a connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from kaon.clock import Clock, SystemClock
from kaon.errors import ConfigError
from kaon.runtime.app import App
from kaon.runtime.control import Control
from kaon.runtime.door import Door
from kaon.runtime.gate import Gate
from kaon.runtime.inflight import NOWHERE, Flights
from kaon.runtime.logs import LogFile
from kaon.runtime.protocol import ReplicaProtocol
from kaon.runtime.server import Server, bound, server
from kaon.runtime.serving import Serving
from kaon.runtime.threads import Threads
from kaon.sdk.load import load
from kaon.sdk.service import Service, construct
from kaon.types.launch import EXIT_CONFIG, Launch
from kaon.types.replica import Phase

KEEP_ALIVE_S = 3600.0
"""Longer than the edge keeps an idle connection: the side that sends requests must be the one that closes."""
QUIET_S = 0.3
"""A draining replica that saw nothing for this long has nothing more to expect."""
_LOOK_S = 0.05
_ROTATE_S = 1.0
_HOOK_LIMIT_S = 10.0

_log = logging.getLogger("kaon.runtime")


class Replica:
    """One process's replica. `run` is its whole life."""

    def __init__(self, launch: Launch, log_file: LogFile | None = None, clock: Clock | None = None) -> None:
        self._launch = launch
        self._log_file = log_file
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Live; the exit code. Raises OSError when a socket cannot be bound."""
        began_at = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        flights = Flights(Path(self._launch.flights_file)) if self._launch.flights_file else NOWHERE
        serving = Serving(Door(Gate(self._launch.access, self._clock)), loop, self._launch.prefix, flights)
        serving.tune(self._launch.knobs)
        control = Control(serving, self._launch.cpus)
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
        rotation = asyncio.create_task(self._rotate())
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
            await self._hooks(serving, "on_stop")
            return 0
        finally:
            serving.close()
            for task in (rotation, stopping, opening):
                task.cancel()
            public.should_exit = private.should_exit = True
            await asyncio.wait(tasks, timeout=2.0)

    async def _open(self, serving: Serving) -> int:
        """Import, construct, run the start hooks, open the door; or the exit code of the reason why not."""
        threads = Threads(asyncio.get_running_loop(), "loading")
        try:
            try:
                service = await in_thread(threads, partial(load, self._launch.entry, Path(self._launch.code_dir)))
            except ConfigError:
                raise
            except Exception as error:
                _log.exception("the service cannot be imported")
                raise ConfigError(
                    f"{self._launch.entry} cannot be imported: {type(error).__name__}: {error}",
                    hint="The traceback is in the log.",
                ) from error
            instance = await in_thread(threads, partial(construct, service, os.environ))
            self._service, self._instance = service, instance
            await run_hooks(service, instance, service.on_start, threads)
            serving.open(service, instance)
        except ConfigError as error:
            print(f"ConfigError: {error.cause} {error.hint}".rstrip(), file=sys.stderr, flush=True)
            return EXIT_CONFIG
        except Exception:
            _log.exception("the service did not start")
            return 1
        finally:
            threads.close()
        return 0

    async def _drain(self, serving: Serving, public: Server) -> None:
        """Serve what is in flight and what still arrives, until it is quiet or the time is over."""
        serving.door.closing = True
        began_at = time.monotonic()
        end_at = began_at + self._launch.drain_s
        _log.info("draining, %d in flight", serving.in_flight)
        answered, quiet_since = serving.answered, began_at
        while (now := time.monotonic()) < end_at and now - quiet_since < QUIET_S:
            await asyncio.sleep(_LOOK_S)
            if serving.in_flight or serving.answered != answered:
                answered, quiet_since = serving.answered, time.monotonic()
        public.config.timeout_graceful_shutdown = max(1, round(end_at - time.monotonic()))
        public.should_exit = True
        left = serving.in_flight
        _log.log(logging.WARNING if left else logging.INFO, "drained, %d not answered", left)

    async def _hooks(self, serving: Serving, when: str) -> None:
        if serving.service is None:
            return
        threads = Threads(asyncio.get_running_loop(), when)
        try:
            async with asyncio.timeout(_HOOK_LIMIT_S):
                await run_hooks(serving.service, self._instance, getattr(serving.service, when), threads)
        except Exception:
            _log.exception("a hook failed")
        finally:
            threads.close()

    async def _rotate(self) -> None:
        while self._log_file is not None:
            await asyncio.sleep(_ROTATE_S)
            self._log_file.rotate_if_full()


async def run_hooks(service: Service, instance: Any, names: tuple[str, ...], threads: Threads) -> None:
    """Call the instance's hooks in order: async ones on the loop, others in a thread."""
    for name in names:
        hook = getattr(instance, name)
        if inspect.iscoroutinefunction(hook):
            await hook()
        else:
            await in_thread(threads, hook)


def in_thread(threads: Threads, work: Callable[[], Any]) -> Awaitable[Any]:
    """What `work()` gives, done in a thread that ends with the process, come what may."""
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(value: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        elif isinstance(error, Exception):
            answer.set_exception(error)
        else:
            answer.set_exception(RuntimeError(f"the service asked to exit: {error!r}"))

    threads.run(work, done)
    return answer
