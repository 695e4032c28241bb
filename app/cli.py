"""The command line.

`saefari demo | fetch | build | train | convert | encode | merge | label | report | eval | serve | doctor`.
"""

from __future__ import annotations

import re
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from app.console import Console
from app.settings import Settings
from app.urls import RESERVED_COLLECTIONS
from sae_core.errors import ArtifactError, NotFoundError, SaefariError, ToldElsewhere

if TYPE_CHECKING:
    from sae_core.build import Summary
    from sae_core.corpus import Corpus
    from sae_core.endpoint import Endpoint
    from sae_core.evaluation import Evaluation
    from sae_core.fit import Plan
    from sae_core.relabel import Outcome, Relabelling


class _Commands(typer.core.TyperGroup):
    """Ends a command that was interrupted with a word on what is left of its work."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("Stopped. The same command goes on from what is already done.", 130)


app = typer.Typer(
    cls=_Commands,
    help="Open the inside of a text-embedding space: features, families, steered search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
fetch = typer.Typer(help="Get a corpus.", no_args_is_help=True)
app.add_typer(fetch, name="fetch")
evaluate = typer.Typer(help="Measure what steering and search do, on any collection.", no_args_is_help=True)
app.add_typer(evaluate, name="eval")

Home = Annotated[Path | None, typer.Option("--home", help="Folder of collections and caches.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0 picks one.")
]
Map = Annotated[
    list[str] | None, typer.Option("--map", help="A column of another name, as title=Name; repeatable.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use at most so many documents.")]
Latents = Annotated[str, typer.Option("--latents", help="Latents (features) of the SAE; several: 512,1024.")]
Ks = Annotated[str, typer.Option("--k", help="Active latents per document; several: 16,32.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of everything random.")]
Embeddings = Annotated[
    Path | None,
    typer.Option("--embeddings", help="A .npy, .safetensors or .parquet file with a row for each of FILE."),
]
EmbeddingsFile = Annotated[
    Path,
    typer.Argument(help="A .npy, .safetensors or .parquet file of embeddings, a row for each document."),
]
EmbeddingsColumn = Annotated[
    str,
    typer.Option(
        "--embeddings-column",
        help="Which column (parquet) or tensor (safetensors); default: the one that fits.",
    ),
]
Truncate = Annotated[
    int | None,
    typer.Option("--truncate", min=1, help="Keep the first so many numbers of a vector (Matryoshka)."),
]
Normalise = Annotated[
    bool, typer.Option("--normalise", help="Scale rows of the file that are not of unit length.")
]
EmbedBaseURL = Annotated[
    str | None,
    typer.Option(
        "--embed-base-url",
        help="Endpoint of an embedder openai:MODEL, as http://localhost:11434/v1. "
        "Default: SAEFARI_EMBED_BASE_URL.",
    ),
]
EmbedderSpec = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="minilm (the bundled one), a sentence-transformers model by path or name, openai:MODEL (behind "
        "an endpoint), or none. "
        "Default: minilm, or none where --embeddings is given.",
    ),
]
Backend = Annotated[str, typer.Option("--backend", help="Backend of the encoder: auto, torch, ...")]
Stability = Annotated[
    bool, typer.Option(help="Train with a second seed too, and say which features come again.")
]
Grid = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--grid",
        metavar="k=8,16 n=512,1024",
        help="Several SAEs in step over the same rows, one folder each: every k with every n. Without a "
        "second seed.",
    ),
]
Processes = Annotated[
    int, typer.Option("--processes", min=1, help="Processes on this machine that train together.")
]
MaxSilence = Annotated[
    int, typer.Option("--max-silence", min=1, max=3600, help="Seconds until a silent process counts as lost.")
]
CheckpointSeconds = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="Seconds between two checkpoints.")
]
LLMBaseURL = Annotated[
    str, typer.Option("--llm-base-url", help="OpenAI-compatible endpoint, as http://localhost:11434/v1.")
]
LLMModel = Annotated[str, typer.Option("--llm-model", help="The name of a model there.")]
Since = Annotated[str, typer.Option("--from", help="Only records changed on or after this day, 2024-01-31.")]
Until = Annotated[str, typer.Option("--until", help="Only records changed on or before this day.")]
Max = Annotated[int | None, typer.Option("--max", min=1, help="Stop at so many documents.")]
OutFile = Annotated[
    Path | None, typer.Option("--out", help="The parquet to write; default: in the folder corpora of HOME.")
]
Pause = Annotated[
    float, typer.Option("--pause", min=0, max=3600, help="Seconds from one request to the next.")
]
PageTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds that one page may take.")
]
AgainFlag = Annotated[bool, typer.Option("--again", help="Drop what is there and ask for everything anew.")]
FirstPage = Annotated[
    bool, typer.Option("--dry-run", help="Only ask for the first page, and say what the rest would take.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]

DEMO = "demo"
DEMO_TITLE = "Python documentation"


@app.command()
def demo(home: Home = None, host: Host = None, port: Port = None, quiet: Quiet = False) -> None:  # noqa: FBT002
    """Build an explorer of the docstrings on this machine, if it is not there yet, and serve it."""
    settings = _settings(home, host, port)
    if not _is_sound(settings.collections / DEMO):
        path = _fetch_docstrings(settings, None, Console(quiet=quiet))
        _print_summary(_build(_load(path), settings, DEMO, DEMO_TITLE, quiet=quiet))
    _serve(settings)


@fetch.command("docstrings")
def fetch_docstrings(
    home: Home = None,
    limit: Limit = None,
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Harvest the docstrings of the Python packages installed here: an offline corpus of technical prose."""
    path = _fetch_docstrings(_settings(home), limit, Console(quiet=quiet))
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

    settings = _settings(home)
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
    path = out or _settings(home).corpora / fetching.file_name(url, part)
    options = fetching.Options(limit=limit, pause=pause, timeout=timeout, again=again)
    fetching.harvest(query, path, options, Console(quiet=quiet), typer.echo, dry_run=dry_run)


