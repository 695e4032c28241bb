"""What steering does: whether the right thing moves, and what else does, method by method.

The paper's curve (arXiv 2408.00657, section 5): queries are given another activation of one feature, at a
grid of strengths; how far they turned is set against how often a judge names, of five features, the one that
was moved. The judge is that of `claims.trials`: the words of labels in the results, which no activation
enters. The same by activations is circular, and is there to show how much that flatters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.claims import trials
from sae_core.evaluation.curves import Bench, Curve, Reading, cell
from sae_core.evaluation.methods import METHODS, Wish, descend
from sae_core.evaluation.model import Figure, Row, Table, mean
from sae_core.files import kept
from sae_core.refine import refine
from sae_core.steer import move

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.claims.study import Study
    from sae_core.fit import Console

    Tell = Callable[[int, int], None]

N_TRIALS = 300
STRENGTHS = (0.2, 0.4, 0.7, 1.0, 1.6, 2.7)  # across the query cosines of .98, .93, .82, .71, .53, .35
COSINES = (0.98, 0.93, 0.82, 0.71, 0.53, 0.35)
AT_COSINES = (0.9, 0.7, 0.5, 0.4)
UP, DOWN = 1, -1
WORDS = {UP: "up", DOWN: "down"}
AT_SUCCESS = {UP: (0.35, 0.45, 0.55), DOWN: (0.25, 0.3)}  # downwards less is reached
COMPARED_AT = 0.7  # the cosine at which methods are set against the first
TARGET, NOISE = "target cosine", "random direction (control)"
REMARKS = (
    """Named by words: the judge looks for the words of five labels in the ten best documents (BM25), before
and after; it reads no activations. Labels are phrases of documents near a direction, so that any direction
with an honest label moves its words. The random direction shows what the judge says by chance.""",
    "By activations: the same judge reads the SAE's own activations of the results. That is circular.",
    """Delta, additive and target cosine move along one line: at one cosine they are the same query, and
differ in what a strength means for a query that has the feature already, and in how even the cosines are.""",
    """Others changed: how the features of the ten best documents changed, the moved one left out, rare ones
weighing more; 0 = the same, 1 = none in common. Read from the SAE's codes. Overlap needs no SAE.""",
    "Equal cosine and equal success are read off between the points of a method's mean curve.",
)
EFFECTS = {"others": "number", "overlap": "share"}
POINTS = ["cosine", "named by words", "by activations (circular)", "others changed", "overlap"]


@dataclass(frozen=True)
class Trials:
    """Queries whose features are moved in one direction, and their bench."""

    sign: int
    asked: list[trials.Trial]
    own: list[Mapping[int, float]]  # activations of each query
    titles: list[str]
    bench: Bench


