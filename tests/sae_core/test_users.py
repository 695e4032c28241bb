"""Simulated users: what they want is there, and moves that are proposed bring more of it than chance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest

from sae_core.categories import Categories
from sae_core.claims.study import Study
from sae_core.evaluation import Table, users
from sae_core.explorer import Explorer
from tests import planted as truth

N_USERS = 24
PHRASES = users._phrases  # replaced in the other tests
DOCUMENTS = truth.documents()


class Silent:
    def stage(self, _name: str) -> AbstractContextManager[Any]:
        return nullcontext(lambda _done, _total, _detail="": None)


def topics_as_categories() -> Categories:
    titles = [set(document.title.split()) for document in DOCUMENTS]
    belongs_MC = np.array([[word in title for word in truth.WORDS] for title in titles])
    return Categories(truth.WORDS, belongs_MC, "topics")


def pairs(study: Study) -> list[tuple[str, np.ndarray, int]]:
    """Queries of two topics, of which one is meant; phrases of one topic leave nothing open."""
    assert study.categories is not None
    belongs_MC = study.categories.belongs_MC
    found = []
    for topic in range(truth.N_TOPICS):
        other = (topic + 7) % truth.N_TOPICS
        either = np.flatnonzero(belongs_MC[:, topic] | belongs_MC[:, other])
        found.append((f"{truth.WORDS[topic]} {truth.WORDS[other]}", either, topic))
    return found


@pytest.fixture(scope="module")
def study(planted: Explorer) -> Iterator[Study]:
    (space,) = planted.saes.values()
    made = Study(planted, space, DOCUMENTS)
    made.__dict__["categories"] = topics_as_categories()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_phrases", pairs)
        yield made


@pytest.fixture(scope="module")
def tables(study: Study, tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "GRID", ((0.75, 0.15), (1.0, 0.5)))
        return users.evaluate_users(study, Silent(), tmp_path_factory.mktemp("parts"), "key", N_USERS)


def test_users_want_what_their_phrase_leaves_open(study: Study) -> None:
    found = users.find_users(study, "both", 12)
    assert len(found) == 12
    assert len({user.x_D.tobytes() for user in found}) == 12
    for user in found:
        assert len(user.wanted) >= users.MIN_LEFT
        assert 0 < len(user.wanted & set(user.first)) < users.N_SHOWN
        best = np.argsort(-(study.x_MD @ user.x_D), kind="stable")[: users.N_SHOWN]
        assert list(user.first) == best.tolist()


def test_a_phrase_is_one_of_the_corpus_and_leaves_open_what_is_meant(
    planted: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (space,) = planted.saes.values()
    plain = Study(planted, space, DOCUMENTS)
    assert plain.categories is not None
    monkeypatch.setattr(users, "MIN_LEFT", 10)
    phrases = PHRASES(plain)
    assert len(phrases) > 5
    for text, documents, category in phrases:
        titles = [DOCUMENTS[at].text.lower() for at in documents[:5]]
        assert all(text.lower() in title for title in titles)
        share = plain.categories.belongs_MC[documents, category].mean()
        assert users.VAGUE[0] <= share <= users.VAGUE[1]
        assert users.MIN_PHRASE <= len(documents) <= users.MAX_PHRASE * planted.n_documents


def test_moves_help_and_random_ones_do_not(tables: list[Table]) -> None:
    assert len(tables) == 2 * users.N_ROUNDS
    for table in tables:
        rows = {row.name: row for row in table.rows}
        assert len(rows) == 5
        gain, chance = (rows[name].figures[2] for name in (users.PROPOSED, users.RANDOM))
        assert gain is not None
        assert chance is not None
        assert gain.value is not None
        assert gain.low is not None
        assert gain.value > (chance.value or 0)
    first = {row.name: row for row in tables[0].rows}[users.PROPOSED]
    assert first.n
    assert first.figures[2] is not None
    assert (first.figures[2].low or 0) > 0


def test_differences_are_those_of_the_means(tables: list[Table]) -> None:
    for table in tables:
        rows = {row.name: [figure and figure.value for figure in row.figures] for row in table.rows}
        for precision, ndcg, gain, _, cosine in rows.values():
            assert 0 <= (precision or 0) <= 1
            assert gain is None or gain == pytest.approx((ndcg or 0) - (rows[users.NONE][1] or 0))
            assert (cosine or 0) <= 1 + 1e-6
        assert rows[users.NONE][4] == pytest.approx(1, abs=1e-5)


def test_what_was_seen_is_not_shown_again(study: Study) -> None:
    user = users.find_users(study, "both", 1)[0]
    shown = users._best(study, np.stack([user.x_D]), [list(user.first)])[0]
    assert not set(shown) & set(user.first)
    ranking = np.argsort(-(study.x_MD @ user.x_D), kind="stable")[: 2 * users.N_SHOWN]
    assert shown == ranking[users.N_SHOWN :].tolist()
