"""Reads a service's class in a process of its own: `python -m kaon.sdk.inspection ENTRY FOLDER ANSWER`.

Writes one JSON object to the file ANSWER: `{"service": ServiceSpec}` or `{"problem": ...}`. Whatever the user's module
prints, closes or redirects, the file is opened only afterwards. An exception of the module's own ends it with its
traceback on standard error and exit code 78.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from kaon.errors import KaonError
from kaon.sdk.load import load
from kaon.types.launch import EXIT_CONFIG


def main(entry: str, folder: str, answer: str) -> int:
    """Load `entry` ('module:Class') from `folder` and write what it is; the process's exit code."""
    try:
        members = {"service": load(entry, Path(folder)).spec().model_dump(mode="json")}
    except KaonError as error:
        members = {"problem": error.problem()}
    except BaseException:  # also SystemExit and KeyboardInterrupt of the module's own
        with suppress(Exception):  # the module may have closed what errors are printed to
            traceback.print_exc()
        return EXIT_CONFIG
    Path(answer).write_text(json.dumps(members), encoding="utf-8")
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)  # threads that the module started must not keep the build waiting