class Steering:
    """One SAE's trials; every part of the evaluation is kept in `parts` under `key` when it is done."""

    def __init__(self, study: Study, console: Console, parts: Path, key: str) -> None:
        self.study, self.sae = study, study.space.sae
        self.named = trials.Named(self.sae.directions_ND, list(study.space.labels))
        self.titles = [study.documents[at].title or study.documents[at].abstract for at in study.queries]
        self._console, self._parts, self._key = console, parts, key
        with console.stage("Queries"):
            self.x_QD = self._queries()

    def _queries(self) -> NDArray[np.float32]:
        """Embedded titles, or the documents themselves where there is no encoder."""
        if self.study.embedder is not None:
            return self.study.embedder.embed(self.titles)
        return np.ascontiguousarray(self.study.x_MD[self.study.queries])

    def kept(self, name: str, make: Callable[[Tell], Any]) -> Any:
        """What `make` made, now or in an earlier run; it is handed a function to tell its progress by."""

        def made() -> Any:
            with self._console.stage(name) as report:
                return make(lambda done, total: report(done, total, ""))

        file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        return kept(self._parts / f"{file}.json", self._key, made)

    def draw(self, sign: int) -> Trials:
        """Query-feature pairs at random: features that the query has not, or, downwards, that it has."""
        study = self.study
        own = [activations(self.sae, x_D) for x_D in self.x_QD]
        asked = trials.draw_trials(
            self.x_QD,
            study.queries.tolist(),
            self.named,
            COSINES,
            lambda at: list(own[at]),
            sign=sign,
            seed=study.seed,
        )
        place = {position: at for at, position in enumerate(study.queries.tolist())}
        rows = [place[trial.own] for trial in asked]
        bench = self._bench(asked, sign)
        return Trials(sign, asked, [own[at] for at in rows], [self.titles[at] for at in rows], bench)

    def _bench(self, asked: Sequence[trials.Trial], sign: int) -> Bench:
        library = self.study.library

        def find(at: int, x_D: NDArray[np.float32]) -> NDArray[np.int64]:
            return trials.find(asked[at], self.named, library, x_D)

        def judge(before: list[NDArray[np.int64]], after: list[NDArray[np.int64]]) -> list[float]:
            was, now = (trials.words_in(asked, self.named, library, some) for some in (before, after))
            return [outcome.credit for outcome in trials.outcomes(asked, self.named, was, now)]

        return Bench(self.study, asked, find, judge, sign)

    # --- the curve of every method ----------------------------------------------------------------

    def curves(self, tried: Trials) -> dict[str, Curve]:
        """Every method on the same trials."""
        found = {}
        for name in (*METHODS, TARGET, NOISE):
            stored = self.kept(f"{WORDS[tried.sign]}, {name}", partial(self._curve, tried, name))
            found[name] = Curve.parse(stored)
        return found

    def _curve(self, tried: Trials, name: str, tell: Tell) -> dict[str, Any]:
        """The queries where nothing is asked, and at each strength."""
        if name == TARGET:
            turned = [[trials.turned(trial, cosine) for trial in tried.asked] for cosine in COSINES]
            return tried.bench.curve([[trial.x_D for trial in tried.asked], *turned], tell).stored()
        if name == NOISE:
            return tried.bench.curve(noise(tried.asked, self.study.seed), tell).stored()
        columns = [
            [
                METHODS[name](self.sae, wish_of(trial, own, strength, tried.sign))
                for trial, own in zip(tried.asked, tried.own, strict=True)
            ]
            for strength in strengths_of(tried.sign)
        ]
        nothing = [self._unmoved(name, t, own) for t, own in zip(tried.asked, tried.own, strict=True)]
        return tried.bench.curve([nothing, *columns], tell).stored()

    def _unmoved(self, name: str, trial: trials.Trial, own: Mapping[int, float]) -> NDArray[np.float32]:
        """What a method makes of a query of which nothing is asked: a reconstruction is not the query."""
        if not own or name in {"additive", "delta", "refined"}:
            return trial.x_D
        latent = trial.features[0]
        return METHODS[name](self.sae, Wish(trial.x_D, own, latent, own.get(latent, 0.0)))

    # --- rewriting --------------------------------------------------------------------------------

    def rewriting(self, tried: Trials) -> Table | None:
        """Queries rewritten, against the feature moved to the very same cosine; None without an encoder."""
        if self.study.embedder is None:
            return None
        rows = []
        for how, texts in self._rewritten(tried).items():
            name = f"{WORDS[tried.sign]}, rewritten {how}"
            stored = self.kept(name, partial(self._against, tried, texts))
            rows += _pair_rows(how, [Curve.parse(each) for each in stored])
        return Table(
            f"Moved {WORDS[tried.sign]}: rewriting the query, and the feature at the same cosine",
            POINTS,
            rows,
            "The judge looks for the words of labels, and rewriting writes these into the query, which "
            "favours it. Where the feature cannot turn a query as far as rewriting does, it is left out.",
        )

    def _rewritten(self, tried: Trials) -> dict[str, list[str]]:
        labels = [self.study.space.labels[trial.features[0]].text for trial in tried.asked]
        both = list(zip(tried.titles, labels, strict=True))
        if tried.sign == UP:
            return {'with "... and <label>"': [f"{title} and {label}" for title, label in both]}
        return {
            'with "..., not <label>"': [f"{title}, not {label}" for title, label in both],
            "by removing the label's words": [self._without(title, label) for title, label in both],
        }

    def _without(self, title: str, label: str) -> str:
        """A title without the words of a label; "" if nothing is left."""
        gone = set(self.study.tokens.normals(label))
        return " ".join(word for word in title.split() if not gone & set(self.study.tokens.normals(word)))

    def _against(self, tried: Trials, texts: Sequence[str], tell: Tell) -> list[dict[str, Any]]:
        """The rewritten queries and the same turned along their features, as curves of one point."""
        if self.study.embedder is None:
            return []
        changed = [at for at, text in enumerate(texts) if text and text != tried.titles[at]]
        rewritten = self.study.embedder.embed([texts[at] for at in changed])
        reached: list[tuple[trials.Trial, NDArray[np.float32], NDArray[np.float32]]] = []
        for at, moved_D in zip(changed, rewritten, strict=True):
            trial = tried.asked[at]
            if trials.can_turn(trial, trial.direction_D, cosine := float(trial.x_D @ moved_D)):
                reached.append((trial, moved_D, trials.turned(trial, cosine)))
        if not reached:
            return []
        tell(1, 2)
        bench = self._bench([trial for trial, _, _ in reached], tried.sign)
        both = [moved_D for _, moved_D, _ in reached], [turned_D for _, _, turned_D in reached]
        return [bench.curve([moved]).stored() for moved in both]

    # --- refinement -------------------------------------------------------------------------------

    def refinement(self, up: Trials, down: Trials) -> Table:
        """How far queries are from the activations that were asked for, before and after."""
        stored = self.kept("refinement", lambda tell: self._errors(up, down, tell))
        rows = []
        for name, errors in stored.items():
            before, after, first, last = np.array(errors).T
            figures = [mean(before), mean(after), mean(1 - after / before, "share")]
            rows.append(Row(f"{name}: refined", figures, len(errors)))
            figures = [mean(first), mean(last), mean(1 - last / first, "share")]
            rows.append(Row(f"{name}: gradient on latents, 10 steps", figures, len(errors)))
        return Table(
            "Refinement: error of the re-encoded activations",
            ["before", "after", "fall"],
            rows,
            "|z(x') - z*|² / |z*|² over all features, after TopK. `refined` begins with the true embedding "
            "and the change; the paper's steps begin with the decoded latents, which are not the query.",
        )

    def _errors(self, up: Trials, down: Trials, tell: Tell) -> dict[str, list[list[float]]]:
        asked = {f"0 to {s:g}": [(t, own, s) for t, own in pairs(up)] for s in (0.2, 0.4, 0.7)}
        asked["own to 0"] = [(trial, own, 0.0) for trial, own in pairs(down)]
        found: dict[str, list[list[float]]] = {}
        for done, (name, some) in enumerate(asked.items()):
            tell(done, len(asked))
            for trial, own, strength in some:
                wish = Wish(trial.x_D, own, trial.features[0], strength)
                ours = refine(self.sae, wish.x_D, {wish.latent: wish.change}, wish.wanted)
                paper = descend(self.sae, wish.wanted)
                found.setdefault(name, []).append([ours.before, ours.after, paper.before, paper.after])
        return found


