"""`get`, `describe`, `ps`, `stats`, `advise`, `explain`, `logs` and `events`: what is, what was, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.core import TyperCommand

from kaon.cli.options import LOOK, Output, WorkspaceOption, told
from kaon.cli.output import Format

_GET = told(
    "List things of a kind, or show one.",
    "kaon get deployments",
    "kaon get deployment greeter -o yaml",
    "kaon get replicas greeter -o wide",
    "kaon get replicas --filter phase=Ready --limit 20",
    "kaon get deployments --watch",
    more="Kinds: {kinds}; the plural is as good.",
)
_DESCRIBE = told(
    "Tell all there is to say of a thing; of a deployment, its settings, revisions, replicas, events.",
    "kaon describe greeter",
    "kaon describe cloud local",
)


class _Kinds(TyperCommand):
    """A command whose help names all kinds: their declarations are read when it is shown, not whenever `kaon` runs."""

    @property
    def help(self) -> str | None:
        """The text, with the kinds in it."""
        from kaon.types.kinds import KINDS

        names = ", ".join("/".join((kind.name, *kind.short)) for kind in KINDS.values() if kind.rights)
        return self._help and self._help.replace("{kinds}", names)

    @help.setter
    def help(self, text: str | None) -> None:
        self._help = text


class _Look(StrEnum):
    """How a list is printed: as data is, or as a table with more columns."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


_PS = told("List deployments and their replicas, with phase and reason.", "kaon ps", "kaon ps greeter -o json")
_LOGS = told(
    "Print what a deployment's replicas wrote.",
    "kaon logs greeter",
    "kaon logs greeter -f --grep ERROR",
    "kaon logs greeter --since 10m --replica greeter-2-0",
)
_EVENTS = told(
    "List what happened, the newest last.",
    "kaon events",
    "kaon events greeter --limit 20",
    "kaon events -f --since 10m",
)


_EXPLAIN = told(
    "Tell why a deployment has the replicas that it has: the last decisions, with the numbers behind them.",
    "kaon explain greeter",
    "kaon explain greeter --since 10m",
    "kaon explain greeter -o json",
    more="Decisions on scaling, rollouts and tuning, the newest last, and then what the scaling law says now.",
)


_STATS = told(
    "Show how a deployment does: calls, latency, replicas, as charts that move.",
    "kaon stats greeter",
    "kaon stats greeter --since 1h",
    "kaon stats greeter -o json",
    more="On a terminal it draws again every second until Ctrl-C; elsewhere, or with --once, it prints once. "
    "The last two minutes have seconds, the last half hour steps of 10 s, the last week minutes.",
)


_ADVISE = told(
    "Tell what could be better: what the figures say, what it would bring, and the command that does it.",
    "kaon advise",
    "kaon advise greeter",
    "kaon advise -o json",
    more="Every minute of traffic is judged; what held for five minutes on end is told. Too many or too few replicas, "
    "memory near its limit, batches that never fill, cold starts that hurt, latency or errors that are unusual.",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help=_PS, rich_help_panel=LOOK)(ps)
    app.command(help=_DESCRIBE, rich_help_panel=LOOK)(describe)
    app.command(help=_STATS, rich_help_panel=LOOK)(stats)
    app.command(help=_ADVISE, rich_help_panel=LOOK)(advise)
    app.command(help=_EXPLAIN, rich_help_panel=LOOK)(explain)
    app.command(help=_LOGS, rich_help_panel=LOOK)(logs)
    app.command(help=_EVENTS, rich_help_panel=LOOK)(events)
    app.command(cls=_Kinds, help=_GET, rich_help_panel=LOOK)(get)


def get(
    kind: Annotated[str, typer.Argument(help="The kind of thing.", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="One of them, or the deployment that they are of.", show_default=False)
    ] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="NAME=VALUE", help="Only such, like state=Stable or prefix=web; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with each change as it comes.")] = False,
    workspace: WorkspaceOption = None,
    output: Annotated[_Look, typer.Option("-o", "--output", help="table, wide, json, yaml or name.")] = _Look.TABLE,
) -> None:
    """List things of a kind, or show one."""
    from kaon.cli import looking

    wide = output is _Look.WIDE
    form = Format.TABLE if wide else Format(output)
    looking.get(kind, name, workspace, form, wide=wide, most=limit, filters=filters or (), watch=watch)


def describe(
    first: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="A deployment unless said.", show_default=False)],
    second: Annotated[str, typer.Argument(hidden=True)] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Tell all there is to say of a thing."""
    from kaon.cli import looking

    looking.describe(first, second, workspace)


def ps(
    name: Annotated[str, typer.Argument(help="Only this deployment.", show_default=False)] = "",
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """List deployments and their replicas."""
    from kaon.cli import looking

    looking.ps(name, workspace, output)


def stats(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    since: Annotated[str, typer.Option(help="How far back the charts go, like 1h; a week at most.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Print once, and end.")] = False,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Show how a deployment does."""
    from kaon.cli import watching
    from kaon.cli.text import seconds

    watching.stats(name, seconds(since) if since else None, once, workspace, output)


def advise(
    name: Annotated[str, typer.Argument(help="Only this deployment.", show_default=False)] = "",
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell what could be better."""
    from kaon.cli import advising

    advising.advise(name, workspace, output)


def explain(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    since: Annotated[str, typer.Option(help="Only decisions of the last while, like 10m.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 10,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell why."""
    from kaon.cli import explaining
    from kaon.cli.text import seconds

    explaining.explain(name, seconds(since) if since else None, limit, workspace, output)


def logs(
    name: Annotated[str, typer.Argument(help="The deployment.", show_default=False)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines as they come.")] = False,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="The last lines of each replica.")] = 100,
    since: Annotated[str, typer.Option(help="Only lines of the last while, like 10m.")] = "",
    replica: Annotated[str, typer.Option(help="Only this replica, by name or id.")] = "",
    grep: Annotated[str, typer.Option(help="Only lines that hold this text.")] = "",
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Print what a deployment's replicas wrote."""
    from kaon.cli import looking
    from kaon.cli.text import seconds

    query = {
        "follow": follow,
        "tail": tail,
        "since_s": seconds(since) if since else None,
        "replica": replica or None,
        "grep": grep or None,
    }
    looking.logs(name, workspace, output, query)


def events(
    name: Annotated[str, typer.Argument(help="Only about the thing of this name.", show_default=False)] = "",
    kind: Annotated[str, typer.Option(help="Only about things of this kind.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    since: Annotated[str, typer.Option(help="Only events of the last while, like 10m.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new events as they come.")] = False,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """List what happened."""
    from kaon.cli import looking
    from kaon.cli.text import seconds

    since_s = seconds(since) if since else None
    looking.events(name, kind, limit, workspace, output, since_s=since_s, follow=follow)
