"""Who acts in the tests."""

from __future__ import annotations

from app.authored.store import Actor, Role

ANN = Actor("ann", Role.EDITOR, "token 1")
BEN = Actor("ben", Role.EDITOR, "token 2")
EVE = Actor("eve", Role.READER, "proxy")
ROOT = Actor("root", Role.ADMIN, "command line")
