"""`saefari fetch arxiv` and `saefari fetch oai`: a harvest, what it takes and what came of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sae_core.errors import SaefariError
from sae_core.sources.harvest import Harvest, Options, check_days
from sae_core.sources.repository import Query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.console import Console
    from sae_core.sources.harvest import Outcome

__all__ = ["Options", "file_name", "harvest", "query_of"]


def query_of(url: str, prefix: str, part: str, since: str, until: str) -> Query:
    """The query of these options; SourceError if one of them cannot be meant."""
    check_days(since, until)
    return Query(url, prefix, part, since, until)


def file_name(source: str, part: str) -> str:
    """What the parquet is called by default: arxiv-astro-ph.parquet, repository-org-theses.parquet."""
    host = urlsplit(source).hostname if "//" in source else source
    plain = re.sub(r"[^a-z0-9]+", "-", f"{host}-{part}".lower()).strip("-")
    return f"{plain[:80] or 'records'}.parquet"


def harvest(
    query: Query,
    path: Path,
    options: Options,
    console: Console,
    say: Callable[[str], None],
    *,
    dry_run: bool,
) -> None:
    """Harvest, unless `path` holds this harvest already; `dry_run` asks for the first page only."""
    if path.suffix != ".parquet":
        what = f"{path} does not end in .parquet, which is what is written."
        raise SaefariError(what, remedy="Give a name that does, with --out.")
    with Harvest(query, path, options, console.say) as job:
        if job.finished:
            say(f"Harvested on {job.finished.harvested}: nothing is asked. --again asks anew")
            _print_outcome(job.finished, say)
            return
        say(f"Asking {query}")
        say(str(job.begin()))
        if dry_run:
            return
        with console.stage("Harvesting") as progress:
            outcome = job.run(progress)
    _print_outcome(outcome, say)


def _print_outcome(outcome: Outcome, say: Callable[[str], None]) -> None:
    say(f"{outcome.path}: {outcome.n_documents:,} documents")
    for name, count in outcome.counts.items():
        say(f"  {count:,} {name}")
    say(f"Build it with `saefari build {outcome.path}`")
