"""From 'file.py:Class' or 'package.module:Class' to a compiled service, and from 'module:function' to a job."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from kaon.errors import ConfigError
from kaon.sdk import layout
from kaon.sdk.job import Job, job_of
from kaon.sdk.service import JOB, Service, service_of
from kaon.types.job import JobDeclaration
from kaon.types.service import ServiceSpec


def load(target: str, folder: Path) -> Service:
    """Import the service `target`; files are relative to `folder`, which goes first on sys.path.

    Without a class, the module's only service is used. Raises ConfigError.
    """
    place, _, name = target.partition(":")
    folder = folder.resolve()
    module = _imported(_module_name(place, folder), folder)
    if not name:
        return _only(module, place)
    found = _member(module, name)
    if not isinstance(found, type):
        raise ConfigError(f"There is no class `{name}` in {place}.", hint=_offer(module, place))
    return service_of(found)


def load_job(entry: str, folder: Path) -> Job:
    """Import the job `entry`, 'module:function' or 'module:Class.method'. Raises ConfigError."""
    place, _, name = entry.partition(":")
    folder = folder.resolve()
    found = _member(_imported(_module_name(place, folder), folder), name)
    if found is None:
        raise ConfigError(f"There is no function `{name}` in {place}.", hint="Build the artifact again.")
    return job_of(found)


def load_artifact(entry: str, folder: Path) -> tuple[ServiceSpec, tuple[JobDeclaration, ...]]:
    """What an artifact of `entry`, a class or a function of a module, has: its service, and all jobs of the module.

    The service of a function has no endpoints. Raises ConfigError.
    """
    place, _, name = entry.partition(":")
    folder = folder.resolve()
    module = _imported(_module_name(place, folder), folder)
    found = _member(module, name)
    jobs = tuple(job.declaration for job in jobs_in(module))
    if twice := [name for name, count in Counter(job.name for job in jobs).items() if count > 1]:
        raise ConfigError(f"{place} has several jobs named {twice[0]!r}.", hint='Set another: @kaon.job(name="other").')
    if isinstance(found, type) or not callable(found):
        return load(entry, folder).spec(), jobs
    declaration = job_of(found).declaration
    return ServiceSpec(name=declaration.name, entry=declaration.entry, summary=declaration.summary, uses=()), jobs


def jobs_in(module: ModuleType) -> list[Job]:
    """The jobs that are defined in a module itself, also as methods of its services, in order."""
    services = (service.cls for service in services_in(module))
    members = [*vars(module).values(), *(member for cls in services for member in vars(cls).values())]
    found = {id(job): job for job in (getattr(member, JOB, None) for member in members) if isinstance(job, Job)}
    return [job for job in found.values() if job.function.__module__ == module.__name__]


def _member(module: ModuleType, name: str) -> object:
    """A member of the module, such as 'Class' or 'Class.method'; None: it does not exist."""
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def services_in(module: ModuleType) -> list[Service]:
    """The services that are defined in a module itself, in order."""
    found = [vars(v).get("__kaon_service__") for v in vars(module).values() if isinstance(v, type)]
    own = [s for s in found if isinstance(s, Service) and s.cls.__module__ == module.__name__]
    return list({s.cls: s for s in own}.values())


def _module_name(place: str, folder: Path) -> str:
    if not place:
        raise ConfigError("The target has no module.", hint="Write 'file.py:Class' or 'package.module:Class'.")
    if not place.endswith(".py") and "/" not in place:
        return place
    file = (folder / place).resolve()
    if not file.is_file():
        raise ConfigError(f"There is no file {place}.", hint="Write 'file.py:Class', relative to the current folder.")
    if not file.is_relative_to(folder):
        raise ConfigError(f"{place} is outside {folder}.", hint="Run the command in the folder of the service.")
    parts = file.relative_to(folder).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(f"{place} is not a valid module name.", hint="Use only letters, digits and underscores.")
    return ".".join(parts)


def _imported(name: str, folder: Path) -> ModuleType:
    _put_on_path(layout.search_path(folder, folder.joinpath(*name.split(".")).with_suffix(".py")))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"There is no module {name} in {folder}.", hint="Write 'file.py:Class'.") from error
        raise _not_found(name, error.name or "", folder) from error
    except SyntaxError as error:
        raise ConfigError(f"{name} has a syntax error in line {error.lineno}: {error.msg}.") from error


def _not_found(module: str, missing: str, folder: Path) -> ConfigError:
    """The error for a package that is not installed, or for a missing module of the project."""
    first = missing.partition(".")[0]
    if first in layout.own_modules(layout.search_path(folder, folder.joinpath(*module.split(".")).with_suffix(".py"))):
        return ConfigError(
            f"{module} imports {missing}, which the project's own {first} does not have.",
            hint="Check the file's name, and that .gitignore does not exclude it.",
        )
    return ConfigError(
        f"{module} needs the package {missing}, which is not installed.",
        hint="Add it to requirements=... of @kaon.service or to pyproject.toml, and install it to run here.",
    )


def _put_on_path(folders: Sequence[Path]) -> None:
    """Put folders at the start of sys.path, in this order, except those already on it."""
    sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]


def _only(module: ModuleType, place: str) -> Service:
    found = services_in(module)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"There is no service in {place}.", hint="Put `@kaon.service` above a class.")
    names = ", ".join(f"{place}:{s.cls.__name__}" for s in found)
    raise ConfigError(f"There are {len(found)} services in {place}.", hint=f"Name one: {names}.")


def _offer(module: ModuleType, place: str) -> str:
    found = services_in(module)
    if not found:
        return "Put `@kaon.service` above a class."
    return "There is " + ", ".join(f"{place}:{s.cls.__name__}" for s in found) + "."
