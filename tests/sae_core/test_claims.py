"""The ten claims on the planted collection: they can hold, and they can fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.catalog import FILE_NAME, Catalog
from sae_core import metrics
from sae_core.claims import (
    FAILS,
    HOLDS,
    IN_PART,
    UNMEASURED,
    Check,
    Claim,
    ClaimsReport,
    verdict_of,
)
from sae_core.claims.checking import check_claims
from sae_core.claims.grids import default_sizes, grid_from, plan_own_grid, train_own_grid
from sae_core.claims.groups import families
from sae_core.claims.sizes import compute_law
from sae_core.claims.study import Study
from sae_core.codes import encode_codes
from sae_core.corpus import Document
from sae_core.dictionaries import random_dictionary
from sae_core.errors import SaefariError, TrainingError
from sae_core.explorer import Explorer, FeatureSet
from sae_core.families import coactivate, grow
from sae_core.features import describe
from sae_core.grid import GridSizes
from sae_core.labels.phrases import Labeller
from sae_core.report import claims_text
from sae_core.sae import SAE
from tests import planted as truth

SIZES = GridSizes((2, 3, 4), (24, 36, 48))


@pytest.fixture(scope="module")
def documents(planted: Explorer) -> list[Document]:
    return Catalog(planted.path / FILE_NAME).documents(range(planted.n_documents))


@pytest.fixture(scope="module")
def grid_folder(planted: Explorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "grid"
    plan = plan_own_grid(planted, SIZES, folder, seed=0, steps=100)
    train_own_grid(plan, folder, truth.SilentConsole())
    return folder


def a_study(planted: Explorer, space: FeatureSet, documents: list[Document], **options: Any) -> Study:
    return Study(planted, space, documents, **{"n_sampled": 40, "n_trials": 60, **options})


def untrained(planted: Explorer, documents: list[Document]) -> FeatureSet:
    """A random decoder in the place of the SAE, with everything that a build makes of an SAE."""
    (space,) = planted.saes.values()
    x_MD = planted.index.vectors()
    sae = random_dictionary(x_MD, space.sae.n_latents, space.sae.k, seed=99).sae
    codes = encode_codes(sae, x_MD)
    table = describe(sae, codes, x_MD)
    labels = Labeller(documents, codes, table, sae, x_MD, planted.embedder).features()
    coactivation = coactivate(codes)
    scores = metrics.scorecard(sae, x_MD[300:], x_MD[:300], codes.counts(), len(x_MD))
    return replace(
        space,
        name="untrained",
        sae=sae,
        codes=codes,
        features=table,
        labels=labels,
        coactivation=coactivation,
        forest=grow(coactivation, space.forest.config),
        metrics=scores,
    )


@pytest.fixture(scope="module")
def report(
    planted: Explorer, documents: list[Document], grid_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> ClaimsReport:
    (space,) = planted.saes.values()
    grid = grid_from(grid_folder, planted)
    study = a_study(planted, space, documents, grid=grid)
    parts = tmp_path_factory.mktemp("parts")
    return check_claims(study, truth.SilentConsole(), parts, grid_words=grid.words)


@pytest.fixture(scope="module")
def untrained_report(
    planted: Explorer, documents: list[Document], grid_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> ClaimsReport:
    study = a_study(planted, untrained(planted, documents), documents, grid=grid_from(grid_folder, planted))
    return check_claims(study, truth.SilentConsole(), tmp_path_factory.mktemp("parts"), grid_words="")


def verdicts(report: ClaimsReport) -> dict[int, str]:
    return {claim.number: claim.verdict for claim in report.claims}


def why(report: ClaimsReport) -> str:
    return "\n".join(f"{claim.number} {claim.verdict}: {claim.why}" for claim in report.claims)


def test_every_claim_is_there_and_has_numbers_and_a_reason(report: ClaimsReport) -> None:
    assert [claim.number for claim in report.claims] == list(range(1, 11))
    for claim in report.claims:
        assert claim.verdict in {HOLDS, IN_PART, FAILS, UNMEASURED}
        assert claim.why
        assert claim.caveat
        assert claim.measures
        assert "language model" in claim.llm or "LLM" in claim.llm


def test_planted_features_are_found_to_be_real(report: ClaimsReport) -> None:
    found = verdicts(report)
    assert found[1] in {HOLDS, IN_PART}, why(report)
    assert found[6] in {HOLDS, IN_PART}, why(report)
    assert found[8] in {HOLDS, IN_PART}, why(report)
    assert found[9] in {HOLDS, IN_PART}, why(report)


def test_a_random_dictionary_in_the_place_of_the_sae_does_not_pass(untrained_report: ClaimsReport) -> None:
    found = verdicts(untrained_report)
    for number in (1, 5, 6):
        assert found[number] == FAILS, why(untrained_report)
    for number in (7, 8, 9, 10):
        assert found[number] != HOLDS, why(untrained_report)


def test_the_planted_sae_leads_the_random_decoder(report: ClaimsReport) -> None:
    labels = next(claim for claim in report.claims if claim.number == 8)
    sampled = [measure for measure in labels.measures if measure.baselines]
    assert sampled
    for measure in sampled:
        assert measure.value is not None
        assert measure.value > (measure.baselines["random decoder"] or 1)
    assert report.categories is not None
    assert report.category_source == "categories"
    assert report.categories[0]["dictionary"] == "SAE"


def test_a_report_is_kept_and_read_again(report: ClaimsReport) -> None:
    stored = json.loads(json.dumps(asdict(report)))
    assert asdict(ClaimsReport.parse(stored)) == stored
    with pytest.raises(SaefariError, match="schema 99"):
        ClaimsReport.parse({**stored, "schema": 99})


def test_the_text_has_every_verdict_caveat_and_baseline(report: ClaimsReport) -> None:
    text = claims_text(report)
    for claim in report.claims:
        assert f"## {claim.number}. {claim.title}: {claim.verdict}" in text
        assert claim.caveat in text
    assert "k-means" in text
    assert "## Known categories" in text
    assert "needs an LLM" in text


# --- what is missing ------------------------------------------------------------------------------


def test_without_a_grid_labels_or_categories_the_rest_goes_on(
    planted: Explorer, documents: list[Document], tmp_path: Path
) -> None:
    (space,) = planted.saes.values()
    bare = [replace(document, venue="", categories="") for document in documents]
    bald = replace(
        space, labels=[replace(label, text="", source="none", score=None) for label in space.labels]
    )
    study = a_study(planted, bald, bare, n_sampled=8, n_trials=10)
    report = check_claims(study, truth.SilentConsole(), tmp_path, grid_words="No grid.")
    found = verdicts(report)
    assert found[2] == found[3] == found[6] == found[8] == UNMEASURED, why(report)
    assert found[4] != UNMEASURED
    assert report.categories is None
    assert any("Categories" in sentence for sentence in report.left_out)
    assert any("2, 3, 6, 8" in sentence for sentence in report.left_out)


def test_nothing_fires(planted: Explorer, documents: list[Document], tmp_path: Path) -> None:
    (space,) = planted.saes.values()
    sae = random_dictionary(planted.index.vectors(), 64, 3).sae
    silent = SAE(
        W_enc_ND=sae.W_enc_ND,
        W_dec_ND=sae.W_dec_ND,
        b_enc_N=sae.b_enc_N - 100,
        b_dec_D=sae.b_dec_D,
        k=3,
    )
    codes = encode_codes(silent, planted.index.vectors())
    coactivation = coactivate(codes)
    dead = replace(
        space,
        sae=silent,
        codes=codes,
        features=describe(silent, codes, planted.index.vectors()),
        labels=[replace(label, text="", source="none", score=None) for label in space.labels],
        coactivation=coactivation,
        forest=grow(coactivation, space.forest.config),
    )
    study = a_study(planted, dead, documents, n_sampled=8, n_trials=10)
    report = check_claims(study, truth.SilentConsole(), tmp_path, grid_words="No grid.")
    assert HOLDS not in {claim.verdict for claim in report.claims if claim.number > 3}, why(report)


class Counting:
    """A console that counts the stages it showed."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[Any]:
        self.stages.append(name)
        yield lambda _done, _total, _detail="": None


