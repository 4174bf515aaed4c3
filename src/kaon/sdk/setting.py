"""Settings of a service: its constructor's parameters, read from the environment.

`def __init__(self, database_url: str, k: int = 10)` reads `DATABASE_URL` and `K`. Scalars are written as text,
everything else as JSON. Only variables that are set for the service are read: `path` and `lang` are not the PATH and
LANG of every process.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.errors import PydanticUserError

from kaon.errors import ConfigError
from kaon.sdk import hints
from kaon.sdk.codec import Codec, codec_of
from kaon.sdk.dataset import Dataset
from kaon.sdk.link import Reference
from kaon.sdk.problems import summary
from kaon.types.service import DATASET_TYPE, SettingSpec

_SET_BY_EVERY_SHELL = re.compile(
    r"PATH|HOME|USER|LOGNAME|USERNAME|SHELL|SHLVL|TERM|PWD|OLDPWD|HOSTNAME|HOST|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TEMP|TMP"
    r"|EDITOR|VISUAL|PAGER|MAIL|DISPLAY|COLUMNS|LINES|PS1|_|XDG_.*|SSH_.*|DBUS_.*|VIRTUAL_ENV|CONDA_.*|PYTHON.*|LD_.*"
)
_ignored: Collection[str] | None = None


def ignore(names: Collection[str]) -> None:
    """Set which variables of this process were not set for the service; by default those of every shell."""
    global _ignored
    _ignored = names


def of_every_shell(name: str) -> bool:
    """Whether every shell sets a variable of this name."""
    return _SET_BY_EVERY_SHELL.fullmatch(name) is not None


def deployment_variables() -> dict[str, str]:
    """The variables of this process that settings are read from, including those that the service's module has set."""
    ignored = filter(of_every_shell, os.environ) if _ignored is None else _ignored
    return {name: os.environ[name] for name in os.environ.keys() - set(ignored)}


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter of the constructor."""

    spec: SettingSpec
    parameter: str
    codec: Codec
    scalar: bool
    is_dataset: bool = False

    def read(self, text: str) -> Any:
        """The value of `text`. Raises ValidationError, or ConfigError for a dataset."""
        if self.is_dataset:
            return Dataset.of_text(text)
        return self.codec.validate_strings(text) if self.scalar else self.codec.validate_json(text)


def compile_settings(cls: type, names: Mapping[str, Any]) -> tuple[Setting, ...]:
    """The settings of a class. Raises ConfigError for an unsupported parameter."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return ()
    resolved = hints.resolved(cls.__init__, names)  # type: ignore[misc]
    found = []
    for p in list(inspect.signature(cls.__init__).parameters.values())[1:]:  # type: ignore[misc]
        if isinstance(p.default, Reference) or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.kind is p.POSITIONAL_ONLY:
            raise ConfigError(f"`{cls.__name__}.__init__` takes `{p.name}` by position only.", hint="Remove the `/`.")
        found.append(_setting(cls, p, resolved.get(p.name, str)))
    return tuple(found)


def read_settings(service: str, settings: tuple[Setting, ...], environ: Mapping[str, str]) -> dict[str, Any]:
    """The constructor's arguments. Raises ConfigError that lists all missing and wrong settings."""
    arguments: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for setting in settings:
        text = environ.get(setting.spec.name)
        if text is None:
            if setting.spec.required:
                wrong[setting.spec.name] = f"({setting.spec.type}) is missing"
            continue
        try:
            arguments[setting.parameter] = setting.read(text)
        except ConfigError as error:
            wrong[setting.spec.name] = f"({setting.spec.type}) is wrong: {error.cause}"
        except ValidationError as error:
            wrong[setting.spec.name] = f"({setting.spec.type}) is wrong: {summary(error)}"
        except ValueError:
            wrong[setting.spec.name] = "is not valid Unicode"
    if wrong:
        problems = "; ".join(f"{name} {why}" for name, why in wrong.items())
        raise ConfigError(
            f"`{service}` cannot start: {problems}.",
            hint=f"Set {', '.join(wrong)} in the deployment's environment or as secrets.",
            errors=[{"where": name, "problem": why} for name, why in wrong.items()],
        )
    return arguments


def _setting(cls: type, p: inspect.Parameter, hint: Any) -> Setting:
    if _is_dataset(hint):
        required = p.default is p.empty
        spec = SettingSpec(name=p.name.upper(), required=required, type=DATASET_TYPE)
        return Setting(spec, p.name, codec_of(str, reads=False), scalar=True, is_dataset=True)
    try:
        codec = codec_of(hint, reads=False)
    except (PydanticUserError, TypeError, ValueError) as error:
        raise ConfigError(
            f"Setting `{p.name}` of `{cls.__name__}` is {hints.spelled(hint)}, which cannot be a setting.",
            hint="Use text, numbers, lists, dicts or models, and build other objects in __init__.",
        ) from error
    required = p.default is p.empty
    spec = SettingSpec(
        name=p.name.upper(),
        required=required,
        type=hints.spelled(hint),
        default=None if required else _shown(p.default),
    )
    return Setting(spec, p.name, codec, scalar=hints.is_scalar(hint))


def _is_dataset(hint: Any) -> bool:
    """Whether it is `kaon.Dataset`, or that or None."""
    hint = hints.bare(hint)
    if get_origin(hint) in (Union, UnionType):
        return {*get_args(hint)} == {Dataset, NoneType}
    return hint is Dataset


def _shown(default: Any) -> str | None:
    if default is None or isinstance(default, SecretStr):
        return None
    return default if isinstance(default, str) else str(default)
