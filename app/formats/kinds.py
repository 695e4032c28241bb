"""Every kind of list there is, and how what pages show becomes its rows."""

from __future__ import annotations

from collections.abc import Iterable

from app.formats.lists import MAX_ROWS, Column, Kind, Row, boolean, integer, number, text, texts
from app.views.common import FeatureChip, FeatureRow, NeighbourRow, TreeRow, Trust
from app.views.families import FamilyCard
from app.views.library import CollectionCard, SAESummary
from app.views.lists import EntryView
from app.views.search import SeparationRow

_LATENT = integer("latent", "number of the feature in its SAE")
_LABEL = text("label", "its label; a placeholder where it has none")
_PAGE = text("page", "path of its page here")
_AUTOMATIC = text("label_automatic", "that of the build, where people call it something else or reject it")
_ON = integer("n_documents", "documents on which it fires")
_DENSITY = number("density", "the same as a share of all documents, 0 to 1")


def _trust_columns() -> tuple[Column, ...]:
    return (
        text("label_trust", "strong, fair, weak, chance, unscored or none; by people: people, rejected"),
        number("label_auc", "area under the curve of the label as a predictor, on documents held out for it"),
        number("label_auc_low", "lower end of its 95 % interval"),
        number("label_auc_high", "upper end"),
        integer("label_n", "documents on which that was measured"),
    )


def _trust(trust: Trust) -> Row:
    return (trust.level, trust.auc, trust.low, trust.high, trust.n)


def _names(chips: Iterable[FeatureChip]) -> list[str]:
    """Features by number and label: `812 dark matter`."""
    return [f"{chip.latent} {chip.label}" for chip in chips]


# --- collections and SAEs -------------------------------------------------------------------------

COLLECTIONS = Kind(
    "collections",
    "a collection that is served",
    (
        text("name", "its name in addresses"),
        text("title", "its name for people"),
        integer("n_documents", "documents"),
        text("built", "date on which it was built, ISO 8601"),
        text("embedder", "the encoder of its texts"),
        texts("saes", "names of its SAEs, the default first"),
        _PAGE,
    ),
)


def collection_row(card: CollectionCard) -> Row:
    names = [sae.name for sae in card.saes]
    return (card.name, card.title, card.n_documents, card.built, card.embedder, names, card.url)


SAES = Kind(
    "saes",
    "an SAE of the collection",
    (
        text("name", "its name in addresses; it ends with the fingerprint of the weights"),
        integer("n_latents", "features"),
        integer("k", "active for a document, at most or on average"),
        number("fvu_train", "fraction of variance unexplained, on training documents"),
        number("fvu_heldout", "the same on documents held out"),
        integer("n_heldout", "documents held out"),
        number("l0", "mean number of active features"),
        integer("n_dead", "features that never fire"),
        integer("n_families", "families"),
        integer("n_labelled", "features with a label"),
        number("label_auc", "mean area under the curve of labels that were scored"),
        _PAGE,
    ),
)


def sae_row(sae: SAESummary, label_auc: float | None) -> Row:
    sizes = (sae.name, sae.n_latents, sae.k, sae.fvu_train, sae.fvu_heldout, sae.n_heldout, sae.l0)
    return (*sizes, sae.n_dead, sae.n_families, sae.n_labelled, label_auc, sae.url)


CURVE = Kind(
    "training-curve",
    "a line of the training log; what an older log did not have is empty",
    (
        integer("step", "of training"),
        number("fvu_train", "fraction of variance unexplained, on training rows"),
        number("fvu_heldout", "the same on rows held out"),
        number("dead", "share of latents that did not fire for long"),
        number("rare", "share of latents that fire on less than one row in 10,000"),
        number("learning_rate", "at that step"),
    ),
)
BASELINES = Kind(
    "baselines",
    "a simpler dictionary of the same size",
    (
        text("name", "what it is"),
        number("fvu_heldout", "fraction of variance unexplained, on rows held out"),
        text("remark", "how it was made"),
    ),
)
MATCHES = Kind(
    "matched-features",
    "a feature of one SAE and the nearest of another, for every pair of SAEs both ways",
    (
        text("sae", "name of the one"),
        _LATENT,
        _LABEL,
        text("other_sae", "name of the other"),
        integer("other_latent", "number of its nearest feature by direction; empty where either never fires"),
        text("other_label", "its label"),
        number("cosine", "of the decoder directions"),
        number("jaccard", "documents with both features over documents with either"),
    ),
)


