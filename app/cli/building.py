"""`saefari build`: from a file of texts to an explorer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import integers, rounded, settings_of, warn_of_key
from app.cli.options import (
    Backend,
    Device,
    EmbedBaseURL,
    EmbedConcurrency,
    EmbedderSpec,
    Embeddings,
    EmbeddingsColumn,
    EmbedTimeout,
    Home,
    Ks,
    Latents,
    Limit,
    Map,
    Normalise,
    Price,
    Quiet,
    Seed,
    Stability,
    Steps,
    Truncate,
)
from app.console import Console
from app.settings import Settings
from app.urls import RESERVED_COLLECTIONS
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from sae_core.build import Summary
    from sae_core.corpus import Corpus


def build(  # noqa: PLR0917 (one argument for each option)
    file: Annotated[str, typer.Argument(help="Parquet, CSV or JSONL (also .gz); - reads JSONL from stdin.")],
    home: Home = None,
    name: Annotated[str, typer.Option("--name", help="Name in the address; default: the file's name.")] = "",
    title: Annotated[str, typer.Option("--title", help="Title for people; default: the name.")] = "",
    mapping: Map = None,
    limit: Limit = None,
    latents: Latents = "",
    k: Ks = "",
    steps: Steps = None,
    seed: Seed = 0,
    stability: Stability = True,  # noqa: FBT002
    sae: Annotated[
        list[Path] | None,
        typer.Option(
            "--sae",
            help="Take this SAE, a folder of `saefari convert` or `train`, and train none; repeatable.",
        ),
    ] = None,
    embeddings: Embeddings = None,
    column: EmbeddingsColumn = "",
    truncate: Truncate = None,
    normalise: Normalise = False,  # noqa: FBT002
    embedder: EmbedderSpec = None,
    embed_base_url: EmbedBaseURL = None,
    concurrency: EmbedConcurrency = 4,
    timeout: EmbedTimeout = 120.0,
    price: Price = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would ask and cost.")] = False,  # noqa: FBT002
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Turn a file of texts into an explorer. Interrupted, the same command goes on where it was.

    The key of an embedder's endpoint, if it wants one, is read from the environment: SAEFARI_EMBED_API_KEY.
    """
    from sae_core.labels.phrases import VOCABULARY
    from sae_core.rows import Reading

    name = name or _name_of(file)
    _check_name(name)
    if sae and (latents or k or steps):
        what = "--sae takes an SAE as it is; --latents, --k and --steps are of one to be trained."
        raise SaefariError(what, remedy="Leave out either.")
    settings = settings_of(home, embed_base_url=embed_base_url)
    corpus = load_texts(file, settings, mapping, limit)
    embedder = embedder or ("none" if embeddings else "minilm")
    if _is_asked_remotely(embedder) or dry_run:
        print_embedding(
            corpus, settings, embedder, price, n_phrases=VOCABULARY, has_file=embeddings is not None
        )
    if dry_run:
        return
    summary = build_collection(
        corpus,
        settings,
        name,
        title or name.replace("-", " "),
        quiet=quiet,
        is_limited=len(corpus.documents) == limit,
        latents=integers("--latents", latents),
        ks=integers("--k", k),
        steps=steps,
        seed=seed,
        stability=stability,
        saes=tuple(sae or ()),
        embeddings=embeddings,
        reading=Reading(column, truncate, normalise),
        embedder=embedder,
        endpoint=settings.encoder_endpoint(concurrency=concurrency, timeout=timeout),
        backend=backend,
        device=device,
    )
    print_summary(summary)
    options = (f" --home {home}" if home else "") + (
        f" --embed-base-url {embed_base_url}" if embed_base_url else ""
    )
    typer.echo(f"Serve it with `saefari serve{options}`")


def build_collection(
    corpus: Corpus, settings: Settings, name: str, title: str, *, quiet: bool, **options: object
) -> Summary:
    from app.catalog import write_catalogue
    from sae_core.build import BuildConfig
    from sae_core.build import build as build_collection

    embedder = options.pop("embedder", "minilm")
    config = BuildConfig(
        name=name,
        title=title,
        embedder=None if embedder == "none" else str(embedder),
        **options,  # type: ignore[arg-type]
    )
    return build_collection(corpus, config, settings.home, Console(quiet=quiet), write_catalogue)


def load_texts(
    file: str | Path, settings: Settings, mapping: list[str] | None = None, limit: int | None = None
) -> Corpus:
    from sae_core.corpus import load_corpus, read_mapping

    work = settings.home / "work"  # has room, where /tmp may be in memory
    return load_corpus(file, mapping=read_mapping(mapping or []), limit=limit, folder=work)


def print_summary(summary: Summary) -> None:
    n_rejected = sum(summary.rejected.values())
    typer.echo(f"{summary.n_documents:,} documents, {n_rejected:,} rows rejected")
    for reason, n_rows in (summary.rejected | summary.repaired).items():
        typer.echo(f"  {n_rows:,} {reason}")
    if n_rejected:
        typer.echo(f"  Each of them: {summary.folder / 'rejected.jsonl'}")
    for sae in summary.saes:
        scores = sae["metrics"]
        typer.echo(
            f"{sae['name']}: FVU {scores['fvu_train']:.3f} train, {scores['fvu_heldout']:.3f} held-out, "
            f"{scores['n_dead']:,} dead, {scores['n_families']:,} families, {scores['n_labelled']:,} labelled"
        )
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary.seconds.items())
    typer.echo(f"{sum(summary.seconds.values()):.0f} s: {stages}")
    typer.echo(f"Report: {summary.folder / 'report.md'}")


def _is_asked_remotely(embedder: str) -> bool:
    from sae_core.embed import is_remote

    return is_remote(embedder)


def print_embedding(
    corpus: Corpus,
    settings: Settings,
    embedder: str,
    price: float | None,
    *,
    n_phrases: int,
    has_file: bool,
) -> None:
    """What will be asked of the embedder's endpoint and what that costs, before it is."""
    from sae_core.embed import foresee

    n = len(corpus.documents)
    if not _is_asked_remotely(embedder):
        how = (
            "embedded on this machine" if embedder != "none" and not has_file else "with vectors from a file"
        )
        typer.echo(f"{n:,} documents, {how}. No endpoint is asked")
        return
    if endpoint := settings.encoder_endpoint():
        warn_of_key(endpoint)
    texts = [] if has_file else corpus.texts
    plan = foresee(texts, embedder, settings.home / "cache")
    known = f"; {n - plan.n_texts:,} are known already" if texts and n > plan.n_texts else ""
    at = settings.embed_base_url or "an endpoint that is not given yet"
    typer.echo(f"{n:,} documents: about {plan.n_calls:,} calls to {embedder} at {at}{known}")
    phrases = f", and up to {n_phrases:,} short phrases that may name features" if n_phrases else ""
    tokens = f"About {rounded(plan.n_tokens)} tokens{phrases}"
    if price is None:
        typer.echo(f"{tokens}; --price, for a million, says what they cost")
    else:
        cost = plan.n_tokens * price / 1e6
        typer.echo(f"{tokens}, cost {f'about {cost:,.2f}' if cost >= 0.005 else 'less than 0.01'}")  # noqa: PLR2004


def _name_of(file: str) -> str:
    stem = "stdin" if file == "-" else Path(file).name.split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "collection"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) or name in RESERVED_COLLECTIONS:
        what = f"'{name}' cannot be the name of a collection."
        raise SaefariError(what, remedy="Use lower-case letters, digits and hyphens, with --name.")