def activations(sae: Any, x_D: NDArray[np.float32]) -> dict[int, float]:
    """The active latents of a vector."""
    latents, values = sae.encode(x_D[None]).row()
    return dict(zip(latents.tolist(), values.tolist(), strict=True))


def pairs(tried: Trials) -> list[tuple[trials.Trial, Mapping[int, float]]]:
    return list(zip(tried.asked, tried.own, strict=True))


def wish_of(trial: trials.Trial, own: Mapping[int, float], strength: float, sign: int) -> Wish:
    """Upwards the feature is to have this activation; downwards its negative, which none has by itself."""
    return Wish(trial.x_D, own, trial.features[0], sign * strength)


def strengths_of(sign: int) -> tuple[float, ...]:
    """The grid; downwards it begins with switching the feature off."""
    return STRENGTHS if sign == UP else (0.0, *STRENGTHS)


def noise(asked: Sequence[trials.Trial], seed: int) -> list[list[NDArray[np.float32]]]:
    """Queries moved along directions that are nobody's."""
    d_TD = np.random.default_rng((seed, 53)).standard_normal((len(asked), len(asked[0].x_D)))
    d_TD = (d_TD / np.linalg.norm(d_TD, axis=1, keepdims=True)).astype(np.float32)
    both = list(zip(asked, d_TD, strict=True))
    moved = [[move(trial.x_D, {0: a}, d_D[None])[0] for trial, d_D in both] for a in STRENGTHS]
    return [[trial.x_D for trial in asked], *moved]


def evaluate_steering(
    study: Study, console: Console, parts: Path, key: str
) -> tuple[list[str], list[Table], list[str]]:
    """Sentences on how it was measured, tables, and what must be known beside them."""
    from sae_core.evaluation.topics import by_categories  # which stands on this module

    steering = Steering(study, console, parts, key)
    tables: list[Table] = []
    tried = {sign: steering.draw(sign) for sign in (UP, DOWN)}
    details = []
    for sign, some in tried.items():
        if some.asked:
            curves, word = steering.curves(some), WORDS[sign]
            tables.append(cosine_table(f"Moved {word}: named by words at equal cosine", curves, study.seed))
            effects = effect_table(
                f"Moved {word}: what else changed at equal success", curves, AT_SUCCESS[sign], study.seed
            )
            tables += [effects, *filter(None, [steering.rewriting(some)])]
            details.append(curve_table(f"Moved {word}: every point", curves, sign, study.seed))
    tables += by_categories(steering)
    if tried[UP].asked or tried[DOWN].asked:
        tables.append(steering.refinement(tried[UP], tried[DOWN]))
    return _setup(study, tried), [*tables, *details], [" ".join(remark.split()) for remark in REMARKS]


