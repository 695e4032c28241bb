"""Claims 9 and 10: what steering does to a query, and whether rewriting it would do as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, field_validator

from sae_core.claims import trials
from sae_core.claims.groups import N_LLM
from sae_core.claims.model import OURS, Check, Claim, Measure, make_claim, measured, others
from sae_core.dictionaries import NAMES
from sae_core.errors import tidy
from sae_core.intervals import difference, mean_interval, share_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sae_core import categories as known
    from sae_core.claims.study import Sampled, Study
    from sae_core.embed import Embedder

COSINES = (0.9, 0.7, 0.35)  # of a steered query with the query
AT = 0.7  # where checks are made
EXACT = 1e-5
MAX_QUERY = 300  # letters


def steering(study: Study) -> Claim:
    """9: steering turns a query as geometry says, towards what the label says."""
    x_QD = np.ascontiguousarray(study.x_MD[study.queries])
    geometry = trials.check_geometry(x_QD, study.space.sae.directions_ND, study.seed)
    measures = [
        Measure(
            "largest error of cos = 1/sqrt(1 + a²), direction made orthogonal",
            geometry["orthogonal"],
            n=len(x_QD),
        ),
        Measure("largest error of the exact cosine, direction as it is", geometry["exact"], n=len(x_QD)),
        Measure("mean error where orthogonality is assumed", geometry["as if orthogonal"], n=len(x_QD)),
    ]
    worst = max(geometry["orthogonal"], geometry["exact"])
    checks = [Check(f"the cosine is what geometry says, to {worst:.0e}", worst < EXACT, is_key=True)]
    for at in COSINES:
        _steer_up(study, x_QD, at, measures, checks)
    _steer_down(study, x_QD, measures, checks)
    _steer_to_categories(study, x_QD, measures, checks)
    return make_claim(
        9,
        "Steering turns the query as geometry says, towards the right concept",
        "A feature added with strength a leaves the query at a cosine of 1/sqrt(1 + a²), and a judge can "
        "tell from the results which of five features was changed, better upwards than downwards.",
        measures,
        checks,
        "The judge looks for the words of each label in the ten best held-out documents (BM25), before and "
        "after; documents that the labels were made from are not among them. It does not read activations, "
        "which would be circular. A label's words were found in documents near the direction, so any "
        "direction whose label is honest moves its words: how far the SAE exceeds a random decoder is what "
        "counts. Searches are among held-out documents only.",
    )


def _steer_up(
    study: Study, x_QD: NDArray[np.float32], at: float, measures: list[Measure], checks: list[Check]
) -> None:
    named_by = {}
    for number, (name, sample) in enumerate(study.samples.items()):
        done, total = COSINES.index(at) * len(study.samples) + number, len(COSINES) * len(study.samples)
        study.report(done, total, f"steering {name} to a cosine of {at}")
        found = trials.draw_trials(
            x_QD, study.queries.tolist(), sample.named, [at], _active_in(sample, study), seed=study.seed
        )
        if found:
            moved = [trials.turned(trial, at) for trial in found]
            outcomes = trials.judge(found, sample.named, study.library, moved)
            named_by[name] = [outcome.credit for outcome in outcomes]
    if OURS not in named_by:
        if at == AT:
            checks.append(
                Check("the moved feature can be named: too few features have labels", None, is_key=True)
            )
        return
    own = share_interval(named_by[OURS])
    beside = others({name: float(np.mean(values)) for name, values in named_by.items()})
    measures.append(
        measured(f"moved up, named among five, cosine {at}", own, len(named_by[OURS]), beside, "share")
    )
    if at != AT:
        return
    text = f"moved up to a cosine of {at}, the feature is named in {own.value:.0%} of the trials, chance 20%"
    checks.append(Check(text, own.low > trials.CHANCE, is_key=True))
    for name in NAMES:
        if name in named_by:
            lead = difference(named_by[OURS], named_by[name])
            checks.append(Check(f"more often than one of {name} ({lead.value:+.0%})", lead.low > 0))


def _active_in(sample: Sampled, study: Study) -> Callable[[int], list[int]]:
    """The features of a query among those of a sample."""
    return lambda at: sample.codes.of_document(int(study.queries[at]))[0].tolist()


def _steer_down(
    study: Study, x_QD: NDArray[np.float32], measures: list[Measure], checks: list[Check]
) -> None:
    """Downwards with all features of the SAE: a query has too few of a sample's."""
    named = trials.Named(study.space.sae.directions_ND, list(study.space.labels))

    def fires(at: int) -> list[int]:
        active: list[int] = study.space.codes.of_document(int(study.queries[at]))[0].tolist()
        return active

    found = trials.draw_trials(x_QD, study.queries.tolist(), named, [AT], fires, sign=-1, seed=study.seed)
    if not found:
        checks.append(
            Check("moved down, the feature can be named: too few queries have five with labels", None)
        )
        return
    outcomes = trials.judge(found, named, study.library, [trials.turned(trial, AT) for trial in found])
    own = share_interval([outcome.credit for outcome in outcomes])
    measures.append(measured(f"moved down, named among five, cosine {AT}", own, len(found), kind="share"))
    text = f"moved down, it is named in {own.value:.0%}, chance 20%"
    checks.append(Check(text, own.low > trials.CHANCE))


