"""Reads a dataset, and keeps a count in its folder."""

import os

import kaon


@kaon.service(state="disk")
class Reader:
    def __init__(self, model: kaon.Dataset) -> None:
        self.model = model

    @kaon.endpoint
    def read(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.model}

    @kaon.endpoint
    def version(self) -> str:
        return f"{self.model.name}@{self.model.version}"

    @kaon.endpoint
    def damage(self) -> None:
        victim = self.model.path / "a.txt"
        os.chmod(victim, 0o600)
        victim.write_text("damaged")

    @kaon.endpoint
    def count(self) -> int:
        file = kaon.data_dir() / "count"
        number = int(file.read_text()) + 1 if file.exists() else 1
        file.write_text(str(number))
        return number
