"""`kaon.Dataset`: a version of a dataset as a folder, which a job or a service reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaon.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a dataset. Its files are read-only and never change."""

    path: Path
    """The folder of its files."""
    name: str = ""
    version: int = 0
    """Its number; 0: a local folder."""

    @classmethod
    def local(cls, folder: str | Path) -> Dataset:
        """A folder of this machine in place of a dataset, as tests use it. Raises ConfigError when it is missing."""
        path = Path(folder).absolute()
        if not path.is_dir():
            raise ConfigError(
                f"There is no folder {path}.", hint="Write the path of a folder with the dataset's files."
            )
        return cls(path, name=path.name)
