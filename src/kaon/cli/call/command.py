"""`kaon call`: an endpoint called with typed arguments; the answer as text or in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kaon.cli.call import values
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import json_safe, plain, seconds
from kaon.client import contexts
from kaon.client.client import Client
from kaon.client.deployment import ClientCall, value_of
from kaon.errors import InvalidInput, NotFound
from kaon.settings import Settings
from kaon.types.headers import is_name, is_value
from kaon.types.media import File
from kaon.types.route import prefix_of

app = verbs()
_RESERVED = {"authorization", "content-length", "content-type", "host", "transfer-encoding", "connection"}
"""Headers that the client sets."""


@verb(
    app,
    "kaon call greeter greet name=Ada",
    "kaon call vision describe picture=@cat.png language=en",
    'kaon call greeter greet \'names:=["Ada", "Bob"]\'',
    "kaon call counter count to=5 --stream",
    "kaon call painter paint text=sunset -o sunset.png",
)
def call(
    name: DeploymentArgument,
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Its parameters.", show_default=False)
    ] = None,
    body: Annotated[str, typer.Option("--json", help="All parameters as a JSON object; - reads standard input.")] = "",
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", help="A header as 'NAME: VALUE'.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("-o", "-O", "--output", help="Write the answer to this file; - is standard output.")
    ] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Print each item of a stream as it comes.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, like 30s.")] = "60s",
    workspace: WorkspaceOption = None,
) -> None:
    """Call an endpoint and print its answer.

    NAME=VALUE is read by the endpoint's schema: strings stay as typed, files are paths. NAME=@FILE takes the content of
    a file, @- that of standard input; NAME:=JSON takes a JSON value. A name that is given several times is a list.
    """
    if body and arguments:
        raise InvalidInput("--json and NAME=VALUE exclude each other.", hint="Use one of them for all parameters.")
    headers = headers_from(header or [])
    with _client(name, workspace, seconds(timeout)) as client:
        endpoint = endpoint.replace("-", "_")  # also as in its path
        if body:
            given: Mapping[str, Any] = json_arguments(body)
        else:
            operation = client._operation(endpoint)
            given = values.arguments(arguments or [], operation.schemas, operation.definitions)
        _print(client._send(ClientCall(endpoint, given, headers=headers), value_of), output, stream=stream)


@contextmanager
def _client(name: str, workspace: str | None, timeout_s: float) -> Iterator[Client]:
    context = contexts.in_use()
    key = contexts.key_of(context)
    if context.url:
        with opened(workspace) as remote:
            url = remote.deployment(name).url
    else:
        url = Settings().url + prefix_of(workspace or context.workspace, name)
    with Client(url, key, timeout_s=timeout_s) as client:
        try:
            yield client
        except NotFound:
            with opened(workspace) as remote:
                remote.deployment(name)  # raises with a suggestion when the deployment does not exist
            raise


def headers_from(texts: Sequence[str]) -> dict[str, str]:
    """Headers from 'NAME: VALUE' texts. Raises `InvalidInput`."""
    found = {}
    for text in texts:
        name, separator, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not separator or not is_name(name) or not is_value(value):
            raise InvalidInput(f"{plain(text)!r} is not a header.", hint="Write it as -H 'NAME: VALUE'.")
        if name in _RESERVED:
            raise InvalidInput(f"Header {name} is set by the client.", hint="Leave it out.")
        found[name] = value
    return found


def json_arguments(body: str) -> dict[str, Any]:
    """The parameters of `--json`; a dash reads standard input. Raises `InvalidInput`."""
    try:
        value = json.loads(values.read_stdin() if body == "-" else body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"--json is not JSON: {plain(error)}.", hint="Put it in single quotes.") from None
    if not isinstance(value, dict):
        raise InvalidInput("--json is not an object.", hint="""Write it like '{"name": "Ada"}'.""")
    return value


def _print(answer: Any, output: str, *, stream: bool) -> None:
    """Print the answer, or write it to the file `output`; items of a stream as they come, or as one list."""
    items = answer if isinstance(answer, Iterator) else iter([answer])
    if output:
        write(items, output)
    elif stream or items is not answer:
        for item in items:
            put(answer_text(item))
    else:
        whole = list(items)
        put(answer_text(b"".join(whole) if whole and isinstance(whole[0], bytes) else whole))


def answer_text(answer: Any) -> str:
    """An answer as JSON; of a file or bytes, the type and size. Strings are quoted, so that "5" is not 5."""
    if isinstance(answer, File):
        return f"{plain(answer.media_type)}, {len(answer.content)} bytes; save it: -o FILE"
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes; save them: -o FILE"
    return json_safe(json.dumps(answer, ensure_ascii=False))


def write(answers: Iterator[Any], output: str) -> None:
    """Write answers to a file, or standard output for `-`: files as their bytes, values as lines of JSON.

    The file appears when it is complete.
    """
    if output == "-":
        for answer in answers:
            sys.stdout.buffer.write(_bytes(answer))
            sys.stdout.buffer.flush()
        return
    path = Path(output)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            size = sum(file.write(_bytes(answer)) for answer in answers)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    note(f"Wrote {size:,} bytes to {output}.")


def _bytes(answer: Any) -> bytes:
    if isinstance(answer, File):
        return answer.content
    if isinstance(answer, bytes):
        return answer
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"
