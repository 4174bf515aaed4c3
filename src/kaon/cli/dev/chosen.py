"""The services that `kaon dev` serves: a class, or those of a folder and its kaon.yaml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from kaon.build.marks import name_of_service
from kaon.build.services import find_services
from kaon.build.sources import find_target
from kaon.cli.apply.documents import of_folder
from kaon.cli.dev.replicas import DevService
from kaon.errors import InvalidInput, NotFound


def chosen_services(target: str, folder: Path, env: Mapping[str, str]) -> list[DevService]:
    """The class `target`; without one the deployments of kaon.yaml, and all other services in the folder.

    Raises `NotFound` without any, `InvalidInput` for two of one name.
    """
    if target:
        found = find_target(target, folder)
        return [DevService(name_of_service(found), found, env)]
    services = [
        DevService(document.name, find_target(document.source, folder), {**document.variables, **env})
        for document in of_folder(folder)
        if document.kind == "deployment" and document.source
    ]
    named = {(service.target.file, service.target.cls) for service in services}
    for each in find_services(folder):
        found = find_target(each.target, folder)
        if (found.file, found.cls) not in named:
            services.append(DevService(each.name, found, env))
    if not services:
        raise NotFound("This folder has no class with @kaon.service.", hint="Make one: kaon init NAME")
    twice = [name for name, count in Counter(service.name for service in services).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"Several services are named {twice[0]!r}.",
            hint="Name one of them: @kaon.service(name=...), or serve one: kaon dev FILE.py:CLASS",
            errors=[{"line": s.target.entry} for s in services if s.name == twice[0]],
        )
    return services
