"""What people call features and families, laid over what a build calls them.

The labels of a build never change while they are served. What people say is little, and changes: it is a
layer of its own above them, made anew when somebody has said something (`app.editing.naming`), so that views
and templates take a label from where they always did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from app.labels import UNLABELLED
from app.views.common import LabelView, Trust
from sae_core.errors import tidy

if TYPE_CHECKING:
    from app.authored.labels import LabelText

PEOPLE, REJECTED = "people", "rejected"  # levels of trust beside those that are measured
T = TypeVar("T")


@dataclass(frozen=True)
class Words:
    """What people say of the labels of one SAE."""

    features: Mapping[int, LabelText] = field(default_factory=dict)
    families: Mapping[int, LabelText] = field(default_factory=dict)  # by their roots


Homes = Mapping[tuple[str, str], Words]  # by collection and SAE


class Over(Sequence[T]):
    """A sequence that has something else in some places."""

    def __init__(self, below: Sequence[T], above: Mapping[int, T]) -> None:
        self._below, self._above = below, above

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return self._above[at] if at in self._above else self._below[at]

    def __len__(self) -> int:
        return len(self._below)

    def __iter__(self) -> Iterator[T]:
        above: Mapping[int, Any] = self._above
        return (above.get(at, each) for at, each in enumerate(self._below))


def automatic_text(label: LabelView) -> str:
    """The label of the build as a verdict keeps it; "" for none."""
    built = label.automatic or label
    return "" if built.source == "none" else tidy(built.text)


def called(label: LabelView, said: LabelText, phrases: Sequence[str] = ()) -> LabelView | None:
    """A label as people have it; None where the automatic one stands. `phrases` are what else there is.

    What was measured of the automatic label says nothing of theirs, so that neither has a score.
    """
    automatic = automatic_text(label)
    shown, built = said.shown(automatic), label.automatic or label
    if shown == automatic:
        return None
    if shown:
        trust = Trust(PEOPLE, "by people", None, None, None, 0, automatic)
        return LabelView(shown, PEOPLE, trust, [], built)
    trust = Trust(REJECTED, "rejected by people", None, None, None, 0, automatic)
    rest = [phrase for phrase in phrases if tidy(phrase) != automatic]
    return LabelView(UNLABELLED, "none", trust, rest, built)
