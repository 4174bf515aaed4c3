"""Folders of deployments that were deleted: they stay for a while, then they are removed.

An agent sees what is placed here only, and a deployment that is placed elsewhere is not deleted. So the control plane
tells it what exists. A folder whose owner does not exist any more gets a mark, whose age is the time since then.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from kaon.build.archive import remove

MARKS = ".deleted"


def prune_volumes(volumes: Path, owners: Collection[str], used: Collection[str], now: float, keep_s: float) -> None:
    """Remove folders below `volumes` whose owner (a uid of `owners`) was missing for `keep_s` seconds.

    Those in `used` (paths) stay, and folders of older Kaons, which have no uid in their names. Raises OSError.
    """
    marks = volumes / MARKS
    for folder in volumes.glob("[!.]*/*.*") if volumes.is_dir() else ():
        uid = folder.name.rpartition(".")[2]
        mark = marks / uid
        if uid in owners or str(folder) in used:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            marks.mkdir(mode=0o700, exist_ok=True)
            mark.write_text(f"{now}\n")
        elif now - float(mark.read_text()) >= keep_s:
            remove(folder)
            mark.unlink()
