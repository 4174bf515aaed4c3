"""`kaon job`: work that runs to completion."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.get import print_resources
from kaon.cli.job.follow import follow_array, follow_job
from kaon.cli.job.pages import job_page
from kaon.cli.job.request import declaration_of, map_of, values_of
from kaon.cli.shared import artifacts, tables
from kaon.cli.shared.log_lines import log_text
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import Allow, Env, Include, OutputOption, WorkspaceOption, Yes, group, verb
from kaon.cli.shared.output import Format, document, put, put_list
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.text import pairs, seconds
from kaon.errors import InvalidInput, NotFound
from kaon.types.job import JobRequest, JobState
from kaon.types.kinds import KINDS

app = group("job", "Run functions to completion: submit, follow, cancel, retry.")
JobArgument = Annotated[str, typer.Argument(help="The job, or an array of jobs.", show_default=False)]
_EVENTS = 20


@verb(
    app,
    "kaon job run shop.py:train data=purchases@latest model=shop-model --follow",
    "kaon job run shop.py:clean --map shard=0..99 --parallel 8",
)
def run(
    target: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="The job.", show_default=False)],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Parameters; of inputs and outputs: datasets."),
    ] = None,
    name: Annotated[str, typer.Option(help="The job's name; default: made from that of the function.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Show its progress until it ends, then its result.")] = False,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher ones of a workspace start first.")] = 0,
    retries: Annotated[int | None, typer.Option(min=0, max=100, help="Repeats after failures.")] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Time limit of a run, like 30m.")] = "",
    once: Annotated[bool | None, typer.Option("--once/--repeatable", help="Never start it a second time.")] = None,
    env: Env = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="K=NAME", help="A variable with the value of a secret; repeatable."),
    ] = None,
    array: Annotated[str, typer.Option("--map", metavar="NAME=VALUES", help="A job per value: 0..99 or a,b,c.")] = "",
    parallel: Annotated[int | None, typer.Option(min=1, help="So many jobs of the array at once.")] = None,
    include: Include = None,
    allow: Allow = None,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Build a function, upload it, and queue a run of it.

    Parameters are checked before anything is queued. With --follow the exit code is 0 when it succeeds, else 1.
    """
    function = target.rpartition(":")[2]
    variables = pairs(env or [], "--env")
    with tempfile.TemporaryDirectory(prefix="kaon-job-") as out, opened(workspace) as remote:
        remote.whoami()  # fails before the build when the key is wrong or the platform cannot be reached
        built = artifacts.build(target, Path.cwd(), Path(out), env=variables, include=include or (), allow=allow or ())
        declared = declaration_of(built.manifest, function)
        request = JobRequest(
            name=name or None,
            artifact=built.digest,
            function=declared.name,
            **values_of(declared, values or []),
            env=variables,
            secrets=pairs(secret or [], "--secret"),
            timeout_s=seconds(timeout) if timeout else None,
            retries=retries,
            once=once,
            priority=priority,
            map=map_of(declared, array) if array else {},
            parallel=parallel,
        )
        artifacts.upload(remote, built)
        queued = remote.submit_job(request)
        if output is not Format.TABLE:
            put(queued.name if output is Format.NAME else document(queued.model_dump(mode="json"), output))
        elif array and not follow:
            put(f"Queued {queued.name}: an array of {len(queued.jobs)} jobs. See: kaon job describe {queued.name}")
        elif not follow:
            put(f"Queued {queued.name}. Follow it: kaon job logs -f {queued.jobs[0]}")
        if follow:
            end = follow_array(remote, queued) if array else follow_job(remote, queued.name)
            raise typer.Exit(end)


