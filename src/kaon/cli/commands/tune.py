"""`tune`."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.options import CHANGE, Output, WorkspaceOption, told
from kaon.cli.output import Format

_TUNE = told(
    "Show how a deployment tunes itself, and steer it.",
    "kaon tune greeter                     # how it stands, and why",
    "kaon tune greeter --watch",
    "kaon tune greeter --auto              # try what looks good, keep what is",
    "kaon tune greeter --apply             # put in force what is recommended",
    "kaon tune greeter --try max_batch=16  # prove it on some replicas first",
    "kaon tune greeter --set max_batch=16  # at once",
    "kaon tune greeter --undo",
    "kaon tune greeter --replay            # take its decisions again",
    more="Without anything to say it prints how the tuner stands: what it does and why, the knobs, what was tried, the "
    "loss. Its first word takes half an hour of calls. Nothing that it does starts a replica anew.",
)
_Values = list[str] | None


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=_TUNE, rich_help_panel=CHANGE)(tune)


def tune(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Draw it every second, until Ctrl-C; piped, once.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Let it try and keep what proves better.")] = False,
    recommend: Annotated[bool, typer.Option("--recommend", help="Let it recommend, and change nothing.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Switch it off; what is in force stays.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Put what is recommended in force.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="End what is tried; else back to what was before.")] = False,
    puts: Annotated[_Values, typer.Option("--set", metavar="KNOB=VALUE", help="Put in force; repeatable.")] = None,
    tries: Annotated[_Values, typer.Option("--try", metavar="KNOB=VALUE", help="Try; repeatable.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Take its decisions again; fails if one differs.")] = False,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how a deployment tunes itself, and steer it."""
    from kaon.cli import tuning
    from kaon.cli.text import plain
    from kaon.errors import InvalidInput
    from kaon.types.tuning import TuningMode

    modes = {TuningMode.AUTO: auto, TuningMode.RECOMMEND: recommend, TuningMode.OFF: off}
    request = tuning.asked(name, modes, apply, undo, puts or [], tries or [])
    if (request is not None) + watch + replay > 1:
        raise InvalidInput(
            "--watch and --replay only look: say nothing else with them.", hint=f"One by one: kaon tune {plain(name)}"
        )
    if request is not None:
        tuning.say(name, request, workspace, output)
    elif replay:
        tuning.replay(name, workspace, output)
    else:
        tuning.show(name, watch, workspace, output)