def _steer_to_categories(
    study: Study, x_QD: NDArray[np.float32], measures: list[Measure], checks: list[Check]
) -> None:
    """Whether the best feature of a category brings that category, rather than four others."""
    shares = {}
    for scores in study.category_scores:
        directions_ND = study.sae_of(scores.dictionary).directions_ND
        found = _category_trials(study, x_QD, scores, directions_ND)
        reached = [each for each in found if trials.can_turn(each.trial, each.trial.direction_D, AT)]
        shares[scores.dictionary] = [
            _category_credit(study, each, trials.turned(each.trial, AT)) for each in reached
        ]
    if not shares.get(OURS):
        checks.append(Check("categories move with their features: there are no five categories", None))
        return
    own = share_interval(shares[OURS])
    beside = others({name: float(np.mean(values)) for name, values in shares.items() if values})
    words = f"moved up, its category named among five, cosine {AT}"
    measures.append(measured(words, own, len(shares[OURS]), beside, "share"))
    text = f"by the documents' own categories it is named in {own.value:.0%}, chance 20%"
    checks.append(Check(text, own.low > trials.CHANCE))


def _category_trials(
    study: Study,
    x_QD: NDArray[np.float32],
    scores: known.CategoryScores,
    directions_ND: NDArray[np.float32],
) -> list[trials.CategoryTrial]:
    """One for each query that leaves five categories free."""
    if study.categories is None:
        return []
    latents = [best.latent for best in scores.best]
    return trials.draw_category_trials(
        x_QD,
        study.queries.tolist(),
        study.categories.belongs_MC,
        latents,
        directions_ND[latents],
        seed=study.seed,
    )


def _category_credit(study: Study, asked: trials.CategoryTrial, moved_D: NDArray[np.float32]) -> float:
    """1 if of the five categories the right one gained most of the first ten documents."""
    if study.categories is None:
        return 0.0
    before, after = (trials.find_near(asked.trial, study.library, x_D) for x_D in (asked.trial.x_D, moved_D))
    return trials.category_credit(asked, study.library, study.categories.belongs_MC, before, after)


