"""Labels: phrases are whole and readable, name what was planted, and are scored on documents kept aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_core.codes import Codes, encode_codes, make_codes
from sae_core.corpus import Document
from sae_core.errors import EmbeddingError
from sae_core.features import FeatureTable, describe
from sae_core.labels import MAX_LETTERS, Candidate, Label, left_out
from sae_core.labels.families import label_families
from sae_core.labels.mining import Phrases, choose_vocabulary, find_phrases, readability, shortlist
from sae_core.labels.phrases import Choice, Labeller, tell_apart
from sae_core.labels.predictors import WordPredictor, embed_labels
from sae_core.labels.scores import (
    MIN_SCORED,
    Sample,
    Split,
    auc,
    interval,
    measure,
    split_documents,
)
from sae_core.labels.words import tokenise
from sae_core.sae import SAE

if TYPE_CHECKING:
    from numpy.typing import NDArray


def document(number: int, title: str, abstract: str) -> Document:
    return Document(id=str(number), title=title, abstract=abstract)


def phrases_of(*texts: str | tuple[str, str]) -> Phrases:
    """Phrases of documents given as abstracts, or as (title, abstract)."""
    pairs = [("", text) if isinstance(text, str) else text for text in texts]
    return find_phrases(tokenise([document(at, *pair) for at, pair in enumerate(pairs)]))


def found_in(*texts: str | tuple[str, str]) -> set[str]:
    """All phrases of some documents, as they would be shown."""
    phrases = phrases_of(*texts)
    every = np.arange(len(phrases.phrase_E))
    return {phrases.text(p, every[phrases.phrase_E == p]) for p in range(len(phrases.length_P))}


# --- words and phrases ------------------------------------------------------------------------------


def test_a_phrase_neither_begins_nor_ends_with_a_stop_word() -> None:
    found = found_in(
        "We present the equation of state of neutron stars in this paper, and it returns the pressure."
    )
    assert "equation of state" in found
    assert "neutron stars" in found
    for phrase in found:
        first, last = phrase.split()[0].lower(), phrase.split()[-1].lower()
        assert first not in {"we", "present", "the", "of", "in", "this", "and", "returns"}
        assert last not in {"we", "present", "the", "of", "in", "this", "and", "returns"}


def test_punctuation_ends_a_phrase() -> None:
    found = found_in("Dust grains, molecular clouds (giant planets) evolve. Quasars shine.")
    assert {"dust grains", "molecular clouds", "giant planets", "quasars"} <= {p.lower() for p in found}
    assert not {p.lower() for p in found} & {"grains molecular", "clouds giant", "evolve quasars"}


def test_a_hyphenated_compound_is_never_cut() -> None:
    found = found_in("A gamma-ray burst. The k-means clustering. Few-shot prompting helps.")
    assert {"gamma-ray burst", "gamma-ray", "k-means clustering", "k-means"} <= found
    assert not found & {"ray burst", "ray", "means clustering", "shot prompting", "k", "gamma"}


def test_singular_and_plural_and_hyphens_are_one_phrase() -> None:
    phrases = phrases_of(
        "Gamma-ray bursts.", "A gamma ray burst.", "Two gamma-ray bursts, galaxies.", "galaxy"
    )
    numbers = range(len(phrases.length_P))
    texts = [phrases.text(p, np.flatnonzero(phrases.phrase_E == p)) for p in numbers]
    counts = dict(zip(texts, phrases.n_documents_P, strict=True))
    assert counts["gamma-ray bursts"] == 3
    assert len([text for text in texts if text.lower() in {"galaxy", "galaxies"}]) == 1


def test_a_plural_without_a_singular_keeps_its_s() -> None:
    assert "physics" not in found_in("astrophysics of gas")
    assert {"astrophysics", "gas"} <= found_in("astrophysics of gas")


def test_case_is_that_of_running_text_not_of_titles() -> None:
    texts = [
        ("Dark Matter Halos Around CMB Lenses", "We find that dark matter halos lens the CMB."),
        ("Dark Matter Halos", "Here dark matter halos bend the CMB near the Milky Way."),
        ("More On Dark Matter Halos", "Nearby dark matter halos and the CMB over the Milky Way."),
    ]
    found = found_in(*texts)
    assert {"dark matter halos", "CMB", "Milky Way"} <= found
    assert not found & {"Dark Matter Halos", "cmb", "milky way"}


def test_capitals_inside_a_word_are_kept_those_of_a_heading_are_not() -> None:
    found = found_in(("PT symmetry and QUASARS", "The pT spectrum, the pT cut, near quasars."))
    assert {"PT symmetry", "pT spectrum", "quasars"} <= found


def test_a_word_that_leans_on_the_next_ends_no_phrase_and_one_that_follows_begins_none() -> None:
    abstracts = [f"Here a supermassive black hole was seen, {n} gas clouds." for n in range(12)]
    found = found_in(*abstracts)
    assert "supermassive black hole" in found
    assert not found & {"supermassive", "supermassive black", "black", "hole"}


def test_verbs_and_contractions_have_no_place_in_a_phrase() -> None:
    """An article follows a verb, and hardly ever a noun."""
    abstracts = [
        f"Here a monopole exerts the force on cosmic strings {n}, these won't decay." for n in range(9)
    ]
    found = found_in(*abstracts)
    assert {"monopole", "force on cosmic strings", "cosmic strings"} <= found
    assert not {phrase for phrase in found if {"exerts", "won't"} & set(phrase.split())}


def test_a_compound_that_leans_on_the_next_word_ends_no_phrase() -> None:
    abstracts = [f"Deep multi-task learning, and multi-task models {n}: by k-means." for n in range(8)]
    found = found_in(*abstracts)
    assert {"multi-task learning", "multi-task models", "k-means"} <= found
    assert not {phrase for phrase in found if phrase.endswith("multi-task")}


def test_commands_of_tex_are_not_words_and_greek_letters_are_letters() -> None:
    found = found_in(
        r"The H$\alpha$ emission of $\Lambda$CDM at $\sqrt{s}$ near M$_{\odot}$ and Schr\"odinger."
    )
    assert {"Hα emission", "ΛCDM", "Schrodinger"} <= found
    assert not {word for phrase in found for word in phrase.split()} & {"alpha", "sqrt", "odot", "Lambda"}


def test_docstrings_give_qualified_names_and_the_words_of_the_last_part() -> None:
    docstring = (
        "Returns the probability density of a :class:`~scipy.stats.rv_continuous`.\n\n"
        ":param loc: the location\n\n>>> scipy_secret_call()\n\nParameters\n----------\nx : array_like"
    )
    found = found_in(("scipy.stats.MultivariateNormal", docstring))
    assert {"probability density", "scipy.stats", "scipy.stats.MultivariateNormal"} <= found
    assert "multivariate normal" in found
    assert not {phrase for phrase in found if "secret" in phrase or "class" in phrase or "param" in phrase}


def test_addresses_are_not_words() -> None:
    assert found_in("Code at https://github.com/user/galaxies and www.example.org for quasars.") == {
        "quasars"
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=80), max_size=5))
def test_any_text_can_be_cut(texts: list[str]) -> None:
    for phrase in found_in(*texts):
        assert phrase == phrase.strip() != ""
        assert len(phrase.split()) <= 4


# --- mining -----------------------------------------------------------------------------------------


def vocabulary_of(phrases: Phrases) -> dict[str, float]:
    """Every phrase with its readability."""
    found = choose_vocabulary(phrases, range(len(phrases.length_P)), 0)
    return {text.lower(): value for text, value in zip(found.texts, found.readability_V, strict=True)}


def test_what_the_near_misses_lack_stands_out() -> None:
    positives = [f"Weak gravitational lensing by galaxies in clusters number{n}." for n in range(6)]
    negatives = [f"Clusters of galaxies with gas number{n + 10}." for n in range(6)]
    other = [f"Solar flares and sunspots number{n + 20}." for n in range(20)]
    phrases = phrases_of(*positives, *negatives, *other)
    found = shortlist(phrases, np.arange(6), np.arange(6, 12), 10)
    texts = [phrases.text(number, np.flatnonzero(phrases.phrase_E == number)).lower() for number in found]
    assert {"weak gravitational lensing", "lensing"} <= set(texts[:4])
    assert all(place > 3 for place, text in enumerate(texts) if text in {"galaxies", "clusters"})


def test_in_documents_without_words_nothing_stands_out() -> None:
    assert shortlist(phrases_of("the of and", "...", "galaxies"), np.array([0, 1]), np.array([2]), 5) == []


def test_a_fragment_reads_worse_than_the_whole() -> None:
    texts = ["The cosmic microwave background sky.", "A cosmic microwave background map."] * 3
    found = vocabulary_of(phrases_of(*texts, "Neutron stars.", "Hot neutron stars."))
    assert found["cosmic microwave background"] == found["neutron stars"] == 1
    assert found["cosmic microwave"] < 0.6


def test_an_end_that_adds_little_to_a_phrase_reads_worse() -> None:
    texts = ["Star formation.", "Large star formation.", "Star formation study.", "Nearby star formation."]
    found = vocabulary_of(phrases_of(*texts, *["Measuring the dust of star formation."] * 4))
    assert found["large star formation"] == found["star formation study"] < found["nearby star formation"]


def test_an_abbreviation_is_shown_with_what_it_stands_for_where_both_stand_together() -> None:
    texts = [f"Graph neural networks (GNNs) of number{n}: GNNs learn." for n in range(4)]
    found = vocabulary_of(phrases_of(*texts, "The VLA sees very large arrays.", "The ALMA telescope."))
    assert "graph neural networks (gnns)" in found
    assert {"alma", "vla"} <= set(found)  # once is no evidence


def test_common_phrases_are_in_the_vocabulary_up_to_its_size() -> None:
    phrases = phrases_of(*["Weak lensing."] * 3, *["Solar flares."] * 2, "Dust grains.")
    sizes = [len(choose_vocabulary(phrases, [], size).texts) for size in (1, 2, 100)]
    assert sizes[:2] == [1, 2]
    assert "dust grains" not in {text.lower() for text in choose_vocabulary(phrases, [], 100).texts}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("neutron stars", "neutron"),
        ("graph theory", "graph G"),
        ("supernova", "SNR"),
        ("equation of state", "training and inference"),
        ("dark matter", "very long compound names of instruments that nobody would read aloud"),
        ("lepton flavor", "21 cm"),
    ],
)
def test_readability_prefers_names(better: str, worse: str) -> None:
    assert 0 < readability(worse) < readability(better) <= 1


# --- scores -----------------------------------------------------------------------------------------


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert auc(np.array([2.0]), np.array([1.0])) == 1
    assert auc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5


def test_auc_of_several_predictors_at_once_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(size=(4, 7)), rng.normal(size=(4, 9))
    each = [float(auc(p, n)) for p, n in zip(positives, negatives, strict=True)]
    assert auc(positives, negatives) == pytest.approx(each)


def test_the_interval_has_a_width_at_a_perfect_score_and_narrows_with_n() -> None:
    low, high = interval(1.0, 30, 30)
    assert high == pytest.approx(1)
    assert 0.85 < low < 0.97
    assert interval(1.0, 10, 10)[0] < low
    assert interval(0.0, 30, 30) == pytest.approx((0, 1 - low))


@given(st.floats(0, 1), st.integers(MIN_SCORED, 60), st.integers(MIN_SCORED, 60))
def test_an_interval_holds_its_score_and_stays_between_0_and_1(value: float, n: int, m: int) -> None:
    low, high = interval(value, n, m)
    assert 0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1


def test_the_interval_covers_the_true_auc_about_95_times_in_100() -> None:
    """Normal predictors one standard deviation apart have AUC .760."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        value = float(auc(rng.normal(1, 1, 30), rng.normal(0, 1, 30)))
        low, high = interval(value, 30, 30)
        covered += low <= 0.7602 <= high
    assert 0.92 < covered / 400 < 0.99