def test_a_report_that_was_stopped_goes_on_where_it_was(
    planted: Explorer, documents: list[Document], tmp_path: Path
) -> None:
    (space,) = planted.saes.values()
    console = Counting()

    def study(documents: list[Document], **options: Any) -> Study:
        return a_study(planted, space, documents, n_sampled=8, n_trials=10, **options)

    first = study(documents)
    first.__dict__["samples"] = property()  # no samples: the eighth claim ends in an error
    with pytest.raises(AttributeError):
        check_claims(first, console, tmp_path, grid_words="")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"claim-{i}.json" for i in range(1, 8)]
    assert console.stages[-1] == "Claim 8: label scores"
    again = Counting()
    whole = check_claims(study(documents), again, tmp_path, grid_words="")
    assert again.stages[:3] == ["Claim 8: label scores", "Claim 9: steering", "Claim 10: against rewriting"]
    (tmp_path / "claim-2.json").write_text("{broken")
    third = Counting()
    assert check_claims(study(documents), third, tmp_path, grid_words="").claims[1:] == whole.claims[1:]
    assert third.stages[0] == "Claim 2: power law in n"
    other = Counting()
    check_claims(study(documents, seed=5), other, tmp_path, grid_words="")
    assert other.stages[0] == "Claim 1: reconstruction"  # another seed is another report


