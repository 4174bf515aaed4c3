"""`kaon tune`: the tuner's page, requests to the tuner, and the replay of its decisions."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from kaon.cli.shared.live_page import print_once, redraw
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, document, page_columns, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain
from kaon.cli.tune.page import page
from kaon.cli.tune.replay import print_replay
from kaon.cli.tune.request import outcome, request_from
from kaon.errors import InvalidInput
from kaon.types.tuning import TuningMode, TuningRequest

app = verbs()
_Values = list[str] | None


@verb(
    app,
    "kaon tune greeter                     # show its state, and why",
    "kaon tune greeter --watch",
    "kaon tune greeter --auto              # try values, keep better ones",
    "kaon tune greeter --apply             # apply the recommended values",
    "kaon tune greeter --try max_batch=16  # prove it on some replicas first",
    "kaon tune greeter --set max_batch=16  # at once",
    "kaon tune greeter --undo",
    "kaon tune greeter --replay            # recompute its decisions",
)
def tune(
    name: DeploymentArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Redraw every second until Ctrl-C; piped, once.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Let it try values and keep better ones.")] = False,
    recommend: Annotated[bool, typer.Option("--recommend", help="Let it recommend values, change nothing.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Switch it off; values in force stay.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Apply the recommended values.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="End the trial; else restore the previous values.")] = False,
    puts: Annotated[_Values, typer.Option("--set", metavar="KNOB=VALUE", help="Apply a value; repeatable.")] = None,
    tries: Annotated[_Values, typer.Option("--try", metavar="KNOB=VALUE", help="Try a value; repeatable.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Recompute its decisions; fails if one differs.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show how a deployment's tuner works, and control it.

    Without options: the tuner's state and reason, the knobs, the trials, the loss. First results take half an hour of
    calls. The tuner never restarts a replica.
    """
    modes = {TuningMode.AUTO: auto, TuningMode.RECOMMEND: recommend, TuningMode.OFF: off}
    request = request_from(name, modes, apply, undo, puts or [], tries or [])
    if (request is not None) + watch + replay > 1:
        raise InvalidInput(
            "--watch and --replay cannot be combined with other options.", hint=f"One by one: kaon tune {plain(name)}"
        )
    if request is not None:
        _send(name, request, workspace, output)
    elif replay:
        print_replay(name, workspace, output)
    else:
        _show(name, watch, workspace, output)


def _show(name: str, watch: bool, workspace: str | None, form: Format) -> None:
    with opened(workspace) as remote:
        state = remote.tuning(name)
        if form is Format.NAME:
            put(state.deployment)
        elif form is not Format.TABLE:
            put(document(state.model_dump(mode="json"), form))
        elif watch and sys.stdout.isatty():
            redraw(lambda columns, lines: page(remote.tuning(name), time.time(), columns, lines))
        else:
            print_once(page(state, time.time(), page_columns()))


def _send(name: str, request: TuningRequest, workspace: str | None, form: Format) -> None:
    with opened(workspace) as remote:
        before, after = remote.tune(name, request)
    note(outcome(request, before, after))
    if form is Format.NAME:
        put(after.deployment)
    elif form is not Format.TABLE:
        put(document(after.model_dump(mode="json"), form))