def test_too_few_documents_have_no_score() -> None:
    assert measure("-", np.ones(MIN_SCORED - 1, np.float32), np.zeros(30, np.float32), 0.5) is None
    assert measure("-", np.ones(30, np.float32), np.zeros(MIN_SCORED - 1, np.float32), 0.5) is None
    score = measure("-", np.ones(MIN_SCORED, np.float32), np.zeros(30, np.float32), 0.5)
    assert score is not None
    assert (score.auc.value, score.n_positives, score.n_negatives) == (1, MIN_SCORED, 30)


def test_words_predict_the_documents_that_have_them_rare_words_most() -> None:
    texts = ["galaxy lensing", "galaxy cluster", "galaxy disk", "solar flare"]
    tokens = tokenise([document(at, "", text) for at, text in enumerate(texts)])
    scores = WordPredictor(tokens).predict(["The Galaxies of lensing"], [np.arange(4)])[0]
    assert scores[0] > scores[1] == scores[2] > scores[3] == 0


# --- a planted corpus -------------------------------------------------------------------------------

TOPICS = ("weak lensing", "sparse matrix", "solar flare", "neural network", "dust grain", "dark energy")
WIDTH = 24
N_DOCUMENTS = 400


class ToyEmbedder:
    """Bag of words over random directions: texts that share words are alike."""

    name = "toy"
    fingerprint = "toy"
    width = WIDTH

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += texts
        rows = [np.sum([self._word(word) for word in text.lower().split()], axis=0) for text in texts]
        x = np.array(rows, dtype=np.float32)
        return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)

    @staticmethod
    def _word(word: str) -> NDArray[np.float64]:
        seed = sum(ord(letter) * 31**at for at, letter in enumerate(word.strip(".,").removesuffix("s")))
        return np.random.default_rng(seed % 2**32).normal(size=WIDTH)


