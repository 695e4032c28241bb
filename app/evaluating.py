"""`saefari eval`: what steering and search do on a collection, measured, written, published with it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.catalog import FILE_NAME, Catalog
from sae_core import artifact
from sae_core.claims import basis_of
from sae_core.claims.study import Study
from sae_core.corpus import load_corpus
from sae_core.embed import load_embedder
from sae_core.errors import EmbedderNotReady, SaefariError
from sae_core.evaluation import Evaluation, Table, merged
from sae_core.evaluation.facets import Facets, category_facets, evaluate_facets
from sae_core.evaluation.judged import load_facets, load_judged
from sae_core.evaluation.retrieval import Sought, evaluate_retrieval, judged_vectors
from sae_core.evaluation.steering import N_TRIALS, evaluate_steering
from sae_core.evaluation.users import N_USERS, evaluate_users
from sae_core.explorer import Explorer
from sae_core.files import explain_write_errors, sha256_of, write_atomic
from sae_core.report import evaluation_text, report_text
from sae_core.rows import load_embeddings

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.settings import Settings
    from sae_core.corpus import Document
    from sae_core.explorer import FeatureSet
    from sae_core.fit import Console

EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class EvalOptions:
    """What every evaluation is told."""

    sae: str = ""  # "": the first of the collection
    out: Path | None = None  # a folder for the markdown and the JSON; None: only the collection gets them
    seed: int = 0


@dataclass(frozen=True)
class JudgedFiles:
    """A judged set on disk."""

    queries: Path
    qrels: Path
    split: str = ""
    documents: Path | None = None  # None: those of the collection
    embeddings: Path | None = None  # of the documents, a row for each row of the file
    name: str = ""


@dataclass(frozen=True)
class _Job:
    """One SAE of a collection, opened, and where parts of its evaluation are kept."""

    settings: Settings
    collection: str
    options: EvalOptions
    console: Console
    explorer: Explorer
    space: FeatureSet
    documents: list[Document]

    def parts(self, kind: str, subject: str) -> Path:
        name = f"{kind}-{hashlib.sha256(subject.encode()).hexdigest()[:8]}" if subject else kind
        return self.settings.home / EVALUATIONS / self.collection / self.space.name / name

    def key(self, *more: object) -> str:
        """Changes with everything that an evaluation rests on."""
        manifest = self.explorer.manifest
        whole = [manifest.get("embeddings"), self.space.name, basis_of(manifest, self.space.name)]
        whole += [self.options.seed, self.explorer.embedder is not None, *map(str, more)]
        return hashlib.sha256(json.dumps(whole).encode()).hexdigest()

    def study(self, n_trials: int) -> Study:
        return Study(self.explorer, self.space, self.documents, seed=self.options.seed, n_trials=n_trials)


def eval_steering(
    settings: Settings, collection: str, options: EvalOptions, console: Console, n_trials: int = N_TRIALS
) -> Evaluation:
    """Curves, side effects, rewriting, refinement; by words, by categories, and by activations (circular)."""
    job = _open(settings, collection, options, console)
    key = job.key("steering", n_trials)

    def make() -> _Found:
        study = job.study(n_trials)
        return _Found(*evaluate_steering(study, console, job.parts("steering", ""), key))

    return _evaluate(job, "steering", "", make)


def eval_retrieval(
    settings: Settings, collection: str, options: EvalOptions, console: Console, files: JudgedFiles
) -> Evaluation:
    """Retrieval kept by steered search left alone, reconstructions, sparse codes; with simple baselines."""
    job = _open(settings, collection, options, console)
    _need_encoder(job)
    subject = files.name or files.qrels.name.split(".")[0]
    sums = [sha256_of(path) for path in (files.queries, files.qrels, files.documents) if path is not None]

    def make() -> _Found:
        documents, documents_MD = _judged_documents(job, files)
        judged = load_judged(files.queries, files.qrels, [document.id for document in documents], files.split)
        with console.stage("Embedding queries"):
            queries_QD = judged_vectors(judged.queries, job.explorer)
        study = job.study(1)
        is_own = files.documents is None
        train_MD = np.ascontiguousarray(study.x_MD[study.is_train_M])
        sought = Sought(
            job.explorer, job.space, judged, queries_QD, documents_MD, documents, train_MD, is_own
        )
        tables, sentences = evaluate_retrieval(
            sought, console, job.parts("retrieval", subject), job.key("retrieval", *sums, files.split)
        )
        whose = "its own documents" if is_own else f"other documents, {files.documents}"
        setup = (
            f"{len(judged.queries):,} judged queries{f' (split {files.split})' if files.split else ''}, "
            f"{len(documents):,} documents; the SAE was trained on {len(train_MD):,} documents of "
            f"{collection} and is applied to {whose}."
        )
        return _Found([setup, *sentences], tables, [])

    return _evaluate(job, "retrieval", subject, make)


def eval_facets(
    settings: Settings,
    collection: str,
    options: EvalOptions,
    console: Console,
    *,
    judged: Path | None = None,
    names: Path | None = None,
) -> Evaluation:
    """How steering towards facets changes nDCG: those of a file, or else the documents' categories."""
    job = _open(settings, collection, options, console)
    _need_encoder(job)
    sums = [sha256_of(path) for path in (judged, names) if path is not None]
    subject = "categories" if judged is None else judged.name.split(".")[0]

    def make() -> _Found:
        with console.stage("Cases"):
            facets = _facets(job, judged, _names(names))
        parts, key = job.parts("facets", subject), job.key("facets", *sums)
        tables = evaluate_facets(facets, console, parts, key)
        setup = f"{len(facets.cases):,} cases, {len({case.facet for case in facets.cases}):,} facets."
        return _Found([setup, *facets.how], tables, [])

    return _evaluate(job, "facets", subject, make)


