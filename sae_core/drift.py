"""Whether documents that came after training are still what an SAE was trained on.

Compared are documents that were added with those that were held out: the SAE saw neither, so that what
differs is the documents. Errors are in units of the same variance, that of the held-out documents around
their mean: a narrow batch has little variance of its own, and would look badly explained for that alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.intervals import Interval, mean_interval, quotient, wilson
from sae_core.metrics import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.sae import SAE

MIN_MEASURED = 30  # documents on either side, below which nothing is said
MAX_MEASURED = 5_000  # on either side, at equal steps, for the errors
LARGE = 1.1  # times the held-out error, from which training anew is worth while: docs/decisions.md


@dataclass(frozen=True)
class Drift:
    """How documents that were added differ from held-out ones, for one SAE. Intervals are of 95 %."""

    n: int  # documents that were added
    n_heldout: int
    fvu: Interval  # error on them, in variances of the held-out documents
    fvu_heldout: Interval
    times: Interval  # the first over the second
    n_living: int  # features that fire on some older document
    silent: Interval  # share of these that fire on none of the documents that were added
    silent_expected: float  # the same of as many older documents, drawn at random
    unseen: Interval  # share of documents with a feature that fires on no document it was trained on
    unseen_heldout: Interval

    @property
    def is_large(self) -> bool:
        """Whether an SAE that is trained anew would explain such documents noticeably better."""
        return self.times.low > LARGE

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> Drift:
        """Inverse of `dataclasses.asdict`."""
        intervals = {name: Interval(**value) for name, value in stored.items() if isinstance(value, dict)}
        return cls(**{**stored, **intervals})


def parse_drift(stored: dict[str, Any] | None) -> dict[str, Drift]:
    """What the metrics of an SAE say of documents that came after training.

    "all": all that were added and are still there; "latest": those that came last, where they are not all.
    Either is missing where there are too few.
    """
    return {which: Drift.parse(found) for which, found in (stored or {}).items()}


def measure_drift(
    sae: SAE,
    codes: Codes,
    x_MD: NDArray[np.float32],
    *,
    trained: NDArray[np.int64],
    heldout: NDArray[np.int64],
    added: NDArray[np.int64],
) -> Drift | None:
    """What the documents `added` are to an SAE, given by position; None where there are too few to say.

    `codes` and `x_MD` are of all documents; those that are in no list are left out.
    """
    if min(len(heldout), len(added)) < MIN_MEASURED:
        return None
    variance = float(
        np.square(x_MD[heldout] - x_MD[heldout].mean(axis=0), dtype=np.float64).sum(axis=1).mean()
    )
    fvu, fvu_heldout = (mean_interval(_errors(sae, x_MD, rows) / variance) for rows in (added, heldout))
    older_N, trained_N, added_N = (
        _counts(codes, rows) for rows in (np.concatenate((trained, heldout)), trained, added)
    )
    living_N = older_N > 0
    n_older, n_living = len(trained) + len(heldout), int(living_N.sum())
    n_silent = int((added_N[living_N] == 0).sum())
    expected = (1 - older_N[living_N] / n_older) ** len(added)
    unseen, unseen_heldout = (
        wilson(_n_with(codes, rows, trained_N == 0), len(rows)) for rows in (added, heldout)
    )
    return Drift(
        n=len(added),
        n_heldout=len(heldout),
        fvu=fvu,
        fvu_heldout=fvu_heldout,
        times=quotient(fvu, fvu_heldout),
        n_living=n_living,
        silent=wilson(n_silent, n_living),
        silent_expected=float(expected.mean()) if n_living else 0.0,
        unseen=unseen,
        unseen_heldout=unseen_heldout,
    )


def _errors(sae: SAE, x_MD: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The squared error of the reconstruction of some documents, or of MAX_MEASURED of them."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_MEASURED)).astype(np.int64))
    found = []
    for block in blocks(len(places)):
        x_BD = x_MD[rows[places[block]]]
        found.append(np.square(x_BD - sae.decode(sae.encode(x_BD)), dtype=np.float64).sum(axis=1))
    return np.concatenate(found)


def _counts(codes: Codes, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """On how many of some documents each latent fires, (N,)."""
    is_asked_M = np.zeros(codes.n_documents, dtype=np.bool_)
    is_asked_M[rows] = True
    fires = np.repeat(is_asked_M, np.diff(codes.document_ptr))
    return np.bincount(codes.latents[fires], minlength=codes.n_latents)


def _n_with(codes: Codes, rows: NDArray[np.int64], asked_N: NDArray[np.bool_]) -> int:
    """On how many of some documents one of some latents fires."""
    has = np.concatenate(([0], np.cumsum(asked_N[codes.latents])))
    return int((has[codes.document_ptr[rows + 1]] > has[codes.document_ptr[rows]]).sum())
