"""`saefari fetch`: where texts come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import settings_of
from app.cli.options import (
    AgainFlag,
    FirstPage,
    Home,
    Limit,
    Map,
    Max,
    OutFile,
    PageTimeout,
    Pause,
    Quiet,
    Since,
    Until,
)
from app.console import Console
from app.settings import Settings

fetch = typer.Typer(help="Get a corpus.", no_args_is_help=True)


@fetch.command("docstrings")
def fetch_docstrings(
    home: Home = None,
    limit: Limit = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Harvest the docstrings of the Python packages installed here: an offline corpus of technical prose."""
    path = harvest_docstrings(settings_of(home), limit, Console(quiet=quiet))
    typer.echo(path)


@fetch.command("arxiv")
def fetch_arxiv(  # noqa: PLR0917 (one argument for each option)
    part: Annotated[
        str, typer.Option("--set", help="An archive or a category, as astro-ph or cs.LG; default: all.")
    ] = "",
    since: Since = "",
    until: Until = "",
    limit: Max = None,
    oai: Annotated[str, typer.Option("--oai", help="Another address of OAI-PMH; default: arXiv's.")] = "",
    prefix: Annotated[str, typer.Option("--prefix", help="Format of the records there.")] = "arXiv",
    out: OutFile = None,
    pause: Pause = 3.0,
    timeout: PageTimeout = 180.0,
    again: AgainFlag = False,  # noqa: FBT002
    dry_run: FirstPage = False,  # noqa: FBT002
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Harvest titles and abstracts of arXiv, or of a set of it. Interrupted, the same command goes on.

    A record's day is that of its last change: --from finds old papers too if they were changed since.
    """
    from app import fetching
    from sae_core.sources.formats import set_spec

    settings = settings_of(home)
    url = oai or settings.arxiv_oai
    query = fetching.query_of(url, prefix, set_spec(part) if prefix == "arXiv" else part, since, until)
    path = out or settings.corpora / fetching.file_name("arxiv" if not oai else url, part)
    options = fetching.Options(limit=limit, pause=pause, timeout=timeout, again=again)
    fetching.harvest(query, path, options, Console(quiet=quiet), typer.echo, dry_run=dry_run)


@fetch.command("oai")
def fetch_oai(  # noqa: PLR0917 (one argument for each option)
    url: Annotated[str, typer.Argument(help="The address of OAI-PMH, as https://repository.org/oai.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Format of the records: oai_dc, arXiv.")] = "oai_dc",
    part: Annotated[str, typer.Option("--set", help="One of its sets; default: everything.")] = "",
    since: Since = "",
    until: Until = "",
    limit: Max = None,
    out: OutFile = None,
    pause: Pause = 3.0,
    timeout: PageTimeout = 180.0,
    again: AgainFlag = False,  # noqa: FBT002
    dry_run: FirstPage = False,  # noqa: FBT002
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Harvest any repository that speaks OAI-PMH. Interrupted, the same command goes on."""
    from app import fetching

    query = fetching.query_of(url, prefix, part, since, until)
    path = out or settings_of(home).corpora / fetching.file_name(url, part)
    options = fetching.Options(limit=limit, pause=pause, timeout=timeout, again=again)
    fetching.harvest(query, path, options, Console(quiet=quiet), typer.echo, dry_run=dry_run)


@fetch.command("huggingface")
def fetch_huggingface(  # noqa: PLR0917 (one argument for each option)
    dataset: Annotated[str, typer.Argument(help="A dataset of the hub, as owner/name, or a path to one.")],
    config: Annotated[str, typer.Option("--config", help="Which of its parts, where it has several.")] = "",
    split: Annotated[str, typer.Option("--split", help="Default: the only one, or train.")] = "",
    revision: Annotated[str, typer.Option("--revision", help="A branch, tag or commit of the hub.")] = "",
    mapping: Map = None,
    limit: Max = None,
    out: OutFile = None,
    again: Annotated[bool, typer.Option("--again", help="Replace a file that is there.")] = False,  # noqa: FBT002
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Take the texts of a dataset of Hugging Face: as they come, only the columns that are needed.

    Programs that come with a dataset are never run. A gated or private one needs `hf auth login` or HF_TOKEN.
    """
    from app import fetching

    options = {"config": config, "split": split, "revision": revision}
    name = fetching.file_name(Path(dataset).name, "-".join(part for part in (config, split) if part))
    path = out or settings_of(home).corpora / name
    fetching.dataset(
        dataset, path, options, mapping or [], limit, Console(quiet=quiet), typer.echo, again=again
    )


def harvest_docstrings(settings: Settings, limit: int | None, console: Console) -> Path:
    from sae_core.corpus import save_corpus
    from sae_core.sources import docstrings

    with console.stage("Harvesting docstrings") as progress:
        found = docstrings.harvest(limit or docstrings.LIMIT, progress)
    path = settings.corpora / "docstrings.parquet"
    save_corpus(found, path)
    return path