def _setup(study: Study, tried: Mapping[int, Trials]) -> list[str]:
    queries = "titles, embedded" if study.embedder is not None else "document vectors, as there is no encoder"
    return [
        (
            f"{len(tried[UP].asked):,} random pairs of a query and a feature that it has not (moved up), "
            f"{len(tried[DOWN].asked):,} of one that it has (moved down). Queries: held-out documents' "
            f"{queries}. Searched: {len(study.heldout):,} held-out documents, without the query's own and "
            "those that a label was made from."
        ),
        "Chance is 20 % wherever one of five is named. Intervals: 95 %, 1,000 draws of the trials.",
    ]


# --- tables ---------------------------------------------------------------------------------------


def cosine_table(title: str, curves: Mapping[str, Curve], seed: int, remark: str = "") -> Table:
    """How often the right one is named where queries have turned equally far."""
    readings = {name: Reading(curve, seed) for name, curve in curves.items()}
    first = next(iter(readings.values())).at("cosine", "named", COMPARED_AT)
    rows = []
    for name, reading in readings.items():
        figures = [reading.figure("cosine", "named", level) for level in AT_COSINES]
        value, drawn_B = reading.at("cosine", "named", COMPARED_AT)
        lead = (
            None if reading is next(iter(readings.values())) else cell(value - first[0], drawn_B - first[1])
        )
        rows.append(Row(name, [*figures, lead], len(curves[name].cosine)))
    columns = [f"cosine {level:g}" for level in AT_COSINES]
    return Table(title, [*columns, f"less the first, at {COMPARED_AT:g}"], rows, remark)


def effect_table(
    title: str, curves: Mapping[str, Curve], levels: Sequence[float], seed: int, remark: str = ""
) -> Table:
    """What else changed where the right one is named equally often; against the first at the middle level."""
    readings = {name: Reading(curve, seed) for name, curve in curves.items()}
    first, middle = next(iter(readings.values())), levels[len(levels) // 2]
    rows, columns = [], []
    for name, reading in readings.items():
        figures = []
        for field, kind in EFFECTS.items():
            figures += [reading.figure("named", field, level, kind) for level in levels]
            value, drawn_B = reading.at("named", field, middle)
            base, base_B = first.at("named", field, middle)
            figures.append(None if reading is first else cell(value - base, drawn_B - base_B, kind))
        rows.append(Row(name, figures, len(curves[name].cosine)))
    for word in ("others changed", "overlap"):
        columns += [f"{word}, {level:.0%} named" for level in levels]
        columns.append(f"less the first, {middle:.0%} named")
    return Table(title, columns, rows, remark)


def curve_table(title: str, curves: Mapping[str, Curve], sign: int, seed: int) -> Table:
    """Every point of every method."""
    rows = []
    for name, curve in curves.items():
        steps = {TARGET: COSINES, NOISE: STRENGTHS}.get(name, strengths_of(sign))
        for column, step in enumerate((None, *steps)):
            words = (
                "nothing moved"
                if step is None
                else f"{sign * step + 0.0:g}"
                if name in METHODS
                else f"{step:g}"
            )
            rows.append(Row(f"{name}: {words}", _point(curve, column, seed), len(curve.cosine)))
    return Table(title, POINTS, rows)


def _point(curve: Curve, column: int, seed: int) -> list[Figure | None]:
    return [
        mean(curve.cosine[:, column], seed=seed),
        mean(curve.named[:, column], "share", seed),
        mean(curve.circular[:, column], "share", seed),
        mean(curve.others[:, column], seed=seed),
        mean(curve.overlap[:, column], "share", seed),
    ]


def _pair_rows(how: str, found: Sequence[Curve]) -> list[Row]:
    """Rewriting, the feature at its cosines, and the feature less rewriting."""
    if not found:
        return [Row(f"rewritten {how}: no query could be", [None] * len(POINTS), 0)]
    theirs, ours = found
    n = len(theirs.cosine)
    less = [
        None,
        mean((ours.named - theirs.named)[:, 0], "share"),
        mean((ours.circular - theirs.circular)[:, 0], "share"),
        mean((ours.others - theirs.others)[:, 0]),
        mean((ours.overlap - theirs.overlap)[:, 0], "share"),
    ]
    return [
        Row(f"rewritten {how}", _point(theirs, 0, 0), n),
        Row("the feature, at those cosines", _point(ours, 0, 0), n),
        Row("the feature less rewriting", less, n),
    ]
