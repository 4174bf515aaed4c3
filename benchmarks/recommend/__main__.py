"""`make bench-recommend`: quality in an environment of its own, with the peers; then serving on the platform."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / "benchmarks" / ".peers" / "recommend"


def python() -> Path:
    """The interpreter of the environment that requirements.txt names, made or renewed when that changed."""
    wanted, done = HERE / "requirements.txt", ENVIRONMENT / ".done"
    found = ENVIRONMENT / "bin" / "python"
    if not done.exists() or done.read_text() != wanted.read_text():
        uv = Path(sys.executable).with_name("uv")
        print(f"installing peers into {ENVIRONMENT}", flush=True)
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENT], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", found, "-r", wanted], check=True)
        done.write_text(wanted.read_text())
    return found


def main() -> int:
    """Run both parts; the exit code of the first that failed."""
    parts = {"quality": python(), "serving": Path(sys.executable)}
    chosen = sys.argv[1:] or list(parts)
    paths = f"{ROOT}{os.pathsep}{ROOT / 'examples' / 'shop'}"
    for part in chosen:
        environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": str(os.cpu_count() or 1)}
        module = f"benchmarks.recommend.{part}"
        code = subprocess.run([parts[part], "-m", module], cwd=ROOT, env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
