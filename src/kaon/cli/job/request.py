"""From the arguments of `kaon job run` to a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaon.cli.call.values import arguments
from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput, did_you_mean
from kaon.types.artifact import Manifest
from kaon.types.job import ARRAY_MAX, JobDeclaration


def declaration_of(manifest: Manifest, function: str) -> JobDeclaration:
    """The job of a function, by its name in the source or its own. Raises `InvalidInput`."""
    for job in manifest.jobs:
        if function in (job.name, job.entry.partition(":")[2]):
            return job
    names = [job.entry.partition(":")[2] for job in manifest.jobs]
    listed = ", ".join(names) or "none"
    raise InvalidInput(
        f"`{plain(function)}` is not a job.",
        hint=f"{did_you_mean(function, names)}Put `@kaon.job` above the function. Jobs of the file: {listed}.",
    )


def values_of(job: JobDeclaration, texts: Sequence[str]) -> dict[str, Any]:
    """The fields `parameters`, `inputs` and `outputs` of a request from texts like `epochs=8`."""
    datasets: dict[str, dict[str, str]] = {"inputs": {}, "outputs": {}}
    plain_texts = []
    for text in texts:
        name, separator, value = text.partition("=")
        kind = "inputs" if name in job.inputs else "outputs" if name in job.outputs else ""
        if kind and separator:
            datasets[kind][name] = value
        else:
            plain_texts.append(text)
    parameters = arguments(plain_texts, schemas_of(job), _definitions(job))
    return {"parameters": parameters, **datasets}


def map_of(job: JobDeclaration, text: str) -> dict[str, list[Any]]:
    """The parameter of `--map shard=0..99` or `--map city=paris,oslo`, and its values. Raises `InvalidInput`."""
    name, separator, values = text.partition("=")
    if not separator or not name:
        raise InvalidInput(f"--map {plain(text)} has no values.", hint="Write it as --map shard=0..99 or city=a,b.")
    first, dots, last = values.partition("..")
    if dots and _is_integer(first) and _is_integer(last):
        count = int(last) - int(first) + 1
        if not 0 < count <= ARRAY_MAX:
            raise InvalidInput(f"--map {plain(text)} makes {count:,} jobs.", hint=f"Make 1 to {ARRAY_MAX:,}.")
        return {name: list(range(int(first), int(last) + 1))}
    schemas, definitions = schemas_of(job), _definitions(job)
    return {name: [arguments([f"{name}={each}"], schemas, definitions)[name] for each in values.split(",")]}


def schemas_of(job: JobDeclaration) -> Mapping[str, Any]:
    """The schema of each plain parameter."""
    properties: Mapping[str, Any] = job.parameters.get("properties", {})
    return properties


def _definitions(job: JobDeclaration) -> Mapping[str, Any]:
    definitions: Mapping[str, Any] = job.parameters.get("$defs", {})
    return definitions


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) < 12
