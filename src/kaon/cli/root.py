"""The verbs under their headings, and how a command ends: every error becomes a text and an exit code here.

A verb's module is imported when the verb runs; `kaon --help` imports all of them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
import typer.main
from pydantic import ValidationError
from typer.core import TyperGroup

from kaon.cli.shared import streams
from kaon.cli.shared.notes import failure, note
from kaon.errors import ConfigError, InvalidInput, KaonError
from kaon.version import __version__

INTERRUPTED = 130

VERBS = {
    "Write and serve": {
        "init": "init.command",
        "dev": "dev.command",
        "build": "build",
        "deploy": "deploy.command",
        "apply": "apply.command",
        "call": "call.command",
    },
    "Look": {
        "ps": "ps",
        "describe": "describe",
        "stats": "stats.command",
        "advise": "advise",
        "explain": "explain",
        "logs": "logs",
        "events": "events",
        "get": "get",
        "audit": "audit",
        "simulate": "simulate",
    },
    "Change": {"scale": "scale", "set": "set", "rm": "rm", "tune": "tune.command", "rollout": "rollout.command"},
    "Data and jobs": {"dataset": "dataset.command", "job": "job.command"},
    "Share": {
        "adopt": "adopt",
        "key": "key",
        "secret": "secret",
        "workspace": "workspace",
        "whoami": "whoami",
        "cloud": "cloud",
    },
    "Platform": {
        "up": "platform",
        "down": "platform",
        "status": "platform",
        "doctor": "doctor",
        "open": "platform",
        "gc": "gc",
        "config": "config",
    },
}
"""Heading of `kaon --help` -> verb -> module of `kaon.cli`, each in the order shown."""

_MODULES = {verb: module for verbs in VERBS.values() for verb, module in verbs.items()}


class Root(TyperGroup):
    """The group of all verbs. Errors end with their exit code."""

    @property
    def commands(self) -> Any:
        """All verbs, loaded."""
        return {verb: _load(verb) for verb in _MODULES}

    @commands.setter
    def commands(self, _: Any) -> None:
        """Typer assigns the registered commands; the table above replaces them."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One verb; only its module is imported."""
        return _load(cmd_name) if cmd_name in _MODULES else None

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all verbs."""
        return list(_MODULES)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Print the verbs under their headings."""
        for heading, verbs in VERBS.items():
            with formatter.section(heading):
                formatter.write_dl([(verb, _load(verb).get_short_help_str(100)) for verb in verbs])

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises `typer.Exit` with the exit code of its error."""
        try:
            return super().invoke(ctx)
        except KaonError as error:
            self._end(error)
        except (KeyboardInterrupt, EOFError):
            raise typer.Exit(INTERRUPTED) from None
        except ValidationError as error:  # only settings are validated without a handler of their own
            wrong = [
                {"where": f"KAON_{'.'.join(map(str, e['loc']))}".upper(), "message": e["msg"]} for e in error.errors()
            ]
            self._end(ConfigError("The environment is not valid.", errors=wrong))
        except BrokenPipeError:  # the reader, such as `head`, has ended
            streams.flush_or_discard()
            raise typer.Exit(0) from None
        except UnicodeError:
            self._end(InvalidInput("An argument or a file is not UTF-8 text.", hint="Convert it to UTF-8 first."))
        except OSError as error:
            self._end(KaonError(f"{error.strerror}: {error.filename}" if error.filename else str(error)))

    def _end(self, error: KaonError) -> NoReturn:
        note(failure(error))
        raise typer.Exit(error.exit_code) from None


def _load(verb: str) -> Any:
    """The verb's command or group, from its module."""
    group = typer.main.get_group(import_module(f"kaon.cli.{_MODULES[verb]}").app)
    return group if group.name == verb else group.commands[verb]


app = typer.Typer(
    name="kaon",
    cls=Root,
    help="Turn a Python class into a managed AI service.",
    epilog="First steps:  kaon init NAME, kaon dev, kaon up, kaon deploy, kaon call",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"kaon {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: Annotated[
        str, typer.Option("--context", envvar="KAON_CONTEXT", help="The platform to use; see `kaon config`.")
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a Python class into a managed AI service."""
    if context:
        os.environ["KAON_CONTEXT"] = context


def main() -> None:
    """The console script `kaon`."""
    streams.prepare()
    try:
        app(prog_name="kaon")
    except BrokenPipeError:  # of help and usage, which are printed before a command runs
        streams.flush_or_discard()
    except OSError as error:  # standard output cannot be written, such as on a full disk
        streams.flush_or_discard()
        note(failure(KaonError(f"Standard output cannot be written: {error.strerror}.")))
        raise SystemExit(1) from None
    finally:
        streams.flush_or_discard()
