"""What `saefari report` and `saefari eval` found and how SAEs split, as views."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from app import urls
from app.views.common import Histogram
from app.views.scorecard import (
    CategoryRow,
    CategoryTable,
    ClaimsView,
    ClaimView,
    EvaluationTable,
    EvaluationView,
    SplittingView,
)
from sae_core.claims import FAILS, HOLDS, IN_PART, UNMEASURED, Claim, ClaimsReport, basis_of
from sae_core.errors import SaefariError
from sae_core.evaluation import Evaluation, stored_evaluations
from sae_core.report import beside_rows, evaluation_rows, evaluation_title, interval_text, measure_row

if TYPE_CHECKING:
    from app.deps import ServedCollection, ServedSAE

CHECKED = {True: "holds", False: "fails", None: "open"}
TONES = {HOLDS: "holds", IN_PART: "part", FAILS: "fails", UNMEASURED: "open"}


def claims_view(collection: ServedCollection, sae: ServedSAE) -> tuple[ClaimsView | None, str]:
    """The claims of an SAE, or None and why a report that is there cannot be shown ("": there is none)."""
    stored = sae.set.report
    if stored is None:
        return None, ""
    try:
        report = ClaimsReport.parse(stored)
    except SaefariError as error:
        return None, str(error)
    counts = Counter(claim.verdict for claim in report.claims)
    return ClaimsView(
        claims=[_claim(claim) for claim in report.claims],
        counts=[(tone, verdict, counts[verdict]) for verdict, tone in TONES.items() if counts[verdict]],
        made=report.made,
        grid=report.grid,
        baselines=[(each["name"], each["remark"]) for each in report.baselines],
        beside=beside_rows(report),
        categories=_categories(sae, report),
        left_out=report.left_out,
        is_stale=report.basis != basis_of(collection.explorer.manifest, sae.name),
    ), ""


def _claim(claim: Claim) -> ClaimView:
    return ClaimView(
        number=claim.number,
        title=claim.title,
        said=claim.said,
        verdict=claim.verdict,
        tone=TONES[claim.verdict],
        why=claim.why,
        checks=[(CHECKED[check.passed], check.text) for check in claim.checks],
        rows=[measure_row(measure) for measure in claim.measures],
        caveat=claim.caveat,
        llm=claim.llm,
    )


def _categories(sae: ServedSAE, report: ClaimsReport) -> CategoryTable | None:
    if not report.categories:
        return None
    own, *others = report.categories
    rows = [
        CategoryRow(
            category=best["category"],
            feature=sae.chip(best["latent"]),
            f1=best["f1"]["value"],
            low=best["f1"]["low"],
            high=best["f1"]["high"],
            n=best["n_heldout"],
            others=[other["best"][at]["f1"]["value"] for other in others],
        )
        for at, best in enumerate(own["best"])
    ]
    return CategoryTable(
        source=report.category_source,
        dictionaries=[other["dictionary"] for other in others],
        rows=sorted(rows, key=lambda row: -row.f1),
        means=[
            (
                scores["dictionary"],
                interval_text(scores["mean_f1"]),
                "" if scores["lead"] is None else interval_text(scores["lead"], signed=True),
            )
            for scores in report.categories
        ],
    )


def evaluation_views(collection: ServedCollection, sae: ServedSAE) -> tuple[list[EvaluationView], str]:
    """What `saefari eval` measured of an SAE, and why something that is there cannot be shown ("")."""
    try:
        found = stored_evaluations(sae.set.evaluation)
    except SaefariError as error:
        return [], str(error)
    basis = basis_of(collection.explorer.manifest, sae.name)
    return [_evaluation(each, at, is_stale=each.basis != basis) for at, each in enumerate(found)], ""


def _evaluation(found: Evaluation, at: int, *, is_stale: bool) -> EvaluationView:
    tables = [
        EvaluationTable(table.title, *evaluation_rows(table), remark=table.remark) for table in found.tables
    ]
    title = evaluation_title(found)
    return EvaluationView(str(at + 1), title, found.made, is_stale, found.setup, tables, found.remarks)


def splitting_views(collection: ServedCollection, sae: ServedSAE) -> list[SplittingView]:
    """What an SAE has of each other one of its collection."""
    found: dict[str, Any] = sae.set.metrics.get("splitting", {})
    return [
        splitting_view(sae, collection.saes[other], shares)
        for other, shares in found.items()
        if other in collection.saes
    ]


def splitting_view(sae: ServedSAE, other: ServedSAE, shares: dict[str, Any]) -> SplittingView:
    recurrent = shares["recurrent"]
    null = shares["null"]
    return SplittingView(
        name=sae.name,
        url=sae.summary.url,
        other=other.name,
        other_url=urls.sae(sae.collection, other.name),
        n=shares["n"],
        recurrent=recurrent,
        low=shares["low"],
        high=shares["high"],
        new=None if recurrent is None else 1 - recurrent,
        random=null["random"]["recurrent"],
        shaped=null["shaped"]["recurrent"],
        mean_cosine=shares["mean_cosine"],
        mean_overlap=shares["mean_overlap"],
        humps=shares["humps"],
        cosines=Histogram(shares["bins_low"], 1.0, shares["counts"], shares["threshold"]),
    )
