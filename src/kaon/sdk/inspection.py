"""Reads a service's class in a process of its own: `python -m kaon.sdk.inspection ENTRY FOLDER`.

Prints one JSON object on standard output: `{"service": ServiceSpec}` or `{"problem": ...}`. Whatever the user's
module prints goes to standard error, also when a child of it or an extension in C prints, because descriptor 1
itself leads there by then. An exception of the module's own ends it with its traceback there and exit code 78.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from kaon.errors import KaonError
from kaon.types.launch import EXIT_CONFIG


def main(entry: str, folder: str) -> int:
    """Load `entry` ('module:Class') from `folder` and print what it is; the process's exit code."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module, _, cls = entry.partition(":")
    file = str(Path(*module.split(".")).with_suffix(".py"))
    try:
        from kaon.sdk.load import load

        members = {"service": load(f"{file}:{cls}", Path(folder)).spec().model_dump(mode="json")}
    except KaonError as error:
        members = {"problem": error.problem()}
    except (Exception, SystemExit):
        traceback.print_exc()
        return EXIT_CONFIG
    answer.write(json.dumps(members))
    answer.flush()
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:3])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that the module started must not keep the build waiting