@app.command()
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
    concurrency: Annotated[
        int, typer.Option("--embed-concurrency", min=1, max=256, help="Calls to that endpoint at a time.")
    ] = 4,
    timeout: Annotated[
        float, typer.Option("--embed-timeout", min=0.1, max=3600, help="Seconds that one call may take.")
    ] = 120.0,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Price of a million tokens that it embeds.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would ask and cost.")] = False,  # noqa: FBT002
    backend: Backend = "auto",
    device: Device = "auto",
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Turn a file of texts into an explorer. Interrupted, the same command goes on where it was.

    The key of an embedder's endpoint, if it wants one, is read from the environment: SAEFARI_EMBED_API_KEY.
    """
    from sae_core.rows import Reading

    name = name or _name_of(file)
    _check_name(name)
    if sae and (latents or k or steps):
        what = "--sae takes an SAE as it is; --latents, --k and --steps are of one to be trained."
        raise SaefariError(what, remedy="Leave out either.")
    settings = _settings(home, embed_base_url=embed_base_url)
    corpus = _load(file, mapping, limit)
    embedder = embedder or ("none" if embeddings else "minilm")
    if _is_asked_remotely(embedder) or dry_run:
        _print_embedding(corpus, settings, embedder, price, has_file=embeddings is not None)
    if dry_run:
        return
    summary = _build(
        corpus,
        settings,
        name,
        title or name.replace("-", " "),
        quiet=quiet,
        is_limited=len(corpus.documents) == limit,
        latents=_integers("--latents", latents),
        ks=_integers("--k", k),
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
    _print_summary(summary)
    options = (f" --home {home}" if home else "") + (
        f" --embed-base-url {embed_base_url}" if embed_base_url else ""
    )
    typer.echo(f"Serve it with `saefari serve{options}`")


@app.command()
def train(  # noqa: PLR0917 (one argument for each option)
    embeddings: EmbeddingsFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for checkpoint, log and sae.safetensors.")],
    latents: Annotated[int | None, typer.Option("--latents", min=1)] = None,
    k: Annotated[int | None, typer.Option("--k", min=1)] = None,
    steps: Steps = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Rows in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", min=0)] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", min=0, help="Relative norm of input noise.")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="topk, batchtopk or matryoshka.")] = None,
    retrieval: Annotated[
        float | None, typer.Option("--retrieval", min=0, help="Weight of the loss that keeps similarities.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", min=1, help="Evaluations without progress before the decay.")
    ] = None,
    select: Annotated[str | None, typer.Option("--select", help="auto, float32 or bfloat16.")] = None,
    grid: Grid = None,
    seed: Seed = 0,
    stability: Stability = True,  # noqa: FBT002
    processes: Processes = 1,
    max_silence: MaxSilence = 25,
    checkpoint_seconds: CheckpointSeconds = 20.0,
    column: EmbeddingsColumn = "",
    truncate: Truncate = None,
    normalise: Normalise = False,  # noqa: FBT002
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what OUT holds.")] = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,  # noqa: FBT002
    device: Device = "auto",
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Train one SAE on embeddings, or a grid. Interrupted, the same command goes on where it was."""
    from app.scorecard import write_scorecard
    from sae_core import fit, ranks
    from sae_core.rows import Reading

    chosen: dict[str, Any] = {
        "how": Reading(column, truncate, normalise),
        "n_latents": latents, "k": k, "steps": steps, "batch": batch, "learning_rate": learning_rate,
        "noise": noise, "variant": variant, "retrieval": retrieval, "patience": patience, "select": select,
        "seed": seed,
    }  # fmt: skip
    if grid is not None:
        if processes > 1 or ranks.is_member():
            what = "A grid is trained by one process."
            raise SaefariError(what, remedy="Leave out --processes, and do not start it with torchrun.")
        _train_grid(embeddings, out, grid, chosen, device, dry_run=dry_run, quiet=quiet)
        return
    if dry_run:
        _print_plan(fit.plan(embeddings, device=device, **chosen), stability=stability)
        return
    if processes > 1 and not ranks.is_member():
        from app.processes import train_in_processes

        raise typer.Exit(train_in_processes(processes, sys.argv[1:], out))
    chosen |= {"checkpoint_seconds": checkpoint_seconds, "max_silence": max_silence}
    result = fit.train_file(
        embeddings, out, Console(quiet=quiet), device=device, resume=resume, stability=stability, **chosen
    )
    if not result:  # another process of the same run talks
        return
    typer.echo(
        f"{out / fit.SAE_FILE}: FVU {result['fvu_train']:.3f} train, "
        f"{result['fvu_heldout']:.3f} held-out ({result['n_heldout']:,} rows)"
    )
    typer.echo(f"Scorecard: {write_scorecard(out)}")


