"""`kaon.Output`: the folder to which a job writes a new version of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a job: what its folder holds when the job has succeeded becomes a version of a dataset."""

    path: Path
    """An empty folder of this attempt alone."""
    name: str = ""
    """The job's parameter."""

    @classmethod
    def local(cls, folder: str | Path) -> Output:
        """A folder of this machine, created if missing, as tests use it."""
        path = Path(folder).absolute()
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, name=path.name)
