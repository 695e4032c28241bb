"""Encoding a corpus in shards: each by any process, each with a file and a manifest; merged afterwards.

    {folder}/shard-003-of-016.safetensors   counts of documents, latents and values, strongest first
    {folder}/shard-003-of-016.json          what it was made of; size and sha256 of the file

A shard begins and ends between two blocks of `encode_documents`, so the merged codes are those of encoding
the whole, bit for bit where the shards were encoded by the same machine. The manifest is written last: a
shard without one is unfinished. A shard that is complete is not made again, and one of another SAE or of
other rows is replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from sae_core import artifact
from sae_core.codes import ROWS_PER_BLOCK, Codes, DocumentCodes, encode_documents, pointers
from sae_core.errors import ArtifactError, EmbeddingError, NotFoundError, SaefariError
from sae_core.files import explain_write_errors, find_damage, sha256_of, sync_folder, write_atomic
from sae_core.rows import AS_IT_IS, Reading, check_rows, map_embeddings
from sae_core.sae import SAE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Progress = Callable[[int, int], None]

FORMAT, CODES_FORMAT = "saefari-shard-1", "saefari-codes-1"
CODES_MANIFEST = "codes.json"
MOST_SHARDS = 9999
SAMPLED_ROWS = 256  # by which shards notice that they were made of different files
MOST_NAMED = 5  # shards or commands in one message
MOST_SMALL = 2**16  # latents whose numbers fit into 16 bits
LETTERS = 6  # of a fingerprint, as in the name of an SAE


@dataclass(frozen=True, order=True)
class Shard:
    """One of equal parts of a corpus, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From words like 3/16."""
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.of <= MOST_SHARDS:
            what = f"--shard {text} is no part of a whole."
            remedy = f"Write 3/16 for the third of sixteen; at most {MOST_SHARDS} shards, counted from 1."
            raise SaefariError(what, remedy=remedy)
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"shard-{self.number:03}-of-{self.of:03}"

    def all(self) -> list[Shard]:
        """Every shard of the same whole."""
        return [Shard(number, self.of) for number in range(1, self.of + 1)]

    def rows(self, n_rows: int) -> tuple[int, int]:
        """First row, and the one after the last, of a corpus of `n_rows`."""
        n_blocks = -(-n_rows // ROWS_PER_BLOCK)
        first, last = (-(-n_blocks * part // self.of) for part in (self.number - 1, self.number))
        return min(first * ROWS_PER_BLOCK, n_rows), min(last * ROWS_PER_BLOCK, n_rows)


@dataclass(frozen=True)
class Origin:
    """What codes were made of. Shards of the same origin belong together."""

    sae: str  # fingerprint
    n_latents: int
    k: int
    n_rows: int  # of the whole file of embeddings
    width: int
    dtype: str
    sample: str  # sha256 of some rows from all over the file


@dataclass(frozen=True)
class Manifest:
    """What is written beside the file of a shard."""

    format: str
    shard: str
    rows: tuple[int, int]
    rows_sha256: str  # of the numbers in the file of embeddings, their type and their shape
    origin: Origin
    size: int  # of the shard's file, in bytes
    sha256: str
    embeddings: str  # path, for the command that makes it again
    sae: str
    versions: dict[str, str]
    reading: tuple[str, ...] = ()  # options of that command

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """None if the file is missing, damaged, of another format, or of another shard than its name says."""
        try:
            said = json.loads(path.read_bytes())
            manifest = cls(
                **{
                    **said,
                    "rows": tuple(said["rows"]),
                    "origin": Origin(**said["origin"]),
                    "reading": tuple(said.get("reading", ())),
                }
            )
            shard = Shard.parse(manifest.shard)
            is_sound = manifest.format == FORMAT and shard.name == path.stem
            return manifest if is_sound and shard.rows(manifest.origin.n_rows) == manifest.rows else None
        except (OSError, ValueError, TypeError, KeyError, SaefariError):
            return None

    def is_of(self, origin: Origin, rows_sha256: str) -> bool:
        """Whether it is of this SAE and these rows."""
        return (self.origin, self.rows_sha256) == (origin, rows_sha256)


@dataclass(frozen=True)
class Encoded:
    """A shard that is complete, and a sentence on what was there before ("" if nothing)."""

    path: Path
    rows: tuple[int, int]
    note: str


def encode_shard(
    embeddings: Path,
    sae_file: Path,
    folder: Path,
    shard: Shard,
    progress: Progress | None = None,
    *,
    how: Reading = AS_IT_IS,
) -> Encoded:
    """Encode the rows of a shard into `folder`, unless that was done before.

    Raises `EmbeddingError` for embeddings that cannot be used with this SAE (only the rows of this shard are
    looked at), `ArtifactError` for an SAE that cannot be used, `BusyError` if another process is at this
    shard.
    """
    sae = SAE.load(sae_file)
    whole = map_embeddings(embeddings, column=how.column)
    array = how.narrow(whole, embeddings)
    _check_fit(sae, sae_file, array, embeddings)
    first, last = shard.rows(len(array))
    path, manifest_path = folder / f"{shard.name}.safetensors", folder / f"{shard.name}.json"
    with explain_write_errors(folder), artifact.locked(folder, shard.name):
        x_MD = check_rows(whole[first:last], embeddings, first, how)
        origin, rows_sha256 = _origin(sae, array), x_MD.fingerprint()
        before = Manifest.read(manifest_path)
        if before and before.is_of(origin, rows_sha256) and not _damage(path, before):
            return Encoded(path, (first, last), "It was complete already.")
        note = _what_is_replaced(path, before, origin, rows_sha256)
        content = _to_bytes(encode_documents(sae, x_MD, progress), sae.n_latents)
        manifest = Manifest(
            format=FORMAT,
            shard=str(shard),
            rows=(first, last),
            rows_sha256=rows_sha256,
            origin=origin,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            embeddings=str(embeddings.absolute()),
            sae=str(sae_file.absolute()),
            versions=_versions(),
            reading=how.options(),
        )
        write_atomic(path, content)
        write_atomic(manifest_path, json.dumps(asdict(manifest), indent=1).encode())
    return Encoded(path, (first, last), note)


def merge_shards(folder: Path, out: Path, progress: Progress | None = None) -> Codes:
    """Check all shards of a folder, and write their codes in both orders into the folder `out`.

    There they lie as in the folder of a collection, with a manifest. A previous merge there is replaced.
    Raises `ArtifactError` that names the shards that are missing, damaged or of another origin, and says how
    to make them again.
    """
    manifests = _find_complete_set(folder)
    _check_out(out)
    _check_files(manifests, folder, progress)
    origin = next(iter(manifests.values())).origin
    paths = [folder / f"{shard.name}.safetensors" for shard in manifests]
    codes = _joined(paths).in_both_orders(origin.n_latents)
    with explain_write_errors(out):
        _publish(codes, origin, out)
    return codes


def _check_fit(sae: SAE, sae_file: Path, array: NDArray[np.floating], embeddings: Path) -> None:
    if not 0 < sae.k <= sae.n_latents:
        what = f"{sae_file}: k={sae.k} latents per row, but there are only {sae.n_latents}."
        raise ArtifactError(what, remedy="Train it again with k <= latents.")
    if array.shape[1] != sae.width:
        what = f"{embeddings} is {array.shape[1]} wide, but {sae_file} encodes rows of {sae.width}."
        raise EmbeddingError(what, remedy="Give embeddings of the model that the SAE was trained on.")


def _origin(sae: SAE, array: NDArray[np.floating]) -> Origin:
    rows = np.unique(np.linspace(0, max(0, len(array) - 1), SAMPLED_ROWS).astype(np.int64))[: len(array)]
    sample = hashlib.sha256(np.ascontiguousarray(array[rows]).data).hexdigest()
    n_rows, width = array.shape
    return Origin(sae.fingerprint(), sae.n_latents, sae.k, n_rows, width, array.dtype.str, sample)


def _damage(path: Path, manifest: Manifest) -> str:
    return find_damage(path, manifest.size, manifest.sha256)


def _what_is_replaced(path: Path, before: Manifest | None, origin: Origin, rows_sha256: str) -> str:
    if before is None:
        return "It replaces an unfinished one." if path.exists() else ""
    if before.origin.sae != origin.sae:
        return f"It replaces one of another SAE, {before.origin.sae[:LETTERS]} (now {origin.sae[:LETTERS]})."
    if not before.is_of(origin, rows_sha256):
        return f"It replaces one of other embeddings, those of {before.embeddings} as it was then."
    return f"It replaces one whose file {_damage(path, before)}."


def _to_bytes(codes: DocumentCodes, n_latents: int) -> bytes:
    narrow = np.uint16 if n_latents <= MOST_SMALL else np.uint32
    tensors = {
        "counts": np.diff(codes.document_ptr).astype(np.uint32),
        "latents": codes.latents.astype(narrow),
        "values": codes.values,
    }
    return to_bytes(tensors, metadata={"format": FORMAT})


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "saefari": version("saefari"), "numpy": np.__version__}


def _find_complete_set(folder: Path) -> dict[Shard, Manifest]:
    """All shards of a folder in their order: none missing, all of the same origin."""
    names = {path.stem for path in [*folder.glob("shard-*.json"), *folder.glob("shard-*.safetensors")]}
    found = {shard: Manifest.read(folder / f"{shard.name}.json") for shard in map(_shard_of, names) if shard}
    sound = {shard: manifest for shard, manifest in sorted(found.items()) if manifest}
    if not sound:
        what = f"{folder} holds no complete shard."
        remedy = (
            f"Make them with `saefari encode EMBEDDINGS.npy --sae SAE --out {folder} --shard 1/4` and so on."
        )
        raise NotFoundError(what, remedy=remedy)
    _check_division({shard.of for shard in found}, folder)
    _check_origins(sound, folder)
    shard, manifest = next(iter(sound.items()))
    missing = [each for each in shard.all() if each not in sound]
    if missing:
        what = f"{folder} lacks {_list(missing)}."
        raise ArtifactError(what, remedy=_again(folder, missing, manifest))
    return sound


def _shard_of(name: str) -> Shard | None:
    found = re.fullmatch(r"shard-(\d{3,4})-of-(\d{3,4})", name)
    return Shard(int(found[1]), int(found[2])) if found else None


def _check_division(parts: set[int], folder: Path) -> None:
    if len(parts) > 1:
        what = f"{folder} holds shards of several divisions: into {' and '.join(map(str, sorted(parts)))}."
        remedy = f"Remove those of all but one, as {folder / f'shard-*-of-{min(parts):03}.*'}."
        raise ArtifactError(what, remedy=remedy)


def _check_origins(manifests: dict[Shard, Manifest], folder: Path) -> None:
    groups: dict[Origin, list[Shard]] = defaultdict(list)
    for shard, manifest in manifests.items():
        groups[manifest.origin].append(shard)
    if len(groups) == 1:
        return
    saes = {origin.sae for origin in groups}
    kind = "SAEs" if len(saes) > 1 else "embeddings"
    parts = []
    for origin, shards in groups.items():
        first = manifests[shards[0]]
        path, digest = (first.sae, origin.sae) if len(saes) > 1 else (first.embeddings, origin.sample)
        parts.append(f"{_list(shards)} of {path} ({digest[:LETTERS]})")
    what = f"{folder} holds shards of different {kind}: {', '.join(parts)}."
    common = max(groups.values(), key=len)[0]
    command = _command(folder, Shard(1, common.of), manifests[common])
    remedy = f"Run `{command}`, and the same for every other shard; those that fit already are kept."
    raise ArtifactError(what, remedy=remedy)


def _check_files(manifests: dict[Shard, Manifest], folder: Path, progress: Progress | None) -> None:
    damaged = {}
    for done, (shard, manifest) in enumerate(manifests.items(), 1):
        path = folder / f"{shard.name}.safetensors"
        problem = _damage(path, manifest)
        if problem:
            damaged[shard] = f"{path} {problem}."
        if progress is not None:
            progress(done, len(manifests))
    if damaged:
        sentences = list(damaged.values())[:MOST_NAMED]
        if len(damaged) > MOST_NAMED:
            sentences.append(f"So it is with {len(damaged) - MOST_NAMED} more.")
        example = manifests[next(iter(damaged))]
        raise ArtifactError(" ".join(sentences), remedy=_again(folder, list(damaged), example))


def _list(shards: list[Shard]) -> str:
    """Like "shards 1/4 and 3/4"; a long list is cut."""
    named = [str(shard) for shard in shards[:MOST_NAMED]]
    if len(shards) > MOST_NAMED:
        named.append(f"{len(shards) - MOST_NAMED} more")
    words = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"shard{'s' if len(shards) > 1 else ''} {words}"


def _again(folder: Path, shards: list[Shard], example: Manifest) -> str:
    """The commands that make these shards, as one sentence."""
    commands = [f"`{_command(folder, shard, example)}`" for shard in shards[:MOST_NAMED]]
    others = f", and so on for {len(shards) - MOST_NAMED} more" if len(shards) > MOST_NAMED else ""
    return f"Run {', '.join(commands)}{others}."


def _command(folder: Path, shard: Shard, example: Manifest) -> str:
    words = ["saefari", "encode", example.embeddings, "--sae", example.sae, "--out", str(folder)]
    return shlex.join([*words, *example.reading, "--shard", str(shard)])


def _joined(paths: list[Path]) -> DocumentCodes:
    """The codes of checked files, one after the other."""
    document_ptr = pointers(np.concatenate([_tensor(path, "counts") for path in paths]))
    latents = np.empty(document_ptr[-1], dtype=np.uint32)
    values = np.empty(document_ptr[-1], dtype=np.float32)
    last = 0
    for path in paths:
        part = _tensor(path, "latents")
        first, last = last, last + len(part)
        latents[first:last], values[first:last] = part, _tensor(path, "values")
    return DocumentCodes(document_ptr, latents, values)


def _tensor(path: Path, name: str) -> NDArray[Any]:
    with safe_open(path, framework="np") as file:
        return np.asarray(file.get_tensor(name))


def _check_out(out: Path) -> None:
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_free and not (out / CODES_MANIFEST).is_file():
        what = f"{out} exists, and is not the result of a merge."
        raise ArtifactError(what, remedy="Choose another folder with --out.")


def _publish(codes: Codes, origin: Origin, out: Path) -> None:
    """Fill a draft beside the folder, flush it to disk, then put it in its place."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        artifact.save_arrays(draft, codes.arrays())
        files = {}
        for path in sorted(draft.iterdir()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[path.name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        manifest = {"format": CODES_FORMAT, "origin": asdict(origin), "files": files, "versions": _versions()}
        write_atomic(draft / CODES_MANIFEST, json.dumps(manifest, indent=1).encode())
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