@app.command()
def convert(  # noqa: PLR0917 (one argument for each option)
    path: Annotated[Path, typer.Argument(help="A checkpoint of another package, its file or its folder.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the SAE.")],
    layout: Annotated[
        str,
        typer.Option("--from", help="paper, sparsify, saelens or hypothesaes; default: seen by the files."),
    ] = "",
    to: Annotated[
        str, typer.Option("--to", help="saefari, sparsify or saelens: whose layout to write.")
    ] = "saefari",
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, help="Active latents per document, where the checkpoint does not say it."),
    ] = None,
    max_gib: Annotated[
        float, typer.Option("--max-gib", min=0, help="Size of the largest file that is read.")
    ] = 4.0,
) -> None:
    """Convert the SAE of another package to ours, or ours to theirs.

    Pickles (.pth, .pt) are read as weights only, by another process that has no network and writes no files.
    """
    from sae_core.foreign import convert as convert_sae

    made = convert_sae(path, out, layout=layout, to=to, k=k, largest_gib=max_gib)
    sae = made.sae
    typer.echo(
        f"{made.folder}: {sae.variant} from {made.layout}, {sae.n_latents:,} latents, k {sae.k}, "
        f"{sae.width:,} dimensions"
    )
    for remark in made.remarks:
        typer.echo(f"  {remark}")
    if to == "saefari":
        typer.echo(f"Build with it: saefari build FILE --embeddings FILE.npy --sae {out}")