# --- grids ----------------------------------------------------------------------------------------


def test_a_grid_that_is_not_one_is_refused(planted: Explorer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no finished grid"):
        grid_from(tmp_path, planted)


def test_the_grid_says_where_it_came_from(planted: Explorer, grid_folder: Path) -> None:
    grid = grid_from(grid_folder, planted)
    assert "9 SAEs" in grid.words
    assert "other rows" not in grid.words
    assert len(grid.result.members) == 9


def test_the_default_grid_has_three_of_each(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    sizes = default_sizes(space)
    assert len(sizes) == 9
    assert max(sizes.ks) < min(sizes.latents)


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([], UNMEASURED),
        ([(None, False)], UNMEASURED),
        ([(True, False), (None, True)], UNMEASURED),
        ([(True, True), (True, False)], HOLDS),
        ([(True, True), (None, False)], HOLDS),
        ([(True, True), (None, True)], IN_PART),
        ([(True, True), (False, False)], IN_PART),
        ([(False, True), (True, False)], FAILS),
        ([(False, False), (False, False)], FAILS),
    ],
)
def test_the_verdict_follows_from_the_checks(checks: list[tuple[bool | None, bool]], expected: str) -> None:
    made = [Check(f"check {at}", passed, is_key) for at, (passed, is_key) in enumerate(checks)]
    verdict, reason = verdict_of(made)
    assert verdict == expected
    for check in made:
        assert check.text in reason.lower()
    assert all(Claim.parse(asdict(claim)) == claim for claim in [_claim(verdict, made)])


def _claim(verdict: str, checks: list[Check]) -> Claim:
    return Claim(1, "t", "s", verdict, "w", [], checks, "c", "l")


def test_a_power_of_compute_is_found_and_a_bend_is_not_taken_for_one() -> None:
    compute = np.logspace(6, 9, 60)
    law = compute_law([(compute, 3 * compute**-0.2), (2 * compute, 3.3 * (2 * compute) ** -0.2)])
    assert law is not None
    assert law.exponent == pytest.approx(-0.2, abs=0.01)
    assert law.r2 > 0.99
    bent = compute_law([(compute, 0.1 + 3 * compute**-0.5)])
    assert bent is not None
    assert bent.r2 < 0.9
    assert compute_law([]) is None


def test_one_family_that_holds_everything_is_said(planted: Explorer, documents: list[Document]) -> None:
    (space,) = planted.saes.values()
    study = a_study(planted, space, documents)
    own = study.forests["SAE"]
    living = np.flatnonzero(space.codes.counts()).tolist()
    drawer = replace(own.families[0], members=living, parents=[-1] + [living[0]] * (len(living) - 1))
    study.__dict__["forests"] |= {"SAE": replace(own, families=[drawer], n_covered=len(living))}
    claim = families(study)
    (check,) = [check for check in claim.checks if "holds half" in check.text]
    assert check.passed is False
    assert f"the largest has {len(living)} of {len(living)}" in check.text
    nothing = {name: replace(forest, families=[], n_covered=0) for name, forest in study.forests.items()}
    study.__dict__["forests"] = nothing
    assert families(study).verdict == FAILS


def test_a_grid_of_other_rows_is_refused_and_a_damaged_member_left_out(
    planted: Explorer, grid_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "grid"
    shutil.copytree(grid_folder, copy)
    (copy / "k2-n24" / "training.json").write_text("{broken")
    assert len(grid_from(copy, planted).result.members) == 8
    record = json.loads((copy / "k2-n36" / "training.json").read_text())
    (copy / "k2-n36" / "training.json").write_text(json.dumps({**record, "data": "other"}))
    with pytest.raises(TrainingError, match="different rows"):
        grid_from(copy, planted)
