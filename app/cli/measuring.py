"""`saefari report | eval`: what was claimed and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import settings_of
from app.cli.labelling import endpoint_of
from app.cli.options import Home, LLMBaseURL, LLMModel, NameOfCollection, Out, Quiet, Seed, Steps, WhichSAE
from app.console import Console

if TYPE_CHECKING:
    from sae_core.evaluation import Evaluation


def report(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    sae: Annotated[str, typer.Option("--sae", help="Which of its SAEs; default: the first.")] = "",
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="A finished `saefari train --grid`; default: one is trained, 3 k x 3 n."),
    ] = None,
    sizes: Annotated[
        tuple[str, str] | None,
        typer.Option("--sizes", metavar="k=8,16,32 n=512,1024,2048", help="Of the grid that is trained."),
    ] = None,
    steps: Steps = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.md, report.json and the work.")
    ] = None,
    llm_base_url: LLMBaseURL = "",
    llm_model: LLMModel = "",
    show: Annotated[bool, typer.Option("--show", help="Only print the reports that are there.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,  # noqa: FBT002
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Check the paper's ten claims on a collection. Interrupted, the same command goes on where it was."""
    from app import reporting
    from sae_core.grid import GridSizes

    settings = settings_of(home)
    if show:
        typer.echo(reporting.stored_text(settings, collection))
        return
    options = reporting.ReportOptions(
        sae=sae,
        grid=grid,
        sizes=None if sizes is None else GridSizes.parse(sizes),
        steps=steps,
        out=out,
        endpoint=endpoint_of(settings, llm_base_url, llm_model, 4, 120.0),
        seed=seed,
    )
    if dry_run:
        reporting.plan_report(settings, collection, options, Console(quiet=quiet), typer.echo)
        return
    folder = reporting.make_report(settings, collection, options, Console(quiet=quiet), typer.echo)
    typer.echo((folder / "report.md").read_text(encoding="utf-8"))
    typer.echo(
        f"Written: {folder / 'report.md'} and {folder / 'report.json'}; published with the collection."
    )
    typer.echo("A running server shows it on the scorecard within seconds.")


evaluate = typer.Typer(help="Measure what steering and search do, on any collection.", no_args_is_help=True)


@evaluate.command("steering")
def eval_steering(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    sae: WhichSAE = "",
    trials: Annotated[int, typer.Option("--trials", min=1, help="Queries, each with one feature.")] = 300,
    out: Out = None,
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """What steering moves and what else, method by method. Interrupted, it goes on where it was."""
    from app import evaluating

    options = evaluating.EvalOptions(sae, out, seed)
    _print_evaluation(
        evaluating.eval_steering(settings_of(home), collection, options, Console(quiet=quiet), trials)
    )


@evaluate.command("retrieval")
def eval_retrieval(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    queries: Annotated[Path, typer.Option("--queries", help="A table with query_id and query.")],
    qrels: Annotated[Path, typer.Option("--qrels", help="A table with query_id, doc_id and relevance.")],
    split: Annotated[str, typer.Option("--split", help="Only queries whose column split says so.")] = "",
    documents: Annotated[
        Path | None, typer.Option("--documents", help="The judged documents; default: the collection's.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Their vectors (.npy), a row for each row.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What the judged set is called.")] = "",
    sae: WhichSAE = "",
    out: Out = None,
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """How much of retrieval is kept on judged queries. Interrupted, it goes on where it was."""
    from app import evaluating

    files = evaluating.JudgedFiles(queries, qrels, split, documents, embeddings, name)
    options = evaluating.EvalOptions(sae, out, seed)
    _print_evaluation(
        evaluating.eval_retrieval(settings_of(home), collection, options, Console(quiet=quiet), files)
    )


@evaluate.command("users")
def eval_users(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    users: Annotated[int, typer.Option("--users", min=3, help="Users, beside those who tune.")] = 300,
    sae: WhichSAE = "",
    out: Out = None,
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Whether moves proposed from marks bring what is meant. Interrupted, it goes on where it was."""
    from app import evaluating

    options = evaluating.EvalOptions(sae, out, seed)
    _print_evaluation(
        evaluating.eval_users(settings_of(home), collection, options, Console(quiet=quiet), users)
    )


@evaluate.command("facets")
def eval_facets(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    judged: Annotated[
        Path | None,
        typer.Argument(help="JSON lines with query, facet, documents. Without: categories are facets."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option("--names", help="JSON object: words for each category that is a code.")
    ] = None,
    sae: WhichSAE = "",
    out: Out = None,
    seed: Seed = 0,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """What steering towards a facet does to nDCG on judged data, against adding words to the query."""
    from app import evaluating

    options = evaluating.EvalOptions(sae, out, seed)
    _print_evaluation(
        evaluating.eval_facets(
            settings_of(home), collection, options, Console(quiet=quiet), judged=judged, names=names
        )
    )


def _print_evaluation(evaluation: Evaluation) -> None:
    from sae_core.report import evaluation_text

    typer.echo(evaluation_text(evaluation))
    typer.echo("Published with the collection, in its report.md and on the scorecard.")
