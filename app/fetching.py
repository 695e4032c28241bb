"""`saefari fetch`: a harvest or a dataset, what it takes and what came of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sae_core.errors import SaefariError
from sae_core.sources.harvest import Harvest, Options, check_days
from sae_core.sources.repository import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from app.console import Console
    from sae_core.sources.harvest import Outcome

__all__ = ["Options", "dataset", "file_name", "harvest", "query_of"]


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
    _check_suffix(path)
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


def dataset(  # noqa: PLR0917 (what the command was given)
    name: str,
    path: Path,
    options: Mapping[str, str],
    mapping: list[str],
    limit: int | None,
    console: Console,
    say: Callable[[str], None],
    *,
    again: bool,
) -> None:
    """A dataset of Hugging Face into the parquet at `path`; `options` are those of `read_dataset`."""
    from sae_core.corpus import read_mapping, save_corpus
    from sae_core.sources.huggingface import read_dataset

    _check_suffix(path)
    if path.exists() and not again:
        raise SaefariError(
            f"{path} is there already.", remedy="Choose another file with --out, or replace it with --again."
        )
    with console.stage("Reading the dataset") as progress:
        chosen = read_mapping(mapping)
        corpus = read_dataset(
            name, **options, mapping=chosen, limit=limit, folder=path.parent, progress=progress
        )
        save_corpus(corpus.documents, path)
    say(f"{path}: {len(corpus.documents):,} documents")
    for reason, count in (corpus.counts() | corpus.repaired).items():
        say(f"  {count:,} {reason}")
    say(f"Build it with `saefari build {path}`")


def _check_suffix(path: Path) -> None:
    if path.suffix != ".parquet":
        what = f"{path} does not end in .parquet, which is what is written."
        raise SaefariError(what, remedy="Give a name that does, with --out.")


def _print_outcome(outcome: Outcome, say: Callable[[str], None]) -> None:
    say(f"{outcome.path}: {outcome.n_documents:,} documents")
    for name, count in outcome.counts.items():
        say(f"  {count:,} {name}")
    say(f"Build it with `saefari build {outcome.path}`")
