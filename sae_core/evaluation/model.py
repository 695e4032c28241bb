"""What an evaluation says: tables of figures, each with its interval and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import SaefariError
from sae_core.intervals import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 1
N_DRAWS = 1000  # of every bootstrap


@dataclass(frozen=True)
class Figure:
    """A number, its 95 % interval where it has one, and how it is printed."""

    value: float | None
    low: float | None = None
    high: float | None = None
    kind: str = "number"  # number, share, count


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    figures: list[Figure | None]
    n: int | None = None  # trials or queries that it rests on


@dataclass(frozen=True)
class Table:
    """Figures of several methods beside each other."""

    title: str
    columns: list[str]
    rows: list[Row]
    remark: str = ""


@dataclass(frozen=True)
class Evaluation:
    """All that one `saefari eval` found for one SAE."""

    kind: str  # steering, retrieval, facets, users
    subject: str  # the judged data, "" where the collection itself is enough
    collection: str
    sae: str
    made: str  # the day
    seed: int
    setup: list[str]  # sentences: how many of what, judged by whom
    tables: list[Table]
    remarks: list[str]  # what must be known beside the numbers
    basis: dict[str, str] = field(default_factory=dict)  # checksums of the labels and families it used
    seconds: float = 0.0

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> Evaluation:
        """Inverse of `dataclasses.asdict`."""
        tables = [
            Table(**{**table, "rows": [_parse_row(row) for row in table["rows"]]})
            for table in stored["tables"]
        ]
        return cls(**{**stored, "tables": tables})


def _parse_row(stored: dict[str, Any]) -> Row:
    figures = [None if figure is None else Figure(**figure) for figure in stored["figures"]]
    return Row(stored["name"], figures, stored["n"])


def stored_evaluations(stored: dict[str, Any] | None) -> list[Evaluation]:
    """What `evaluation.json` says; `SaefariError` for one of another version."""
    if stored is None:
        return []
    if stored.get("schema") != SCHEMA:
        what = f"The evaluation has schema {stored.get('schema')}, this version reads {SCHEMA}."
        raise SaefariError(what, remedy="Run `saefari eval` again.")
    return [Evaluation.parse(each) for each in stored["evaluations"]]


def merged(stored: dict[str, Any] | None, new: Evaluation) -> dict[str, Any]:
    """`evaluation.json` with one evaluation added, or put in the place of an older one of the same."""
    is_known = stored is not None and stored.get("schema") == SCHEMA
    others = [each for each in stored_evaluations(stored if is_known else None) if not _is_same(each, new)]
    ordered = sorted([*others, new], key=lambda each: (each.kind, each.subject))
    return {"schema": SCHEMA, "evaluations": [asdict(each) for each in ordered]}


def _is_same(one: Evaluation, other: Evaluation) -> bool:
    return (one.kind, one.subject) == (other.kind, other.subject)


def draws(n: int, seed: int, n_draws: int = N_DRAWS) -> NDArray[np.float64]:
    """Weights of a bootstrap over n things, (draws, n), each row adding up to 1."""
    rng = np.random.default_rng((seed, 61))
    return np.asarray(rng.multinomial(n, np.full(n, 1 / n), n_draws) / n, dtype=np.float64)


def mean(
    values: Sequence[float] | NDArray[np.floating[Any]], kind: str = "number", seed: int = 0
) -> Figure | None:
    """The mean with its bootstrap interval (percentiles of 1,000 draws); None of nothing."""
    found = np.asarray(values, dtype=np.float64)
    if not len(found):
        return None
    low, high = np.quantile(draws(len(found), seed) @ found, (0.025, 0.975)).tolist()
    return figure(Interval(float(found.mean()), low, high), kind)


def figure(found: Interval, kind: str = "number") -> Figure:
    """The same as a cell of a table."""
    return Figure(found.value, found.low, found.high, kind)
