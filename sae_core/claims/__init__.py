"""The ten claims of arXiv 2408.00657, put to the test on any collection, each with a plain verdict.

A claim is a list of checks. Each check is a sentence with its numbers and was passed, failed, or could not be
made; the verdict follows from them by one rule, `verdict_of`. None of the paper's numbers enters a check:
another embedder or corpus has others, so shape, sign and order are compared. Beside every claim about
features stands what simpler dictionaries reach (`sae_core.dictionaries`): what they reach too
says nothing of an SAE.
"""

from sae_core.claims.model import (
    FAILS,
    HOLDS,
    IN_PART,
    OURS,
    UNMEASURED,
    Check,
    Claim,
    ClaimsReport,
    Measure,
    basis_of,
    verdict_of,
)

__all__ = [
    "FAILS",
    "HOLDS",
    "IN_PART",
    "OURS",
    "UNMEASURED",
    "Check",
    "Claim",
    "ClaimsReport",
    "Measure",
    "basis_of",
    "verdict_of",
]
