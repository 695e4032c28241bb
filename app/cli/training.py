"""`saefari train | convert | encode | merge`: SAEs and codes without a collection."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import (
    CheckpointSeconds,
    Device,
    EmbeddingsColumn,
    EmbeddingsFile,
    Grid,
    MaxSilence,
    Normalise,
    Processes,
    Quiet,
    Seed,
    Stability,
    Steps,
    Truncate,
)
from app.console import Console
from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from sae_core.fit import Plan


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
