"""`kaon.Dataset`: a version of a dataset as a folder, which a job or a service reads.

A service takes it as a parameter of its constructor, so it is a setting: its variable has a folder, as
`MODEL=./model kaon dev ...` sets it, or what the platform mounts, as `NAME@NUMBER:/absolute/folder`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kaon.errors import ConfigError

_MOUNTED = re.compile(r"([a-z][a-z0-9-]{0,39})@([1-9]\d{0,8}):(/.*)", re.DOTALL)


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

    @classmethod
    def of_text(cls, text: str) -> Dataset:
        """The dataset of a variable: a local folder, or what the platform mounts. Raises ConfigError."""
        mounted = _MOUNTED.fullmatch(text)
        if mounted is None:
            return cls.local(text)
        return cls(Path(mounted[3]), name=mounted[1], version=int(mounted[2]))

    @property
    def text(self) -> str:
        """What `of_text` reads."""
        return f"{self.name}@{self.version}:{self.path}" if self.version else str(self.path)

    def __iter__(self) -> Iterator[Path]:
        """The paths of its files, in order."""
        for folder, folders, files in os.walk(self.path):
            folders.sort()
            for name in sorted(files):
                yield Path(folder) / name
