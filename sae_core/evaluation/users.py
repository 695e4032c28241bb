"""Simulated users, who tell whether a few slider moves proposed from marks bring what somebody meant.

A user types a phrase of the corpus and wants the documents that have it and belong to one category: a vague
query, and a wish that neither labels nor activations know of. Of the first ten results those wanted are
marked up, the others down; all moves that are proposed are accepted. Then the documents that were seen are
taken away and the next ten are judged: the residual collection, on which nobody gains by showing what was
marked. The same once more, with all marks. Beside the moves stand no feedback, Rocchio's change of the whole
vector with the usual weights and with those that did best on other users, and as many random features moved
as far.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.evaluation.model import Row, Table, mean
from sae_core.feedback import Marked
from sae_core.files import kept
from sae_core.index import top
from sae_core.labels.mining import find_phrases
from sae_core.metrics import ndcg_of
from sae_core.steer import Moves, make_edit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.claims.study import Study
    from sae_core.fit import Console

N_USERS = 300
TUNING = 3  # for so many users there is one more, whom weights are chosen by
N_SHOWN, N_ROUNDS = 10, 2
MIN_PHRASE, MAX_PHRASE = 40, 0.1  # documents with the phrase: at least so many, at most this share
VAGUE = (0.1, 0.6)  # share of them that belong to the category
MIN_LEFT = N_SHOWN * (N_ROUNDS + 1)  # documents wanted, so that every round could be filled with them
QUERIES_AT_ONCE = 64
NONE, PROPOSED, RANDOM = "no feedback", "proposed moves", "random moves"
USUAL, TUNED = "Rocchio, usual weights", "Rocchio, best weights on other users"
USUAL_WEIGHTS = (0.75, 0.15)  # of what is marked up and down, beside 1 for the query
GRID = tuple(itertools.product((0.5, 0.75, 1.0, 1.5, 2.0), (0.0, 0.15, 0.25, 0.5, 1.0)))
WISHES = {"both": "documents with the phrase and of the category", "category": "documents of the category"}


class User(NamedTuple):
    """What is typed, and what is meant."""

    x_D: NDArray[np.float32]
    wanted: frozenset[int]  # positions
    first: tuple[int, ...]  # the first results, which are marked


@dataclass
class _Visit:
    """A user in the middle of a search."""

    user: User
    seen: list[int]
    moves: Moves = field(default_factory=Moves)

    @property
    def marks(self) -> tuple[list[int], list[int]]:
        up = [each for each in self.seen if each in self.user.wanted]
        return up, [each for each in self.seen if each not in self.user.wanted]


class Outcome(NamedTuple):
    """What a user got in one round."""

    precision: float
    ndcg: float
    cosine: float  # of the query with what was typed


def evaluate_users(
    study: Study, console: Console, parts: Path, key: str, n_users: int = N_USERS
) -> list[Table]:
    """A table for each wish and round; none where nobody can be drawn.

    That is so without categories, without an encoder, and where phrases leave nothing open.
    """
    tables = []
    for wish, words in WISHES.items():

        def measured(wish: str = wish) -> dict[str, list[list[Outcome]]]:
            with console.stage(f"Simulated users ({wish})"):
                return _measured(study, wish, n_users)

        found = kept(parts / f"users-{wish}.json", key, measured)
        tables += _tables(found, words, study.seed)
    return tables


# --- who they are ---------------------------------------------------------------------------------


def find_users(study: Study, wish: str, n: int) -> list[User]:
    """At most n users with different phrases, of whose first ten results some but not all are wanted."""
    categories, embedder = study.categories, study.embedder
    if categories is None or embedder is None:
        return []
    drawn = _phrases(study)
    found: list[User] = []
    for start in range(0, len(drawn), QUERIES_AT_ONCE):
        some = drawn[start : start + QUERIES_AT_ONCE]
        x_QD = embedder.embed([text for text, _, _ in some])
        shown = _best(study, x_QD, [[]] * len(some))
        for x_D, first, (_, documents, category) in zip(x_QD, shown, some, strict=True):
            belongs_M = categories.belongs_MC[:, category]
            wanted = documents[belongs_M[documents]] if wish == "both" else np.flatnonzero(belongs_M)
            user = User(x_D, frozenset(wanted.tolist()), tuple(first))
            if 0 < len(user.wanted & set(first)) < N_SHOWN and len(user.wanted) >= MIN_LEFT:
                found.append(user)
        if len(found) >= n:
            break
    return found[:n]


def _phrases(study: Study) -> list[tuple[str, NDArray[np.int64], int]]:
    """Phrases in random order: text, documents, and a category that some of them belong to."""
    categories = study.categories
    assert categories is not None  # noqa: S101 (asked by the caller)
    phrases = find_phrases(study.tokens)
    documents_E = np.repeat(np.arange(phrases.n_documents), np.diff(phrases.document_ptr))
    order = np.argsort(phrases.phrase_E, kind="stable")
    first_P = np.searchsorted(phrases.phrase_E[order], np.arange(len(phrases.n_documents_P) + 1))
    most = MAX_PHRASE * phrases.n_documents
    is_common = (phrases.n_documents_P >= MIN_PHRASE) & (phrases.n_documents_P <= most)
    rng = np.random.default_rng((study.seed, 71))
    found = []
    for phrase in rng.permutation(np.flatnonzero(is_common)).tolist():
        entries = order[first_P[phrase] : first_P[phrase + 1]]
        documents = documents_E[entries]
        shares_C = categories.belongs_MC[documents].mean(axis=0)
        vague = np.flatnonzero((shares_C >= VAGUE[0]) & (shares_C <= VAGUE[1]))
        vague = vague[shares_C[vague] * len(documents) >= MIN_LEFT]
        if len(vague):
            found.append((phrases.text(phrase, entries), documents, int(rng.choice(vague))))
    return found


# --- what they do ---------------------------------------------------------------------------------


def _measured(study: Study, wish: str, n_users: int) -> dict[str, list[list[Outcome]]]:
    """What every user got by each method, round by round; the first users only tune."""
    users = find_users(study, wish, n_users + n_users // TUNING)
    n_tuning = len(users) // (TUNING + 1)
    if n_tuning == 0:
        return {}
    tuning, users = users[:n_tuning], users[n_tuning:]
    worth = {weights: _mean_ndcg(_play(study, tuning, rocchio(study, *weights))) for weights in GRID}
    weights = max(GRID, key=lambda each: (worth[each], -GRID.index(each)))
    methods = {
        NONE: lambda visit: visit.user.x_D,
        USUAL: rocchio(study, *USUAL_WEIGHTS),
        f"{TUNED} ({weights[0]:g}, {weights[1]:g})": rocchio(study, *weights),
        PROPOSED: proposals(study),
        RANDOM: proposals(study, np.random.default_rng((study.seed, 73))),
    }
    return {name: _play(study, users, method) for name, method in methods.items()}


def rocchio(study: Study, up: float, down: float) -> Callable[[_Visit], NDArray[np.float32]]:
    """Moves the whole vector: x + up mean(marked up) - down mean(marked down), as a unit vector."""

    def moved(visit: _Visit) -> NDArray[np.float32]:
        x_D = visit.user.x_D.astype(np.float64)
        for weight, side in zip((up, -down), visit.marks, strict=True):
            if side:
                x_D = x_D + weight * study.x_MD[side].mean(axis=0)
        return np.asarray(x_D / np.linalg.norm(x_D), dtype=np.float32)

    return moved


def proposals(
    study: Study, rng: np.random.Generator | None = None
) -> Callable[[_Visit], NDArray[np.float32]]:
    """Accepts all moves that are proposed; with `rng` other features, as many, are moved as far instead."""
    explorer, space = study.explorer, study.space
    named = np.flatnonzero(space.named_N)

    def moved(visit: _Visit) -> NDArray[np.float32]:
        x_D, (up, down) = visit.user.x_D, visit.marks
        own = explorer.code(space.name, x_D).own
        strengths = dict(visit.moves.strengths)
        for each in explorer.propose(space.name, x_D, visit.moves, Marked(up, down)):
            if rng is None:
                strengths[each.latent] = each.strength
            else:
                latent = int(rng.choice(named))
                strengths[latent] = own.get(latent, 0.0) + each.strength - each.own
        visit.moves = Moves(strengths)
        return make_edit(x_D, visit.moves, own, space.sae.directions_ND).steered_D

    return moved


def _play(
    study: Study, users: Sequence[User], method: Callable[[_Visit], NDArray[np.float32]]
) -> list[list[Outcome]]:
    """What each user got, (rounds, users)."""
    if not users:
        return [[] for _ in range(N_ROUNDS)]
    visits = [_Visit(user, list(user.first)) for user in users]
    rounds = []
    for _ in range(N_ROUNDS):
        x_QD = np.stack([method(visit) for visit in visits])
        shown = _best(study, x_QD, [visit.seen for visit in visits])
        rounds.append(
            [_judge(visit, x_D, first) for visit, x_D, first in zip(visits, x_QD, shown, strict=True)]
        )
        for visit, first in zip(visits, shown, strict=True):
            visit.seen += first
    return rounds


def _judge(visit: _Visit, x_D: NDArray[np.float32], first: list[int]) -> Outcome:
    left = visit.user.wanted.difference(visit.seen)
    ndcg = ndcg_of(np.array(first), dict.fromkeys(left, 1.0), N_SHOWN) or 0.0
    precision = len(left.intersection(first)) / N_SHOWN
    return Outcome(precision, ndcg, float(visit.user.x_D @ x_D))


def _best(study: Study, x_QD: NDArray[np.float32], seen: Sequence[Sequence[int]]) -> list[list[int]]:
    """The best ten documents of each query that were not seen."""
    found = []
    for start in range(0, len(x_QD), QUERIES_AT_ONCE):
        block = slice(start, start + QUERIES_AT_ONCE)
        for scores_M, known in zip(x_QD[block] @ study.x_MD.T, seen[block], strict=True):
            scores_M[list(known)] = -np.inf
            found.append(top(scores_M, N_SHOWN).positions.tolist())
    return found


def _mean_ndcg(rounds: Sequence[Sequence[Outcome]]) -> float:
    return float(np.mean([[outcome.ndcg for outcome in each] for each in rounds])) if rounds[0] else 0.0


# --- tables ---------------------------------------------------------------------------------------


def _tables(found: dict[str, list[list[Any]]], words: str, seed: int) -> list[Table]:
    """A table for each round. Differences are paired: the same users."""
    if not found:
        return []
    tuned = next(name for name in found if name.startswith(TUNED))
    columns = [
        f"precision@{N_SHOWN}",
        f"nDCG@{N_SHOWN}",
        "less no feedback",
        "less Rocchio, best weights",
        "cosine kept",
    ]
    tables = []
    for at in range(N_ROUNDS):
        ndcg = {name: np.array([outcome[1] for outcome in rounds[at]]) for name, rounds in found.items()}
        rows = []
        for name, rounds in found.items():
            outcomes = np.array(rounds[at])
            figures = [
                mean(outcomes[:, 0], seed=seed),
                mean(ndcg[name], seed=seed),
                None if name == NONE else mean(ndcg[name] - ndcg[NONE], seed=seed),
                None if name == tuned else mean(ndcg[name] - ndcg[tuned], seed=seed),
                mean(outcomes[:, 2], seed=seed),
            ]
            rows.append(Row(name, figures, len(outcomes)))
        title = f"Simulated users who want {words}: after {('one round', 'two rounds')[at]} of marks"
        remark = (
            "Differences are of nDCG, user by user. Moves are at most five named features a round; Rocchio "
            "moves the whole vector. Weights in brackets: of what is marked up and down."
        )
        tables.append(Table(title, columns, rows, remark))
    return tables
