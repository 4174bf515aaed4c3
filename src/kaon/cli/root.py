"""The commands, their groups, and how a command ends: every error becomes a text and an exit code here."""

from __future__ import annotations

import os
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from kaon.cli import streams
from kaon.cli.commands import (
    audit,
    call,
    change,
    cloud,
    config,
    deploy,
    gc,
    key,
    look,
    platform,
    rollout,
    secret,
    serve,
    simulate,
    tune,
    workspace,
)
from kaon.cli.notes import failure, note
from kaon.cli.options import HEADINGS, PLATFORM
from kaon.errors import ConfigError, InvalidInput, KaonError
from kaon.version import __version__

INTERRUPTED = 130


class Root(TyperGroup):
    """The root group: verbs under their headings, and an exit code for whatever a command raises."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs, heading by heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                heading = str(getattr(command, "rich_help_panel", "") or PLATFORM)
                groups.setdefault(heading, []).append((name, command.get_short_help_str(100)))
        for heading in HEADINGS:
            with formatter.section(heading):
                formatter.write_dl(groups[heading])

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises `typer.Exit` with the code of whatever went wrong."""
        try:
            return super().invoke(ctx)
        except KaonError as error:
            self._end(error)
        except (KeyboardInterrupt, EOFError):
            raise typer.Exit(INTERRUPTED) from None
        except ValidationError as error:  # of the settings: everything else is checked where it comes in
            wrong = [
                {"where": f"KAON_{'.'.join(map(str, e['loc']))}".upper(), "message": e["msg"]} for e in error.errors()
            ]
            self._end(ConfigError("The environment is not valid.", errors=wrong))
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            streams.let_go()
            raise typer.Exit(0) from None
        except UnicodeError:
            self._end(InvalidInput("What was given or read is not text in UTF-8.", hint="Convert it to UTF-8 first."))
        except OSError as error:
            self._end(KaonError(f"{error.strerror}: {error.filename}" if error.filename else str(error)))

    def _end(self, error: KaonError) -> NoReturn:
        note(failure(error))
        raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    name="kaon",
    cls=Root,
    help="Turn a Python class into a managed AI service.",
    epilog="First steps:  kaon up  ->  kaon deploy FILE.py:CLASS  ->  kaon call NAME ENDPOINT key=value",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kaon {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: Annotated[
        str, typer.Option("--context", envvar="KAON_CONTEXT", help="The platform to talk to; see `kaon config`.")
    ] = "",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Turn a Python class into a managed AI service."""
    if context:
        os.environ["KAON_CONTEXT"] = context


for module in (
    serve,
    deploy,
    call,
    look,
    audit,
    simulate,
    change,
    tune,
    rollout,
    key,
    secret,
    workspace,
    cloud,
    platform,
    gc,
    config,
):
    module.add_to(app)


def main() -> None:
    """The console script `kaon`."""
    streams.prepare()
    try:
        app(prog_name="kaon")
    except BrokenPipeError:  # of help and usage, which are printed before a command runs
        streams.let_go()
    except OSError as error:  # the same, where they cannot be printed
        streams.let_go()
        note(failure(KaonError(f"Nothing can be printed: {error.strerror}.")))
        raise SystemExit(1) from None
    finally:
        streams.finish()
