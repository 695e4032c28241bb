"""The ten claims, checked one after the other."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sae_core.claims.groups import families, label_scores
from sae_core.claims.latents import densities, encoder_and_decoder, recurrence
from sae_core.claims.model import SCHEMA, UNMEASURED, Claim, ClaimsReport, basis_of
from sae_core.claims.sizes import power_law_in_compute, power_law_in_n, reconstruction
from sae_core.claims.steering import against_rewriting, steering
from sae_core.files import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sae_core.claims.study import Study
    from sae_core.dictionaries import Dictionary
    from sae_core.fit import Console

CLAIMS: tuple[tuple[str, Callable[[Study], Claim]], ...] = (
    ("reconstruction", reconstruction),
    ("power law in n", power_law_in_n),
    ("power law in compute", power_law_in_compute),
    ("densities", densities),
    ("encoder and decoder", encoder_and_decoder),
    ("recurrence", recurrence),
    ("families", families),
    ("label scores", label_scores),
    ("steering", steering),
    ("against rewriting", against_rewriting),
)


def check_claims(study: Study, console: Console, parts: Path, *, grid_words: str) -> ClaimsReport:
    """Check all claims. Each one that is done is kept in `parts`, so that a stopped report goes on there.

    A claim that cannot be checked because of what the collection has is "not measured" and says why; the
    others go on.
    """
    began = time.monotonic()
    key = _identity(study)
    claims = []
    for number, (name, check) in enumerate(CLAIMS, start=1):
        stored = kept(
            parts / f"claim-{number}.json", key, partial(_checked, study, console, number, name, check)
        )
        claims.append(Claim.parse(stored))
    with console.stage("Categories") as study.report:
        scores = kept(
            parts / "categories.json", key, lambda: [asdict(each) for each in study.category_scores]
        )
    with console.stage("Baselines") as study.report:
        beside = kept(parts / "baselines.json", key, lambda: [_described(each) for each in study.baselines])
    return ClaimsReport(
        schema=SCHEMA,
        collection=study.explorer.name,
        sae=study.space.name,
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        seed=study.seed,
        n_documents=study.explorer.n_documents,
        claims=claims,
        baselines=beside,
        categories=scores or None,
        category_source=_source(study) if scores else "",
        splitting=study.space.metrics.get("splitting", {}),
        grid=grid_words,
        basis=basis_of(study.explorer.manifest, study.space.name),
        left_out=_left_out(study, claims, has_categories=bool(scores)),
        seconds=round(time.monotonic() - began, 1),
    )


def _checked(
    study: Study, console: Console, number: int, name: str, check: Callable[[Study], Claim]
) -> dict[str, Any]:
    with console.stage(f"Claim {number}: {name}") as study.report:
        started = time.monotonic()
        claim = check(study)
        return asdict(claim) | {"seconds": round(time.monotonic() - started, 1)}


def _described(each: Dictionary) -> dict[str, Any]:
    return {"name": each.name, "remark": each.remark, "n_latents": each.sae.n_latents, "k": each.sae.k}


def _source(study: Study) -> str:
    return study.categories.source if study.categories else ""


def _left_out(study: Study, claims: Sequence[Claim], *, has_categories: bool) -> list[str]:
    found = []
    if not has_categories:
        found.append(
            "Categories: no document has a category or a venue that enough others share, so that no feature "
            "can be tested for finding one."
        )
    if study.model is None:
        found.append("Claims 8 and 10 were measured without a language model.")
    elif study.model.problem is not None:
        found.append(f"The language model did not answer: {study.model.problem}")
    unmeasured = [str(claim.number) for claim in claims if claim.verdict == UNMEASURED]
    if unmeasured:
        found.append(f"Not measured: claim {', '.join(unmeasured)}; each says why.")
    return found


def _identity(study: Study) -> str:
    """Changes with everything that a claim rests on."""
    manifest, name = study.explorer.manifest, study.space.name
    stored = basis_of(manifest, name)
    saes = sorted(study.explorer.saes)
    grid = [asdict(member) for member in study.grid.result.members] if study.grid else None
    model = study.model.endpoint.model if study.model else None
    whole = [SCHEMA, manifest.get("embeddings"), saes, name, stored, grid, model, study.seed]
    whole += [study.n_sampled, study.n_trials, study.embedder is not None]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
