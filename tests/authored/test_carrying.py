"""A collection is trained anew: what people wrote finds the same features, or is named."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from app.authored import audit, carrying, labels, lenses, lists, notes
from app.authored.carrying import Carried, Goal
from app.authored.labels import LabelText
from app.authored.lists import Entry, ListText
from app.authored.store import Store
from app.authored.subjects import Direction, Subject, document, family, feature
from sae_core.errors import NotFoundError
from sae_core.explorer import Explorer
from sae_core.lenses import Lens, LensMove
from sae_core.metrics import SAME_FEATURE
from tests.authored.people import ANN, BEN, ROOT
from tests.planted import load_planted, planted_collection


@pytest.fixture
def old(planted: Explorer) -> Explorer:
    return planted


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """Documents about the same topics, trained with another seed: other numbers, mostly the same features."""
    home = tmp_path_factory.mktemp("anew")
    planted_collection(home, n=600, steps=400, seed=1)
    return load_planted(home)


def sae_of(explorer: Explorer) -> str:
    name: str = next(iter(explorer.saes))
    return name


def at(explorer: Explorer, latent: int) -> Subject:
    """A feature as a route would name it."""
    name = sae_of(explorer)
    return feature(explorer.name, name, latent, carrying.direction_of(explorer, name, latent))


def cosines(old: Explorer, new: Explorer) -> np.ndarray:
    """Of every feature of one with every living one of the other, by decoder: the answer, found plainly."""
    found = old.saes[sae_of(old)].sae.directions_ND @ new.saes[sae_of(new)].sae.directions_ND.T
    found[:, new.saes[sae_of(new)].features.n_documents_N == 0] = -1
    return found


def pairs(old: Explorer, new: Explorer) -> list[tuple[int, int]]:
    """Features whose nearest is near, and nobody else's: the clearest first."""
    found = cosines(old, new)
    best = found.argmax(axis=1)
    alone = [i for i in range(len(found)) if found[i, best[i]] >= 0.9 and (best == best[i]).sum() == 1]
    return [(i, int(best[i])) for i in sorted(alone, key=lambda i: -found[i, best[i]])]


def lost(old: Explorer, new: Explorer) -> int:
    """A living feature that the other does not have."""
    nearest = cosines(old, new).max(axis=1)
    living = old.saes[sae_of(old)].features.n_documents_N > 0
    return int(np.where(living, nearest, 2).argmin())


def carry(store: Store, new: Explorer, here: Sequence[str] = (), **how: str) -> Carried:
    goal = Goal.of(new, store, lambda ids: set(ids) & set(here), **how)
    return carrying.carry(store, goal, ROOT)


def label(store: Store, subject: Subject, text: str) -> None:
    with store.write(ANN) as writing:
        labels.set_label(writing, subject, LabelText(text, "Because."), 0)


def test_labels_find_the_feature_of_the_same_direction(store: Store, old: Explorer, new: Explorer) -> None:
    chosen = pairs(old, new)[:5]
    assert len(chosen) == 5
    assert any(a != b for a, b in chosen)  # or numbers would do
    for a, _ in chosen:
        label(store, at(old, a), f"label of {a}")
    done = carry(store, new)
    assert (done.counts, done.left) == ({"label": 5}, [])
    for a, b in chosen:
        with store.read() as session:
            copy, original = labels.find_label(session, at(new, b)), labels.find_label(session, at(old, a))
        assert copy is not None
        assert original is not None
        assert copy.said == original.said
        assert copy.author == "ann"  # not who carried it
        origin = json.loads(copy.origin)
        assert (origin["from"], origin["cosine"] > 0.9) == (at(old, a).name, True)
    with store.read() as session:
        assert [each.action for each in audit.read_audit(session, actor="root")] == ["carry"] * 5


def test_what_has_no_match_is_named_and_stays(store: Store, old: Explorer, new: Explorer) -> None:
    gone = lost(old, new)
    assert cosines(old, new)[gone].max() < SAME_FEATURE
    label(store, at(old, gone), "nowhere")
    with store.write(BEN) as writing:
        note = notes.add_note(writing, at(old, gone), "hm")
    done = carry(store, new)
    assert done.counts == {}
    assert len(done.left) == 2
    assert all("no feature here has its direction" in line for line in done.left)
    assert note.at.slug in done.left[1]
    with store.read() as session:
        assert labels.find_label(session, at(old, gone)) is not None


