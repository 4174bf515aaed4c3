"""What an attempt has made, read from its folder when it has ended: its result, and the files of its outputs.

Everything in the folder was written by the job: it is read with bounds, and links are followed nowhere.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaon.agent.decide.inputs import PublishIt
from kaon.datasets.folder import find_files, hashed, open_plain
from kaon.errors import InvalidInput
from kaon.types.dataset import DatasetManifest
from kaon.types.job import OUTPUTS_FOLDER, RESULT_FILE, RESULT_MAX_BYTES, AttemptEnd

_REASON_MAX = 2000
_LINES_MAX = 50


@dataclass(frozen=True)
class CollectedEnd:
    """The end of an attempt, and where the files are that it names."""

    end: AttemptEnd
    files: dict[str, Path] = field(default_factory=dict)
    """Digest -> file."""


def collect_end(action: PublishIt, folder: Path) -> CollectedEnd:
    """Read what an attempt has made. An attempt that wrote something impossible has failed."""
    seen = action.observation
    code = seen.exit_code if seen else None
    lines = tuple(line[:2000] for line in seen.last_lines[-_LINES_MAX:]) if seen else ()

    def failed(reason: str) -> CollectedEnd:
        return CollectedEnd(
            AttemptEnd(exit_code=code, timed_out=action.timed_out, reason=reason[:_REASON_MAX], last_lines=lines)
        )

    if action.reason or code != 0:
        return failed(action.reason or "It ended; its exit code is unknown.")
    try:
        result = _result(folder / RESULT_FILE)
        manifests = _outputs(action, folder)
    except InvalidInput as error:
        return failed(f"{error.cause} {error.hint or ''}".strip())
    except OSError as error:
        return failed(f"What it wrote cannot be read: {error.strerror or error}.")
    files = {
        file.digest: folder / OUTPUTS_FOLDER / name / file.path
        for name, manifest in manifests.items()
        for file in manifest.files
    }
    return CollectedEnd(AttemptEnd(exit_code=code, result=result, outputs=manifests), files)


def output_bytes(folder: Path) -> int:
    """How much is in the folders of its outputs now."""
    total = 0
    for directory, _, names in os.walk(folder / OUTPUTS_FOLDER):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_size
            except OSError:
                continue  # removed meanwhile
    return total


def _result(file: Path) -> Any:
    try:
        descriptor = open_plain(file)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as opened:
        text = opened.read(RESULT_MAX_BYTES + 1)
    if len(text) > RESULT_MAX_BYTES:
        raise InvalidInput(
            f"Its result has more than {RESULT_MAX_BYTES:,} bytes.", hint="Write large results to an output."
        )
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidInput("Its result is not JSON.", hint="Write one JSON document to KAON_RESULT.") from None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _outputs(action: PublishIt, folder: Path) -> dict[str, DatasetManifest]:
    call = action.planned.call
    found = {name: folder / OUTPUTS_FOLDER / name for name in call.outputs}
    manifests: dict[str, DatasetManifest] = {}
    total = 0
    for name, place in found.items():
        if not place.is_dir() or not any(place.iterdir()):
            raise InvalidInput(
                f"It wrote nothing to output '{name}'.", hint=f"Write files to the folder {name}.path before it ends."
            )
        try:
            files = find_files(place)
        except InvalidInput as error:
            raise InvalidInput(f"Output '{name}' cannot be a version: {error.cause}", hint=error.hint) from None
        total += sum(file.size_bytes for file in files)
        if total > call.output_bytes_max:
            raise InvalidInput(
                f"Its outputs have {total:,} bytes; at most {call.output_bytes_max:,} are allowed.",
                hint="Write less, or ask an admin for a larger quota.",
            )
        manifests[name] = hashed(place, files)
    return manifests
