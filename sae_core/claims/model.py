"""What a report says: claims, their checks and numbers, and the one rule that makes a verdict of checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import SaefariError
from sae_core.intervals import fisher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sae_core.intervals import Interval

SCHEMA = 1
HOLDS, IN_PART, FAILS, UNMEASURED = "holds", "holds in part", "does not hold", "not measured"
OURS = "SAE"
MIN_POINTS = 3
REPLACEABLE = ("labels.json", "forest.json")


@dataclass(frozen=True)
class Measure:
    """A number of this SAE, its 95 % interval where it has one, and the same of the baselines."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None  # what it rests on
    kind: str = "number"  # how it is printed: number, share, count, ratio
    baselines: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A sentence that is so, is not so, or could not be checked."""

    text: str
    passed: bool | None
    is_key: bool = False  # without it the claim does not hold


@dataclass(frozen=True)
class Claim:
    """What the paper says, and what is found here."""

    number: int
    title: str
    said: str  # by the paper, as a shape
    verdict: str
    why: str
    measures: list[Measure]
    checks: list[Check]
    caveat: str
    llm: str  # what a language model had to do with it
    seconds: float = 0.0

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> Claim:
        """Inverse of `dataclasses.asdict`."""
        parts = {
            "measures": [Measure(**each) for each in stored["measures"]],
            "checks": [Check(**each) for each in stored["checks"]],
        }
        return cls(**{**stored, **parts})


@dataclass(frozen=True)
class ClaimsReport:
    """All that `saefari report` finds, as it is stored in `report.json`."""

    schema: int
    collection: str
    sae: str
    made: str
    seed: int
    n_documents: int
    claims: list[Claim]
    baselines: list[dict[str, Any]]  # name, remark, n_latents, k
    categories: list[dict[str, Any]] | None  # `CategoryScores`, this SAE first
    category_source: str
    splitting: dict[str, Any]  # by the other SAE's name, as `splitting.compare` has it
    grid: str  # where it came from, in words
    left_out: list[str]  # sentences
    basis: dict[str, str]  # sha256 of the stored labels and families that claims were checked with
    seconds: float

    @classmethod
    def parse(cls, stored: dict[str, Any]) -> ClaimsReport:
        """Inverse of `dataclasses.asdict`; `SaefariError` for one of another version."""
        if stored.get("schema") != SCHEMA:
            what = f"The report has schema {stored.get('schema')}, this version reads {SCHEMA}."
            raise SaefariError(what, remedy="Run `saefari report` again.")
        return cls(**{**stored, "claims": [Claim.parse(claim) for claim in stored["claims"]]})


def verdict_of(checks: Sequence[Check]) -> tuple[str, str]:
    """The verdict and why.

    A failed key check, or none passed: does not hold. No check, or no key check if there are any, could
    be made: not measured. All key checks passed, and all others that could be made: holds. Else in part.
    """
    made = [check for check in checks if check.passed is not None]
    passed = [check.text for check in made if check.passed]
    failed = [check.text for check in made if not check.passed]
    open_ = [check.text for check in checks if check.passed is None]
    keys = [check for check in checks if check.is_key]
    if not made or (keys and all(check.passed is None for check in keys)):
        verdict = UNMEASURED
    elif not passed or any(check.passed is False for check in keys):
        verdict = FAILS
    elif not failed and all(check.passed for check in keys):
        verdict = HOLDS
    else:
        verdict = IN_PART
    parts = [("", passed), ("Not so: ", failed), ("Not checked: ", open_)]
    if verdict == FAILS:
        parts = [parts[1], ("Yet: ", passed), parts[2]]
    why = " ".join(f"{begin}{'; '.join(texts)}." for begin, texts in parts if texts)
    return verdict, why[:1].upper() + why[1:]


def make_claim(  # noqa: PLR0917 (what a claim is)
    number: int,
    title: str,
    said: str,
    measures: list[Measure],
    checks: list[Check],
    caveat: str,
    llm: str = "Needs no language model.",
) -> Claim:
    verdict, why = verdict_of(checks)
    return Claim(number, title, said, verdict, why, measures, checks, caveat, llm)


def measured(
    name: str,
    found: Interval | None,
    n: int,
    baselines: Mapping[str, float | None] | None = None,
    kind: str = "number",
) -> Measure:
    beside = dict(baselines or {})
    if found is None:
        return Measure(name, None, n=n, kind=kind, baselines=beside)
    return Measure(name, found.value, found.low, found.high, n, kind, beside)


def others(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in values.items() if name != OURS}


def correlation(name: str, pairs_N2: NDArray[np.float64]) -> Measure:
    """Pearson's r with Fisher's interval; None where there is too little to correlate."""
    n = len(pairs_N2)
    if n <= MIN_POINTS or np.ptp(pairs_N2[:, 0]) == 0 or np.ptp(pairs_N2[:, 1]) == 0:
        return Measure(name, None, n=n)
    found = fisher(float(np.corrcoef(pairs_N2[:, 0], pairs_N2[:, 1])[0, 1]), n)
    return Measure(name, found.value, found.low, found.high, n)


def mean_of(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def basis_of(manifest: Mapping[str, Any], sae: str) -> dict[str, str]:
    """Checksums of what a later command may replace: where they are others, the report is of before."""
    files = manifest.get("files", {})
    return {name: str(files.get(f"saes/{sae}/{name}", {}).get("sha256")) for name in REPLACEABLE}
