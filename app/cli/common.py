"""What several commands do: read settings, warn, end with a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from pydantic import ValidationError

from app.settings import Settings
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from sae_core.endpoint import Endpoint


def fail(message: str, status: int) -> NoReturn:
    """End the process with a sentence and this exit status."""
    print(f"saefari: {message}", file=sys.stderr)  # noqa: T201 (the command line talks)
    sys.exit(status)


def settings_of(
    home: Path | None,
    host: str | None = None,
    port: int | None = None,
    embed_base_url: str | None = None,
    workers: int | None = None,
) -> Settings:
    """The settings with what was said on the command line; SaefariError for a bad environment."""
    chosen = {"home": home, "host": host, "port": port, "embed_base_url": embed_base_url, "workers": workers}
    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:  # options were checked before, so it is the environment
        first = error.errors()[0]
        name = f"SAEFARI_{first['loc'][0]}".upper()
        reason = first["msg"].removeprefix("Value error, ")
        what = f"The environment variable {name} is {first['input']!r}: {reason}."
        raise SaefariError(what, remedy="Change it, or unset it.") from error


def warn_of_key(endpoint: Endpoint) -> None:
    """Say so where the key can be read on its way."""
    if endpoint.tells_key:
        typer.echo(f"The key goes unencrypted to {endpoint.url}: the address is not https.", err=True)


def rounded(n: int) -> str:
    """To three digits: more would promise what an estimate cannot hold."""
    return f"{int(float(f'{n:.3g}')):,}"


def integers(option: str, text: str) -> tuple[int | None, ...]:
    """The numbers of an option such as 512,1024; (None,) for one that was left out."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else (None,)
    except ValueError as error:
        raise SaefariError(
            f"{option} {text} is not a list of whole numbers.", remedy="Write 512 or 512,1024."
        ) from error
