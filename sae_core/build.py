"""From a corpus to a served collection: every stage, in order, each with progress, resumable.

Embeddings are cached by text and training has checkpoints, so a build that was killed goes on where it was
when the same command is given again. What was served before stays until the new generation is complete.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core import artifact, metrics
from sae_core.checkpoint import read_log
from sae_core.codes import encode_codes
from sae_core.corpus import write_rejected
from sae_core.embed import Embedder, KeptEmbedder, embed_corpus, identity, is_remote, load_embedder
from sae_core.endpoint import Endpoint
from sae_core.errors import TrainingError
from sae_core.explorer import FeatureSet
from sae_core.files import explain_write_errors, write_atomic
from sae_core.fit import SECOND_SEED, run_scores, run_stage, split, versions
from sae_core.foreign import load_sae
from sae_core.labels.families import label_families
from sae_core.labels.phrases import Labeller
from sae_core.labels.predictors import embed_labels
from sae_core.recipe import TrainConfig
from sae_core.report import report_text
from sae_core.rows import AS_IT_IS, Reading
from sae_core.stages import (
    MIN_DOCUMENTS,
    TimedConsole,
    check_encoder,
    describe_codes,
    hash_of,
    match_saes,
    read_vectors,
    write_documents,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.corpus import Corpus, Document
    from sae_core.fit import Console
    from sae_core.sae import SAE
    from sae_core.train import Run


@dataclass(frozen=True)
class BuildConfig:
    """What to build; sizes that are None follow the rule of `TrainConfig.for_corpus`."""

    name: str
    title: str
    embedder: str | None = "minilm"  # None: embeddings without an encoder, so no text queries
    endpoint: Endpoint | None = None  # where an embedder openai:MODEL is; its own model does not matter
    embeddings: Path | None = None  # a row for each row of the corpus's file
    reading: Reading = AS_IT_IS  # of embeddings; what it truncates, it truncates of the encoder's as well
    is_limited: bool = False  # the corpus is only the beginning of its file
    backend: str = "auto"
    device: str = "auto"
    latents: tuple[int | None, ...] = (None,)
    ks: tuple[int | None, ...] = (None,)  # one SAE for each pair of latents and k
    steps: int | None = None
    seed: int = 0
    saes: tuple[Path, ...] = ()  # made elsewhere: taken as they are, and none is trained
    stability: bool = True  # train each SAE with a second seed as well, to see which features come again


@dataclass
class Summary:
    """What a build made, for the closing lines and `report.md`."""

    folder: Path
    n_documents: int
    rejected: dict[str, int]  # reason -> rows
    repaired: dict[str, int]  # kind of repair -> rows
    seconds: dict[str, float] = field(default_factory=dict)
    saes: list[dict[str, Any]] = field(default_factory=list)


def build(
    corpus: Corpus,
    config: BuildConfig,
    home: Path,
    console: Console,
    write_catalogue: Callable[[Path, Sequence[Document], Sequence[FeatureSet]], None],
) -> Summary:
    """Build a collection below `home` and publish it; raises a `SaefariError` for what a person can mend.

    `write_catalogue` writes the tables that the app lists and filters.
    """
    collection = home / "collections" / config.name
    with artifact.locked(collection), explain_write_errors(collection):
        return _Build(corpus, config, home, console).run(write_catalogue)


class _Run(NamedTuple):
    sae: SAE
    other: SAE | None  # of another seed
    config: dict[str, Any]
    history: list[dict[str, float]]
    scores: dict[str, float]


class _Build:
    def __init__(self, corpus: Corpus, config: BuildConfig, home: Path, console: Console) -> None:
        self.corpus, self.config, self.home = corpus, config, home
        self.collection = home / "collections" / config.name
        self.work = home / "work" / config.name
        self.fingerprint = corpus.fingerprint()
        n = len(corpus.documents)
        self.summary = Summary(self.collection, n, corpus.counts(), corpus.repaired)
        self.console = TimedConsole(console, self.summary.seconds)
        if n < MIN_DOCUMENTS:
            what = f"{n} usable documents are too few to learn features from."
            raise TrainingError(
                what, remedy=f"Give at least {MIN_DOCUMENTS}; a few thousand are a good start."
            )

    def run(
        self, write_catalogue: Callable[[Path, Sequence[Document], Sequence[FeatureSet]], None]
    ) -> Summary:
        self.work.mkdir(parents=True, exist_ok=True)
        write_rejected(self.corpus, self.work / "rejected.jsonl")
        given = [load_sae(path) for path in self.config.saes]
        embedder = self._load_embedder()
        x_MD = self._embed(embedder)
        self.data_hash = hash_of(x_MD)
        rows = split(len(x_MD), self.config.seed)
        if given:
            trained = self._take(given, x_MD.shape[1])
        else:
            trained = [self._train(x_MD, rows, config) for config in self._train_configs(x_MD, rows)]
        manifest: dict[str, Any] = {}
        with artifact.draft(self.collection, manifest) as folder:
            for_labels = self._for_labels(embedder)
            described = [self._describe(x_MD, rows, for_labels, run) for run in trained]
            spaces = match_saes(described, self.console)
            with self.console.stage("Writing") as report:
                write_documents(folder, x_MD, self.corpus.documents)
                write_rejected(self.corpus, folder / "rejected.jsonl")
                for space in spaces:
                    space.save(folder / "saes" / space.name)
                write_catalogue(folder / "catalogue.sqlite", self.corpus.documents, spaces)
                report(1, 1)
            self.summary.saes = [space.describe() for space in spaces]
            manifest.update(self._manifest(embedder, x_MD.shape[1]))
            write_atomic(folder / "report.md", report_text(manifest, spaces).encode())
        self.summary.folder = artifact.current(self.collection)
        shutil.rmtree(self.work, ignore_errors=True)
        return self.summary

    def _load_embedder(self) -> Embedder | None:
        if self.config.embedder is None:
            return None
        with self.console.stage("Loading the encoder"):
            config = self.config
            return load_embedder(
                self.config.embedder,
                backend=config.backend,
                device=config.device,
                endpoint=config.endpoint,
                truncate=config.reading.truncate,
            )

    def _for_labels(self, embedder: Embedder | None) -> Embedder | None:
        """What embeds short texts; nothing is asked twice of an endpoint."""
        if embedder is None or not is_remote(self.config.embedder):
            return embedder
        return KeptEmbedder(embedder, self.home / "cache" / "labels")

    def _embed(self, embedder: Embedder | None) -> NDArray[np.float32]:
        if self.config.embeddings is not None:
            with self.console.stage("Reading embeddings"):
                x_MD = read_vectors(
                    self.config.embeddings,
                    self.corpus,
                    self.config.reading,
                    is_limited=self.config.is_limited,
                )
            if embedder is not None:
                check_encoder(embedder, self.corpus.documents, x_MD)
            return x_MD
        if embedder is None:
            what = "There is neither an encoder nor a file of embeddings."
            raise TrainingError(what, remedy="Give --embeddings FILE, or leave out --embedder none.")
        with self.console.stage("Embedding") as report:
            return embed_corpus(self.corpus.texts, embedder, self.home / "cache", report)

    def _take(self, given: list[tuple[SAE, dict[str, Any]]], width: int) -> list[_Run]:
        """SAEs that were made elsewhere, in the place of training; the same one given twice is one."""
        for path, (sae, _) in zip(self.config.saes, given, strict=True):
            if sae.width != width:
                what = f"The SAE in {path} reads {sae.width:,} dimensions, the embeddings have {width:,}."
                raise TrainingError(what, remedy="Embed with the model that it was trained on.")
        known = {sae.fingerprint(): (sae, origin) for sae, origin in given}
        seed = {"seed": self.config.seed}
        return [_Run(sae, None, origin | seed, [], {}) for sae, origin in known.values()]

    def _train_configs(
        self, x_MD: NDArray[np.float32], rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> list[TrainConfig]:
        config = self.config
        configs = {
            TrainConfig.for_corpus(
                len(rows[0]), x_MD.shape[1], n_latents=n_latents, k=k, steps=config.steps, seed=config.seed
            ): None
            for n_latents in config.latents
            for k in config.ks
        }
        for each in configs:
            each.check(len(rows[0]))
        return list(configs)  # the same size asked for twice is one SAE

    def _train(
        self,
        x_MD: NDArray[np.float32],
        rows: tuple[NDArray[np.int64], NDArray[np.int64]],
        config: TrainConfig,
    ) -> _Run:
        folder = self.work / f"k{config.k}-n{config.n_latents}"
        run, sae = self._train_one(x_MD, rows, config, folder)
        other = None
        if self.config.stability:
            again = replace(config, seed=config.seed + 1)
            _, other = self._train_one(x_MD, rows, again, folder / SECOND_SEED)
        return _Run(sae, other, asdict(config), read_log(folder), run_scores(run))

    def _train_one(
        self,
        x_MD: NDArray[np.float32],
        rows: tuple[NDArray[np.int64], NDArray[np.int64]],
        config: TrainConfig,
        folder: Path,
    ) -> tuple[Run, SAE]:
        return run_stage(
            self.console.stage(f"Training k={config.k} n={config.n_latents}"),
            (x_MD[rows[0]], x_MD[rows[1]]),
            config,
            folder,
            data_hash=self.data_hash,
            device=self.config.device,
        )

    def _describe(
        self,
        x_MD: NDArray[np.float32],
        rows: tuple[NDArray[np.int64], NDArray[np.int64]],
        embedder: Embedder | None,
        run: _Run,
    ) -> FeatureSet:
        sae, seed = run.sae, self.config.seed
        with self.console.stage("Encoding") as report:
            codes = encode_codes(sae, x_MD, report)
        table, coactivation, forest = describe_codes(sae, codes, x_MD, seed, self.console)
        with self.console.stage("Labels") as report:
            labeller = Labeller(self.corpus.documents, codes, table, sae, x_MD, embedder, seed, report)
            labels = labeller.features()
            named = label_families(labeller, [family.members for family in forest.families], labels)
            families = [
                replace(family, label=label) for family, label in zip(forest.families, named, strict=True)
            ]
            forest = replace(forest, families=families)
        with self.console.stage("Scorecard"):
            scores = metrics.scorecard(sae, x_MD[rows[0]], x_MD[rows[1]], codes.counts(), len(x_MD))
            scores |= run.scores
            if run.other is not None:
                scores["stability"] = metrics.matched_share(sae, run.other, codes.counts())
            scores["n_families"] = len(forest.families)
            scores["n_labelled"] = sum(label.source != "none" for label in labels)
        name = f"k{sae.k}-n{sae.n_latents}-{sae.fingerprint()[:6]}"
        vectors_ND = None if embedder is None else embed_labels(labels, embedder)
        return FeatureSet(
            name, sae, codes, table, labels, coactivation, forest, scores, run.config, run.history,
            label_vectors_ND=vectors_ND,
        )  # fmt: skip

    def _manifest(self, embedder: Embedder | None, width: int) -> dict[str, Any]:
        encoder: dict[str, Any] = {"spec": self.config.embedder if embedder else None}
        if self.config.reading.truncate is not None:
            encoder["truncate"] = self.config.reading.truncate
        if embedder is not None:
            encoder |= identity(embedder)
        return {
            "name": self.config.name,
            "title": self.config.title,
            "n_documents": self.summary.n_documents,
            "width": width,
            "embeddings": self.data_hash,
            "embedder": encoder,
            "normalised": self.config.embeddings is not None and self.config.reading.normalise,
            "corpus": {
                "fingerprint": self.fingerprint,
                "rejected": self.summary.rejected,
                "repaired": self.summary.repaired,
            },
            "saes": self.summary.saes,
            "seconds": {name: round(value, 2) for name, value in self.summary.seconds.items()},
            "versions": versions(),
        }