def planted_documents() -> list[Document]:
    """Each document is about one topic, named once, among fillers that tell nothing."""
    rng = np.random.default_rng(7)
    fillers = [f"filler{letter}" for letter in "abcdefghijklmnopqrst"]
    documents = []
    for number in range(N_DOCUMENTS):
        topic = TOPICS[number % len(TOPICS)]
        noise = rng.choice(fillers, 3)
        documents.append(document(number, f"On {topic} and {noise[0]}", f"{topic}, {noise[1]}, {noise[2]}."))
    return documents


class Planted:
    """Documents, an SAE with one latent for each topic and a dead one, and all that follows from them."""

    def __init__(self) -> None:
        self.documents = planted_documents()
        self.embedder = ToyEmbedder()
        self.x = self.embedder.embed([item.text for item in self.documents])
        topics = self.embedder.embed(TOPICS)
        directions = np.concatenate((topics, -topics.sum(axis=0, keepdims=True)))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        bias = np.array([-0.4] * len(TOPICS) + [-9.0], dtype=np.float32)
        centre = np.zeros(WIDTH, dtype=np.float32)
        self.sae = SAE(W_enc_ND=directions, W_dec_ND=directions, b_enc_N=bias, b_dec_D=centre, k=1)
        self.codes: Codes = encode_codes(self.sae, self.x)
        self.table: FeatureTable = describe(self.sae, self.codes, self.x)

    def labels(self, *, embedder: ToyEmbedder | None, seed: int = 0) -> list[Label]:
        return Labeller(self.documents, self.codes, self.table, self.sae, self.x, embedder, seed).features()


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.mark.parametrize("with_embedder", [True, False])
def test_each_planted_topic_is_named_and_predicted(planted: Planted, with_embedder: bool) -> None:
    labels = planted.labels(embedder=planted.embedder if with_embedder else None)
    assert [label.text for label in labels[:-1]] == list(TOPICS)
    for label in labels[:-1]:
        assert label.source == "phrases"
        assert label.score is not None
        assert label.score.auc.value > 0.8
        for measured in (label.score.auc, label.score.f1, label.score.pearson):
            assert measured.low <= measured.value <= measured.high
        assert (label.score.n_positives, label.score.n_negatives) == (22, 22)
        assert ("partly circular" in label.score.predictor) == with_embedder
        assert ("BM25" in label.score.predictor) != with_embedder


