"""The tables of a dump: what each column holds, and its rows, a block at a time.

What is said here of a column is what the data card says of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from app.labels import is_labelled
from sae_core.features import NONE, QUANTILES

if TYPE_CHECKING:
    from app.catalog import Catalog
    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.labels import Label, Score

ROWS = 10_000  # documents, or features, of which rows are made at a time
ACTIVATIONS = 1_000_000  # rows of a block

Block = dict[str, Any]  # a column each: arrays or lists, all of one length
_INT, _FLOAT, _DOUBLE, _TEXT, _BOOL = pa.int32(), pa.float32(), pa.float64(), pa.string(), pa.bool_()
_NUMBERS = pa.list_(pa.int32())
_SCORES = ("auc", "f1", "pearson")


@dataclass(frozen=True)
class Column:
    name: str
    type: pa.DataType
    meaning: str

    @property
    def kind(self) -> str:
        """Its type in words: list of int32."""
        return re.sub(r"<\w+: (\w+)>", r" of \1", str(self.type))


@dataclass(frozen=True)
class Table:
    """One file of a dump."""

    name: str  # of the file, without its suffix
    meaning: str
    columns: tuple[Column, ...]
    n_rows: int  # about: for progress
    blocks: Iterable[Block]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(column.name, column.type) for column in self.columns])


# --- documents --------------------------------------------------------------------------------------


def documents(explorer: Explorer, catalog: Catalog) -> Table:
    columns = (
        Column("position", _INT, "place in the collection, from 0; other tables name documents by it"),
        Column("id", _TEXT, "the document's own id, unique"),
        Column("title", _TEXT, ""),
        Column("abstract", _TEXT, ""),
        Column("year", _INT, ""),
        Column("venue", _TEXT, ""),
        Column("authors", _TEXT, "as they were given, in one text"),
        Column("categories", _TEXT, "as they were given, in one text"),
        Column("url", _TEXT, ""),
        Column("citations", _INT, "as of the day the texts were collected"),
        Column("doi", _TEXT, ""),
    )
    names = [column.name for column in columns[1:]]

    def blocks() -> Iterator[Block]:
        for span in _spans(explorer.n_documents, ROWS):
            found = catalog.documents(span)
            values = {name: [_present(getattr(each, name)) for each in found] for name in names}
            yield {"position": list(span), **values}

    meaning = "One row for each text. Empty where the source said nothing."
    return Table("documents", meaning, columns, explorer.n_documents, blocks())


def vectors(explorer: Explorer) -> Table:
    columns = (
        Column("position", _INT, "of the document"),
        Column("vector", pa.list_(pa.float32(), explorer.width), "its embedding, of length 1"),
    )

    def blocks() -> Iterator[Block]:
        rows_MD = explorer.index.vectors()
        for span in _spans(explorer.n_documents, ROWS):
            flat = pa.array(np.asarray(rows_MD[span.start : span.stop], dtype=np.float32).ravel())
            yield {
                "position": np.arange(span.start, span.stop),
                "vector": pa.FixedSizeListArray.from_arrays(flat, explorer.width),
            }

    return Table("vectors", "The embeddings that were taken apart.", columns, explorer.n_documents, blocks())


# --- one SAE ----------------------------------------------------------------------------------------


def of_sae(space: FeatureSet) -> list[Table]:
    """The tables of one SAE."""
    tables = [_activations(space), _features(space), _labels(space), _scores(space), _candidates(space)]
    tables += [_families(space), _members(space), _neighbours(space), _near_misses(space)]
    return [*tables, _matches(space)] if space.matches else tables


def _activations(space: FeatureSet) -> Table:
    codes = space.codes
    columns = (
        Column("position", _INT, "of the document"),
        Column("latent", _INT, "number of the feature"),
        Column("value", _FLOAT, "its activation, > 0; of a document strongest first"),
    )

    def blocks() -> Iterator[Block]:
        for span in _spans_of_rows(codes.document_ptr, ACTIVATIONS):
            first, last = (int(codes.document_ptr[at]) for at in (span.start, span.stop))
            sizes = np.diff(codes.document_ptr[span.start : span.stop + 1])
            yield {
                "position": np.repeat(np.arange(span.start, span.stop), sizes),
                "latent": codes.latents[first:last].astype(np.int32),
                "value": codes.values[first:last],
            }

    meaning = "The sparse codes: one row for each feature that is active on a document. All others are 0."
    return Table("activations", meaning, columns, len(codes.latents), blocks())


def _features(space: FeatureSet) -> Table:
    quantiles = [f"q{round(100 * q):02}" for q in QUANTILES]
    columns = (
        Column("latent", _INT, "number of the feature, from 0; a row of the decoder"),
        Column("label", _TEXT, "what it is called, automatically; empty where nothing predicted it"),
        Column("label_source", _TEXT, "phrases, or llm:MODEL"),
        *_auc_columns("the label on documents that neither made nor chose it; 0.5 is chance"),
        Column("n_documents", _INT, "documents on which it is active; 0: dead"),
        Column("density", _DOUBLE, "their share of the collection"),
        Column("max", _FLOAT, "largest activation"),
        Column("mean", _FLOAT, "mean activation where it is active"),
        *[
            Column(name, _FLOAT, f"{q:.0%} quantile where it is active")
            for name, q in zip(quantiles, QUANTILES, strict=True)
        ],
        Column("quality", _FLOAT, "0 to 1: a mix of label score and useful density, the default order"),
        Column("family", _INT, "root of the smallest family that has it"),
        Column("histogram", _NUMBERS, "documents in equal bins of activation, from 0 to max"),
    )
    table, n = space.features, max(space.codes.n_documents, 1)

    def blocks() -> Iterator[Block]:
        for span in _spans(len(space.labels), ROWS):
            rows = slice(span.start, span.stop)
            labels = space.labels[rows]
            homes = [space.family_of(latent) for latent in span]
            n_documents = np.asarray(table.n_documents_N[rows])
            measured = np.asarray(table.quantiles_NQ[rows])
            yield {
                "latent": list(span),
                **_named(labels),
                "n_documents": n_documents,
                "density": n_documents / n,
                "max": table.max_N[rows],
                "mean": table.mean_N[rows],
                **{name: measured[:, at] for at, name in enumerate(quantiles)},
                "quality": space.quality_N[rows],
                "family": [None if home is None else home.id for home in homes],
                "histogram": np.asarray(table.histogram_NH[rows]).tolist(),
            }

    return Table("features", "One row for each feature.", columns, len(space.labels), blocks())


def _labelled(space: FeatureSet) -> list[tuple[str, int, Label]]:
    """Every label: of what (feature, family), of which number."""
    own = [("feature", latent, label) for latent, label in enumerate(space.labels)]
    return own + [("family", family.id, family.label) for family in space.families if family.label]


_OF = (
    Column("of", _TEXT, "feature or family"),
    Column("number", _INT, "the feature, or the family's root"),
)


def _labels(space: FeatureSet) -> Table:
    columns = (
        *_OF,
        Column("label", _TEXT, "empty where there is none"),
        Column("source", _TEXT, "phrases, or llm:MODEL"),
        Column("remark", _TEXT, "why there is no label, or no score"),
        Column("made", _TEXT, "ISO date"),
        Column("prompt", _TEXT, "name and digest of the prompt, where there was one"),
        Column("reasoning", _TEXT, "what the language model gave as its reason"),
        Column("positives", _NUMBERS, "positions of the documents that the label was made from"),
        Column("negatives", _NUMBERS, "positions of the documents it was told apart from"),
        Column("former", pa.list_(_TEXT), "what it was called before, latest first"),
    )

    def block() -> Iterator[Block]:
        for some in _chunks(_labelled(space), ROWS):
            evidence = [label.evidence for *_, label in some]
            yield {
                **_of(some),
                "label": [label.text if is_labelled(label) else None for *_, label in some],
                "source": [label.source if is_labelled(label) else None for *_, label in some],
                "remark": [_present(label.remark) for *_, label in some],
                **{
                    name: [_present(getattr(each, name)) if each else None for each in evidence]
                    for name in ("made", "prompt", "reasoning")
                },
                **{
                    name: [getattr(each, name) if each else [] for each in evidence]
                    for name in ("positives", "negatives")
                },
                "former": [[former.text for former in label.history] for *_, label in some],
            }

    meaning = "What labels of features and families rest on."
    return Table("labels", meaning, columns, len(space.labels), block())


def _scores(space: FeatureSet) -> Table:
    columns = (
        *_OF,
        Column("predictor", _TEXT, "who predicted from the label, and where that is circular"),
        Column("is_main", _BOOL, "the score that badges and features.parquet show"),
        Column("n_positives", _INT, "documents with the feature that were asked about"),
        Column("n_negatives", _INT, "documents without it"),
        *[
            Column(f"{name}{end}", _DOUBLE, meaning)
            for name, what in zip(_SCORES, ("area under the ROC", "F1", "correlation"), strict=True)
            for end, meaning in (("", what), ("_low", "95 % interval"), ("_high", "95 % interval"))
        ],
    )
    rows = [
        (of, number, score, score is label.score)
        for of, number, label in _labelled(space)
        for score in ([label.score] if label.score else []) + label.other_scores
    ]

    def block() -> Iterator[Block]:
        for some in _chunks(rows, ROWS):
            scores = [score for _, _, score, _ in some]
            yield {
                **_of(some),
                "is_main": [is_main for *_, is_main in some],
                **{
                    name: [getattr(score, name) for score in scores]
                    for name in ("predictor", "n_positives", "n_negatives")
                },
                **_measured(scores),
            }

    return Table("scores", "How well labels predict, by each predictor.", columns, len(rows), block())


def _candidates(space: FeatureSet) -> Table:
    labelled = _labelled(space)
    rows = [
        (of, number, rank, candidate)
        for of, number, label in labelled
        for rank, candidate in enumerate(label.candidates, 1)
    ]
    parts = sorted({part for *_, candidate in rows for part in candidate.parts})
    columns = (
        *_OF,
        Column("rank", _INT, "1 is best"),
        Column("text", _TEXT, ""),
        Column("source", _TEXT, "phrases, or llm:MODEL"),
        Column("chosen_by", _DOUBLE, "AUC on the documents that choose; empty: not entered"),
        *[Column(f"part_{part}", _DOUBLE, "0 to 1: a part of what its rank rests on") for part in parts],
    )

    def block() -> Iterator[Block]:
        for some in _chunks(rows, ROWS):
            yield {
                **_of(some),
                "rank": [rank for _, _, rank, _ in some],
                **{
                    name: [getattr(candidate, name) for *_, candidate in some]
                    for name in ("text", "source", "chosen_by")
                },
                **{f"part_{part}": [candidate.parts.get(part) for *_, candidate in some] for part in parts},
            }

    return Table("candidates", "The texts that could have been labels.", columns, len(rows), block())


def _families(space: FeatureSet) -> Table:
    columns = (
        Column("family", _INT, "its root, a feature: the most general member"),
        Column("label", _TEXT, "its own label; empty: that of the root has to do"),
        Column("label_source", _TEXT, "phrases, or llm:MODEL"),
        *_auc_columns("its own label"),
        Column("size", _INT, "members, the root included"),
        Column("n_documents", _INT, "documents on which at least one member is active"),
        *[
            Column(f"{name}{end}", _DOUBLE, meaning)
            for name, what in (
                ("hub", "R: how much its root holds it together"),
                ("block", "inside / outside"),
            )
            for end, meaning in (
                ("_ratio", what),
                ("_null_mean", "the same for other features of like density"),
                ("_p", "how often those reach it"),
            )
        ],
    )
    families = space.families

    def block() -> Iterator[Block]:
        nulls = {"hub": [each.hub_null for each in families], "block": [each.block_null for each in families]}
        yield {
            "family": [each.id for each in families],
            **_named([each.label for each in families]),
            "size": [len(each.members) for each in families],
            "n_documents": [each.n_documents for each in families],
            **{f"{name}_ratio": [getattr(each, f"{name}_ratio") for each in families] for name in nulls},
            **{f"{name}_null_mean": [null and null.mean for null in drawn] for name, drawn in nulls.items()},
            **{f"{name}_p": [null and null.p for null in drawn] for name, drawn in nulls.items()},
        }

    meaning = "Features that are active together; its tree is in members."
    return Table("families", meaning, columns, len(families), block())


def _members(space: FeatureSet) -> Table:
    columns = (
        Column("family", _INT, "its root"),
        Column("latent", _INT, "a member; each parent before its children"),
        Column("parent", _INT, "the member above it; empty for the root"),
        Column("conditional", _DOUBLE, "share of the member's documents on which its parent is active"),
    )
    families = space.families

    def block() -> Iterator[Block]:
        yield {
            "family": [family.id for family in families for _ in family.members],
            "latent": [member for family in families for member in family.members],
            "parent": [None if above == NONE else above for family in families for above in family.parents],
            "conditional": [share for family in families for share in family.conditionals],
        }

    n = sum(len(family.members) for family in families)
    return Table("members", "The trees of the families.", columns, n, block())


def _neighbours(space: FeatureSet) -> Table:
    columns = (
        Column("latent", _INT, "a feature"),
        Column("kind", _TEXT, "similar, opposite (by direction) or together (by documents)"),
        Column("rank", _INT, "1 is nearest"),
        Column("other", _INT, "its neighbour"),
        Column("cosine", _FLOAT, "of the two directions; of similar and opposite ones"),
        Column("lift", _FLOAT, "documents with both / expected; of those together"),
        Column("observed", _INT, "documents with both; of those together"),
        Column("expected", _FLOAT, "as many if they were independent; of those together"),
    )
    table = space.features
    kinds: dict[str, dict[str, Any]] = {
        "similar": {"other": table.similar_NS, "cosine": table.similar_cosine_NS},
        "opposite": {"other": table.opposite_NS, "cosine": table.opposite_cosine_NS},
        "together": {
            "other": table.together_NS,
            "lift": table.together_lift_NS,
            "observed": table.together_observed_NS,
            "expected": table.together_expected_NS,
        },
    }

    def blocks() -> Iterator[Block]:
        for span in _spans(len(space.labels), ROWS):
            for kind, arrays in kinds.items():
                rows, ranks = np.nonzero(np.asarray(arrays["other"][span.start : span.stop]) != NONE)
                n = len(rows)
                empty = {column.name: [None] * n for column in columns}
                found = {name: values[rows + span.start, ranks] for name, values in arrays.items()}
                yield {
                    **empty, **found, "latent": rows + span.start, "rank": ranks + 1, "kind": [kind] * n
                }  # fmt: skip

    n = sum(int((np.asarray(arrays["other"]) != NONE).sum()) for arrays in kinds.values())
    return Table("neighbours", "The features nearest to each, in three ways.", columns, n, blocks())


def _near_misses(space: FeatureSet) -> Table:
    columns = (
        Column("latent", _INT, "a feature"),
        Column("rank", _INT, "1 is nearest"),
        Column("position", _INT, "of a document on which it is silent"),
        Column("preactivation", _FLOAT, "before the strongest are chosen"),
    )
    table = space.features

    def blocks() -> Iterator[Block]:
        for span in _spans(len(space.labels), ROWS):
            near = np.asarray(table.near_NM[span.start : span.stop])
            rows, ranks = np.nonzero(near != NONE)
            yield {
                "latent": rows + span.start,
                "rank": ranks + 1,
                "position": near[rows, ranks],
                "preactivation": table.near_preactivation_NM[rows + span.start, ranks],
            }

    n = int((np.asarray(table.near_NM) != NONE).sum())
    return Table("near_misses", "Documents that nearly have a feature.", columns, n, blocks())


def _matches(space: FeatureSet) -> Table:
    columns = (
        Column("latent", _INT, "a feature of this SAE"),
        Column("sae", _TEXT, "another SAE of the same collection"),
        Column("nearest", _INT, "its feature with the nearest direction"),
        Column("cosine", _FLOAT, "of the two directions"),
        Column("jaccard", _FLOAT, "documents with both / with either"),
        Column("nearest_by_documents", _INT, "its feature with the largest share of documents in common"),
        Column("overlap", _FLOAT, "that share, as documents with both / with either"),
    )

    def blocks() -> Iterator[Block]:
        for name, found in space.matches.items():
            latents = np.flatnonzero(np.asarray(found.latent_N) != NONE)
            fellows = np.asarray(found.overlap_latent_N)[latents].tolist()
            yield {
                "latent": latents,
                "sae": [name] * len(latents),
                "nearest": found.latent_N[latents],
                "cosine": found.cosine_N[latents],
                "jaccard": found.jaccard_N[latents],
                "nearest_by_documents": [None if fellow == NONE else fellow for fellow in fellows],
                "overlap": found.overlap_N[latents],
            }

    n = len(space.labels) * len(space.matches)
    return Table("matches", "The same feature in the other SAEs.", columns, n, blocks())


# --- what they share --------------------------------------------------------------------------------


def _auc_columns(what: str) -> tuple[Column, ...]:
    return (
        Column("auc", _DOUBLE, f"how well a predictor tells its documents from others by {what}"),
        Column("auc_low", _DOUBLE, "95 % interval"),
        Column("auc_high", _DOUBLE, "95 % interval"),
        Column("n_scored", _INT, "documents on which that was measured"),
    )


def _named(labels: Sequence[Label | None]) -> Block:
    """Text, source and main score of labels; empty where there is none."""
    shown = [label if label is not None and is_labelled(label) else None for label in labels]
    scores = [label.score if label is not None else None for label in shown]
    return {
        "label": [None if label is None else label.text for label in shown],
        "label_source": [None if label is None else label.source for label in shown],
        "auc": [score and score.auc.value for score in scores],
        "auc_low": [score and score.auc.low for score in scores],
        "auc_high": [score and score.auc.high for score in scores],
        "n_scored": [score and score.n_positives + score.n_negatives for score in scores],
    }


def _measured(scores: Sequence[Score]) -> Block:
    values: Block = {}
    for name in _SCORES:
        intervals = [getattr(score, name) for score in scores]
        values[name] = [each.value for each in intervals]
        values[f"{name}_low"] = [each.low for each in intervals]
        values[f"{name}_high"] = [each.high for each in intervals]
    return values


def _of(rows: Sequence[tuple[Any, ...]]) -> Block:
    return {"of": [row[0] for row in rows], "number": [row[1] for row in rows]}


def _present(value: Any) -> Any:
    """None for an empty text: tools know how to leave out what is not there."""
    return None if value == "" else value


def _spans(n: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def _spans_of_rows(pointers: np.ndarray, most: int) -> Iterator[range]:
    """Consecutive documents that have at most `most` activations together, or one document."""
    n, start = len(pointers) - 1, 0
    while start < n:
        end = int(np.searchsorted(pointers, pointers[start] + most, side="right")) - 1
        yield range(start, end := min(n, max(end, start + 1)))
        start = end


def _chunks(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
