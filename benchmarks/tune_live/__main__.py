"""The tuner on the real platform: `make bench-tune-live`, `TRACES=DIR` for real loads, `QUICK=1` for minutes.

It has parts, each kept under benchmarks/.tune when it is done; a run goes on with what is missing, as long as the code
is the same. `PARTS=tuned,found` does only these; results are written when all are done.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.report import QUICK, Report
from benchmarks.tune_live import judge, settings

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "benchmarks" / ".tune"
PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = settings.PARTS


def sources() -> str:
    """A hash of all code that decides a result."""
    digest = hashlib.sha256()
    for folder in ("src/kaon", "benchmarks/tune_live", "benchmarks/live"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in ("judge.py", "pages.py", "__main__.py") and "cli" not in path.parts:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def kept(part: str) -> Path:
    """Where a part's result is kept."""
    return KEPT / f"live-{'quick-' if QUICK else ''}{part}-{sources()}.json"


def ended(*_: Any) -> None:
    """End all that was started; a second signal, as `timeout` sends it, must not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("ended from outside")


def main() -> None:
    signal.signal(signal.SIGTERM, ended)
    KEPT.mkdir(parents=True, exist_ok=True)
    report = Report("tune-live", {name: version(name) for name in ("kaon", "uvloop", "httptools", "numba")})
    wanted = os.environ.get("PARTS", "tuned,path" if QUICK else ",".join(PARTS)).split(",")
    done: dict[str, Any] = {}
    for name, play in PARTS.items():
        if kept(name).exists():
            done[name] = json.loads(kept(name).read_text())
        elif name in wanted:
            print(f"\n{name}:", flush=True)
            done[name] = play(done)
            kept(name).write_text(json.dumps(done[name]))
        else:
            report.note(f"the part '{name}' is not done yet")
        if name in done:
            judge.show(name, done[name])
    report.figures = done
    judge.judge(report, done)
    if QUICK or len(done) == len(PARTS):
        report.finish()
    else:  # the published results are whole ones
        print("\n".join(map(str, report.bars)))


if __name__ == "__main__":
    main()
