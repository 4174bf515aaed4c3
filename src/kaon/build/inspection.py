"""Reads a service's class in a process of its own: `python -m kaon.build.inspection ENTRY FOLDER ANSWER`.

Writes one JSON object to the file ANSWER: `{"service": ServiceSpec}`, or `{"problem": ..., "missing": MODULE}`.
Whatever the user's module prints, closes or redirects, the file is opened only afterwards. An exception of the module's
own ends it with its traceback on standard error and exit code 78.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from kaon.errors import KaonError
from kaon.sdk.load import load
from kaon.types.launch import EXIT_CONFIG


def main(entry: str, folder: str, answer: str) -> int:
    """Load `entry` ('module:Class') from `folder` and write what it is; the process's exit code."""
    members: dict[str, Any]
    try:
        members = {"service": load(entry, Path(folder)).spec().model_dump(mode="json")}
    except KaonError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else ""
        members = {"problem": error.problem(), "missing": missing}
    except BaseException as error:  # also SystemExit and KeyboardInterrupt of the module's own
        with suppress(Exception):  # the module may have closed what errors are printed to
            traceback.print_exception(type(error), error, _from_the_module(error.__traceback__))
        return EXIT_CONFIG
    Path(answer).write_text(json.dumps(members), encoding="utf-8")
    return 0


def _from_the_module(frames: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the user's module; all of it when no part does."""
    ours, own = str(Path(__file__).parents[1]), frames  # all of Kaon: what imports the module is not here
    while own is not None and own.tb_frame.f_code.co_filename.startswith((ours, importlib.__path__[0], "<frozen")):
        own = own.tb_next
    return own or frames


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)  # threads that the module started must not keep the build waiting
