"""One home for each latent: the best parent, families of a bounded size, and links to what else would do.

Two algorithms that differ only in who may be a parent: "lift" asks for a denser latent, "nesting" for one of
an earlier group of a Matryoshka SAE (arXiv 2503.17547).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sae_core.errors import SaefariError
from sae_core.families.coactivation import Edges
from sae_core.families.model import Link
from sae_core.families.trees import Tree, descend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.families.model import FamilyConfig

MOST_CANDIDATES = 8  # parents that a latent may try
MOST_LINKS = 3  # of a member
GOOD_LINK = 0.5  # of the weight of the best parent


@dataclass(frozen=True)
class Candidates:
    """The possible parents of every latent, best first, at most `MOST_CANDIDATES`.

    The weight of an edge is P(parent | child) log lift, with lift = P(parent | child) / P(parent): what the
    child says of the parent, in nats, as far as the parent fires. A conditional alone makes the densest
    latents everybody's parent, a lift (or a mutual information that is normalised) alone the rarest.
    """

    ptr: NDArray[np.int64]  # (N + 1,)
    parents: NDArray[np.int64]
    conditionals: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, edges: Edges, counts_N: NDArray[np.int64], n_documents: int) -> Candidates:
        """Those of edges, equally good ones by index."""
        conditionals = edges.together / counts_N[edges.children]
        lifts = conditionals * n_documents / counts_N[edges.parents]
        weights = conditionals * np.log(np.maximum(lifts, 1))
        order = np.lexsort((edges.parents, -weights, edges.children))
        ptr = np.searchsorted(edges.children[order], np.arange(edges.n_latents + 1))
        rank = np.arange(len(order)) - ptr[edges.children[order]]
        order = order[rank < MOST_CANDIDATES]
        ptr = np.searchsorted(edges.children[order], np.arange(edges.n_latents + 1))
        return cls(ptr, edges.parents[order], conditionals[order], weights[order])

    def of_child(self, child: int) -> range:
        """Places of a latent's candidates, best first."""
        return range(int(self.ptr[child]), int(self.ptr[child + 1]))

    def links(self, members: Sequence[int]) -> list[Link]:
        """Parents outside a family that are at least half as good as the best one, three for each member."""
        inside = set(members)
        found = []
        for member in members:
            outside = [link for link in self._good_links[member] if link.parent not in inside]
            found += outside[:MOST_LINKS]
        return found

    @cached_property
    def _good_links(self) -> list[list[Link]]:
        children = np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))
        is_good = self.weights >= GOOD_LINK * self.weights[self.ptr[children]]
        links: list[list[Link]] = [[] for _ in range(len(self.ptr) - 1)]
        columns = (children, self.parents, self.conditionals)
        for child, parent, conditional in zip(*(column[is_good].tolist() for column in columns), strict=True):
            links[child].append(Link(child, parent, conditional))
        return links


def nested_edges(
    edges: Edges, levels_N: NDArray[np.int64] | None, counts_N: NDArray[np.int64], threshold: float
) -> Edges:
    """The edges between groups of a Matryoshka, each from the earlier group to the later."""
    if levels_N is None:
        what = "This SAE has no nested groups, so its families cannot follow the nesting."
        raise SaefariError(what, remedy="Choose the algorithm lift or paper, or train a Matryoshka SAE.")
    turned = levels_N[edges.parents] > levels_N[edges.children]
    parents = np.where(turned, edges.children, edges.parents)
    children = np.where(turned, edges.parents, edges.children)
    keep = (levels_N[parents] < levels_N[children]) & (edges.together / counts_N[children] >= threshold)
    return Edges(parents, children, edges.together, edges.n_latents).where(keep)


def home_trees(candidates: Candidates, order: Sequence[int], config: FamilyConfig) -> list[Tree]:
    """Families in which every latent has at most one place, largest first.

    1. Each latent hangs under its best candidate.
    2. From the leaves up: where a subtree has more than `max_size` members, the heaviest of its root's own
       subtrees is detached until it has not, of equal ones the one that hangs by the smallest weight.
    3. A family is a tree of at least `min_size` members, one of which has at least `min_children` children.
    4. What is in no family tries its next candidates, for a family with room.

    `order` lists the latents so that a child stands before its parent.
    """
    homes = _Homes(candidates, config)
    homes.limit(order)
    homes.rehome(order)
    return homes.trees(order)


class _Homes:
    def __init__(self, candidates: Candidates, config: FamilyConfig) -> None:
        self._candidates, self._config = candidates, config
        n = len(candidates.ptr) - 1
        self._place = [places[0] if (places := candidates.of_child(latent)) else -1 for latent in range(n)]
        self._children: list[list[int]] = [[] for _ in range(n)]
        self._size = [1] * n
        self._parents = candidates.parents.tolist()
        self._weights = candidates.weights.tolist()

    def limit(self, order: Sequence[int]) -> None:
        """Steps 1 and 2."""
        for latent in order:
            children = self._children[latent]
            size = 1 + sum(self._size[child] for child in children)
            if size > self._config.max_size:
                children.sort(
                    key=lambda child: (-self._size[child], self._weights[self._place[child]], child)
                )
                while size > self._config.max_size:
                    detached = children.pop(0)
                    self._place[detached] = -1
                    size -= self._size[detached]
            self._size[latent] = size
            if self._place[latent] >= 0:
                self._children[self._parents[self._place[latent]]].append(latent)

    def rehome(self, order: Sequence[int]) -> None:
        """Step 4, for those with the strongest candidate first."""
        is_family = {root: self._is_family(root) for root in order if self._place[root] < 0}
        homeless = [root for root, has_home in is_family.items() if not has_home]
        homeless = [root for root in homeless if self._candidates.of_child(root)]
        for root in sorted(homeless, key=lambda latent: -self._weights[self._candidates.of_child(latent)[0]]):
            for at in self._candidates.of_child(root):
                top = self._top(self._parents[at])
                if is_family.get(top) and self._size[top] + self._size[root] <= self._config.max_size:
                    self._place[root] = at
                    self._children[self._parents[at]].append(root)
                    self._size[top] += self._size[root]
                    break

    def trees(self, order: Sequence[int]) -> list[Tree]:
        """Step 3: the families, largest first, then denser."""
        rank = {latent: at for at, latent in enumerate(reversed(order))}
        conditionals = self._candidates.conditionals.tolist()
        below = {
            latent: [
                (child, conditionals[self._place[child]]) for child in sorted(children, key=rank.__getitem__)
            ]
            for latent, children in enumerate(self._children)
            if children
        }
        roots = [latent for latent in order if self._place[latent] < 0 and self._is_family(latent)]
        roots.sort(key=lambda root: (-self._size[root], rank[root]))
        return [descend(root, below) for root in roots]

    def _is_family(self, root: int) -> bool:
        if self._size[root] < self._config.min_size:
            return False
        stack = [root]
        while stack:
            children = self._children[stack.pop()]
            if len(children) >= self._config.min_children:
                return True
            stack += children
        return False

    def _top(self, latent: int) -> int:
        while self._place[latent] >= 0:
            latent = self._parents[self._place[latent]]
        return latent
