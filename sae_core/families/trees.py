"""Trees of latents, before anything is measured of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae_core.families.model import NO_PARENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Tree:
    """The fields of a `Family` that its algorithm decides."""

    members: list[int]
    parents: list[int]
    conditionals: list[float]


def descend(root: int, below: Mapping[int, Sequence[tuple[int, float]]]) -> Tree:
    """The tree of a root, depth first; `below` has the children of each parent with their conditionals."""
    tree = Tree([], [], [])
    stack = [(root, NO_PARENT, 1.0)]
    while stack:
        latent, parent, conditional = stack.pop()
        tree.members.append(latent)
        tree.parents.append(parent)
        tree.conditionals.append(conditional)
        stack += [(child, latent, weight) for child, weight in reversed(below.get(latent, []))]
    return tree
