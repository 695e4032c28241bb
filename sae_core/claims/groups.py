"""Claims 7 and 8: families as blocks with a hub, and labels that predict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.claims.model import OURS, Check, Claim, Measure, make_claim, measured, others
from sae_core.dictionaries import NAMES
from sae_core.intervals import difference, mean_interval, wilson
from sae_core.labels.scores import hold_tournament, split_documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sae_core.claims.study import Study
    from sae_core.families import FamilyConfig, Forest
    from sae_core.labels import Candidate, Label, Score
    from sae_core.labels.scores import Split

MIN_FAMILIES = 3  # of each, to be compared
N_LLM = 30  # features whose labels a language model judges, and queries that it rewrites


def families(study: Study) -> Claim:
    """7: families are blocks with a hub."""
    forests = study.forests
    own = forests[OURS]
    hubs = [f.hub_ratio for f in own.families if f.hub_ratio is not None]
    with_hub = wilson(sum(ratio > 1 for ratio in hubs), len(hubs)) if hubs else None
    hub = {name: forest.hub_ratio for name, forest in forests.items()}
    block = {name: forest.block_ratio for name, forest in forests.items()}
    n_families = {name: float(len(forest.families)) for name, forest in forests.items()}
    coverage = {name: forest.coverage for name, forest in forests.items()}
    largest = max((len(family.members) for family in own.families), default=0)
    measures = [
        Measure("families", n_families[OURS], kind="count", baselines=others(n_families)),
        Measure(
            "features in some family",
            coverage[OURS],
            n=own.n_alive,
            kind="share",
            baselines=others(coverage),
        ),
        Measure("R of all families", hub[OURS], n=len(hubs), kind="ratio", baselines=others(hub)),
        measured("families with R above 1", with_hub, len(hubs), _hub_shares(forests), "share"),
        Measure("block ratio of all families", block[OURS], kind="ratio", baselines=others(block)),
        Measure(
            "largest family, of the features in some family", largest / max(own.n_covered, 1), kind="share"
        ),
    ]
    measures += _beside_families(own, study.space.forest)
    checks = [
        Check(f"{len(own.families):,} families were found", bool(own.families), is_key=True),
        Check(
            f"the hub holds them together: R = {hub[OURS] or 0:.2f}",
            None if hub[OURS] is None else (hub[OURS] or 0) > 1 and bool(with_hub and with_hub.low > 1 / 2),
            is_key=True,
        ),
        _above_null("R", own.hub_ratio, own.hub_null),
        _above_null("the block ratio", own.block_ratio, own.block_null),
        *(_denser_than(forests, name) for name in NAMES),
        Check(
            f"no family holds half of all: the largest has {largest:,} of {own.n_covered:,}",
            largest < own.n_covered / 2 if own.families else None,
        ),
    ]
    return make_claim(
        7,
        "Families are blocks with a hub",
        "Features that fire together form blocks (block ratio above 1), in which the parent fires with its "
        "children more than they do with each other (R above 1).",
        measures,
        checks,
        "Families are chosen for firing together, so a block ratio above 1 is no finding by itself; the "
        "permutation null and the random decoder are what it must exceed. Absorption (a parent silent where"
        f" a child fires) lowers R. Configuration: {_in_words(own.config)}.",
    )


def _beside_families(own: Forest, stored: Forest) -> list[Measure]:
    """What permuted families reach, and the stored families where they were found otherwise."""
    measures = [
        Measure(f"{name} of permuted families, 95th percentile", null.high, kind="ratio")
        for name, null in (("R", own.hub_null), ("block ratio", own.block_null))
        if null is not None
    ]
    if stored.config == own.config:
        return measures
    words = f"; stored families ({_in_words(stored.config)})"
    return [
        *measures,
        Measure(f"R{words}", stored.hub_ratio, kind="ratio"),
        Measure(f"block ratio{words}", stored.block_ratio, kind="ratio"),
        Measure(f"features in some family{words}", stored.coverage, n=stored.n_alive, kind="share"),
    ]


def _denser_than(forests: Mapping[str, Forest], other: str) -> Check:
    """Family by family, as the block ratio of all together has no interval."""
    logs = {
        name: [math.log(f.block_ratio) for f in forests[name].families if f.block_ratio]
        for name in (OURS, other)
    }
    text = f"its families are denser blocks than those of {other}"
    if min(map(len, logs.values())) < MIN_FAMILIES:
        return Check(f"{text} (fewer than {MIN_FAMILIES} to compare)", None)
    lead = difference(logs[OURS], logs[other])
    return Check(f"{text} ({math.exp(lead.value):.2f} times, geometric mean)", lead.low > 0)


def _above_null(name: str, value: float | None, null: Any) -> Check:
    if value is None or null is None:
        return Check(f"{name} exceeds that of permuted families", None)
    text = f"{name} ({value:.2f}) exceeds that of permuted families (95th percentile {null.high:.2f})"
    return Check(text, value > null.high)


def _hub_shares(forests: Mapping[str, Forest]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in NAMES:
        ratios = [f.hub_ratio for f in forests[name].families if f.hub_ratio is not None]
        found[name] = float(np.mean([ratio > 1 for ratio in ratios])) if ratios else None
    return found


def _in_words(config: FamilyConfig) -> str:
    return f"{config.algorithm}, threshold {config.threshold:g}"


def label_scores(study: Study) -> Claim:
    """8: labels predict their features."""
    stored = [label for label in study.space.labels if label.score is not None]
    n_living = int((study.space.codes.counts() > 0).sum())
    measures: list[Measure] = []
    checks: list[Check] = []
    if stored:
        scores = [label.score for label in stored if label.score is not None]
        predictor = scores[0].predictor
        whole = mean_interval([score.auc.value for score in scores])
        sure = wilson(sum(score.auc.low > 1 / 2 for score in scores), len(scores))
        measures += [
            measured(f"mean AUC of stored labels; {predictor}", whole, len(scores)),
            measured("the same, mean Pearson", mean_interval(_pearsons(scores)), len(scores)),
            measured("labels surely above chance", sure, len(scores), kind="share"),
            Measure(
                "living features with a scored label",
                len(scores) / max(n_living, 1),
                n=n_living,
                kind="share",
            ),
        ]
        checks.append(Check(f"mean AUC of labels is {whole.value:.2f}", whole.low > 1 / 2, is_key=True))
    else:
        checks.append(Check("no label of this SAE is scored", None, is_key=True))
    _compare_labels(study, measures, checks)
    llm = _judge_labels(study, stored, measures)
    return make_claim(
        8,
        "Labels predict their features",
        "From a label of a few words a reader predicts on which unseen documents the feature fires.",
        measures,
        checks,
        "Tested on up to 30 documents with the feature (top, typical, borderline) and 30 without it (half "
        "of them near misses), none of which made or chose the label; the paper's test had six easy ones. "
        "The cosine of embeddings is partly circular, as the feature is read from the same embeddings; BM25"
        f" of the label's words is not. Baselines: {study.n_sampled} features each, labelled in the same "
        "way.",
        llm,
    )


def _compare_labels(study: Study, measures: list[Measure], checks: list[Check]) -> None:
    """The same labels, scores and numbers of features for this SAE and for the baselines."""
    by_predictor: dict[str, dict[str, list[float]]] = {}
    for name, sample in study.samples.items():
        for label in sample.named.labels:
            for score in [label.score, *label.other_scores]:
                if score is not None:
                    by_predictor.setdefault(score.predictor, {}).setdefault(name, []).append(score.auc.value)
    for predictor, found in by_predictor.items():
        if OURS not in found:
            continue
        short = "by words" if predictor.startswith("BM25") else "by meaning"
        means = {name: float(np.mean(values)) for name, values in found.items()}
        own = mean_interval(found[OURS])
        measures.append(
            measured(f"mean AUC of sampled features, {short}", own, len(found[OURS]), others(means))
        )
        for name in NAMES:
            if name in found:
                lead = difference(found[OURS], found[name])
                text = f"{short} labels score better than those of {name} ({lead.value:+.3f})"
                checks.append(Check(text, lead.low > 0))
    if not any(OURS in found for found in by_predictor.values()):
        checks.append(Check("labels score better than those of the baselines", None))


def _judge_labels(study: Study, stored: Sequence[Label], measures: list[Measure]) -> str:
    """Add what a language model makes of some of the labels; say what it had to do with the claim."""
    model = study.model
    if model is None:
        return (
            "Measured without a language model. How well one reads the labels needs an LLM (--llm-base-url)."
        )
    from sae_core.labels.llm import LLMPredictor

    splits, candidates = _llm_sample(study)
    predictor = LLMPredictor(model, lambda positions: [study.documents[at] for at in positions])
    labels = hold_tournament(candidates, splits, predictor)
    scores = [
        label.score
        for label, each in zip(labels, splits, strict=True)
        if label.score is not None and predictor.has_answered(each.heldout.documents)
    ]
    if not scores:
        problem = str(model.problem or "no usable answer")
        return f"Asked of {model.endpoint.model}, without result: {problem} The numbers are those without it."
    measures += [
        measured(f"mean AUC; {predictor.name}", mean_interval([s.auc.value for s in scores]), len(scores)),
        measured("the same, mean Pearson", mean_interval(_pearsons(scores)), len(scores)),
    ]
    return f"{len(scores)} of {len(stored):,} labels were judged by {model.endpoint.model} too."


def _llm_sample(study: Study) -> tuple[list[Split], list[list[Candidate]]]:
    """Features whose stored labels a language model is to judge, with their documents."""
    space = study.space
    able = [i for i, label in enumerate(space.labels) if label.score is not None and label.candidates]
    rng = np.random.default_rng((study.seed, 41))
    places = sorted(rng.permutation(able)[:N_LLM].tolist())
    splits = [split_documents(space.codes, space.features, at, study.seed) for at in places]
    return splits, [space.labels[at].candidates[:1] for at in places]


def _pearsons(scores: Sequence[Score]) -> list[float]:
    return [score.pearson.value for score in scores if math.isfinite(score.pearson.value)]