@app.command()
def encode(  # noqa: PLR0917 (one argument for each option)
    embeddings: EmbeddingsFile,
    sae: Annotated[Path, typer.Option("--sae", help="The sae.safetensors of a training.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of shards.")],
    shard: Annotated[str, typer.Option("--shard", help="The part to encode, as 3/16; default: all.")] = "1/1",
    column: EmbeddingsColumn = "",
    truncate: Truncate = None,
    normalise: Normalise = False,  # noqa: FBT002
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Encode embeddings, whole or one shard of them. A shard that is complete is not done again."""
    from sae_core.rows import Reading
    from sae_core.shards import Shard, encode_shard

    part, how = Shard.parse(shard), Reading(column, truncate, normalise)
    with Console(quiet=quiet).stage(f"Encoding shard {part}") as progress:
        made = encode_shard(embeddings, sae, out, part, progress, how=how)
    typer.echo(f"{made.path}: rows {made.rows[0]:,} to {made.rows[1]:,}. {made.note}".rstrip())


@app.command()
def merge(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the codes, by document and by feature.")],
    quiet: Quiet = False,  # noqa: FBT002
) -> None:
    """Check every shard of a folder and put them together."""
    from sae_core.shards import merge_shards

    with Console(quiet=quiet).stage("Checking and merging shards") as progress:
        codes = merge_shards(folder, out, progress)
    typer.echo(
        f"{out}: {codes.n_documents:,} documents, {codes.n_latents:,} latents, "
        f"{len(codes.values):,} activations"
    )


@app.command()
def label(  # noqa: PLR0917 (one argument for each option)
    collection: Annotated[str, typer.Argument(help="Name of a collection.")],
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

    settings = _settings(home, embed_base_url=embed_base_url)
    endpoint = _endpoint(settings, llm_base_url, llm_model, concurrency, timeout)
    chosen = tuple(latent for latent in _integers("--only", only) if latent is not None)
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


@app.command()
def serve(
    home: Home = None, host: Host = None, port: Port = None, embed_base_url: EmbedBaseURL = None
) -> None:
    """Serve every collection of the home folder."""
    settings = _settings(home, host, port, embed_base_url)
    if endpoint := settings.encoder_endpoint():
        _warn_of_key(endpoint)
    _serve(settings)


@app.command()
def report(  # noqa: PLR0917 (one argument for each option)
    collection: Annotated[str, typer.Argument(help="Name of a collection.")],
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

    settings = _settings(home)
    if show:
        typer.echo(reporting.stored_text(settings, collection))
        return
    options = reporting.ReportOptions(
        sae=sae,
        grid=grid,
        sizes=None if sizes is None else GridSizes.parse(sizes),
        steps=steps,
        out=out,
        endpoint=_endpoint(settings, llm_base_url, llm_model, 4, 120.0),
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
    typer.echo("A running server shows it on the scorecard after a restart.")


NameOfCollection = Annotated[str, typer.Argument(help="Name of a collection.")]
WhichSAE = Annotated[str, typer.Option("--sae", help="Which of its SAEs; default: the first.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the result as markdown and JSON too.")]


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
        evaluating.eval_steering(_settings(home), collection, options, Console(quiet=quiet), trials)
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
        evaluating.eval_retrieval(_settings(home), collection, options, Console(quiet=quiet), files)
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
        evaluating.eval_users(_settings(home), collection, options, Console(quiet=quiet), users)
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
            _settings(home), collection, options, Console(quiet=quiet), judged=judged, names=names
        )
    )


@app.command()
def doctor(home: Home = None) -> None:
    """Check every file of every collection; exit status 1 if one is damaged."""
    from sae_core import artifact

    settings = _settings(home)
    folders = artifact.collections(settings.home)
    typer.echo(f"Home: {settings.home.resolve()}, {len(folders)} collection(s)")
    sound = True
    for folder in folders:
        try:
            generation = artifact.current(folder)
            files = artifact.check(generation)
        except SaefariError as error:
            typer.echo(f"{folder.name}: {error}")
            sound = False
            continue
        size = sum(file.size for file in files) / 2**20
        typer.echo(f"{folder.name}: generation {generation.name}, {len(files)} files, {size:,.1f} MiB")
        for file in files:
            state = "DAMAGED" if file.problem else "ok"
            typer.echo(f"  {state:8}{file.size:>14,}  {file.path} {file.problem}".rstrip())
            sound = sound and not file.problem
    if not sound:
        typer.echo("Rebuild what is damaged with `saefari build`, or restore it from a backup.")
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; what a person can mend ends in a sentence and status 1, never in a traceback."""
    try:
        app()
    except ToldElsewhere:
        sys.exit(1)
    except SaefariError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}. Check the path and its rights.", 1)


