"""`kaon build`: an artifact from sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kaon.build.listing import Listing
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
    TargetArgument,
    verb,
    verbs,
)
from kaon.cli.shared.output import Format, document, put, terminal_columns
from kaon.cli.shared.text import pairs, plain, size, table

app = verbs()


@verb(
    app,
    "kaon build greeter.py:Greeter",
    "kaon build greeter.py:Greeter --out /tmp -o json",
    "kaon build greeter.py:Greeter --include models --allow-pickle",
    "kaon build greeter.py:Greeter --list",
)
def build(
    target: TargetArgument,
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
    """
    allowed = artifacts.consents(allow, allow_pickle)
    if only_list:
        put_listing(artifacts.list_files(target, Path.cwd(), include=include or (), allow=allowed), output)
        return
    built = artifacts.build(
        target,
        Path.cwd(),
        out,
        env=pairs(env or [], "--env"),
        include=include or (),
        allow=allowed,
        require=artifacts.required(extra, group),
    )
    service = built.manifest.service
    if output in (Format.JSON, Format.YAML):
        members = {"path": str(built.path), "digest": built.digest, "size_bytes": built.size_bytes}
        put(document(members | {"manifest": built.manifest.model_dump(mode="json")}, output))
        return
    put(plain(built.digest if output is Format.NAME else built.path))
    note(f"{service.name}: {len(service.endpoints)} endpoints, {artifacts.size_text(built)}")
    note(built.digest)
    if sys.stderr.isatty():
        note(f"Deploy it: kaon deploy {target}")


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