def against_rewriting(study: Study) -> Claim:
    """10: an edit of the SAE against rewriting the query, at equal cosine."""
    measures: list[Measure] = []
    checks: list[Check] = []
    embedder = study.embedder
    if embedder is None:
        text = "texts cannot be embedded here: the collection came with embeddings and without an encoder"
        return _rewriting_claim(
            measures, [Check(text, None, is_key=True)], "needs an encoder, and then an LLM"
        )
    sample = study.samples[OURS]
    found = _text_trials(study, sample, embedder)
    if not found:
        text = "too few queries have five labelled features on which they are silent"
        return _rewriting_claim(measures, [Check(text, None, is_key=True)], "not reached")
    titles = [study.documents[trial.own].title for trial in found]
    labels = [sample.named.labels[trial.features[0]].text for trial in found]
    words_QD = embedder.embed([f"{title}. {label}" for title, label in zip(titles, labels, strict=True)])
    asked = _Rewritten(found, words_QD, embedder.embed(labels), "the label's words added")
    _compare_edits(study, sample, asked, measures, checks)
    _compare_by_categories(study, embedder, measures, checks)
    return _rewriting_claim(measures, checks, _rewrite_by_model(study, sample, asked, measures, checks))


def _text_trials(study: Study, sample: Sampled, embedder: Embedder) -> list[trials.Trial]:
    """Trials from titles, as their text can be rewritten."""
    x_QD = embedder.embed([study.documents[at].title or study.documents[at].abstract for at in study.queries])
    return trials.draw_trials(
        x_QD, study.queries.tolist(), sample.named, [], _active_in(sample, study), seed=study.seed
    )


@dataclass(frozen=True)
class _Rewritten:
    """Trials whose queries were rewritten too."""

    found: list[trials.Trial]
    rewritten_QD: NDArray[np.float32]  # embedded
    label_QD: NDArray[np.float32]  # the label of the moved feature, embedded
    how: str  # in words


def _compare_edits(
    study: Study, sample: Sampled, asked: _Rewritten, measures: list[Measure], checks: list[Check]
) -> None:
    """Judge rewritten queries, and the SAE's edits and the label's embedding at the same cosines."""
    kept, ours, rewritten, along, cosines = [], [], [], [], []
    for trial, moved_D, label_D in zip(asked.found, asked.rewritten_QD, asked.label_QD, strict=True):
        cosine = float(trial.x_D @ moved_D)
        if not all(trials.can_turn(trial, d_D, cosine) for d_D in (trial.direction_D, label_D)):
            continue
        kept.append(trial)
        cosines.append(cosine)
        ours.append(trials.turned(trial, cosine))
        along.append(trials.turned(trial._replace(direction_D=label_D), cosine))
        rewritten.append(moved_D)
    how = asked.how
    if not kept:
        checks.append(Check(f"no query reaches the cosine of its rewriting ({how})", None, is_key=True))
        return
    results = [trials.judge(kept, sample.named, study.library, moved) for moved in (ours, rewritten, along)]
    named_by = [[outcome.credit for outcome in each] for each in results]
    gains = [[outcome.gain for outcome in each] for each in results]
    beside = {"rewriting": float(np.mean(named_by[1])), "label's embedding": float(np.mean(named_by[2]))}
    own, lead = (
        share_interval(named_by[0]),
        mean_interval(np.subtract(named_by[0], named_by[1])),
    )
    gained = mean_interval(np.subtract(gains[0], gains[1]))
    measures += [
        Measure(f"cosine with the query; {how}", float(np.mean(cosines)), n=len(kept)),
        measured(f"named among five; {how}", own, len(kept), beside, "share"),
        measured(f"SAE less rewriting; {how}", lead, len(kept), kind="share"),
        measured(f"BM25 gained, SAE less rewriting; {how}", gained, len(kept)),
    ]
    chance = ", which may be chance" if lead.low <= 0 <= lead.high else ""
    text = f"an edit is named more often than rewriting ({lead.value:+.0%}{chance}; {how})"
    checks.append(Check(text, lead.low > 0, is_key=lead.high < 0))
    text = f"it is named at least as often, as far as {len(kept)} queries can tell ({how})"
    checks.append(Check(text, lead.high >= 0))