def _fail(message: str, status: int) -> NoReturn:
    print(f"saefari: {message}", file=sys.stderr)  # noqa: T201 (the command line talks)
    sys.exit(status)


def _settings(
    home: Path | None,
    host: str | None = None,
    port: int | None = None,
    embed_base_url: str | None = None,
) -> Settings:
    chosen = {"home": home, "host": host, "port": port, "embed_base_url": embed_base_url}
    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:  # options were checked before, so it is the environment
        first = error.errors()[0]
        name = f"SAEFARI_{first['loc'][0]}".upper()
        what = f"The environment variable {name} is {first['input']!r}: {first['msg']}."
        raise SaefariError(what, remedy="Change it, or unset it.") from error


def _is_sound(collection: Path) -> bool:
    """Whether there is a generation that can be served; says what is wrong with a damaged one."""
    from sae_core import artifact

    try:
        artifact.verify(artifact.current(collection))
    except NotFoundError:
        return False
    except ArtifactError as error:
        typer.echo(f"{error.what} It is built again.", err=True)
        return False
    return True


def _fetch_docstrings(settings: Settings, limit: int | None, console: Console) -> Path:
    from sae_core.corpus import save_corpus
    from sae_core.sources import docstrings

    with console.stage("Harvesting docstrings") as progress:
        found = docstrings.harvest(limit or docstrings.LIMIT, progress)
    path = settings.corpora / "docstrings.parquet"
    save_corpus(found, path)
    return path


def _load(file: str | Path, mapping: list[str] | None = None, limit: int | None = None) -> Corpus:
    from sae_core.corpus import load_corpus

    pairs = {}
    for entry in mapping or []:
        field, equals, column = entry.partition("=")
        if not (field and equals and column):
            raise SaefariError(
                f"--map {entry} is not of the form field=Column.", remedy="Write --map title=Name."
            )
        pairs[field.strip()] = column.strip()
    return load_corpus(file, mapping=pairs, limit=limit)