# --- features -------------------------------------------------------------------------------------

FEATURES = Kind(
    "features",
    "a feature, in the order of the page",
    (
        _LATENT,
        _LABEL,
        text("label_source", "phrases, llm:MODEL, people or none"),
        *_trust_columns(),
        _ON,
        _DENSITY,
        number("max", "its largest activation"),
        number("mean", "mean activation where it fires"),
        number("quality", "mix of label score and usefulness, 0 to 1: the default order"),
        boolean("is_dead", "it never fires"),
        text("family", "label of the smallest family that has it"),
        text("family_page", "path of that family's page"),
        _PAGE,
        _AUTOMATIC,
    ),
    cap=MAX_ROWS,
)


def feature_row(row: FeatureRow) -> Row:
    label = row.label
    numbers = (row.n_documents, row.density, row.max, row.mean, row.quality, row.is_dead)
    named = (row.latent, label.text, label.source, *_trust(label.trust))
    return (*named, *numbers, row.family_label or "", row.family_url or "", row.url, label.trust.automatic)


ENTRIES = Kind(
    "list-entries",
    "a feature that somebody put into a list, in its order",
    (
        _LATENT,
        _LABEL,
        *_trust_columns(),
        text("remark", "why it is in the list"),
        _PAGE,
        _AUTOMATIC,
    ),
)


def entry_row(entry: EntryView) -> Row:
    """Of one whose SAE is not here any more only number and remark."""
    if entry.feature is None:
        return (entry.latent, "", "none", None, None, None, 0, entry.remark, "", "")
    chip = entry.feature
    return (chip.latent, chip.label, *_trust(chip.trust), entry.remark, chip.url, chip.trust.automatic)


NEIGHBOURS = Kind(
    "feature-neighbours",
    "a feature near another: similar and opposite ones by direction, and those that fire together with it",
    (
        text("relation", "similar, opposite or together"),
        _LATENT,
        _LABEL,
        *_trust_columns(),
        number("cosine", "of the decoder directions, where they were compared"),
        number("lift", "how often both fire, over how often independent features would"),
        integer("observed", "documents on which both fire"),
        number("expected", "documents on which both would, if they were independent"),
        _PAGE,
        _AUTOMATIC,
    ),
)


def neighbour_row(relation: str, row: NeighbourRow) -> Row:
    numbers = (row.cosine, row.lift, row.observed, row.expected)
    return (relation, row.latent, row.label, *_trust(row.trust), *numbers, row.url, row.trust.automatic)


FINGERPRINT = Kind(
    "document-features",
    "a feature of the document, the strongest first",
    (
        _LATENT,
        _LABEL,
        *_trust_columns(),
        number("activation", "on the document"),
        number("share", "of the feature's largest activation, 0 to 1"),
        _PAGE,
        _AUTOMATIC,
    ),
)


def fingerprint_row(chip: FeatureChip) -> Row:
    return (
        chip.latent,
        chip.label,
        *_trust(chip.trust),
        chip.activation,
        chip.share,
        chip.url,
        chip.trust.automatic,
    )


# --- families -------------------------------------------------------------------------------------

FAMILIES_A_PAGE = 24  # a file ends where a page does

FAMILIES = Kind(
    "families",
    "a family of features, in the order of the page",
    (
        integer("root", "number of the feature at its root, which names it"),
        _LABEL,
        boolean("is_own_label", "the label is the family's; else it is that of its root"),
        *_trust_columns(),
        integer("size", "features"),
        integer("n_documents", "documents on which one of them fires"),
        number("density", "the same as a share of all documents, 0 to 1"),
        number("hub_ratio", "R: how often the parent is active with its children, over how often these are"),
        number("block_ratio", "activity together inside the family, over that with features outside"),
        texts("children", "some of its features, as number and label"),
        _PAGE,
        _AUTOMATIC,
    ),
    cap=MAX_ROWS // FAMILIES_A_PAGE * FAMILIES_A_PAGE,
)


def family_row(card: FamilyCard) -> Row:
    named = (card.id, card.label, card.is_own, *_trust(card.trust), card.size, card.n_documents)
    return (
        *named,
        card.density,
        card.hub_ratio,
        card.block_ratio,
        _names(card.children),
        card.url,
        card.trust.automatic,
    )


