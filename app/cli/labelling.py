"""`saefari label`: other names for what is built."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import integers, rounded, settings_of, warn_of_key
from app.cli.options import EmbedBaseURL, Home, LLMBaseURL, LLMModel, NameOfCollection, Quiet
from app.console import Console
from app.settings import Settings
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from sae_core.endpoint import Endpoint
    from sae_core.relabel import Outcome, Relabelling


def label(  # noqa: PLR0917 (one argument for each option)
    collection: NameOfCollection,
    sae: Annotated[str, typer.Option("--sae", help="Which of its SAEs; default: the first.")] = "",
    llm_base_url: LLMBaseURL = "",
    llm_model: LLMModel = "",
    predictor: Annotated[
        str,
        typer.Option(
            "--predictor",
            help="What judges labels: embedding, bm25 or llm. Default: embedding, or bm25 where the "
            "collection has no encoder.",
        ),
    ] = "",
    only: Annotated[str, typer.Option("--only", help="Only these features: 12,99.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many features, the commonest first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would ask and cost.")] = False,  # noqa: FBT002
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=256, help="Questions to the model at the same time.")
    ] = 4,
    price_in: Annotated[
        float | None, typer.Option("--price-in", min=0, help="Price of a million tokens that are sent.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option("--price-out", min=0, help="Price of a million tokens that come back.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that one answer may take.")
    ] = 120.0,
    embed_base_url: EmbedBaseURL = None,
    home: Home = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Label features again: by a language model, or without one by phrases. What was answered is kept.

    The key of the endpoint, if it wants one, is read from the environment: SAEFARI_LLM_API_KEY.
    """
    from app.catalog import FILE_NAME, Catalog, rewrite_features
    from sae_core.explorer import Explorer
    from sae_core.relabel import RelabelConfig, Relabelling

    settings = settings_of(home, embed_base_url=embed_base_url)
    endpoint = endpoint_of(settings, llm_base_url, llm_model, concurrency, timeout)
    chosen = tuple(latent for latent in integers("--only", only) if latent is not None)
    config = RelabelConfig(sae=sae, predictor=predictor, only=chosen, limit=limit)
    explorer = Explorer.load(settings.collections / collection)
    with closing(Catalog(explorer.path / FILE_NAME, is_timed=False)) as catalog:
        console = Console(quiet=quiet)
        job = Relabelling(
            explorer,
            config,
            settings.home,
            console,
            catalog.documents,
            endpoint=endpoint,
            encoder_endpoint=settings.encoder_endpoint(),
        )
        _print_questions(job, price_in, price_out)
        if dry_run:
            return
        outcome = job.run(lambda old, new, spaces: rewrite_features(old / FILE_NAME, new / FILE_NAME, spaces))
    _print_outcome(outcome)


def endpoint_of(
    settings: Settings, base_url: str, model: str, concurrency: int, timeout: float
) -> Endpoint | None:
    """Where the language model is; None if none is wanted."""
    from sae_core.endpoint import Endpoint

    if not base_url and not model:
        return None
    if not (base_url and model):
        what = f"--llm-{'model' if base_url else 'base-url'} is missing."
        raise SaefariError(what, remedy="A language model is given by both --llm-base-url and --llm-model.")
    key = settings.llm_api_key.get_secret_value().strip()
    endpoint = Endpoint(base_url, model, key, concurrency, timeout)
    warn_of_key(endpoint)
    return endpoint


def _print_questions(job: Relabelling, price_in: float | None, price_out: float | None) -> None:
    """What will be asked and what that costs, before it is."""
    if job.model is None:
        sizes = f"{len(job.latents):,} features, {len(job.families):,} families"
        typer.echo(f"{job.space.name}: {sizes}, judge: {job.predictor}. No language model is asked")
        return
    plan, endpoint = job.plan, job.model.endpoint
    known = f"; {plan.n_known:,} answers are known already" if plan.n_known else ""
    typer.echo(
        f"{job.space.name}: {plan.n_features:,} features, {plan.n_families:,} families, "
        f"judge: {job.predictor}. {'About ' if job.predictor == 'llm' else ''}"
        f"{plan.n_calls:,} calls to {endpoint.model} at {endpoint.base_url}{known}"
    )
    tokens = f"About {rounded(plan.tokens_in)} tokens in and {rounded(plan.tokens_out)} out"
    if price_in is None or price_out is None:
        typer.echo(f"{tokens}; --price-in and --price-out, for a million, say what they cost")
    else:
        typer.echo(f"{tokens}, cost about {plan.cost(price_in, price_out):,.2f}")


def _print_outcome(outcome: Outcome) -> None:
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    sources = ", ".join(f"{n:,} {source}" for source, n in outcome.sources.most_common())
    typer.echo(f"Labels by source: {sources}. With another text than before: {outcome.n_changed:,}")
    n = outcome.n_features + outcome.n_families
    if outcome.n_failed:
        typer.echo(
            f"An answer is missing for {outcome.n_failed:,} of {n:,}, which keep the label that they had. "
            "The same command asks for these again."
        )
    if outcome.n_asked:
        tokens = f"{outcome.tokens_in:,} tokens in and {outcome.tokens_out:,} out"
        typer.echo(f"Calls answered: {outcome.n_asked:,}; the endpoint counts {tokens}")
    typer.echo(f"Published: {outcome.folder}. A running server shows it within seconds.")