def _build(
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


def _is_asked_remotely(embedder: str) -> bool:
    from sae_core.embed import is_remote

    return is_remote(embedder)


def _print_embedding(
    corpus: Corpus, settings: Settings, embedder: str, price: float | None, *, has_file: bool
) -> None:
    """What will be asked of the embedder's endpoint and what that costs, before it is."""
    from sae_core.embed import foresee
    from sae_core.labels.phrases import VOCABULARY

    n = len(corpus.documents)
    if not _is_asked_remotely(embedder):
        how = (
            "embedded on this machine" if embedder != "none" and not has_file else "with vectors from a file"
        )
        typer.echo(f"{n:,} documents, {how}. No endpoint is asked")
        return
    if endpoint := settings.encoder_endpoint():
        _warn_of_key(endpoint)
    texts = [] if has_file else [document.text for document in corpus.documents]
    plan = foresee(texts, embedder, settings.home / "cache")
    known = f"; {n - plan.n_texts:,} are known already" if texts and n > plan.n_texts else ""
    at = settings.embed_base_url or "an endpoint that is not given yet"
    typer.echo(f"{n:,} documents: about {plan.n_calls:,} calls to {embedder} at {at}{known}")
    phrases = f"and up to {VOCABULARY:,} short phrases that may name features"
    tokens = f"About {_rounded(plan.n_tokens)} tokens, {phrases}"
    if price is None:
        typer.echo(f"{tokens}; --price, for a million, says what they cost")
    else:
        cost = plan.n_tokens * price / 1e6
        typer.echo(f"{tokens}, cost {f'about {cost:,.2f}' if cost >= 0.005 else 'less than 0.01'}")  # noqa: PLR2004


def _warn_of_key(endpoint: Endpoint) -> None:
    if endpoint.tells_key:
        typer.echo(f"The key goes unencrypted to {endpoint.url}: the address is not https.", err=True)


def _train_grid(
    embeddings: Path,
    out: Path,
    sizes: tuple[str, str],
    chosen: dict[str, Any],
    device: str,
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    from app.grid import write_grid
    from app.scorecard import write_scorecard
    from sae_core import fit
    from sae_core.grid import GridSizes, plan_grid, train_grid
    from sae_core.report import grid_text

    common = {name: value for name, value in chosen.items() if name not in {"n_latents", "k"}}
    if chosen["n_latents"] is not None or chosen["k"] is not None:
        raise SaefariError("--grid has the sizes; --latents and --k have others.", remedy="Leave those out.")
    plan = plan_grid(embeddings, GridSizes.parse(sizes), **common)
    typer.echo(f"{len(plan.configs)} SAEs: {', '.join(plan.configs)}")
    typer.echo(f"About {plan.memory / 2**20:,.0f} MiB of memory besides the rows, which stay on disk")
    if dry_run:
        seconds = sum(fit.probe(plan.material, config, device).seconds for config in plan.configs.values())
        typer.echo(f"About {seconds:,.0f} s by a probe of ten steps of each")
        return
    result = train_grid(plan, out, Console(quiet=quiet), device=device)
    for member in result.members:
        write_scorecard(out / member.name)
    write_grid(result, out)
    typer.echo(f"\n{grid_text(result)}")
    typer.echo(f"Table and picture: {out / 'grid.html'}, {out / 'grid.svg'}")


def _print_plan(plan: Plan, *, stability: bool) -> None:
    config = plan.config
    typer.echo(f"{config.variant}: {config.n_latents:,} latents, k {config.k}, on {plan.n_rows:,} rows")
    typer.echo(f"{config.steps:,} steps of {config.batch:,} rows, learning rate {config.learning_rate:g}")
    typer.echo(f"About {plan.memory / 2**20:,.0f} MiB of memory besides the rows, which stay on disk")
    twice = ", and as much again for the second seed (--no-stability leaves it out)" if stability else ""
    typer.echo(f"About {plan.seconds:,.0f} s by a probe of ten steps{twice}")


def _endpoint(
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
    _warn_of_key(endpoint)
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
    tokens = f"About {_rounded(plan.tokens_in)} tokens in and {_rounded(plan.tokens_out)} out"
    if price_in is None or price_out is None:
        typer.echo(f"{tokens}; --price-in and --price-out, for a million, say what they cost")
    else:
        typer.echo(f"{tokens}, cost about {plan.cost(price_in, price_out):,.2f}")


def _rounded(n: int) -> str:
    """To three digits: more would promise what an estimate cannot hold."""
    return f"{int(float(f'{n:.3g}')):,}"


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
    typer.echo(f"Published: {outcome.folder}. A running server shows it after a restart.")


def _print_evaluation(evaluation: Evaluation) -> None:
    from sae_core.report import evaluation_text

    typer.echo(evaluation_text(evaluation))
    typer.echo("Published with the collection, in its report.md and on the scorecard after a restart.")


def _print_summary(summary: Summary) -> None:
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


def _serve(settings: Settings) -> None:
    import uvicorn

    from app.main import create_app

    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"Saefari: http://{shown}:{port}/  (Ctrl-C stops it)")
    config = uvicorn.Config(create_app(settings), log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        what = f"{host}:{port} cannot be listened on: {error.strerror}."
        raise SaefariError(what, remedy="Choose another with --port, or stop what is using it.") from error
    listener.set_inheritable(True)
    return listener


def _name_of(file: str) -> str:
    stem = "stdin" if file == "-" else Path(file).name.split(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "collection"


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) or name in RESERVED_COLLECTIONS:
        what = f"'{name}' cannot be the name of a collection."
        raise SaefariError(what, remedy="Use lower-case letters, digits and hyphens, with --name.")


def _integers(option: str, text: str) -> tuple[int | None, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else (None,)
    except ValueError as error:
        raise SaefariError(
            f"{option} {text} is not a list of whole numbers.", remedy="Write 512 or 512,1024."
        ) from error


if __name__ == "__main__":
    main()
