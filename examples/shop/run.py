"""The demo of `make run`: the platform, the shop on it, one household's recommendations; until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import kaon
from kaon import processes
from kaon.errors import KaonError, Unavailable
from kaon.settings import Settings

HERE = Path(__file__).resolve().parent
KAON = [sys.executable, "-m", "kaon.cli"]
HOUSEHOLD = 1
STEPS = {"clean": "cleaning a year of purchases", "features": "making features", "train": "training"}
ANSWER_WITHIN_S = 60.0

console = Console()


def main() -> int:
    """Bring it up, show it, wait for Ctrl-C, take it down. Returns the exit code."""
    began = time.monotonic()
    settings = Settings()
    ran_before = processes.is_held(settings.run_dir / "server.lock")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for arguments in (["up"], ["apply", "-f", str(HERE / "kaon.yaml"), "-y"]):
            code = subprocess.run([*KAON, *arguments], check=False).returncode
            if code:
                return code
        train()
        show(settings, first_answer(), time.monotonic() - began)
        signal.pause()
    except KeyboardInterrupt:
        console.print("\nstopping; what was learned stays for the next start")
    except KaonError as error:
        console.print(f"{error.cause} {error.hint}", style="red", markup=False)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if ran_before:
            console.print("The platform ran before, so it is left running; `kaon down` stops it.", markup=False)
        else:
            # In `make run | tee log`, Ctrl-C ends tee too: going down must not fail for want of a reader.
            quiet = None if sys.stderr.isatty() else subprocess.DEVNULL
            subprocess.run([*KAON, "down"], stdout=quiet, stderr=quiet, check=False)
    return 0


def train() -> None:
    """Let the trainer go through its steps, unless there is a model already."""
    with kaon.Client("trainer", timeout_s=600) as trainer:
        if trainer.status()["model"]:
            return
        for step, meaning in STEPS.items():
            with console.status(meaning):
                made = trainer.call(step)
            console.print(f"{meaning}: {made['rows']:,} rows in {made['took_s']:.1f} s")


def first_answer() -> dict[str, Any]:
    """One household's recommendations, as soon as the service has the model."""
    until = time.monotonic() + ANSWER_WITHIN_S
    with kaon.Client("recommendation") as shop:
        while True:
            try:
                answer: dict[str, Any] = shop.recommendation(user_id=HOUSEHOLD, k=10)
                return answer
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


def show(settings: Settings, answer: dict[str, Any], took_s: float) -> None:
    """Print the answer, and how anybody gets another."""
    table = Table(title=f"Household {answer['user_id']} will buy next (from {answer['by']})", title_justify="left")
    table.add_column("product")
    table.add_column("score", justify="right")
    table.add_column("why")
    for item in answer["items"]:
        table.add_row(item["name"], f"{item['score']:+.2f}", "; ".join(item["why"]))
    console.print(table)
    key = settings.home / "admin.key"
    url = f"{settings.url}/recommendation"
    lines = (
        f"answered {took_s:.0f} s after the start",
        f"URL      {url}        try it in a browser: {url}/docs",
        f"key      {key.read_text().strip()}        in {key}",
        "",
        f'curl -H "Authorization: Bearer $(cat {key})" "{url}?user_id={HOUSEHOLD}&k=10"',
        "",
        "Ctrl-C stops it.",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
