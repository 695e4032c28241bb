"""`saefari report`: the claims of a collection, checked, written as files, and published with it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.catalog import FILE_NAME, Catalog
from sae_core import artifact
from sae_core.claims import ClaimsReport
from sae_core.claims.checking import check_claims
from sae_core.claims.grids import (
    default_sizes,
    grid_from,
    is_trained,
    plan_own_grid,
    seconds_of,
    train_own_grid,
)
from sae_core.claims.groups import N_LLM
from sae_core.claims.study import N_SAMPLED, Study
from sae_core.errors import SaefariError, TrainingError
from sae_core.explorer import Explorer, FeatureSet
from sae_core.files import explain_write_errors, write_atomic
from sae_core.report import claims_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings import Settings
    from sae_core.claims.study import GridFolder
    from sae_core.endpoint import Endpoint
    from sae_core.fit import Console
    from sae_core.grid import GridSizes
    from sae_core.labels.llm import LanguageModel

REPORTS, GRID, PARTS = "reports", "grid", "parts"
CALLS_PER_LABEL = 12  # at most: sixty documents to choose by, sixty to judge, ten to a call
TOKENS_PER_CALL = 3_300  # about: ten documents, and the instructions


@dataclass(frozen=True)
class ReportOptions:
    """What a report is to be made of."""

    sae: str = ""  # "": the first of the collection
    grid: Path | None = None  # a finished grid; None: train one
    sizes: GridSizes | None = None  # of the grid that is trained; None: around the SAE
    steps: int | None = None  # of each of its members
    out: Path | None = None  # None: reports/ in the home folder
    endpoint: Endpoint | None = None
    seed: int = 0


def make_report(
    settings: Settings, collection: str, options: ReportOptions, console: Console, say: Callable[[str], None]
) -> Path:
    """Check the claims, write `report.md` and `report.json`, publish; the folder. Resumable.

    `say` gets sentences for people before anything takes long.
    """
    explorer, space = _open(settings, collection, options, console)
    out, grid_folder = _folders(settings, collection, space.name, options)
    with closing(Catalog(explorer.path / FILE_NAME, is_timed=False)) as catalog:
        documents = catalog.documents(range(explorer.n_documents))
    with explain_write_errors(out), artifact.locked(out):
        grid = _grid(explorer, space, options, grid_folder, console=console, say=say)
        study = Study(
            explorer, space, documents, grid=grid, model=_model(settings, options, say), seed=options.seed
        )
        report = check_claims(study, console, out / PARTS, grid_words=_grid_words(grid))
        write_atomic(out / "report.json", json.dumps(asdict(report), ensure_ascii=False, indent=1).encode())
        write_atomic(out / "report.md", claims_text(report).encode())
    with console.stage("Publishing"):
        publish(settings.collections / collection, report)
    return out


def plan_report(
    settings: Settings, collection: str, options: ReportOptions, console: Console, say: Callable[[str], None]
) -> None:
    """Say what `make_report` would do and take; nothing is trained, asked or published."""
    explorer, space = _open(settings, collection, options, console, with_encoder=False)
    out, grid_folder = _folders(settings, collection, space.name, options)
    say(f"{space.name} of {collection}: ten claims on {explorer.n_documents:,} documents, into {out}")
    if options.grid is not None:
        say(grid_from(options.grid, explorer).words)
    else:
        try:
            plan = plan_own_grid(
                explorer,
                options.sizes or default_sizes(space),
                grid_folder,
                seed=options.seed,
                steps=options.steps,
            )
        except TrainingError as error:
            say(f"No grid can be trained: {error} Claims 1 to 3 are then not measured.")
        else:
            steps = next(iter(plan.configs.values())).steps
            say(
                f"A grid is trained first: {', '.join(plan.configs)}, {steps:,} steps each, about "
                f"{seconds_of(plan):,.0f} s by a probe of ten steps of each (--grid FOLDER loads one)"
            )
    say(f"Baselines of {space.sae.n_latents:,} latents are made, and {N_SAMPLED} features of each labelled")
    if options.endpoint is None:
        say("No language model is asked")
        return
    n_calls = N_LLM * CALLS_PER_LABEL + N_LLM
    say(
        f"At most {n_calls:,} calls to {options.endpoint.model} at {options.endpoint.base_url}, about "
        f"{n_calls * TOKENS_PER_CALL:,} tokens in; answers are kept and not asked for twice"
    )


def stored_text(settings: Settings, collection: str) -> str:
    """The build's report of a collection, and the claims of each SAE for which they were checked."""
    folder = artifact.current(settings.collections / collection)
    artifact.verify(folder)
    texts = [(folder / "report.md").read_text(encoding="utf-8")]
    reports = (artifact.load_json(path) for path in sorted(folder.glob("saes/*/report.json")))
    texts += [claims_text(ClaimsReport.parse(stored)) for stored in reports]
    return "\n".join(texts)


def publish(collection: Path, report: ClaimsReport) -> None:
    """Serve the report with its SAE, as a new generation in which all else is as it was.

    Raises `SaefariError` if the collection was built anew in the meantime and has no such SAE any more.
    """
    with (
        artifact.locked(collection),
        explain_write_errors(collection),
        artifact.revise(collection) as (folder, _),
    ):
        place = folder / "saes" / report.sae
        if not place.is_dir():
            what = (
                f"{report.collection} was built again in the meantime and has no SAE {report.sae} any more."
            )
            raise SaefariError(what, remedy="The files are written; give the command again for the new SAE.")
        artifact.save_json(place / "report.json", asdict(report))


def _open(
    settings: Settings,
    collection: str,
    options: ReportOptions,
    console: Console,
    *,
    with_encoder: bool = True,
) -> tuple[Explorer, FeatureSet]:
    with console.stage("Loading the collection"):
        explorer = Explorer.load(settings.collections / collection)
        if with_encoder:
            explorer.load_encoder(endpoint=settings.encoder_endpoint())
    return explorer, explorer.get_sae(options.sae or next(iter(explorer.saes)))


def _folders(settings: Settings, collection: str, sae: str, options: ReportOptions) -> tuple[Path, Path]:
    """Where a report and its work lie, and the grid that all SAEs of a collection share."""
    if options.out is not None:
        return options.out, options.out / GRID
    return settings.home / REPORTS / collection / sae, settings.home / REPORTS / collection / GRID


def _grid(
    explorer: Explorer,
    space: FeatureSet,
    options: ReportOptions,
    folder: Path,
    *,
    console: Console,
    say: Callable[[str], None],
) -> GridFolder | None:
    """The grid that was given, or one that is trained; None where none can be."""
    if options.grid is not None:
        return grid_from(options.grid, explorer)
    sizes = options.sizes or default_sizes(space)
    try:
        plan = plan_own_grid(explorer, sizes, folder, seed=options.seed, steps=options.steps)
    except TrainingError as error:
        say(f"No grid can be trained: {error} Claims 1 to 3 are not measured.")
        return None
    if not is_trained(plan, folder):
        say(f"Training {len(plan.configs)} SAEs for claims 1 to 3 takes about {seconds_of(plan):,.0f} s")
    return train_own_grid(plan, folder, console)


def _grid_words(grid: GridFolder | None) -> str:
    return grid.words if grid else "No grid."


def _model(settings: Settings, options: ReportOptions, say: Callable[[str], None]) -> LanguageModel | None:
    if options.endpoint is None:
        return None
    from sae_core.labels.llm import LanguageModel

    say(f"Some questions go to {options.endpoint.model} at {options.endpoint.base_url}")
    return LanguageModel(options.endpoint, settings.home / "cache" / "llm")