def eval_users(
    settings: Settings, collection: str, options: EvalOptions, console: Console, n_users: int = N_USERS
) -> Evaluation:
    """Whether moves proposed from marks bring what simulated users want, beside Rocchio's change."""
    job = _open(settings, collection, options, console)
    _need_encoder(job)

    def make() -> _Found:
        parts, key = job.parts("users", ""), job.key("users", n_users)
        tables = evaluate_users(job.study(1), console, parts, key, n_users)
        if not tables:
            what = f"No users can be drawn from {collection}: its documents have no categories that phrases"
            raise SaefariError(f"{what} leave open.", remedy="Build it with a column of categories.")
        setup = (
            "A user types a phrase of the corpus and wants documents of one category. Of the first ten "
            "results those wanted are marked up, the others down; documents that were seen are taken away."
        )
        return _Found([setup, "Rocchio's best weights were chosen on a quarter of the users."], tables, [])

    return _evaluate(job, "users", "", make)


# --- common ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    setup: list[str]
    tables: list[Table]
    remarks: list[str]


def _open(settings: Settings, collection: str, options: EvalOptions, console: Console) -> _Job:
    with console.stage("Loading the collection"):
        explorer = Explorer.load(settings.collections / collection)
        explorer.load_encoder(endpoint=settings.encoder_endpoint())
        with closing(Catalog(explorer.path / FILE_NAME, is_timed=False)) as catalog:
            documents = catalog.documents(range(explorer.n_documents))
    space = explorer.get_sae(options.sae or next(iter(explorer.saes)))
    return _Job(settings, collection, options, console, explorer, space, documents)


def _evaluate(job: _Job, kind: str, subject: str, make: Callable[[], _Found]) -> Evaluation:
    began = time.monotonic()
    parts = job.parts(kind, subject)
    with explain_write_errors(parts):
        parts.mkdir(parents=True, exist_ok=True)
        with artifact.locked(parts):
            found = make()
    evaluation = Evaluation(
        kind=kind,
        subject=subject,
        collection=job.collection,
        sae=job.space.name,
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        seed=job.options.seed,
        setup=found.setup,
        tables=found.tables,
        remarks=found.remarks,
        basis=basis_of(job.explorer.manifest, job.space.name),
        seconds=round(time.monotonic() - began, 1),
    )
    if job.options.out is not None:
        _write(evaluation, job.options.out)
    with job.console.stage("Publishing"):
        publish(job.settings.collections / job.collection, evaluation)
    return evaluation