def _compare_by_categories(
    study: Study, embedder: Embedder, measures: list[Measure], checks: list[Check]
) -> None:
    """The same judged by the categories of the documents, which know nothing of the label's words."""
    if not study.category_scores:
        checks.append(Check("judged by categories: there are none", None))
        return
    texts = [study.documents[at].title or study.documents[at].abstract for at in study.queries]
    scores, space = study.category_scores[0], study.space
    ours, rewritten, cosines = [], [], []
    for each in _category_trials(study, embedder.embed(texts), scores, space.sae.directions_ND):
        label = space.labels[each.trial.features[0]]
        text = study.documents[each.trial.own].title or study.documents[each.trial.own].abstract
        moved_D = embedder.embed([f"{text}. {label.text}"])[0]
        cosine = float(each.trial.x_D @ moved_D)
        if label.text and trials.can_turn(each.trial, each.trial.direction_D, cosine):
            cosines.append(cosine)
            ours.append(_category_credit(study, each, trials.turned(each.trial, cosine)))
            rewritten.append(_category_credit(study, each, moved_D))
    if not ours:
        checks.append(Check("judged by categories: there are no five, or no labels", None))
        return
    lead = mean_interval(np.subtract(ours, rewritten))
    own, beside = share_interval(ours), {"rewriting": float(np.mean(rewritten))}
    words = f"category named among five, mean cosine {np.mean(cosines):.2f}"
    measures += [
        measured(words, own, len(ours), beside, "share"),
        measured("SAE less rewriting, by category", lead, len(ours), kind="share"),
    ]
    checks.append(Check(f"by category an edit is named more often ({lead.value:+.0%})", lead.low > 0))


class _Rewriting(BaseModel):
    """A query that a model has rewritten."""

    query: str

    @field_validator("query")
    @classmethod
    def _tidy(cls, value: str) -> str:
        text = tidy(value, MAX_QUERY)
        if not text:
            raise ValueError("an empty query")
        return text


def _rewrite_by_model(
    study: Study, sample: Sampled, asked: _Rewritten, measures: list[Measure], checks: list[Check]
) -> str:
    """The same with queries that a language model rewrites; says what came of it."""
    from sae_core.labels.llm import Prompt, Question

    model, embedder = study.model, study.embedder
    if model is None or embedder is None:
        return "Measured without a language model: rewriting by one needs an LLM (--llm-base-url)."
    prompt = Prompt.load("rewriter")
    questions = [
        Question(
            prompt,
            prompt.messages(
                {
                    "query": tidy(study.documents[trial.own].title, MAX_QUERY),
                    "concept": tidy(sample.named.labels[trial.features[0]].text),
                }
            ),
            _Rewriting,
        )
        for trial in asked.found[:N_LLM]
    ]
    answers = model.ask(questions)
    places = [at for at, answer in enumerate(answers) if answer is not None]
    if not places:
        return f"Asked of {model.endpoint.model}, without result: {model.problem or 'no usable answer'}."
    texts = [answer.value.query for answer in answers if answer is not None]
    found = [asked.found[at] for at in places]
    how = f"rewritten by {model.endpoint.model}"
    told = _Rewritten(found, embedder.embed(texts), asked.label_QD[places], how)
    _compare_edits(study, sample, told, measures, checks)
    return f"{len(places)} of {len(questions)} queries were rewritten by {model.endpoint.model}."


def _rewriting_claim(measures: list[Measure], checks: list[Check], llm: str) -> Claim:
    return make_claim(
        10,
        "Edits of the SAE beat rewriting the query at equal cosine",
        "At the same distance from the query an edit of the SAE changes what is found more recognisably than "
        "rewriting the query does.",
        measures,
        checks,
        "The judge is that of claim 9. Without a language model a query is rewritten by adding the label's "
        "words to it, which favours rewriting, as the judge looks for these very words; the label's own "
        "embedding as a direction is the plainest edit that needs no SAE.",
        llm,
    )
