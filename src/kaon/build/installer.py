"""Runs uv with a minimal environment and a time limit.

Packages that are built or installed do not see the other variables of the user's shell, such as tokens. URLs of package
indexes, their logins, proxies and certificates are passed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import uv

from kaon.build.installing import is_progress
from kaon.errors import BuildError

TIMEOUT_S = 900.0
"""For everything that one run of uv downloads, builds and installs."""

_COMMON = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|LD_LIBRARY_PATH|CUDA_HOME|CUDA_PATH|"
    r"(?:HTTP|HTTPS|ALL|NO)_PROXY|(?:http|https|all|no)_proxy|"
    r"SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
)
_OF_UV = re.compile(
    r"UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|INDEX_\w+_(?:USERNAME|PASSWORD)|FIND_LINKS|"
    r"NO_INDEX|KEYRING_PROVIDER|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|OFFLINE|HTTP_TIMEOUT|HTTP_RETRIES|CACHE_DIR|"
    r"CONFIG_FILE|CONCURRENT_\w+|EXCLUDE_NEWER)|NETRC|XDG_(?:CACHE|CONFIG|DATA)_(?:HOME|DIRS)"
)
_INCOMPATIBLE = re.compile(r"^The package `([^`]+)` (requires .+)$", re.MULTILINE)
_NO_SOLUTION = re.compile(r"No solution found when resolving dependencies.*?(Because .*?)(?= hint: |$)")
"""What uv says of requirements that exclude each other: who requires what."""
_NO_WHEEL = re.compile(r"building from source is disabled|no usable wheels|`--no-build`")


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that any program may need: paths, languages, proxies, certificates."""
    return {name: text for name, text in environ.items() if _COMMON.fullmatch(name)}


def run_uv(
    arguments: Sequence[str],
    failure: str,
    hint: str = "Check the names and versions.",
    *,
    folder: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    on_line: Callable[[str], None] = lambda _: None,
) -> str:
    """Run uv in `folder` and return its output; offline with its cache when the first attempt fails.

    `on_line` is called with each line of its standard error, from another thread. Raises `BuildError` with `failure`
    and uv's last lines, or when uv takes longer than `timeout_s`.
    """
    command = [uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never"]
    code, out, errors = _run(command, failure, folder, timeout_s, on_line)
    if code != 0:
        code, out, _ = _run([*command, "--offline"], failure, folder, timeout_s, on_line)
        if code != 0:
            lines = [line.strip() for line in errors.splitlines() if line.strip() and not is_progress(line)]
            if _NO_WHEEL.search(errors):
                hint = (
                    "A package has no wheel for this machine, and building it from its sources runs its code. "
                    "If you trust it: --allow sdist. Otherwise pin a version that has a wheel."
                )
            text = " ".join(lines)
            if conflict := _NO_SOLUTION.search(text):
                hint = "Allow other versions of one of these packages, or require only one of them. " + hint
                raise BuildError(f"{failure} {conflict.group(1)[:2000]}", hint=hint)
            raise BuildError(f"{failure} uv says: {' '.join(lines[-12:])[:1500]}", hint=hint)
    return out


def incompatibilities(python: Path) -> list[tuple[str, str]]:
    """Packages in the environment of `python` whose requirements are not met: (name, "requires `...`, but ...")."""
    command = [uv.find_uv_bin(), "pip", "check", "--offline", "--python", str(python), "--color", "never"]
    _, _, errors = _run(command, "The packages cannot be checked.", None, TIMEOUT_S, lambda _: None)
    return _INCOMPATIBLE.findall(errors)


def _run(
    command: Sequence[str], failure: str, folder: Path | None, timeout_s: float, on_line: Callable[[str], None]
) -> tuple[int, str, str]:
    """(exit code, output, errors) of a program in its own session; the session is killed on a timeout."""
    environment = clean_environment(os.environ)
    environment |= {name: text for name, text in os.environ.items() if _OF_UV.fullmatch(name)}
    environment["SOURCE_DATE_EPOCH"] = "315532800"  # 1980, a zip file's earliest time: equal wheels
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        cwd=folder,
        start_new_session=True,
    ) as process:
        out, errors = _Reader(process.stdout), _Reader(process.stderr, on_line)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"{failure} uv took more than {timeout_s:.0f} s.", hint="Check the network and build again."
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            out.join()
            errors.join()
        return process.returncode, "".join(out.lines), "".join(errors.lines)


class _Reader(threading.Thread):
    """Reads a stream to its end, so that its writer never blocks."""

    def __init__(self, stream: IO[str] | None, on_line: Callable[[str], None] = lambda _: None) -> None:
        super().__init__(name="uv", daemon=True)
        self._stream = stream
        self._on_line = on_line
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        for line in self._stream or ():
            self.lines.append(line)
            self._on_line(line)