@verb(app, "kaon job ls", "kaon job ls --state Running", name="ls")
def list_jobs(
    state: Annotated[str, typer.Option(help="Only in this state, like Running.")] = "",
    array: Annotated[str, typer.Option(help="Only jobs of this array.")] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List jobs, oldest first."""
    if not state and not array:
        print_resources("jobs", output, workspace=workspace)
        return
    with opened(workspace) as remote:
        found = remote.resources(KINDS["job"], state=state or None, array=array or None)
    put_list(found, tables.of("job", time.time()), output)


@verb(app, "kaon job describe train-4f2ab")
def describe(name: JobArgument, workspace: WorkspaceOption = None) -> None:
    """Show a job: parameters, attempts, metrics, result, events."""
    with opened(workspace) as remote:
        if members := remote.resources(KINDS["job"], array=name):
            put_list(members, tables.of("job", time.time()), Format.TABLE)
            return
        job = remote.resource(KINDS["job"], name)
        result = remote.job_result(name) if job.status.state is JobState.SUCCEEDED else None
        events = remote.events("job", name, _EVENTS)
        put(job_page(job, remote.job_metrics(name), result, events, time.time()))


@verb(app, "kaon job logs train-4f2ab -f", "kaon job logs train-4f2ab --attempt 1")
def logs(
    name: Annotated[str, typer.Argument(help="The job.", show_default=False)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Also print new lines, until it ends.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="The last such lines.")] = 1000,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only of this attempt; default: the newest.")] = None,
    grep: Annotated[str, typer.Option(help="Only lines that contain this text.")] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Print what a job wrote to its log."""
    count = 0
    with opened(workspace) as remote:
        if follow:
            _until_started(remote, name)
        query = {"follow": follow, "tail": tail, "attempt": attempt, "grep": grep or None}
        for line in remote.job_logs(name, **query):
            count += 1
            put(line.model_dump_json() if output is Format.JSON else "\n".join(log_text(line, named=False)))
    if not count and not follow:
        note(f"No such lines of '{name}' are kept.")


@verb(app, "kaon job cancel train-4f2ab")
def cancel(name: JobArgument, workspace: WorkspaceOption = None) -> None:
    """Cancel a job: it gets SIGTERM, after 10 s SIGKILL, and publishes nothing."""
    with opened(workspace) as remote:
        changed = remote.change_job(name, "cancel").jobs
    put(f"Cancelled: {', '.join(changed)}." if changed else f"{name} has ended already.")


@verb(app, "kaon job retry train-4f2ab")
def retry(name: JobArgument, workspace: WorkspaceOption = None) -> None:
    """Queue a job again that has ended without success."""
    with opened(workspace) as remote:
        changed = remote.change_job(name, "retry").jobs
    put(f"Queued again: {', '.join(changed)}." if changed else f"{name} has succeeded or has not ended.")


@verb(app, "kaon job rm train-4f2ab -y", "kaon job rm --ended -y", name="rm")
def remove(
    names: Annotated[list[str] | None, typer.Argument(help="Jobs or arrays that have ended.")] = None,
    ended: Annotated[bool, typer.Option("--ended", help="All jobs that have ended.")] = False,
    yes: Yes = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Delete jobs that have ended, with their results and metrics. Datasets that they made stay."""
    if bool(names) == ended:
        raise InvalidInput("Name jobs, or use --ended.", hint="List them: kaon job ls")
    with opened(workspace) as remote:
        if ended:
            found = [job.name for job in remote.resources(KINDS["job"]) if job.status.state.ended]
        else:
            found = [one for name in names or [] for one in _members(remote, name)]
        ask(f"Delete {len(found)} jobs?" if len(found) != 1 else f"Delete job {found[0]}?", yes=yes)
        for one in found:
            remote.delete_resource(KINDS["job"], one)
    put(f"Deleted {len(found)} jobs." if len(found) != 1 else f"Deleted {found[0]}.")


def _members(remote: Remote, name: str) -> list[str]:
    """The jobs of an array, or the job itself."""
    return [job.name for job in remote.resources(KINDS["job"], array=name)] or [name]


def _until_started(remote: Remote, name: str) -> None:
    """Wait until a job has an attempt. Raises `NotFound` when it ends without one."""
    for event in remote.job_events(name):
        if event.name == "job":
            status = KINDS["job"].view.model_validate_json(event.data).status  # type: ignore[attr-defined]
            if status.attempts:
                return
    raise NotFound(f"Job '{name}' has not started.", hint=f"See: kaon job describe {name}")