def test_a_dead_latent_has_no_label(planted: Planted) -> None:
    dead = planted.labels(embedder=planted.embedder)[-1]
    assert dead == Label(text="", source="none", remark="active on no document")


def test_the_same_seed_gives_the_same_labels(planted: Planted) -> None:
    assert planted.labels(embedder=None, seed=3) == planted.labels(embedder=None, seed=3)


def test_candidates_are_the_next_best_and_do_not_repeat_the_label(planted: Planted) -> None:
    for label in planted.labels(embedder=planted.embedder)[:-1]:
        assert label.candidates[0].text == label.text
        chosen_by = [each.chosen_by for each in label.candidates if each.chosen_by is not None]
        assert chosen_by == sorted(chosen_by, reverse=True)
        assert all(0 <= value <= 1 for each in label.candidates for value in each.parts.values())
        assert len({each.text for each in label.candidates}) == len(label.candidates)


def test_each_phrase_is_embedded_once(planted: Planted) -> None:
    embedder = ToyEmbedder()
    Labeller(planted.documents, planted.codes, planted.table, planted.sae, planted.x, embedder).features()
    assert len(embedder.seen) == len(set(embedder.seen)) > 0


def test_the_vectors_of_labels_are_those_of_their_texts(planted: Planted) -> None:
    labels = [Label("", "none"), *planted.labels(embedder=planted.embedder)]
    vectors_ND = embed_labels(labels, planted.embedder)
    assert not vectors_ND[0].any()
    for label, vector_D in zip(labels, vectors_ND, strict=True):
        if label.text:
            np.testing.assert_allclose(vector_D, planted.embedder.embed([label.text])[0], atol=1e-3)


