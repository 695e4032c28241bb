"""Shards that were encoded apart are the codes of the whole, and nothing else passes for them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sae_core import artifact, shards
from sae_core.codes import ROWS_PER_BLOCK, encode_codes
from sae_core.errors import ArtifactError, BusyError, EmbeddingError, NotFoundError, SaefariError
from sae_core.files import write_atomic
from sae_core.rows import Reading, load_embeddings
from sae_core.sae import SAE
from sae_core.shards import Shard, encode_shard, merge_shards

N_ROWS, D, N = 5 * ROWS_PER_BLOCK + 220, 12, 80  # six blocks, the last one shorter
ROOT = Path(__file__).parents[2]


def some_sae(seed: int = 0, k: int = 4, width: int = D) -> SAE:
    rng = np.random.default_rng(seed)
    encoder_ND, decoder_ND = rng.standard_normal((2, N, width), dtype=np.float32)
    bias_N, bias_D = (rng.standard_normal(n, dtype=np.float32) / np.float32(10) for n in (N, width))
    return SAE(W_enc_ND=encoder_ND, W_dec_ND=decoder_ND, b_enc_N=bias_N, b_dec_D=bias_D, k=k)


class Place:
    """A folder with embeddings, an SAE and shards."""

    def __init__(self, folder: Path) -> None:
        self.embeddings, self.sae = folder / "the rows.npy", folder / "sae.safetensors"
        self.shards, self.out = folder / "shards", folder / "codes"
        self.how = Reading()
        self.write_rows(np.random.default_rng(5).standard_normal((N_ROWS, D)))
        some_sae().save(self.sae)

    def write_rows(self, x_MD: np.ndarray) -> None:
        unit_MD = x_MD / np.linalg.norm(x_MD.astype(np.float64), axis=1, keepdims=True)
        np.save(self.embeddings, unit_MD.astype(np.float16))

    def encode(self, shard: str) -> shards.Encoded:
        return encode_shard(self.embeddings, self.sae, self.shards, Shard.parse(shard), how=self.how)

    def encode_all(self, of: int) -> None:
        for shard in Shard(1, of).all():
            self.encode(str(shard))

    def merged(self) -> dict[str, np.ndarray]:
        merge_shards(self.shards, self.out)
        return artifact.load_arrays(self.out)

    def whole(self) -> dict[str, np.ndarray]:
        return encode_codes(SAE.load(self.sae), load_embeddings(self.embeddings, how=self.how)).arrays()

    def file(self, shard: str, suffix: str = "safetensors") -> Path:
        return self.shards / f"{Shard.parse(shard).name}.{suffix}"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


# --- dividing


@given(st.integers(0, 10**7), st.integers(1, 9999))
def test_shards_follow_each_other_through_all_rows_and_are_about_equal(n_rows: int, of: int) -> None:
    spans = [shard.rows(n_rows) for shard in Shard(1, of).all()]
    assert spans[0][0] == 0
    assert spans[-1][1] == n_rows
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(first % ROWS_PER_BLOCK == 0 or first == n_rows for first, _ in spans)
    sizes = [last - first for first, last in spans]
    assert max(sizes) - min(sizes) < 2 * ROWS_PER_BLOCK


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "3", "3/", "/4", "a/b", "-1/4", "1/10000", "1/4/4", "", "1 / 4"]
)
def test_what_is_no_shard_is_said(text: str) -> None:
    with pytest.raises(SaefariError, match=re.escape(f"--shard {text} is no part")) as caught:
        Shard.parse(text)
    assert "3/16" in caught.value.remedy


# --- encoding and merging


@pytest.mark.parametrize("of", [1, 2, 5, 16])
def test_merged_shards_are_the_codes_of_the_whole(place: Place, of: int) -> None:
    place.encode_all(of)
    assert_same(place.merged(), place.whole())


def test_wide_rows_a_threshold_and_no_rows_merge_as_well(place: Place) -> None:
    np.save(place.embeddings, np.random.default_rng(6).standard_normal((600, D)) * 1e3)
    sae = some_sae()
    sae.threshold = 0.4
    sae.save(place.sae)
    place.how = Reading(normalise=True)
    place.encode_all(2)
    assert_same(place.merged(), place.whole())
    place.write_rows(np.empty((0, D)))
    place.encode_all(2)
    assert_same(place.merged(), place.whole())


def test_a_shard_holds_narrow_numbers_of_its_rows(place: Place) -> None:
    place.encode("2/3")
    tensors = load_file(place.file("2/3"))
    first, last = Shard(2, 3).rows(N_ROWS)
    assert tensors["latents"].dtype == np.uint16
    assert tensors["values"].dtype == np.float32
    assert len(tensors["counts"]) == last - first
    assert tensors["counts"].sum() == len(tensors["latents"]) == len(tensors["values"])
    manifest = json.loads(place.file("2/3", "json").read_text())
    assert manifest["format"] == "saefari-shard-1"
    assert manifest["rows"] == [first, last]
    assert manifest["origin"] == {
        "sae": some_sae().fingerprint(),
        "n_latents": N,
        "k": 4,
        "n_rows": N_ROWS,
        "width": D,
        "dtype": "<f2",
        "sample": manifest["origin"]["sample"],
    }
    assert manifest["versions"]["numpy"] == np.__version__


def test_many_latents_need_wide_numbers(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setattr(shards, "MOST_SMALL", N - 1)
    place.encode("1/1")
    assert load_file(place.file("1/1"))["latents"].dtype == np.uint32
    assert_same(place.merged(), place.whole())


def test_progress_is_told(place: Place) -> None:
    told: list[tuple[int, int]] = []
    encode_shard(
        place.embeddings, place.sae, place.shards, Shard(1, 2), lambda done, total: told.append((done, total))
    )
    _, last = Shard(1, 2).rows(N_ROWS)
    assert told[-1] == (last, last)
    place.encode("2/2")
    told.clear()
    merge_shards(place.shards, place.out, lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


# --- again


def test_a_complete_shard_is_left_alone_and_would_be_the_same(place: Place) -> None:
    assert place.encode("1/2").note == ""
    content, written = place.file("1/2").read_bytes(), place.file("1/2").stat().st_mtime_ns
    assert place.encode("1/2").note == "It was complete already."
    assert place.file("1/2").stat().st_mtime_ns == written
    place.file("1/2").unlink()
    place.encode("1/2")
    assert place.file("1/2").read_bytes() == content


def change_sae(place: Place) -> None:
    some_sae(seed=1).save(place.sae)


def change_k(place: Place) -> None:
    some_sae(k=3).save(place.sae)


def change_all_rows(place: Place) -> None:
    place.write_rows(np.random.default_rng(7).standard_normal((N_ROWS, D)))


def change_one_row(place: Place) -> None:
    x_MD = np.load(place.embeddings)
    x_MD[101] += 1  # not among those that are sampled
    place.write_rows(x_MD)


def damage_file(place: Place) -> None:
    content = bytearray(place.file("1/2").read_bytes())
    content[-1] ^= 1
    place.file("1/2").write_bytes(content)


def tear_file(place: Place) -> None:
    place.file("1/2").write_bytes(place.file("1/2").read_bytes()[:-5])


def damage_manifest(place: Place) -> None:
    place.file("1/2", "json").write_text("{")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_sae, r"another SAE, \w{6} \(now \w{6}\)"),
        (change_k, "another SAE"),
        (change_all_rows, "other embeddings.*the rows.npy"),
        (change_one_row, "other embeddings"),
        (damage_file, "has changed: its checksum is another"),
        (tear_file, "bytes instead of"),
        (damage_manifest, "unfinished"),
    ],
)
def test_what_does_not_fit_is_replaced_and_said(
    place: Place, change: Callable[[Place], None], said: str
) -> None:
    place.encode_all(2)
    change(place)
    assert re.search(said, place.encode("1/2").note)
    assert place.encode("1/2").note == "It was complete already."
    place.encode("2/2")
    assert_same(place.merged(), place.whole())


def test_a_second_process_is_refused_while_one_is_at_the_shard_and_only_there(place: Place) -> None:
    with artifact.locked(place.shards, Shard(1, 2).name):  # a second descriptor stands for another process
        with pytest.raises(BusyError, match="shard-001-of-002 is being written by another process"):
            place.encode("1/2")
        place.encode("2/2")
    place.encode("1/2")


def test_a_crash_between_file_and_manifest_leaves_no_shard(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.encode_all(2)
    change_sae(place)

    def crash_at_manifest(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write_atomic(path, content)

    monkeypatch.setattr(shards, "write_atomic", crash_at_manifest)
    with pytest.raises(KeyboardInterrupt):
        place.encode("1/2")
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="shard-001-of-002"):
        merge_shards(place.shards, place.out)
    place.encode_all(2)
    assert_same(place.merged(), place.whole())


# --- what cannot be encoded


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_row_that_cannot_be_used_is_named_by_its_shard_only(place: Place, value: float) -> None:
    x_MD = np.load(place.embeddings)
    x_MD[N_ROWS - 7] = value
    np.save(place.embeddings, x_MD)
    place.encode("1/2")
    with pytest.raises(EmbeddingError, match=rf"Row {N_ROWS - 7} \(counted from 0\) of .*the rows.npy"):
        place.encode("2/2")
    assert not place.file("2/2").exists()


def test_rows_of_another_width_are_refused(place: Place) -> None:
    place.write_rows(np.ones((N_ROWS, D + 1)))
    with pytest.raises(EmbeddingError, match=r"is 13 wide, but .* encodes rows of 12") as caught:
        place.encode("1/2")
    assert caught.value.remedy


@pytest.mark.parametrize("k", [0, N + 1])
def test_an_sae_of_impossible_k_is_refused(place: Place, k: int) -> None:
    some_sae(k=k).save(place.sae)
    with pytest.raises(ArtifactError, match=f"k={k} latents per row, but there are only {N}"):
        place.encode("1/2")


def test_integers_and_files_that_are_no_sae_are_refused(place: Place) -> None:
    with pytest.raises(ArtifactError, match="cannot be read as an SAE"):
        encode_shard(place.embeddings, place.embeddings, place.shards, Shard(1, 1))
    with pytest.raises(ArtifactError, match="cannot be read as an SAE"):
        encode_shard(place.embeddings, place.shards / "missing", place.shards, Shard(1, 1))
    np.save(place.embeddings, np.ones((N_ROWS, D), dtype=np.int32))
    with pytest.raises(EmbeddingError, match="int32"):
        place.encode("1/1")
    assert not place.shards.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(place: Place) -> None:
    place.shards.write_text("a file is in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        place.encode("1/2")


# --- what cannot be merged


def commands_of(error: SaefariError) -> list[list[str]]:
    return [shlex.split(command) for command in re.findall(r"`(saefari .*?)`", error.remedy)]


def obey(error: SaefariError) -> None:
    """Do what the remedy says, word by word."""
    assert commands_of(error)
    for _, command, embeddings, *options in commands_of(error):
        assert (command, options[0::2]) == ("encode", ["--sae", "--out", "--shard"])
        encode_shard(Path(embeddings), Path(options[1]), Path(options[3]), Shard.parse(options[5]))


def remove_file(place: Place) -> None:
    place.file("2/4").unlink()


def remove_manifest(place: Place) -> None:
    place.file("2/4", "json").unlink()


def remove_both(place: Place) -> None:
    remove_file(place)
    remove_manifest(place)


def flip(place: Place) -> None:
    content = bytearray(place.file("2/4").read_bytes())
    content[len(content) // 2] ^= 4
    place.file("2/4").write_bytes(content)


def rename_manifest(place: Place) -> None:
    place.file("2/4", "json").write_bytes(place.file("3/4", "json").read_bytes())


def alter_manifest(place: Place, **changes: object) -> None:
    path = place.file("2/4", "json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "damage",
    [
        remove_file,
        remove_manifest,
        remove_both,
        flip,
        rename_manifest,
        lambda place: alter_manifest(place, format="saefari-shard-0"),
        lambda place: alter_manifest(place, rows=[0, ROWS_PER_BLOCK]),
        lambda place: alter_manifest(place, rows=7),
        lambda place: alter_manifest(place, origin=None),
        lambda place: alter_manifest(place, shard=3),
        lambda place: alter_manifest(place, more="than there should be"),
        lambda place: alter_manifest(place, size=1),
        lambda place: alter_manifest(place, sha256="0"),
        lambda place: place.file("2/4", "json").write_text("[]"),
    ],
)
def test_a_missing_or_damaged_shard_is_named_with_the_command_that_makes_it(
    place: Place, damage: Callable[[Place], None]
) -> None:
    place.encode_all(4)
    damage(place)
    with pytest.raises(ArtifactError, match=r"002-of-004|2/4") as caught:
        merge_shards(place.shards, place.out)
    assert [command[-1] for command in commands_of(caught.value)] == ["2/4"]
    assert not place.out.exists()
    obey(caught.value)
    assert_same(place.merged(), place.whole())


def test_all_damaged_files_are_named_at_once(place: Place) -> None:
    place.encode_all(4)
    for shard in ("1/4", "4/4"):
        place.file(shard).write_bytes(b"short")
    with pytest.raises(ArtifactError, match=r"001-of-004\.safetensors has 5 bytes .*004-of-004") as caught:
        merge_shards(place.shards, place.out)
    assert [command[-1] for command in commands_of(caught.value)] == ["1/4", "4/4"]
    obey(caught.value)
    assert_same(place.merged(), place.whole())
    place.encode_all(9)
    for path in place.shards.glob("*-of-004.*"):
        path.unlink()
    for path in place.shards.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ArtifactError, match="So it is with 4 more") as caught:
        merge_shards(place.shards, place.out)
    assert len(commands_of(caught.value)) == 5


def test_a_long_list_of_missing_shards_is_cut(place: Place) -> None:
    place.encode("9/90")
    with pytest.raises(
        ArtifactError, match=r"lacks shards 1/90, 2/90, 3/90, 4/90, 5/90 and 84 more\."
    ) as caught:
        merge_shards(place.shards, place.out)
    assert [command[-1] for command in commands_of(caught.value)] == [f"{n}/90" for n in range(1, 6)]
    assert "84 more" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_sae, r"different SAEs: shards .* of .*sae.safetensors \(\w{6}\)"),
        (change_all_rows, r"different embeddings: .*the rows.npy \(\w{6}\)"),
    ],
)
def test_shards_of_different_origin_do_not_go_together(
    place: Place, change: Callable[[Place], None], said: str
) -> None:
    place.encode_all(4)
    change(place)
    place.encode("3/4")
    with pytest.raises(ArtifactError, match=said) as caught:
        merge_shards(place.shards, place.out)
    assert "3/4" in caught.value.what
    assert commands_of(caught.value)[0][-1] == "1/4"
    place.encode_all(4)
    assert_same(place.merged(), place.whole())


def test_shards_of_different_divisions_do_not_go_together(place: Place) -> None:
    place.encode_all(2)
    place.encode("1/4")
    with pytest.raises(ArtifactError, match="into 2 and 4") as caught:
        merge_shards(place.shards, place.out)
    assert "shard-*-of-002.*" in caught.value.remedy


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_without_shards_is_said(place: Place, is_there: bool) -> None:
    if is_there:
        place.shards.mkdir()
        place.file("1/2", "json").write_text("torn")
    with pytest.raises(NotFoundError, match="no complete shard") as caught:
        merge_shards(place.shards, place.out)
    assert "saefari encode" in caught.value.remedy


def test_a_merge_replaces_a_merge_and_nothing_else(place: Place) -> None:
    place.encode_all(2)
    place.merged()
    change_sae(place)
    place.encode_all(2)
    assert_same(place.merged(), place.whole())
    record = json.loads((place.out / "codes.json").read_text())
    assert record["format"] == "saefari-codes-1"
    assert record["origin"]["sae"] == some_sae(seed=1).fingerprint()
    assert set(record["files"]) == {path.name for path in place.out.glob("*.npy")}
    for out in (place.shards, place.sae):
        with pytest.raises(ArtifactError, match="is not the result of a merge"):
            merge_shards(place.shards, out)
    assert place.sae.exists()
    assert [path.name for path in place.out.parent.iterdir() if path.name.startswith(".")] == []


def test_an_empty_folder_is_merged_into(place: Place) -> None:
    place.encode_all(1)
    place.out.mkdir()
    assert_same(place.merged(), place.whole())


def test_processes_encode_their_shards_side_by_side(place: Place) -> None:
    script = "import sys; from app.cli import main; sys.argv[0] = 'saefari'; main()"
    words = ["encode", str(place.embeddings), "--sae", str(place.sae), "--out", str(place.shards)]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *words, "--shard", str(shard)], cwd=ROOT, stdout=subprocess.PIPE
        )
        for shard in Shard(1, 2).all()
    ]
    for process, said in zip(running, ("rows 0 to 1,536.", "rows 1,536 to 2,780."), strict=True):
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert said.encode() in printed
    assert_same(place.merged(), place.whole())


def test_sampling_notices_that_most_rows_are_others() -> None:
    sae, x_MD = some_sae(), np.random.default_rng(8).standard_normal((5000, D)).astype(np.float32)
    same, other = shards._origin(sae, x_MD), shards._origin(sae, x_MD[::-1])
    assert same == shards._origin(sae, x_MD.copy())
    assert other == replace(same, sample=other.sample) != same


def test_the_command_for_a_missing_shard_reads_the_file_as_the_others_did(place: Place) -> None:
    rows = np.load(place.embeddings).astype(np.float64)
    np.save(place.embeddings, np.hstack([3 * rows, rows]))
    how = Reading(truncate=D, normalise=True)
    with pytest.raises(EmbeddingError, match="24 wide"):
        place.encode("1/2")
    encode_shard(place.embeddings, place.sae, place.shards, Shard.parse("1/2"), how=how)
    with pytest.raises(SaefariError, match=rf"saefari encode .* --truncate {D} --normalise --shard 2/2"):
        merge_shards(place.shards, place.out)
