"""Following something without end: whoever reads it may leave while there is nothing to write."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_LOOK_S = 0.5


class _NobodyReads(BaseException):
    """No OSError: whoever waits on a connection would take that for the connection's own."""


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """Raise `BrokenPipeError` in the main thread as soon as nobody reads standard output any more.

    A pipe without a reader is told to who writes; `kaon logs -f | head -1` must end in a silence too.
    """
    over = threading.Event()
    before = signal.signal(signal.SIGPIPE, _broken)
    watch = threading.Thread(target=_watch, args=(sys.stdout.fileno(), over), daemon=True)
    watch.start()
    try:
        yield
    except _NobodyReads:
        raise BrokenPipeError from None
    finally:
        over.set()
        watch.join()
        signal.signal(signal.SIGPIPE, before)


def _watch(descriptor: int, over: threading.Event) -> None:
    reader = select.poll()
    reader.register(descriptor, 0)  # errors and hang-ups are always told
    while not over.wait(_LOOK_S):
        if any(told & select.POLLERR for _, told in reader.poll(0)):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGPIPE)
            return


def _broken(_: int, __: object) -> NoReturn:
    raise _NobodyReads
