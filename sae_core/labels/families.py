"""Labels of families: a phrase that several members share, measured against near misses of every member."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_core.labels import Label
from sae_core.labels.mining import shortlist
from sae_core.labels.phrases import N_STANDING_OUT
from sae_core.labels.scores import Split, share_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.features import FeatureTable
    from sae_core.labels.phrases import Labeller

N_OF_MEMBER = 40  # its strongest documents, in which a phrase may be at home
AT_HOME = 2.0  # times the odds that a document has the phrase, in a member's documents against the corpus
MOST_MEMBERS = 64  # that are looked at one by one: the parent and its nearest descendants


def split_family(codes: Codes, table: FeatureTable, members: Sequence[int], seed: int) -> Split:
    """Share out the documents of a family; the same seed gives the same split.

    Its documents are those on which a member fires, ranked by the sum over members of activation / maximum.
    Near misses are near misses of members on which every member is silent, those of most members first.
    """
    strength_M = np.zeros(codes.n_documents)
    nearness_M = np.zeros(codes.n_documents)
    for member in members:
        positions, values = codes.of_latent(member)
        strength_M[positions] += values / max(float(table.max_N[member]), 1e-9)
        near = table.near_NM[member]
        near = near[near >= 0]
        # The nearest of one member weighs less than any document that is near two.
        nearness_M[near] += 1 + 0.5 * (1 - np.arange(len(near)) / len(near)) / len(members)
    nearness_M[strength_M > 0] = 0
    ranked = np.argsort(-strength_M, kind="stable")[: np.count_nonzero(strength_M)]
    near = np.argsort(-nearness_M, kind="stable")[: min(table.near_NM.shape[1], np.count_nonzero(nearness_M))]
    return share_out(ranked, near, codes.n_documents, (seed, codes.n_latents, *members))


def label_families(
    labeller: Labeller, families: Sequence[Sequence[int]], labels: Sequence[Label]
) -> list[Label]:
    """One label for each family, given by its members, the root first.

    `labels` are those of all latents; those of the members are candidates, beside the phrases that stand
    out in the family's documents. Besides the parts of a feature's ranking, a phrase of a family has

        breadth      the share of members in whose documents it has at least twice its odds in the corpus
        activation   of the members by the phrase's embedding, over their maxima: the mean of the root's
                     and of that of all
        specificity  the members' share of all that the phrase's embedding activates
    """
    place_of = {text: place for place, text in enumerate(labeller.vocabulary.texts)}
    homes = _Homes(labeller, {member for family in families for member in family[:MOST_MEMBERS]})
    choices = []
    for number, family in enumerate(families):
        split = split_family(labeller.codes, labeller.table, family, labeller.seed)
        members = family[:MOST_MEMBERS]
        named = [place_of[text] for member in members if (text := labels[member].text) in place_of]
        found = shortlist(labeller.phrases, split.mined.positives, split.mined.near, N_STANDING_OUT)
        standing_out = labeller.vocabulary.place_P[found].astype(np.int64)
        places = np.union1d(standing_out[standing_out >= 0], np.array(named, dtype=np.int64))
        choice = labeller.rank(number, split, places, homes.parts(members, places))
        if choice.candidates:
            choices.append(choice)
    found_labels = [Label("", "none", remark="no phrase stands out in its documents")] * len(families)
    for choice, label in zip(choices, labeller.name(choices), strict=True):
        found_labels[choice.id] = label
    return found_labels


class _Homes:
    """For each member of any family: where phrases are at home, and what they activate."""

    def __init__(self, labeller: Labeller, members: set[int]) -> None:
        self._is_home: dict[int, NDArray[np.bool_]] = {}
        self._activation: dict[int, NDArray[np.float64]] = {}
        self._labeller = labeller
        everywhere_V = labeller.vocabulary.n_documents_V / max(labeller.codes.n_documents, 1)
        for member, activation_V in labeller.activations(sorted(members)):
            documents = labeller.codes.of_latent(member)[0][:N_OF_MEMBER].astype(np.int64)
            shares_V = labeller.shares(documents)
            at_home_V = AT_HOME * everywhere_V / (1 + (AT_HOME - 1) * everywhere_V)
            # Once is no evidence.
            self._is_home[member] = shares_V > np.maximum(at_home_V, 1 / max(len(documents), 1))
            if activation_V is not None:
                self._activation[member] = activation_V.clip(0, 1).astype(np.float32)

    def parts(self, members: Sequence[int], places: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """The parts of a family's ranking that its members decide."""
        parts = {"breadth": np.mean([self._is_home[member][places] for member in members], axis=0)}
        if all(member in self._activation for member in members):
            each = np.array([self._activation[member][places] for member in members])
            parts["activation"] = (each[0] + each.mean(axis=0)) / 2
            maxima = self._labeller.table.max_N[list(members)]
            parts["specificity"] = self._labeller.specificity(places, maxima @ each)
        return parts
