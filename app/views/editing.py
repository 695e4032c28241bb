"""What pages show of people: who asks, and forms."""

from __future__ import annotations

from dataclasses import dataclass

VISITOR = "saefari.visitor"  # in the scope of a request, where people may write: the `Visitor`


@dataclass(frozen=True)
class Visitor:
    """Who asks, as every page shows it."""

    name: str  # "" for somebody who has not signed in
    role: str
    may_write: bool
    has_session: bool  # that can be ended here; somebody whom a proxy names has none
    here: str  # the address, to come back to


@dataclass(frozen=True)
class SignInView:
    back: str  # where to go then
    problem: str = ""
    remedy: str = ""
