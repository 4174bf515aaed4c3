"""`kaon dataset`: named files with versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.dataset.pages import described, difference_page
from kaon.cli.dataset.steps import ByteSteps
from kaon.cli.get import print_resources
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import OutputOption, WorkspaceOption, Yes, group, verb
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.text import size
from kaon.datasets.push import manifest_of_folder, send_missing
from kaon.datasets.receive import pull as pull_files
from kaon.errors import InvalidInput, Unavailable
from kaon.laws.datasets import reference, size_of
from kaon.types.dataset import DatasetFile
from kaon.types.kinds import KINDS

app = group("dataset", "Push, read, label and delete datasets: named files with versions.")
_VERIFIED_AT_ONCE = 1000
VersionArgument = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A number or a label; default: latest.", show_default=False)
]


@verb(app, "kaon dataset push purchases ./data", "kaon dataset push shop-model ./model --label candidate")
def push(
    name: Annotated[str, typer.Argument(help="The dataset; it is created when it is new.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="The folder whose files are the version.", show_default=False)],
    label: Annotated[str, typer.Option("--label", help="Set this label on the version.")] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Make a folder the next version of a dataset.

    Only files that the platform does not have are sent. An interrupted push goes on where it stopped.
    """
    with opened(workspace) as remote, ProgressLine() as line:
        steps = ByteSteps(line)
        manifest = manifest_of_folder(folder, steps)
        target = remote.push_of(name)
        send_missing(target, folder, manifest, steps)
        version = target.create()
        if label:
            remote.set_label(name, label, version.spec.number)
    if output is not Format.TABLE:
        put(version.name if output is Format.NAME else document(version.model_dump(mode="json"), output))
        return
    put(f"{version.name}: {version.spec.files:,} files, {size(size_of(manifest.files))}")
    if label:
        note(f"Label '{label}' of {name} is version {version.spec.number}.")


@verb(app, "kaon dataset ls", name="ls")
def list_datasets(workspace: WorkspaceOption = None, output: OutputOption = Format.TABLE) -> None:
    """List datasets."""
    print_resources("datasets", output, workspace)


@verb(app, "kaon dataset describe purchases", "kaon dataset describe purchases@3")
def describe(
    version: VersionArgument,
    all_files: Annotated[bool, typer.Option("--all", help="List every file.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a dataset and its versions; of one version its files, what made it, and what uses it."""
    with opened(workspace) as remote:
        if "@" not in version:
            dataset = remote.dataset(version)
            versions = remote.resources(KINDS["dataset-version"], dataset=version)
            put(described(dataset, versions, output))
            return
        view = remote.dataset_version(version)
        manifest = remote.dataset_manifest(view.name)
    put(described(view, manifest, output, all_files=all_files))


@verb(app, "kaon dataset diff purchases@3 purchases@4", "kaon dataset diff purchases@prod purchases")
def diff(
    older: Annotated[str, typer.Argument(help="A version.", show_default=False)],
    newer: Annotated[str, typer.Argument(help="Another version.", show_default=False)],
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show which files were added (+), removed (-) or changed (~)."""
    with opened(workspace) as remote:
        base, version = remote.dataset_version(older), remote.dataset_version(newer)
        found = remote.dataset_difference(version.name, base.name)
    put(difference_page(base.name, version.name, found, output))


@verb(app, "kaon dataset pull purchases ./data", "kaon dataset pull shop-model@prod ./model")
def pull(
    version: VersionArgument,
    folder: Annotated[Path, typer.Argument(help="Where its files are written.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of other content.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the files of a version into a folder, and verify them.

    Files that are there already are not fetched again. An interrupted pull goes on where it stopped.
    """
    with opened(workspace) as remote, ProgressLine() as line:
        view = remote.dataset_version(version)
        manifest = remote.dataset_manifest(view.name)
        steps = ByteSteps(line)
        steps.begin("Fetching", view.spec.size_bytes)
        source = remote.dataset_files(view.name)
        fetched = pull_files(source, manifest, folder, overwrite=overwrite, on_bytes=steps.add)
    put(f"{view.name}: {view.spec.files:,} files, {size(view.spec.size_bytes)}; {fetched:,} fetched")


@verb(
    app,
    "kaon dataset label shop-model@7 prod",
    "kaon dataset label shop-model prod --remove",
)
def label(
    version: VersionArgument,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="Like prod.", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the label.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Set a label on a version, or move it there. Deployments that follow the label roll out."""
    dataset = reference(version).dataset
    with opened(workspace) as remote:
        if remove:
            remote.remove_label(dataset, name)
            note(f"Label '{name}' of {dataset} is removed.")
            return
        view = remote.dataset_version(version)
        remote.set_label(dataset, name, view.spec.number)
    note(f"Label '{name}' of {dataset} is version {view.spec.number}.")


@verb(app, "kaon dataset verify purchases", "kaon dataset verify purchases@3")
def verify(version: VersionArgument, workspace: WorkspaceOption = None) -> None:
    """Read the stored files of a version, and compare them with their digests."""
    damaged: list[DatasetFile] = []
    with opened(workspace) as remote, ProgressLine() as line:
        view = remote.dataset_version(version)
        steps = ByteSteps(line)
        steps.begin("Verifying", view.spec.size_bytes)
        for first in range(0, view.spec.files, _VERIFIED_AT_ONCE):
            count = min(_VERIFIED_AT_ONCE, view.spec.files - first)
            checked = remote.verify_dataset(view.name, first, count)
            steps.add(checked.size_bytes)
            damaged += checked.damaged
    if damaged:
        raise Unavailable(
            f"{len(damaged):,} of {view.spec.files:,} files of {view.name} are damaged or missing.",
            hint=f"Push the same files again to repair it: kaon dataset push {view.spec.dataset} FOLDER",
            errors=[{"where": file.path, "message": "damaged or missing"} for file in damaged[:20]],
        )
    put(f"{view.name}: all {view.spec.files:,} files, {size(view.spec.size_bytes)}, are as they were pushed")


@verb(app, "kaon dataset rm purchases@3", "kaon dataset rm purchases -y", name="rm")
def remove_dataset(
    version: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="A version; or a dataset.", show_default=False)
    ],
    yes: Yes = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Delete a version, or a dataset with all its versions, that nothing needs."""
    with opened(workspace) as remote:
        if "@" in version:
            _remove_version(remote, version, yes=yes)
            return
        view = remote.dataset(version)
        ask(f"Delete dataset '{version}' with its {view.versions:,} versions?", yes=yes)
        remote.delete_resource(KINDS["dataset"], version)
    note(f"Dataset '{version}' is deleted.")


def _remove_version(remote: Remote, version: str, *, yes: bool) -> None:
    if reference(version).follows:
        view = remote.dataset_version(version)
        raise InvalidInput(f"{version} may be another version soon.", hint=f"Name its number: {view.name}")
    ask(f"Delete version {version}?", yes=yes)
    remote.delete_resource(KINDS["dataset-version"], version)
    note(f"Version {version} is deleted.")
