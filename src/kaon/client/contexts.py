"""Contexts: which platform the command line and `kaon.Client` use, with which key, in which workspace.

The default is the platform on this machine. Contexts are stored in `contexts.json` under `KAON_HOME`, which has
paths of key files but no keys. `KAON_URL`, `KAON_KEY`, `KAON_WORKSPACE` and `KAON_CONTEXT` take precedence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from kaon.client import local
from kaon.errors import ConfigError, InvalidInput, NotFound, Unauthenticated, Unavailable
from kaon.types.hosts import LOOPBACK, split_url
from kaon.types.model import Model, Name, from_request
from kaon.types.workspace import DEFAULT_WORKSPACE

LOCAL = "local"
_KEY = re.compile(r"[!-~]{1,200}")


class Context(Model):
    """A platform, a key and a workspace."""

    url: str = Field(default="", description="The platform's URL; empty: the one on this machine.")
    key_file: str = Field(default="", description="A file with the key; empty: this machine's admin key.")
    workspace: Name = DEFAULT_WORKSPACE


class Contexts(Model):
    """The file."""

    current: str = LOCAL
    contexts: dict[Name, Context] = Field(default_factory=dict)

    def find(self, name: str) -> Context:
        """The context with that name. Raises `NotFound`."""
        if name in self.contexts:
            return self.contexts[name]
        if name == LOCAL:
            return Context()
        raise NotFound(f"Context '{name}' does not exist.", hint="List them: kaon config list")


def path() -> Path:
    """The file with the contexts."""
    return local.home() / "contexts.json"


def read() -> Contexts:
    """All contexts. Raises `ConfigError` when the file is not valid."""
    try:
        return Contexts.model_validate_json(path().read_bytes())
    except FileNotFoundError:
        return Contexts()
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ConfigError(f"{path()} is not valid at '{where}'.", hint="Correct it, or delete it.") from None


def write(contexts: Contexts) -> None:
    """Store the contexts atomically."""
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(contexts.model_dump_json(indent=2) + "\n")
    temporary.chmod(0o600)
    temporary.rename(file)


def valid(before: Contexts, contexts: Mapping[str, Context], current: str) -> Contexts:
    """`before` with other contexts. Raises `InvalidInput` for a name that is not valid."""
    try:
        members = {name: context.model_dump() for name, context in contexts.items()}
        return from_request(Contexts, {**before.model_dump(), "contexts": members, "current": current})
    except ValidationError:
        raise InvalidInput(
            "The context's name is not valid.", hint="Use lower case letters, digits and dashes."
        ) from None


def name_in_use(environ: Mapping[str, str] = os.environ) -> str:
    """The name of the context in use."""
    return environ.get("KAON_CONTEXT", "") or read().current


def in_use(environ: Mapping[str, str] = os.environ) -> Context:
    """The context in use, with the values of environment variables."""
    found = read().find(name_in_use(environ))
    changes = {"url": environ.get("KAON_URL", ""), "workspace": environ.get("KAON_WORKSPACE", "")}
    return changed(found, {name: value for name, value in changes.items() if value})


def changed(context: Context, fields: Mapping[str, str]) -> Context:
    """The context with other values. Raises `InvalidInput` when they are not valid."""
    try:
        after = from_request(Context, {**context.model_dump(), **fields})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not after.url:
        return after
    try:
        parts, host = split_url(after.url)
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.query:
        raise InvalidInput(f"{after.url!r} is not the URL of a platform.", hint="Write it like https://ai.example.com.")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise InvalidInput("With http the key would be sent unencrypted to another machine.", hint="Use an https URL.")
    return after


def key_of(context: Context, environ: Mapping[str, str] = os.environ) -> str:
    """The key to send. Raises `ConfigError` when its file cannot be read, `Unavailable` when this machine has no
    platform, `Unauthenticated` when the text cannot be a key."""
    key = environ.get("KAON_KEY", "").strip() or _key_in_file(context)
    if not _KEY.fullmatch(key):  # other text is not valid in a header
        raise Unauthenticated("The key is not valid.", hint="A key is one line: kaon_ and 43 letters.")
    return key


def has_admin_key(context: Context, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the key is this machine's admin key, which is of no workspace."""
    return not (context.url or context.key_file or environ.get("KAON_KEY", "").strip())


def _key_in_file(context: Context) -> str:
    if context.url and not context.key_file:
        raise ConfigError("No key is set for this platform.", hint="Set KAON_KEY, or: kaon config set key-file PATH")
    file = Path(context.key_file).expanduser() if context.key_file else local.admin_key_file()
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        if context.key_file:
            raise ConfigError(f"Key file {file} does not exist.", hint="Write the key to it, mode 0600.") from None
        raise Unavailable(
            "This machine has no platform yet.", hint="Start one: kaon up; or use another one: kaon config"
        ) from None
    except OSError as error:
        raise ConfigError(f"Key file {file} cannot be read: {error.strerror}.") from None