def test_an_embedder_of_another_width_is_refused(planted: Planted) -> None:
    class Wide(ToyEmbedder):
        width = WIDTH + 1

    with pytest.raises(EmbeddingError, match=f"{WIDTH + 1} numbers"):
        planted.labels(embedder=Wide())


def test_progress_rises_to_its_total(planted: Planted) -> None:
    seen: list[tuple[int, int]] = []
    Labeller(
        planted.documents, planted.codes, planted.table, planted.sae, planted.x, planted.embedder, 0,
        lambda done, total: seen.append((done, total)),
    ).features()  # fmt: skip
    done = [step for step, _ in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1]


def test_no_document_is_both_mined_and_scored(planted: Planted) -> None:
    for latent in range(len(TOPICS)):
        split = split_documents(planted.codes, planted.table, latent, seed=0)
        samples = (split.mined, split.choosing, split.heldout)
        every = np.concatenate([sample.documents for sample in samples]).tolist()
        assert len(every) == len(set(every))
        active = set(planted.codes.of_latent(latent)[0].tolist())
        for sample in samples:
            assert set(sample.positives.tolist()) <= active
            assert not active & set(sample.negatives.tolist())
            assert len(sample.positives) == len(sample.negatives) >= 22


def test_heldout_positives_span_the_activations(planted: Planted) -> None:
    ranked = planted.codes.of_latent(0)[0].tolist()
    split = split_documents(planted.codes, planted.table, 0, seed=0)
    places = [ranked.index(position) for position in split.heldout.positives.tolist()]
    assert min(places) <= 2
    assert max(places) >= len(ranked) - 3


@pytest.mark.parametrize("n_active", [1, 2, 400])
def test_features_of_one_document_and_of_all_have_no_score(planted: Planted, n_active: int) -> None:
    """One document leaves none to score on; a feature that fires everywhere has no negatives."""
    rows = np.arange(n_active)
    codes = make_codes(
        rows, np.zeros(n_active, np.int64), np.ones(n_active, np.float32), n_documents=400, n_latents=7
    )
    table = describe(planted.sae, codes, planted.x)
    label = Labeller(planted.documents, codes, table, planted.sae, planted.x, planted.embedder).features()[0]
    assert label.source == "phrases"
    assert label.text
    assert label.score is None
    assert "too few" in label.remark


