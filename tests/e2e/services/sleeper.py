"""A service that is woken; by a file slowly, or not at all."""

import os
import time

import kaon


@kaon.service
class Sleeper:
    """Looks into its own folder before it starts."""

    def __init__(self) -> None:
        self.folder = kaon.data_dir()
        if (self.folder / "broken").exists():
            print("the wheel came off", flush=True)
            os._exit(7)
        if (self.folder / "slow").exists():
            time.sleep(float((self.folder / "slow").read_text()))

    @kaon.endpoint(method="GET", path="/", retry=True)
    async def who(self) -> int:
        """May be sent again."""
        return os.getpid()

    @kaon.endpoint
    async def mark(self, text: str) -> str:
        """Not idempotent: each run leaves a line."""
        with (self.folder / "marks").open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        return text
