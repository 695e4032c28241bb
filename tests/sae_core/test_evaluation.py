"""Evaluations: known answers of every measure, and planted topics that must be found, kept and moved."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sae_core.claims import trials
from sae_core.claims.study import Study
from sae_core.errors import CorpusError, SaefariError
from sae_core.evaluation import Evaluation, Figure, Table, merged, stored_evaluations
from sae_core.evaluation.curves import Bench, Curve, Reading
from sae_core.evaluation.facets import ADDED, PLAIN, WORDS, Facets, category_facets, evaluate_facets
from sae_core.evaluation.judged import FacetCase, Judged, load_facets, load_judged
from sae_core.evaluation.methods import METHODS, Wish, clamped, delta, descend
from sae_core.evaluation.model import Row, mean
from sae_core.evaluation.retrieval import PLAIN as EMBEDDINGS
from sae_core.evaluation.retrieval import UNTOUCHED, Sought, evaluate_retrieval, recall_of
from sae_core.evaluation.steering import (
    DOWN,
    UP,
    Steering,
    activations,
    curve_table,
    evaluate_steering,
    strengths_of,
)
from sae_core.report import evaluation_rows, evaluation_text
from tests.planted import WORDS as TOPICS
from tests.planted import SilentConsole, documents

if TYPE_CHECKING:
    from pathlib import Path

    from sae_core.explorer import Explorer

N_TRIALS = 30


@pytest.fixture(scope="module")
def study(planted: Explorer) -> Study:
    return Study(planted, next(iter(planted.saes.values())), documents(), n_trials=N_TRIALS)


@pytest.fixture(scope="module")
def found(study: Study, tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    """All tables of an evaluation of steering on the planted topics."""
    folder = tmp_path_factory.mktemp("parts")
    return evaluate_steering(study, SilentConsole(), folder, "key")[1]


def row(tables: list[Table], title: str, name: str) -> Row:
    table = next(table for table in tables if table.title == title)
    return next(row for row in table.rows if row.name == name)


def value(figure: Figure | None) -> float:
    assert figure is not None
    assert figure.value is not None
    return figure.value


# --- methods and measures --------------------------------------------------------------------------


def test_methods_do_what_their_formulas_say(planted: Explorer, study: Study) -> None:
    sae, x_D = study.space.sae, planted.vector(17)
    own = activations(sae, x_D)
    latent = next(iter(own))
    d_D = sae.directions_ND[latent]
    wish = Wish(x_D, own, latent, 0.9)
    for name, expected in (
        ("delta", x_D + (0.9 - own[latent]) * d_D),
        ("additive", x_D + 0.9 * d_D),
        ("clamp and decode", sae.decode(sae.encode(x_D[None]))[0] + (0.9 - own[latent]) * d_D),
    ):
        assert METHODS[name](sae, wish) == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)
    assert np.array_equal(delta(sae, Wish(x_D, own, latent, own[latent])), x_D)
    untouched_D = clamped(sae, Wish(x_D, own, latent, own[latent]))
    assert not np.allclose(untouched_D, x_D, atol=1e-3)


def test_gradient_steps_never_end_further_away(planted: Explorer, study: Study) -> None:
    errors = []
    for position in range(40):
        own = activations(study.space.sae, planted.vector(position))
        refined = descend(study.space.sae, {**own, 5: 0.4})
        assert refined.after <= refined.before
        errors.append((refined.before, refined.after))
    before, after = np.mean(errors, axis=0)
    assert after < 0.9 * before


def test_a_query_that_does_not_move_changes_nothing_and_a_turned_one_all(study: Study) -> None:
    sae = study.space.sae
    x_QD = study.x_MD[study.queries[:5]]
    asked = [
        trials.Trial(x_D, int(own), (0, 1, 2, 3, 4), sae.directions_ND[0])
        for x_D, own in zip(x_QD, study.queries, strict=False)
    ]

    def find(at: int, x_D: np.ndarray) -> np.ndarray:
        return trials.find_near(asked[at], study.library, x_D)

    bench = Bench(study, asked, find, lambda before, _: [0.5] * len(before))
    curve = bench.curve([list(x_QD), list(-x_QD)])
    assert curve.cosine == pytest.approx(np.array([[1, -1]] * 5), abs=1e-5)
    assert (curve.overlap == [1, 0]).all()
    assert (curve.others[:, 0] == 0).all()
    assert (curve.others[:, 1] > 0.5).all()
    assert curve.circular[:, 0] == pytest.approx([0.2] * 5)
    assert Curve.parse(json.loads(json.dumps(curve.stored()))).named.tolist() == curve.named.tolist()


def test_curves_are_read_off_between_their_points() -> None:
    ones = np.ones((4, 1))
    curve = Curve(
        cosine=ones * [1.0, 0.8, 0.4],
        named=ones * [0.2, 0.4, 0.8],
        circular=ones * [0.2, 0.5, 1.0],
        others=ones * [0.0, 0.1, 0.5],
        overlap=ones * [1.0, 0.9, 0.1],
    )
    reading = Reading(curve, 0)
    assert value(reading.figure("cosine", "named", 0.9)) == pytest.approx(0.3)
    assert value(reading.figure("cosine", "named", 0.4)) == pytest.approx(0.8)
    assert value(reading.figure("named", "others", 0.6)) == pytest.approx(0.3)
    assert reading.figure("cosine", "named", 0.3) is None
    assert reading.figure("named", "overlap", 0.9) is None


def test_an_interval_covers_the_mean_it_is_of() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(60):
        figure = mean(rng.normal(0.3, 1.0, 100), seed=seed)
        assert figure is not None
        assert figure.low is not None
        assert figure.high is not None
        inside += figure.low <= 0.3 <= figure.high
    assert 52 <= inside <= 60
    assert mean([]) is None


# --- steering ---------------------------------------------------------------------------------------


def test_steering_moves_planted_topics_and_noise_moves_none(found: list[Table]) -> None:
    title = "Moved up: named by words at equal cosine"
    ours = row(found, title, "delta")
    assert ours.n is not None
    assert ours.n > N_TRIALS // 2
    assert value(ours.figures[2]) > 0.6
    control = row(found, title, "random direction (control)")
    assert value(control.figures[2]) < 0.45
    assert value(control.figures[4]) < -0.2
    assert row(found, title, "additive").figures[:4] == ours.figures[:4]


def test_a_reconstruction_changes_results_before_anything_is_asked(found: list[Table]) -> None:
    title = "Moved up: every point"
    assert value(row(found, title, "delta: nothing moved").figures[4]) == 1
    assert value(row(found, title, "refined: nothing moved").figures[4]) == 1
    assert value(row(found, title, "clamp and decode: nothing moved").figures[4]) < 0.99


def test_what_is_circular_is_called_so(found: list[Table]) -> None:
    tables = [table for table in found if any("activations" in name for name in table.columns)]
    assert tables
    for table in tables:
        assert [name for name in table.columns if "activations" in name and "circular" not in name] == []


def test_switching_off_is_a_point_of_the_way_down() -> None:
    ones = np.ones((3, len(strengths_of(DOWN)) + 1))
    table = curve_table("down", {"delta": Curve(ones, ones, ones, ones, ones)}, DOWN, 0)
    assert [row.name for row in table.rows[:3]] == ["delta: nothing moved", "delta: 0", "delta: -0.2"]


def test_the_best_feature_of_a_category_brings_it_more_than_a_random_one(found: list[Table]) -> None:
    title = "Moved towards a category: named by categories"
    ours = row(found, title, "SAE feature")
    assert value(ours.figures[1]) > value(row(found, title, "random decoder").figures[1])
    assert value(row(found, title, "mean of the category (supervised)").figures[1]) > 0.4


def test_rewriting_is_set_against_the_feature_at_the_same_cosine(found: list[Table]) -> None:
    title = "Moved up: rewriting the query, and the feature at the same cosine"
    rewritten = row(found, title, 'rewritten with "... and <label>"')
    feature = row(found, title, "the feature, at those cosines")
    assert value(rewritten.figures[0]) == pytest.approx(value(feature.figures[0]), abs=1e-4)
    less = row(found, title, "the feature less rewriting")
    assert value(less.figures[1]) == pytest.approx(value(feature.figures[1]) - value(rewritten.figures[1]))


def test_parts_that_are_kept_are_not_made_again(planted: Explorer, study: Study, tmp_path: Path) -> None:
    study = Study(planted, study.space, study.documents, n_trials=4)
    stages: list[str] = []

    class Listening(SilentConsole):
        def stage(self, name: str) -> Any:
            stages.append(name)
            return nullcontext(lambda _done, _total, _detail="": None)

    for key, made in (("a", True), ("a", False), ("b", True)):
        stages.clear()
        steering = Steering(study, Listening(), tmp_path, key)
        steering.refinement(steering.draw(UP), steering.draw(DOWN))
        assert ("refinement" in stages) == made


# --- retrieval --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sought(planted: Explorer, study: Study) -> Sought:
    """Pairs of words ask for the documents that have both."""
    texts = [set(document.title.split()) for document in study.documents]
    asked = []
    for pair in zip(TOPICS[::2], TOPICS[1::2], strict=True):
        gains = {at: 1.0 for at, text in enumerate(texts) if set(pair) <= text}
        if gains:
            asked.append((" ".join(pair), gains))
    judged = Judged([word for word, _ in asked], [gains for _, gains in asked], 0)
    queries_QD = np.stack([planted.embed(word) for word in judged.queries])
    train_MD = np.ascontiguousarray(study.x_MD[study.is_train_M])
    return Sought(
        planted, study.space, judged, queries_QD, planted.index.vectors(), study.documents, train_MD, True
    )


def test_search_that_is_left_alone_is_plain_search(sought: Sought, tmp_path: Path) -> None:
    tables, sentences = evaluate_retrieval(sought, SilentConsole(), tmp_path, "key")
    n = len(sought.judged.queries)
    assert f"for {n} of {n} queries with nothing moved" in sentences[0]
    assert f"for {n} of {n} with every slider" in sentences[0]
    plain, untouched = (row(tables, "Retrieval", name) for name in (EMBEDDINGS, UNTOUCHED))
    assert plain.figures[:2] == untouched.figures[:2]
    assert value(untouched.figures[2]) == 0
    assert value(row(tables, "Retrieval", "reconstructions, both sides").figures[0]) < value(plain.figures[0])
    assert {each.n for each in tables[0].rows} == {n}


def test_a_search_that_is_not_left_alone_is_told(
    sought: Sought, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = type(sought.explorer).search

    def worse(explorer: Explorer, sae: str, x_D: np.ndarray, *args: Any, **options: Any) -> Any:
        rebuilt_D = explorer.get_sae(sae).sae.decode(explorer.get_sae(sae).sae.encode(x_D[None]))[0]
        return search(explorer, sae, (rebuilt_D / np.linalg.norm(rebuilt_D)), *args, **options)

    monkeypatch.setattr(type(sought.explorer), "search", worse)
    _, sentences = evaluate_retrieval(sought, SilentConsole(), tmp_path, "key")
    n = len(sought.judged.queries)
    assert f"for {n} of {n} queries with nothing moved" not in sentences[0]


def test_other_documents_are_searched_with_the_same_sae(sought: Sought, tmp_path: Path) -> None:
    foreign = sought._replace(is_own=False)
    tables, _ = evaluate_retrieval(foreign, SilentConsole(), tmp_path, "key")
    assert row(tables, "Retrieval", EMBEDDINGS).figures[:2] == row(tables, "Retrieval", UNTOUCHED).figures[:2]


def test_recall_counts_relevant_documents_alone() -> None:
    assert recall_of(np.array([3, 1, 9]), {1: 1.0, 2: 2.0, 3: 0.0}) == 0.5


# --- facets -----------------------------------------------------------------------------------------


def facet_lines(study: Study) -> list[dict[str, Any]]:
    """The first word of a pair is asked for, the second is the facet: documents of both answer."""
    lines = []
    for first, second in zip(TOPICS[6:40:3], TOPICS[7:41:3], strict=True):
        both = [d.id for d in study.documents if {first, second} <= set(d.title.split())]
        if both:
            lines.append({"query": first, "facet": second, "documents": dict.fromkeys(both, 1)})
    return lines


def test_steering_towards_a_facet_finds_documents_that_have_it(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in facet_lines(study)), encoding="utf-8")
    cases = load_facets(path, [document.id for document in study.documents], study.space.sae.n_latents)
    facets = Facets(study, cases, None, [])
    tables = evaluate_facets(facets, SilentConsole(), tmp_path, "key")
    plain = value(row(tables, "All cases", PLAIN).figures[0])
    added = row(tables, "All cases", ADDED)
    by_label = row(tables, "All cases", f"{WORDS['label']}: 0.7")
    assert value(added.figures[1]) > 0.2
    assert value(by_label.figures[0]) > plain + 0.1
    assert by_label.n == len(cases) > 5
    wrong = [replace(case, latent=_far_from(study, case)) for case in cases]
    tables = evaluate_facets(facets._replace(cases=wrong), SilentConsole(), tmp_path, "other")
    assert value(row(tables, "All cases", f"{WORDS['given']}: 0.7").figures[0]) < plain + 0.05


def _far_from(study: Study, case: FacetCase) -> int:
    """A feature that has nothing to do with the case."""
    facet_D, query_D = (study.explorer.embed(text) for text in (case.facet, case.query))
    return int(
        np.argmin(
            np.abs(study.space.sae.directions_ND @ facet_D) + np.abs(study.space.sae.directions_ND @ query_D)
        )
    )


def test_categories_are_facets_that_the_query_has_not(study: Study) -> None:
    facets = category_facets(study, {"group-1": "the first group"})
    assert facets is not None
    assert study.categories is not None
    assert "the first group" in {case.facet for case in facets.cases}
    inside_M = study.categories.belongs_MC[:, study.categories.names.index("group-1")]
    products_M = study.x_MD @ facets.means["the first group"]
    assert products_M[inside_M].mean() > products_M[~inside_M].mean() + 0.2
    for case in facets.cases:
        assert facets.allowed_M is not None
        assert facets.allowed_M[list(case.relevant)].all()
        assert not set(case.excluded) & set(case.relevant)
        assert len(case.relevant) > 1


# --- judged data ------------------------------------------------------------------------------------


def test_judged_sets_are_read_from_any_table(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("query_id,query,split\n1,red,test\n2,blue,train\n3,green,test\n")
    (tmp_path / "r.jsonl").write_text(
        '{"qid": "1", "docid": "b", "score": 2}\n{"qid": 2, "docid": "a"}\n{"qid": "1", "docid": "gone"}\n'
    )
    judged = load_judged(tmp_path / "q.csv", tmp_path / "r.jsonl", ["a", "b"], "test")
    assert (judged.queries, judged.relevant, judged.n_unknown) == (["red"], [{1: 2.0}], 1)
    both = load_judged(tmp_path / "q.csv", tmp_path / "r.jsonl", ["a", "b"])
    assert both.relevant == [{1: 2.0}, {0: 1.0}]
    with pytest.raises(CorpusError, match="split nowhere"):
        load_judged(tmp_path / "q.csv", tmp_path / "r.jsonl", ["a", "b"], "nowhere")


@pytest.mark.parametrize(
    ("queries", "qrels", "said"),
    [
        ("name,words\n1,red\n", "query_id,doc_id\n1,a\n", "no column for id"),
        ("query_id,query\n1,red\n", "query_id,doc_id,relevance\n1,a,much\n", "'much' is no number"),
        ("query_id,query\n1,red\n", "query_id,doc_id\n1,z\n", "No query"),
    ],
)
def test_judged_sets_that_cannot_be_read_are_told(
    tmp_path: Path, queries: str, qrels: str, said: str
) -> None:
    (tmp_path / "q.csv").write_text(queries)
    (tmp_path / "r.csv").write_text(qrels)
    with pytest.raises(CorpusError, match=said):
        load_judged(tmp_path / "q.csv", tmp_path / "r.csv", ["a"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON object"),
        ('{"query": "a", "facet": "b"}', "Line 1"),
        ('{"query": "", "facet": "b", "documents": {"a": 1}}', "Line 1"),
        ('{"query": "a", "facet": "b", "documents": {"a": NaN}}', "Line 1"),
        ('{"query": "a", "facet": "b", "documents": {"a": 1}, "feature": 64}', "no feature 64"),
        ('{"query": "a", "facet": "b", "documents": {"z": 1}}', "No case"),
        ('{"query": "a", "facet": "b", "documents": {"a": 0}}', "No case"),
    ],
)
def test_facets_that_cannot_be_read_are_told(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(CorpusError, match=said):
        load_facets(path, ["a"], 64)


# --- what is stored ---------------------------------------------------------------------------------


def test_an_evaluation_replaces_its_predecessor_and_no_other() -> None:
    table = Table("T", ["c", "d"], [Row("r", [Figure(0.5, 0.4, 0.6, "share"), None], 7)], "so")
    one = Evaluation("facets", "x", "demo", "k3", "2026-11-23", 0, ["s"], [table], [])
    stored = merged(None, one)
    stored = merged(stored, replace(one, kind="retrieval"))
    stored = merged(json.loads(json.dumps(stored)), replace(one, made="2026-11-24"))
    found = stored_evaluations(stored)
    assert [(each.kind, each.made) for each in found] == [
        ("facets", "2026-11-24"),
        ("retrieval", "2026-11-23"),
    ]
    assert asdict(found[0])["tables"] == [asdict(table)]
    assert evaluation_rows(table)[1] == [("r", "50.0% [40.0%, 60.0%]", "—", "7")]
    assert "### T" in evaluation_text(one)
    with pytest.raises(SaefariError, match="schema 99"):
        stored_evaluations({"schema": 99})
    assert len(merged({"schema": 99}, one)["evaluations"]) == 1
