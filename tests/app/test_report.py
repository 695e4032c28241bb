"""`saefari report`: what it writes, publishes and shows, what it says beforehand, and what it survives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import reporting
from app.main import create_app
from app.settings import Settings
from sae_core import artifact
from sae_core import endpoint as client_of_models
from sae_core.claims import ClaimsReport
from sae_core.claims.grids import plan_own_grid, train_own_grid
from sae_core.claims.study import Study
from sae_core.explorer import Explorer
from sae_core.grid import GridSizes
from tests.app.served import Run
from tests.language_model import Call, Raw, completion, serving
from tests.planted import PlantedEmbedder, SilentConsole, planted_collection

SIZES = ("--sizes", "k=2,3,4", "n=16,24,32", "--steps", "40")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a collection of two SAEs and a finished grid; copied by those who write."""
    home = tmp_path_factory.mktemp("home")
    collection = planted_collection(home, n=500, steps=300, latents=(24, 48), ks=(3,))
    folder = home / "reports" / "planted" / reporting.GRID
    plan = plan_own_grid(Explorer.load(collection), GridSizes.parse(SIZES[1:3]), folder, seed=0, steps=40)
    train_own_grid(plan, folder, SilentConsole())
    return home


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer features and trials, and the planted encoder, which no command line can name."""
    monkeypatch.setattr(client_of_models, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client_of_models, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(
        Study.__init__,
        "__kwdefaults__",
        {**(Study.__init__.__kwdefaults__ or {}), "n_sampled": 12, "n_trials": 20},
    )

    def attach(explorer: Explorer, **_: object) -> None:
        explorer.manifest["embedder"] |= {"fingerprint": PlantedEmbedder.fingerprint}
        explorer.attach_encoder(PlantedEmbedder())

    monkeypatch.setattr(Explorer, "load_encoder", attach)


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "home")
    return tmp_path / "home"


def stored(home: Path) -> list[ClaimsReport]:
    explorer = Explorer.load(home / "collections" / "planted")
    return [ClaimsReport.parse(space.report) for space in explorer.saes.values() if space.report]


def test_a_report_is_written_published_and_shown(run: Run, home: Path) -> None:
    before = artifact.current(home / "collections" / "planted")
    status, out, err = run("report", "planted", "--home", home, *SIZES, "--quiet")
    assert status == 0, err
    assert "## 10. Edits of the SAE beat rewriting the query at equal cosine: " in out
    (folder,) = (home / "reports" / "planted").glob("k3-*")
    assert (folder / "report.md").read_text() in out
    whole = json.loads((folder / "report.json").read_text())
    assert len(whole["claims"]) == 10
    (report,) = stored(home)
    assert report.sae == next(iter(Explorer.load(home / "collections" / "planted").saes))
    assert report.claims[1].verdict != "not measured"
    after = artifact.current(home / "collections" / "planted")
    assert after != before
    artifact.verify(after)

    _, shown, _ = run("report", "planted", "--show", "--home", home)
    assert "# The claims of the paper on planted" in shown
    assert "| held-out FVU |" in shown  # the build's own report

    with TestClient(create_app(Settings(home=home))) as client:
        page = client.get(f"/planted/{report.sae}").text
        for claim in report.claims:
            assert f'id="claim-{claim.number}"' in page
        assert "Labels, families or documents have changed" not in page
        twin = client.get(f"/planted/{report.sae}.json").json()
        assert [claim["number"] for claim in twin["claims"]["claims"]] == list(range(1, 11))
        other = next(
            name for name in Explorer.load(home / "collections" / "planted").saes if name != report.sae
        )
        assert "Not checked yet" in client.get(f"/planted/{other}").text

    again, out, err = run("report", "planted", "--home", home, *SIZES)
    assert again == 0
    assert "Claim 1" not in err  # everything was kept
    assert (folder / "report.md").read_text() in out


def test_labels_that_are_made_again_leave_the_report_behind(run: Run, home: Path) -> None:
    assert run("report", "planted", "--home", home, *SIZES, "--quiet")[0] == 0
    (report,) = stored(home)
    collection = home / "collections" / "planted"
    with artifact.locked(collection), artifact.revise(collection) as (folder, _):
        labels = artifact.load_json(artifact.current(collection) / "saes" / report.sae / "labels.json")
        labels[0]["text"] = "another"
        artifact.save_json(folder / "saes" / report.sae / "labels.json", labels)
    with TestClient(create_app(Settings(home=home))) as client:
        assert "Labels, families or documents have changed" in client.get(f"/planted/{report.sae}").text


def test_what_it_would_take_is_said_and_nothing_is_done(run: Run, home: Path) -> None:
    before = artifact.current(home / "collections" / "planted")
    model = ("--llm-base-url", "http://127.0.0.1:9/v1", "--llm-model", "tiny")
    status, out, _ = run("report", "planted", "--home", home, *SIZES, "--dry-run", *model)
    assert status == 0
    assert "k2-n16, k2-n24, k2-n32, k3-n16" in out
    assert "calls to tiny" in out
    assert artifact.current(home / "collections" / "planted") == before
    assert not list((home / "reports" / "planted").rglob("report.*"))


def test_a_model_judges_labels_and_rewrites_queries(run: Run, home: Path) -> None:
    def answer(call: Call) -> Raw:
        if "Rewrite the query" in call.question:
            return completion(json.dumps({"query": "a study of everything"}))
        n = call.question.count("~~~~ text ")
        return completion(json.dumps({"confidence": {str(i + 1): (-1) ** i / 2 for i in range(n)}}))

    with serving(answer) as server:
        model = ("--llm-base-url", server.url, "--llm-model", "tiny")
        status, _, err = run("report", "planted", "--home", home, *SIZES, "--quiet", *model)
        assert status == 0, err
        assert any("Rewrite the query" in call.question for call in server.calls)
    (report,) = stored(home)
    by_number = {claim.number: claim for claim in report.claims}
    assert "judged by tiny" in by_number[8].llm
    assert "rewritten by tiny" in by_number[10].llm
    assert not any("without a language model" in sentence for sentence in report.left_out)


def test_an_endpoint_that_is_down_stops_nothing(run: Run, home: Path) -> None:
    model = ("--llm-base-url", "http://127.0.0.1:9/v1", "--llm-model", "tiny")
    status, _, err = run("report", "planted", "--home", home, *SIZES, "--quiet", *model)
    assert status == 0, err
    (report,) = stored(home)
    assert any("did not answer" in sentence for sentence in report.left_out)
    assert "without result" in report.claims[7].llm
    assert report.claims[7].measures


def test_a_collection_without_an_encoder_is_reported_without_the_tenth(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Explorer, "load_encoder", lambda *_, **__: None)
    status, _, err = run("report", "planted", "--home", home, *SIZES, "--quiet")
    assert status == 0, err
    (report,) = stored(home)
    assert report.claims[9].verdict == "not measured"
    assert "cannot be embedded" in report.claims[9].why
    assert report.claims[8].verdict != "not measured"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--sae", "nothing"), "has no SAE nothing"),
        (("--grid", "/nowhere"), "holds no finished grid"),
        (("--sizes", "k=x", "n=3"), "not a list of whole numbers"),
        (("--llm-model", "tiny"), "--llm-base-url is missing"),
    ],
)
def test_what_cannot_be_asked_for_is_a_sentence(
    run: Run, built: Path, more: tuple[str, ...], said: str
) -> None:
    status, _, err = run("report", "planted", "--home", built, *more)
    assert status == 1
    assert said in err


def test_a_collection_that_was_built_again_is_not_written_over(run: Run, home: Path) -> None:
    assert run("report", "planted", "--home", home, *SIZES, "--quiet")[0] == 0
    (report,) = stored(home)
    with pytest.raises(Exception, match="built again in the meantime"):
        reporting.publish(home / "collections" / "planted", ClaimsReport(**{**vars(report), "sae": "gone"}))


def test_the_saes_of_a_collection_stand_side_by_side(built: Path) -> None:
    with TestClient(create_app(Settings(home=built))) as client:
        html = client.get("/planted/compare").text
        view = client.get("/planted/compare.json").json()
        assert client.get("/nothing/compare").status_code == 404
    assert [sae["n_latents"] for sae in view["saes"]] == [24, 48]
    (pair,) = view["pairs"]
    assert [way["other"] for way in pair["ways"]] == [pair["coarse"], pair["fine"]]
    for way in pair["ways"]:
        assert way["recurrent"] + way["new"] == pytest.approx(1)
        assert sum(way["cosines"]["counts"]) == way["n"]
    assert pair["same"]
    for _, _, cosine in pair["same"]:
        assert cosine > 0.7
    for split in pair["splits"]:
        assert split["n"] >= len(split["fine"]) >= 2
    assert pair["fine"] in html


def test_one_sae_has_nothing_to_be_compared_with(client: TestClient) -> None:
    page = client.get("/planted/compare")
    assert page.status_code == 200
    assert "There is only one" in page.text