def test_documents_without_a_word_leave_a_feature_without_a_label(planted: Planted) -> None:
    wordless = [document(number, "...", "the of 12 and") for number in range(N_DOCUMENTS)]
    labels = Labeller(
        wordless, planted.codes, planted.table, planted.sae, planted.x, planted.embedder
    ).features()
    assert {label.source for label in labels} == {"none"}


def labels_of(planted: Planted, codes: Codes, documents: list[Document] | None = None) -> list[Label]:
    table = describe(planted.sae, codes, planted.x)
    return Labeller(
        documents or planted.documents, codes, table, planted.sae, planted.x, planted.embedder
    ).features()


def test_where_no_document_fires_there_are_no_labels_and_it_is_said(planted: Planted) -> None:
    none = np.zeros(0, dtype=np.int64)
    codes = make_codes(none, none, np.zeros(0, np.float32), n_documents=N_DOCUMENTS, n_latents=7)
    labels = labels_of(planted, codes)
    assert {label.source for label in labels} == {"none"}
    assert left_out(labels) == {"active on no document": 7}


def test_two_features_with_the_same_documents_are_told_apart(planted: Planted) -> None:
    documents, values = planted.codes.of_latent(0)
    rows = np.concatenate((documents, documents)).astype(np.int64)
    columns = np.repeat((0, 1), len(documents))
    codes = make_codes(rows, columns, np.concatenate((values, values)), n_documents=N_DOCUMENTS, n_latents=7)
    first, second, *_ = labels_of(planted, codes)
    assert first.text != second.text
    assert "lensing" in first.text + second.text


def test_words_and_titles_of_10_000_letters_become_no_label(planted: Planted) -> None:
    long = [f"{'x' * 10_000}", f"{'pack.' * 2000}name", " ".join(["weak"] * 2000)]
    documents = [
        replace(each, title=f"{each.title} {long[at % 3]}") for at, each in enumerate(planted.documents)
    ]
    for label in labels_of(planted, planted.codes, documents):
        assert all(len(text) <= MAX_LETTERS for text in (label.text, *(c.text for c in label.candidates)))


def test_a_feature_that_nothing_tells_apart_keeps_its_phrases_without_a_label(planted: Planted) -> None:
    """Its documents are drawn at random, so that no phrase says which."""
    rng = np.random.default_rng(1)
    rows = np.sort(rng.choice(N_DOCUMENTS, 200, replace=False))
    codes = make_codes(
        rows, np.zeros(200, np.int64), np.ones(200, np.float32), n_documents=N_DOCUMENTS, n_latents=7
    )
    label = labels_of(planted, codes)[0]
    assert (label.text, label.source, label.score) == ("", "none", None)
    assert label.remark == "no phrase tells its documents from others"
    assert len(label.candidates) > 2
    assert label.evidence is not None


# --- families ---------------------------------------------------------------------------------------


