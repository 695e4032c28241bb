"""The command line: `saefari` and its commands, which `saefari --help` lists."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import typer

from app.cli import (
    agents,
    authored,
    building,
    corpora,
    exporting,
    labelling,
    measuring,
    serving,
    training,
    updating,
)
from app.cli.common import fail
from sae_core.errors import SaefariError, ToldElsewhere

STOPPED = "Stopped. The same command goes on from what is already done."


class _Terminated(KeyboardInterrupt):
    """A SIGTERM, which unwinds as Ctrl-C does: drafts are removed and locks given back."""


class _Commands(typer.core.TyperGroup):
    """Ends a command that was stopped with a word on what is left of its work."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except _Terminated:
            print(f"saefari: {STOPPED}", file=sys.stderr, flush=True)  # noqa: T201 (the command line talks)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)  # whoever sent it sees that it was this that ended us
        except KeyboardInterrupt:
            fail(STOPPED, 130)
        finally:
            signal.signal(signal.SIGTERM, before)


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise _Terminated


app = typer.Typer(
    cls=_Commands,
    help="Open the inside of a text-embedding space: features, families, steered search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    serving.demo, building.build, updating.add, updating.remove,
    training.train, training.convert, training.encode, training.merge,
    labelling.label, serving.serve, agents.mcp, serving.publish, serving.rollback,
    measuring.report, exporting.export, serving.doctor, authored.backup, authored.restore,
    authored.audit,
):  # fmt: skip
    app.command()(command)
app.add_typer(corpora.fetch, name="fetch")
app.add_typer(measuring.evaluate, name="eval")
app.add_typer(authored.db, name="db")
app.add_typer(authored.user, name="user")
app.add_typer(authored.token, name="token")
app.add_typer(authored.session, name="session")
app.add_typer(authored.authored, name="authored")


def main() -> None:
    """Run the command line; what a person can mend ends in a sentence and status 1, never in a traceback."""
    try:
        app()
    except ToldElsewhere:
        sys.exit(1)
    except SaefariError as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.filename or 'A file'}: {error.strerror or error}. Check the path and its rights.", 1)
