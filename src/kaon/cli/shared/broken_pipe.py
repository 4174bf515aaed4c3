"""Endless output ends when its reader does, also while there is nothing to write."""

from __future__ import annotations

import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_POLL_S = 0.5


class _ReaderEnded(BaseException):
    """Not an OSError: code that waits on a connection would take it for an error of the connection."""


@contextmanager
def until_reader_ends() -> Iterator[None]:
    """Raise `BrokenPipeError` in the main thread as soon as standard output has no reader.

    The kernel reports a closed pipe only to a write; `kaon logs -f | head -1` must also end without one.
    """
    over = threading.Event()
    previous = signal.signal(signal.SIGPIPE, _raise)
    watch = threading.Thread(target=_watch, args=(sys.stdout.fileno(), over), daemon=True)
    watch.start()
    try:
        yield
    except _ReaderEnded:
        raise BrokenPipeError from None
    finally:
        over.set()
        watch.join()
        signal.signal(signal.SIGPIPE, previous)


def _watch(descriptor: int, over: threading.Event) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always reported
    while not over.wait(_POLL_S):
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGPIPE)
            return


def _raise(_: int, __: object) -> NoReturn:
    raise _ReaderEnded