MEMBERS = Kind(
    "family-members",
    "a feature of the family, each followed by what hangs under it",
    (
        _LATENT,
        integer("parent", "number of the feature it hangs under; empty for the root"),
        integer("depth", "steps from the root"),
        _LABEL,
        *_trust_columns(),
        _ON,
        _DENSITY,
        number("conditional", "share of its documents on which the parent fires too"),
        _PAGE,
        _AUTOMATIC,
    ),
)


def member_rows(rows: Iterable[TreeRow]) -> list[Row]:
    """A family's tree, depth first."""
    made: list[Row] = []
    path: list[int] = []
    for row in rows:
        del path[row.depth :]
        chip, parent = row.feature, path[-1] if path else None
        path.append(chip.latent)
        named = (chip.latent, parent, row.depth, chip.label, *_trust(chip.trust))
        made.append((*named, row.n_documents, row.density, row.conditional, chip.url, chip.trust.automatic))
    return made


# --- two sets -------------------------------------------------------------------------------------

SEPARATING = Kind(
    "separating-features",
    "a feature that one of two sets of documents has more often; those of A first, each in the page's order",
    (
        text("more_in", "a or b"),
        _LATENT,
        _LABEL,
        *_trust_columns(),
        integer("n_a", "documents of A that have it"),
        number("share_a", "the same as a share of A"),
        integer("n_b", "documents of B that have it"),
        number("share_b", "the same as a share of B"),
        number("log_odds", "natural logarithm of the ratio of odds; above 0 where A has it more"),
        number("log_odds_low", "lower end of its 95 % interval"),
        number("log_odds_high", "upper end"),
        number("p", "of Fisher's exact test, two-sided"),
        number("q", "after Benjamini and Hochberg"),
        boolean("passes", "q is at most 0.05"),
        _PAGE,
        _AUTOMATIC,
    ),
)


def separating_row(side: str, row: SeparationRow) -> Row:
    chip = row.feature
    shares = (row.n_a, row.share_a, row.n_b, row.share_b)
    tested = (row.log_odds, row.low, row.high, row.p, row.q, row.passes)
    return (
        side,
        chip.latent,
        chip.label,
        *_trust(chip.trust),
        *shares,
        *tested,
        chip.url,
        chip.trust.automatic,
    )


# --- documents ------------------------------------------------------------------------------------

RESULTS = Kind(
    "search-results",
    "a document, in the order of the search",
    (
        integer("rank", "place in the ranking, from 1"),
        number("score", "cosine with the query as it was steered"),
        integer("moved", "places gained (+) or lost (-) by steering; empty where nothing is steered"),
        boolean("is_new", "not among the first thousand without steering"),
    ),
    of_documents=True,
    cap=1_000,  # as far as steered and plain ranks are compared
)
EVIDENCE = Kind(
    "feature-documents",
    "a document and a feature, in the order of the chosen tab",
    (
        integer("rank", "place in the list, from 1"),
        text("group", "the heading under which the page has it"),
        number(
            "activation", "of the feature; in near misses what it would be without a choice of the strongest"
        ),
        number("share", "of its largest activation, 0 to 1; empty in near misses"),
        texts("features", "other strong features of the document, as number and label"),
    ),
    of_documents=True,
    cap=MAX_ROWS,
)
FAMILY_DOCUMENTS = Kind(
    "family-documents",
    "a document, those first on which most of the family's features fire",
    (
        integer("rank", "place in the list, from 1"),
        integer("n_active", "features of the family that fire on it"),
        number("activation", "sum of their activations"),
    ),
    of_documents=True,
    cap=MAX_ROWS,
)
DOCUMENT = Kind("document", "the document", (), of_documents=True)
NEAREST = Kind(
    "document-neighbours",
    "one of the thousand nearest documents, the nearest first",
    (
        integer("rank", "place in the list, from 1"),
        number("cosine", "of the embeddings"),
    ),
    of_documents=True,
)

KINDS = (
    COLLECTIONS, SAES, CURVE, BASELINES, MATCHES, FEATURES, ENTRIES, NEIGHBOURS, FINGERPRINT, FAMILIES,
    MEMBERS, SEPARATING, RESULTS, EVIDENCE, FAMILY_DOCUMENTS, DOCUMENT, NEAREST,
)  # fmt: skip