def test_a_family_is_named_by_what_its_members_share() -> None:
    """Four kinds of star: each feature is named by its kind, the family by the word that all have."""
    kinds = ("neutron star", "dwarf star", "binary star", "giant star")
    others = ("weak lensing", "sparse matrix")
    rng = np.random.default_rng(5)
    documents = []
    for number in range(480):
        about = (*kinds, *others)[number % 6]
        noise = rng.choice([f"filler{letter}" for letter in "abcdefghijkl"], 2)
        documents.append(
            document(
                number, f"On the {about} in {noise[0]}", f"A {about}, a {about.split()[1]}. The {noise[1]}."
            )
        )
    embedder = ToyEmbedder()
    x = embedder.embed([item.text for item in documents])
    rows = np.arange(480)
    codes = make_codes(rows, rows % 6, np.ones(480, np.float32), n_documents=480, n_latents=6)
    weights = np.stack([x[rows % 6 == latent].mean(axis=0) for latent in range(6)])
    directions = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    sae = SAE(
        W_enc_ND=directions,
        W_dec_ND=directions,
        b_enc_N=np.full(6, -0.3, np.float32),
        b_dec_D=np.zeros(WIDTH, np.float32),
        k=1,
    )
    for used in (embedder, None):
        labeller = Labeller(documents, codes, describe(sae, codes, x), sae, x, used)
        labels = labeller.features()
        assert [label.text for label in labels] == [*kinds, *others]
        (family,) = label_families(labeller, [[0, 1, 2, 3]], labels)

        assert family.text in {"star", "stars"}
        assert family.score is not None
        assert family.score.auc.low > 0.6
        assert (family.score.n_positives, family.score.n_negatives) == (30, 30)
        assert family.candidates[0].parts["breadth"] == 1


def test_a_family_without_documents_has_no_label(planted: Planted) -> None:
    labeller = Labeller(
        planted.documents, planted.codes, planted.table, planted.sae, planted.x, planted.embedder
    )
    labels = labeller.features()
    (label,) = label_families(labeller, [[len(TOPICS)]], labels)
    assert label == Label("", "none", remark="no phrase stands out in its documents")
    assert label_families(labeller, [], labels) == []


# --- telling features apart -------------------------------------------------------------------------


def choice(latent: int, *candidates: tuple[str, float]) -> Choice:
    nothing = Sample(*[np.zeros(0, dtype=np.int64)] * 3)
    numbers = {"thermal": 1, "photons": 2, "diffusion": 3, "turbulence": 4, "gas": 5}
    found = [Candidate(text, "phrases", {"ranking": ranking}) for text, ranking in candidates]
    keys = [tuple(sorted(numbers[word] for word in text.split())) for text, _ in candidates]
    return Choice(latent, Split(nothing, nothing, nothing), found, keys)


def names(*choices: Choice) -> list[str]:
    """What each feature is called if nothing competes."""
    return [found[0].text for found in tell_apart(choices)[0]]


def test_the_stronger_feature_keeps_the_phrase_and_the_other_says_it_more_exactly() -> None:
    weak = choice(0, ("photons", 0.6), ("gas", 0.4), ("thermal photons", 0.4))
    strong = choice(1, ("photons", 0.9), ("gas", 0.8))
    assert names(weak, strong) == ["thermal photons", "photons"]


def test_a_feature_that_lost_its_phrase_takes_a_good_next_one_or_says_both() -> None:
    strong = choice(0, ("diffusion", 0.9), ("gas", 0.1))
    with_good = choice(1, ("diffusion", 0.8), ("turbulence", 0.7))
    with_poor = choice(2, ("diffusion", 0.7), ("gas", 0.1))
    assert names(strong, with_good, with_poor) == ["diffusion", "turbulence", "diffusion, gas"]


def test_the_same_words_in_another_order_are_the_same_phrase() -> None:
    assert names(
        choice(0, ("gas diffusion", 0.9)), choice(1, ("diffusion gas", 0.8), ("turbulence", 0.7))
    ) == [
        "gas diffusion",
        "turbulence",
    ]


def test_only_phrases_that_no_other_feature_ranks_higher_compete() -> None:
    strong = choice(0, ("diffusion", 0.9), ("gas", 0.85), ("turbulence", 0.84), ("photons", 0.5))
    other = choice(1, ("gas", 0.88), ("thermal photons", 0.8))
    candidates, entered = tell_apart([strong, other])
    assert [each.text for each in candidates[0][: entered[0]]] == ["diffusion", "turbulence"]
    assert [each.text for each in candidates[1][: entered[1]]] == ["gas", "thermal photons"]
    assert len(candidates[0]) == 4


def test_features_with_nothing_to_tell_them_apart_share_a_label() -> None:
    assert names(choice(0, ("gas", 0.9)), choice(1, ("gas", 0.8))) == ["gas", "gas"]