def _need_encoder(job: _Job) -> None:
    if job.explorer.embedder is None:
        raise EmbedderNotReady(
            f"Queries have to be embedded, and {job.collection} has no encoder here.",
            remedy="Build it with --embedder, the one that made the embeddings.",
        )


def _write(evaluation: Evaluation, out: Path) -> None:
    name = f"{evaluation.kind}-{evaluation.subject}" if evaluation.subject else evaluation.kind
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(evaluation), ensure_ascii=False, indent=1)
        write_atomic(out / f"{name}.json", content.encode())
        write_atomic(out / f"{name}.md", evaluation_text(evaluation).encode())


def publish(collection: Path, evaluation: Evaluation) -> None:
    """Serve the evaluation with its SAE, and in `report.md`: a new generation, all else as it was.

    Raises `SaefariError` if the collection was built anew in the meantime and has no such SAE any more.
    """
    with (
        artifact.locked(collection),
        explain_write_errors(collection),
        artifact.revise(collection) as (folder, manifest),
    ):
        if not (folder / "saes" / evaluation.sae).is_dir():
            what = f"{evaluation.collection} was built again and has no SAE {evaluation.sae} any more."
            raise SaefariError(what, remedy="Give the command again for the new SAE.")
        spaces = [
            replace(space, evaluation=merged(space.evaluation, evaluation))
            if name == evaluation.sae
            else space
            for name, space in Explorer.load(collection).saes.items()
        ]
        own = next(space for space in spaces if space.name == evaluation.sae)
        path = folder / "saes" / own.name / "evaluation.json"
        write_atomic(path, json.dumps(own.evaluation, ensure_ascii=False).encode())
        write_atomic(folder / "report.md", report_text(manifest, spaces).encode())


# --- what is judged -------------------------------------------------------------------------------


def _judged_documents(job: _Job, files: JudgedFiles) -> tuple[Sequence[Document], NDArray[np.float32]]:
    """The documents that are searched, and their unit vectors by the collection's encoder."""
    if files.documents is None:
        return job.documents, job.explorer.index.vectors()
    corpus = load_corpus(files.documents)
    if files.embeddings is not None:
        x_MD = np.asarray(load_embeddings(files.embeddings, corpus.n_rows)[corpus.rows], dtype=np.float32)
        if x_MD.shape[1] != job.explorer.width:
            what = f"{files.embeddings} is {x_MD.shape[1]} wide, {job.collection} {job.explorer.width}."
            raise SaefariError(what, remedy="Give embeddings by the collection's encoder, or none.")
        return corpus.documents, x_MD / np.maximum(np.linalg.norm(x_MD, axis=1, keepdims=True), 1e-12)
    embedder = job.explorer.embedder or load_embedder(str(job.explorer.embedder_spec))
    with job.console.stage("Embedding documents") as report:
        texts = [document.text for document in corpus.documents]
        blocks = []
        for start in range(0, len(texts), 256):
            report(start, len(texts), "")
            blocks.append(embedder.embed(texts[start : start + 256]))
    return corpus.documents, np.concatenate(blocks)


def _facets(job: _Job, judged: Path | None, names: dict[str, str]) -> Facets:
    study = job.study(1)
    if judged is not None:
        ids = [document.id for document in job.documents]
        cases = load_facets(judged, ids, job.space.sae.n_latents)
        return Facets(study, cases, None, [f"Judged cases of {judged.name}; all documents are searched."])
    found = category_facets(study, names, job.options.seed)
    if found is None:
        what = f"{job.collection} has no categories that could be facets."
        raise SaefariError(what, remedy="Give a file of judged cases.")
    return found


def _names(path: Path | None) -> dict[str, str]:
    """Words for categories, from a JSON object."""
    if path is None:
        return {}
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SaefariError(f"{path} is no JSON.", remedy='Write {"CATEGORY": "words", ...}.') from error
    if not isinstance(found, dict):
        raise SaefariError(f"{path} is no JSON object.", remedy='Write {"CATEGORY": "words", ...}.')
    return {str(name): str(words) for name, words in found.items()}
