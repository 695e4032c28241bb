"""Judged data: which documents answer which query, and which of them have a facet.

Retrieval: two tables (parquet, CSV, JSONL). Queries have `query_id` and `query`, and may have `split`;
judgements have `query_id`, `doc_id` and `relevance` (1 where there is no such column; 0 = judged not to
answer). Other usual names are understood too.
Facets: JSON lines, `{"query": "...", "facet": "...", "documents": {"ID": GRADE, ...}}`; `"feature": 812`
names the feature to be moved, `"exclude": ["ID"]` documents that are not to be found.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from sae_core.corpus import read_rows
from sae_core.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

QUERY_COLUMNS = {"id": ("query_id", "id", "_id", "qid"), "text": ("query", "text"), "split": ("split",)}
QREL_COLUMNS = {
    "query": ("query_id", "query-id", "qid", "topic"),
    "document": ("doc_id", "corpus-id", "document_id", "docid", "document"),
    "grade": ("relevance", "score", "grade", "label"),
}
Text = Annotated[str, Field(min_length=1, max_length=10_000)]


@dataclass(frozen=True)
class Judged:
    """Queries and, for each, the rows of the documents that answer it, with their grades."""

    queries: list[str]
    relevant: list[dict[int, float]]
    n_unknown: int  # judgements of documents that are not there


@dataclass(frozen=True)
class FacetCase:
    """A query, a facet, and the rows of the documents that answer the query and have the facet."""

    query: str
    facet: str
    relevant: dict[int, float]
    latent: int | None = None  # to be moved; None: it is looked for
    excluded: tuple[int, ...] = ()  # rows that are not to be found


class _Line(BaseModel):
    """One line of judged facets."""

    model_config = ConfigDict(extra="forbid")

    query: Text
    facet: Text
    documents: dict[str, FiniteFloat]
    feature: Annotated[int, Field(ge=0)] | None = None
    exclude: list[str] = []


def load_judged(queries: Path, qrels: Path, ids: Sequence[str], split: str = "") -> Judged:
    """The queries that at least one of the documents `ids` answers; `CorpusError` if there is none.

    `split` keeps the queries whose column `split` says so.
    """
    row_of = {name: row for row, name in enumerate(ids)}
    relevant: dict[str, dict[int, float]] = defaultdict(dict)
    n_unknown = 0
    for pair in read_rows(qrels, QREL_COLUMNS, ("grade",)):
        row = row_of.get(str(pair["document"]))
        n_unknown += row is None
        if row is not None:
            relevant[str(pair["query"])][row] = _grade(pair["grade"], qrels)
    texts, gains = [], []
    for query in read_rows(queries, QUERY_COLUMNS, ("split",)):
        answers = relevant.get(str(query["id"]), {})
        if (not split or query["split"] == split) and any(grade > 0 for grade in answers.values()):
            texts.append(str(query["text"]))
            gains.append(answers)
    if not texts:
        what = f"No query of {queries}{f', split {split},' if split else ''} is answered by a document here."
        remedy = "Check that the ids of queries and documents are those of the judgements."
        raise CorpusError(what, remedy=remedy)
    return Judged(texts, gains, n_unknown)


def _grade(value: object, path: Path) -> float:
    if value is None or value == "":
        return 1.0
    try:
        return float(str(value))
    except ValueError as error:
        raise CorpusError(f"{path}: the grade {value!r} is no number.", remedy="Write 0, 1, 2 ...") from error


def load_facets(path: Path, ids: Sequence[str], n_latents: int) -> list[FacetCase]:
    """The cases that one of the documents `ids` answers; `CorpusError` for a line that is no case."""
    row_of = {name: row for row, name in enumerate(ids)}
    cases = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} could not be read as text.", remedy="Check the path.") from error
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            case = _case(raw, f"Line {number} of {path}", row_of, n_latents)
            if any(grade > 0 for grade in case.relevant.values()):
                cases.append(case)
    if not cases:
        what = f"No case of {path} has a document of this collection with a grade above 0."
        raise CorpusError(what, remedy='Write {"query": "...", "facet": "...", "documents": {"ID": 1}}.')
    return cases


def _case(raw: str, where: str, row_of: Mapping[str, int], n_latents: int) -> FacetCase:
    try:
        line = _Line.model_validate(json.loads(raw))
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no JSON object"
        what = f"{where}: {reason}."
        raise CorpusError(what, remedy="Its fields: query, facet, documents, feature, exclude.") from error
    if line.feature is not None and line.feature >= n_latents:
        what = f"{where}: there is no feature {line.feature}, the last is {n_latents - 1}."
        raise CorpusError(what, remedy="Leave it out, and it is looked for.")
    relevant = {row_of[name]: grade for name, grade in line.documents.items() if name in row_of}
    excluded = tuple(row_of[name] for name in line.exclude if name in row_of)
    return FacetCase(line.query, line.facet, relevant, line.feature, excluded)
