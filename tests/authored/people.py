"""Who acts in the tests, and something of everything that people write."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from app.authored import access, labels, lenses, links, lists, notes
from app.authored.labels import LabelText
from app.authored.lists import Entry, ListText
from app.authored.store import Actor, Role, Store
from app.authored.subjects import Direction, Subject, document, family, feature
from sae_core.lenses import Lens, LensMove

ANN = Actor("ann", Role.EDITOR, "token 1")
BEN = Actor("ben", Role.EDITOR, "token 2")
EVE = Actor("eve", Role.READER, "proxy")
ROOT = Actor("root", Role.ADMIN, "command line")
LENS = Lens("less theory", "k16", (LensMove("strength", 3, -0.5), LensMove("family", 9, 0.25)))


def known(latent: int) -> Subject:
    """A feature with a direction."""
    row_D = np.eye(16, dtype=np.float32)[latent % 16]
    return feature("demo", "k16", latent, Direction.of("planted-1", row_D))


def fill(store: Store) -> None:
    """Something of everything, by two people."""
    with store.write(ANN) as writing:
        labels.set_label(writing, known(3), LabelText("dust", "Grains between stars.\n\nAlso discs."), 0)
        labels.set_label(writing, family("demo", "k16", 9), LabelText("", "", "rejected", "misc"), 0)
        notes.add_note(
            writing,
            document("demo", "astro-ph/9501001"),
            "A classic \u2014 \u05e9\u05dc\u05d5\u05dd \U0001f9ea.",
        )
        notes.add_note(writing, known(3), "Only for me.", "private")
    with store.write(BEN) as writing:
        labels.set_label(writing, known(3), LabelText("cosmic dust"), 1)
        labels.vote(writing, known(3), "cosmic dust", 1)
        entries = (Entry(known(5), "the best one"), Entry(known(3)))
        lists.add_list(writing, ListText("demo", "k16", "To look at", "Later.", entries, "unlisted"))
        lenses.add_lens(writing, "demo", LENS, {3: Direction.of("planted-1", np.eye(16)[3])})
        links.add_link(
            writing, "/demo/k16/search?q=dust&f=3:+0.40", "demo", "k16", "20261123-100000-abc", "Dust"
        )
    with store.write(ROOT) as writing:
        _, secret = access.create_token(writing, "ann", Role.EDITOR, timedelta(days=90))
    access.sign_in(store, secret)
