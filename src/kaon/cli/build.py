"""`kaon build`: an artifact from sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kaon.build.build import Built
from kaon.build.listing import Listing
from kaon.cli.apply.documents import Document, of_folder
from kaon.cli.apply.steps import builder
from kaon.cli.deploy.folder import DocumentChanges, only_service, sources_of
from kaon.cli.deploy.spec import DeployOptions
from kaon.cli.shared import artifacts
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import (
    Allow,
    AllowPickle,
    Env,
    ExtraOption,
    GroupOption,
    Include,
    OutputOption,
    verb,
    verbs,
)
from kaon.cli.shared.output import Format, document, put, terminal_columns
from kaon.cli.shared.text import pairs, plain, size, table

app = verbs()


@verb(
    app,
    "kaon build",
    "kaon build greeter.py:Greeter",
    "kaon build greeter.py:Greeter --out /tmp -o json",
    "kaon build greeter.py:Greeter --include models --allow-pickle",
    "kaon build greeter.py:Greeter --list",
)
def build(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[FILE.py:CLASS]",
            help="The service's class; default: what kaon deploy builds here.",
            show_default=False,
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="The folder for the artifact.")] = Path("dist"),
    env: Env = None,
    include: Include = None,
    allow: Allow = None,
    allow_pickle: AllowPickle = False,
    extra: ExtraOption = None,
    group: GroupOption = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Only list what would be packed, left out and refused, and why.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Build an artifact: sources, locked requirements, and a description of the class.

    Equal sources give equal bytes. Files that .gitignore names are left out; secrets and pickles are refused.
    Without a class, the deployments of this folder's kaon.yaml are built, each with its variables, files and
    requirements, else the only service here; options are added to those of each.
    """
    changes = DocumentChanges(
        DeployOptions(env=pairs(env or [], "--env")),
        include=include or (),
        allow=artifacts.consents(allow, allow_pickle),
        extras=extra or (),
        groups=group or (),
    )
    sources = [changes.of(source) for source in _sources(target, Path.cwd())]
    if only_list:
        for source in sources:
            put_listing(
                artifacts.list_files(source.source, Path.cwd(), include=source.include, allow=source.allow), output
            )
        return
    build_source = builder(Path.cwd(), out)
    for source in sources:
        put_built(build_source(source), output)
    if sys.stderr.isatty():
        note(f"Deploy it: kaon deploy {target}".rstrip())


def _sources(target: str, folder: Path) -> list[Document]:
    """What is built: a class, what the folder's kaon.yaml lists, or its only service."""
    if not target and (documents := of_folder(folder)):
        return sources_of(documents)
    return [Document(kind="deployment", name="", source=target or only_service(folder, "kaon build"))]


def put_built(built: Built, output: Format) -> None:
    """Print an artifact's path and digest, or all of its manifest."""
    service = built.manifest.service
    if output in (Format.JSON, Format.YAML):
        members = {"path": str(built.path), "digest": built.digest, "size_bytes": built.size_bytes}
        put(document(members | {"manifest": built.manifest.model_dump(mode="json")}, output))
        return
    put(plain(built.digest if output is Format.NAME else built.path))
    note(f"{service.name}: {len(service.endpoints)} endpoints, {artifacts.size_text(built)}")
    note(built.digest)


def put_listing(listing: Listing, output: Format) -> None:
    """Print what would be packed."""
    if output in (Format.JSON, Format.YAML):
        put(document(listing_members(listing), output))
        return
    if output is Format.NAME:
        put("\n".join(plain(path) for path, _ in listing.files))
        return
    put(listing_table(listing, terminal_columns()))
    note(
        f"{len(listing.files)} files, {size(listing.unpacked_bytes)}, packed about {size(listing.packed_bytes)}; "
        f"{len(listing.left_out)} left out, {len(listing.refused)} refused. Nothing was built."
    )


def listing_members(listing: Listing) -> dict[str, Any]:
    """The members of the listing as JSON has them. Pure."""
    return {
        "files": [{"path": path, "size_bytes": size_bytes} for path, size_bytes in listing.files],
        "left_out": [{"path": left.path, "reason": left.reason} for left in listing.left_out],
        "refused": [{"path": refused.path, "reason": refused.reason} for refused in listing.refused],
        "unpacked_bytes": listing.unpacked_bytes,
        "packed_bytes": listing.packed_bytes,
    }


def listing_table(listing: Listing, columns: int | None) -> str:
    """The files by path, and why those are left out or refused that are. Pure."""
    rows = [(path, size(size_bytes), "packed", "") for path, size_bytes in listing.files]
    rows += [(left.path, "-", "left out", left.reason) for left in listing.left_out]
    rows += [(refused.path, "-", "refused", refused.reason) for refused in listing.refused]
    return table(("path", "size", "", "why"), sorted(rows), columns)