def test_carrying_twice_makes_no_second_copy(store: Store, old: Explorer, new: Explorer) -> None:
    (a, b), (c, _), *_ = pairs(old, new)
    label(store, at(old, a), "once")
    with store.write(ANN) as writing:
        notes.add_note(writing, at(old, a), "a note")
        entries = (Entry(at(old, a)), Entry(at(old, c), "too"), Entry(at(old, lost(old, new))))
        lists.add_list(writing, ListText(old.name, sae_of(old), "mine", entries=entries))
        lens = Lens("lens", sae_of(old), (LensMove("strength", a, 0.5), LensMove("family", c, 1.0)))
        lenses.add_lens(writing, old.name, lens, {a: carrying.direction_of(old, sae_of(old), a)})
    done = carry(store, new)
    assert done.counts == {"label": 1, "note": 1, "list": 1, "lens": 1}
    assert len(done.left) == 2  # an entry of the list, the family of the lens
    again = carry(store, new)
    assert again.counts == {}
    with store.read() as session:
        mine = [each for each in lists.find_lists(session, new.name, None) if each.said.sae == sae_of(new)]
        copy = lists.find_list(session, mine[0].at.slug, None)
        assert [entry.remark for entry in copy.said.entries] == ["", "too"]
        assert copy.said.entries[0].subject == at(new, b)
        carried = next(
            each for each in lenses.find_lenses(session, new.name, None) if each.lens.sae == sae_of(new)
        )
        assert carried.lens.moves == (LensMove("strength", b, 0.5),)


def test_a_label_that_is_there_already_is_not_covered(store: Store, old: Explorer, new: Explorer) -> None:
    (a, b), *_ = pairs(old, new)
    label(store, at(old, a), "from before")
    label(store, at(new, b), "written here")
    done = carry(store, new, source=sae_of(old))
    assert done.counts == {}
    assert 'has a label already, "written here"' in done.left[0]


def test_of_two_with_the_same_nearest_the_nearer_one_counts(
    store: Store, old: Explorer, new: Explorer
) -> None:
    (a, b), *_ = pairs(old, new)
    row_D = np.asarray(at(old, a).direction.row_D)  # type: ignore[union-attr]
    askew_D = row_D + 0.3 * np.roll(row_D, 1)
    other = Direction.of("planted-1", askew_D / np.linalg.norm(askew_D))
    label(store, at(old, a), "nearer")
    label(store, feature(old.name, sae_of(old), 999, other), "askew")
    done = carry(store, new)
    assert done.counts == {"label": 1}
    assert f"is nearer to #{a}" in done.left[0]
    with store.read() as session:
        assert labels.find_labels(session, [at(new, b)])[at(new, b)].said.text == "nearer"


def test_another_embedding_space_matches_nothing(store: Store, old: Explorer, new: Explorer) -> None:
    (a, _), *_ = pairs(old, new)
    direction = carrying.direction_of(old, sae_of(old), a)
    label(store, feature(old.name, sae_of(old), a, Direction("another", direction.values)), "elsewhere")
    label(store, feature(old.name, sae_of(old), a + 100), "unknown")
    done = carry(store, new)
    assert done.counts == {}
    assert "another embedding space" in done.left[0]
    assert "direction was not kept" in done.left[1]


def test_families_follow_their_roots(store: Store, old: Explorer, new: Explorer) -> None:
    nearest = dict(pairs(old, new))
    old_roots = {each.id for each in old.saes[sae_of(old)].families}
    new_roots = {each.id for each in new.saes[sae_of(new)].families}
    kept = [root for root in sorted(old_roots) if nearest.get(root) in new_roots]
    child = next(a for a, b in nearest.items() if b not in new_roots)
    for root in [*kept[:1], child]:
        direction = carrying.direction_of(old, sae_of(old), root)
        label(store, family(old.name, sae_of(old), root, direction), f"family {root}")
    done = carry(store, new)
    assert done.counts == ({"label": 1} if kept else {})
    assert "is no root of a family here" in done.left[0]


def test_a_dry_run_only_says_so(store: Store, old: Explorer, new: Explorer) -> None:
    (a, b), *_ = pairs(old, new)
    label(store, at(old, a), "to be")
    goal = Goal.of(new, store, set)
    assert carrying.carry(store, goal, ROOT, dry_run=True).counts == {"label": 1}
    with store.read() as session:
        assert labels.find_label(session, at(new, b)) is None
    assert carrying.carry(store, goal, ROOT).counts == {"label": 1}


def test_notes_on_documents_that_are_gone_are_named(store: Store, new: Explorer) -> None:
    with store.write(ANN) as writing:
        for key in ("here", "gone"):
            notes.add_note(writing, document(new.name, key), "text")
            notes.add_note(writing, document("former", key), "text")
    assert len(carry(store, new, ["here"]).left) == 1
    done = carry(store, new, ["here"], was="former")
    assert (done.counts, len(done.left)) == ({"note": 1}, 1)
    with store.read() as session:
        assert len(notes.find_notes(session, document(new.name, "here"), None)) == 2


def test_saes_that_nobody_has_or_wrote_about(store: Store, new: Explorer) -> None:
    with pytest.raises(NotFoundError, match="has no SAE"):
        Goal.of(new, store, set, to="k1-n1-000000")
    with pytest.raises(NotFoundError, match="Nobody wrote anything about"):
        Goal.of(new, store, set, source="k1-n1-000000")
    assert carry(store, new) == Carried()
