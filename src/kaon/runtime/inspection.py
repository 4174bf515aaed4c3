"""Inspects a class or a job in its own process: `python -m kaon.runtime.inspection ENTRY FOLDER RESULT`.

Writes one JSON object to the file RESULT: `{"service": ServiceSpec, "jobs": [JobDeclaration]}`, or
`{"problem": ..., "missing": MODULE}`.
The file is opened last, so anything that the user's module prints, closes or redirects has no effect on it. When the
module raises, its traceback goes to standard error, and the exit code is 78.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from kaon.errors import KaonError
from kaon.runtime.endings import from_the_module
from kaon.sdk.load import load_artifact
from kaon.types.launch import EXIT_CONFIG


def main(entry: str, folder: str, result: str) -> int:
    """Load `entry` ('module:NAME') from `folder` and write what it declares to `result`; returns the exit code."""
    members: dict[str, Any]
    try:
        service, jobs = load_artifact(entry, Path(folder))
        members = {"service": service.model_dump(mode="json"), "jobs": [job.model_dump(mode="json") for job in jobs]}
    except KaonError as error:
        cause = error.__cause__
        missing = cause.name if isinstance(cause, ModuleNotFoundError) else ""
        members = {"problem": error.problem(), "missing": missing}
    except BaseException as error:  # including a SystemExit or KeyboardInterrupt of the module
        with suppress(Exception):  # the module may have closed standard error
            traceback.print_exception(type(error), error, from_the_module(error.__traceback__))
        return EXIT_CONFIG
    Path(result).write_text(json.dumps(members), encoding="utf-8")
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)  # threads of the module must not delay the build
