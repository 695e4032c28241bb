"""Products of all documents with steered queries, added up from what is known already.

E x' is proportional to E x + sum_i delta_i E d_i for the matrix E of document vectors. The columns E d_i
serve every query, and of each query the last sums are kept: a slider that moves again costs one pass over as
many numbers as there are documents. Where too little is known, all vectors are scanned once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sae_core.cache import Cache
from sae_core.index import VectorIndex, add_scaled
from sae_core.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sae_core.steer import Edit

MAX_COLUMN_BYTES = 512 * 2**20  # per collection: 300 columns of 420,000 documents
MAX_SUM_BYTES = 256 * 2**20  # per collection: 150 sums of 420,000 documents
MAX_QUERIES = 512  # per collection: where the bytes of a sum are few, it is soon made again
MAX_SUMS = 4  # per query
SAME = 1e-9  # coefficients that differ by less, relatively, are one
ROUNDING = 2.0**-24  # relative, of one operation in float32
LONGEST_ROW = 1.01  # of document vectors and directions, which are unit vectors but for rounding


@dataclass(frozen=True)
class _Sum:
    """E x + sum_i delta_i E d_i, and what was rounded while adding up."""

    deltas: Mapping[int, float]
    sums_M: NDArray[np.float32]
    rounded: float = 0.0  # bound on the error of each sum, beside that of the products themselves

    @cached_property
    def weight(self) -> float:
        """The sizes of all coefficients together, that of x included."""
        return 1.0 + sum(abs(delta) for delta in self.deltas.values())


class Sums:
    """The rankings of one collection's documents for queries, plain and steered; safe between threads."""

    def __init__(self, index: VectorIndex) -> None:
        self._index = index
        self._columns: Cache[NDArray[np.float32]] = Cache(MAX_COLUMN_BYTES, lambda column: column.nbytes)
        self._kept = _Kept(MAX_SUM_BYTES, MAX_QUERIES)
        # Of one product, in whatever order its terms are added.
        self._product_error = index.width * ROUNDING * LONGEST_ROW**2

    def plain(self, x_D: NDArray[np.float32]) -> Ranking:
        """All documents by their product with a vector."""
        sums_M = self._base(x_D).sums_M
        return Ranking(sums_M, lambda positions: sums_M[positions])

    def steered(
        self, space: str, x_D: NDArray[np.float32], edit: Edit, directions_ND: NDArray[np.float32]
    ) -> Ranking:
        """All documents by their product with a steered query; `space` names what the latents belong to.

        An edit that was scaled by s to keep a cosine is E x + s sum = (1 - s) E x + s (E x + sum): the sum of
        the whole edit, to which one slider adds one pass, mixed with that of the query.
        """
        if not edit.deltas:
            return self.plain(x_D)
        found = self._sum((space, x_D.tobytes()), x_D, _whole(edit), directions_ND)
        sums_M, length = found.sums_M, edit.length / edit.scale
        error = found.rounded + found.weight * self._product_error
        if edit.scale < 1:
            part = (1 - edit.scale) / edit.scale
            sums_M = add_scaled(sums_M, part, self._base(x_D).sums_M)
            error += part * self._product_error + 4 * ROUNDING * (found.weight + part)
        # The steered vector was rounded to float32, and so is each exact product with it, and each limit.
        error += length * (self._product_error + 2 * ROUNDING) + 4 * ROUNDING * found.weight
        steered_D = edit.steered_D
        return Ranking(sums_M, lambda at: self._index.products_at(steered_D, at), error=error)

    def n_passes(self, space: str, x_D: NDArray[np.float32], edit: Edit) -> int:
        """How many passes over all documents a search needs now; at least D if it has to scan vectors."""
        key = x_D.tobytes()
        passes = 0 if self._kept.get(key) else self._index.width
        if edit.deltas:
            passes += self._nearest((space, key), _whole(edit))[1] + (edit.scale < 1)
        return passes

    def _base(self, x_D: NDArray[np.float32]) -> _Sum:
        key = x_D.tobytes()
        if not (known := self._kept.get(key)):
            known = (_Sum({}, self._index.products(x_D)),)
            self._kept.put(key, known[0])
        return known[0]

    def _sum(
        self,
        query: _Query,
        x_D: NDArray[np.float32],
        deltas: Mapping[int, float],
        directions_ND: NDArray[np.float32],
    ) -> _Sum:
        """From the nearest sum that is known, or from a scan where that is less work."""
        nearest, cost = self._nearest(query, deltas)
        if nearest is not None and cost == 0:
            return nearest
        if nearest is None:
            weights = np.fromiter(deltas.values(), dtype=np.float64, count=len(deltas))
            moved_D = (x_D + weights @ directions_ND[list(deltas)].astype(np.float64)).astype(np.float32)
            found = _Sum(deltas, self._index.products(moved_D))
            found = replace(found, rounded=ROUNDING * found.weight)
            self._learn(query, deltas, directions_ND)
        else:
            found = self._add(nearest, query[0], deltas, directions_ND)
        self._kept.put(query, found)
        return found

    def _learn(self, query: _Query, deltas: Mapping[int, float], directions_ND: NDArray[np.float32]) -> None:
        """Make one column of those that were missing for a query which moves on: it will be asked again."""
        for known in self._kept.get(query)[:1]:
            for latent in _differing(known.deltas, deltas):
                if self._columns.get((query[0], latent)) is None:
                    self._column(query[0], latent, directions_ND)
                    return

    def _nearest(self, query: _Query, deltas: Mapping[int, float]) -> tuple[_Sum | None, int]:
        """The sum from which `deltas` are reached with least work, in passes; None where that is a scan.

        A scan is as much work as D passes. One missing column is made all the same: it will be used again.
        """
        best, least = None, self._index.width
        for known in (*self._kept.get(query), *self._kept.get(query[1])):
            differing = _differing(known.deltas, deltas)
            missing = sum(self._columns.get((query[0], latent)) is None for latent in differing)
            cost = len(differing) + missing * self._index.width
            is_worn = known.rounded > known.weight * self._product_error
            if missing <= 1 and (cost < least or best is None) and not (differing and is_worn):
                best, least = known, cost
        return best, least

    def _add(
        self, known: _Sum, space: str, deltas: Mapping[int, float], directions_ND: NDArray[np.float32]
    ) -> _Sum:
        """The sum with other coefficients."""
        sums_M, rounded, weight = known.sums_M, known.rounded, known.weight
        for latent in _differing(known.deltas, deltas):
            change = deltas.get(latent, 0.0) - known.deltas.get(latent, 0.0)
            sums_M = add_scaled(sums_M, change, self._column(space, latent, directions_ND))
            weight += abs(change)
            rounded += 4 * ROUNDING * weight
        return _Sum(deltas, sums_M, rounded)

    def _column(self, space: str, latent: int, directions_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        if (known := self._columns.get((space, latent))) is None:
            known = self._index.products(directions_ND[latent])
            self._columns.put((space, latent), known)
        return known


_Query = tuple[str, bytes]  # what the latents belong to, and the query's vector


def _whole(edit: Edit) -> dict[int, float]:
    """The edit before it was scaled down."""
    return {latent: delta / edit.scale for latent, delta in edit.deltas.items()}


def _differing(known: Mapping[int, float], wanted: Mapping[int, float]) -> list[int]:
    """Latents whose coefficients differ by more than the division in `_whole` rounds."""
    return [
        latent
        for latent in {latent for latent, _ in known.items() ^ wanted.items()}
        if abs((a := known.get(latent, 0.0)) - (b := wanted.get(latent, 0.0))) > SAME * (abs(a) + abs(b))
    ]


class _Kept:
    """The last sums of the last queries, bounded in bytes and in queries."""

    def __init__(self, limit: int, most: int) -> None:
        self._limit, self._most, self._held = limit, most, 0
        self._sums: OrderedDict[_Query | bytes, tuple[_Sum, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, query: _Query | bytes) -> tuple[_Sum, ...]:
        """Newest first."""
        with self._lock:
            if query in self._sums:
                self._sums.move_to_end(query)
            return self._sums.get(query, ())

    def put(self, query: _Query | bytes, found: _Sum) -> None:
        with self._lock:
            before = self._sums.get(query, ())
            after = (found, *before)[:MAX_SUMS]
            self._sums[query] = after
            self._sums.move_to_end(query)
            self._held += sum(kept.sums_M.nbytes for kept in after) - sum(
                kept.sums_M.nbytes for kept in before
            )
            while len(self._sums) > self._most or (self._held > self._limit and len(self._sums) > 1):
                _, dropped = self._sums.popitem(last=False)
                self._held -= sum(kept.sums_M.nbytes for kept in dropped)
