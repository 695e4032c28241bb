"""SAEs of other packages, brought to ours and back, by an explicit command and never by the server.

`convert` reads a checkpoint in any known layout and writes a folder in another. What it reads is not
trusted: files are plain and bounded, pickles are opened by another process (`pickled.py`), and everything is
checked before the first byte is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import ArtifactError, ConversionError
from sae_core.files import drafted_folder, explain_write_errors, sha256_of, write_atomic
from sae_core.foreign import readers
from sae_core.foreign.files import REMEDY, opened
from sae_core.foreign.pickled import read_pickled
from sae_core.foreign.weights import to_sae
from sae_core.foreign.writers import write_sae_lens, write_sparsify
from sae_core.sae import SAE

if TYPE_CHECKING:
    from sae_core.foreign.weights import Weights

OURS, PAPER, SPARSIFY, SAE_LENS, HYPOTHESAES = "saefari", "paper", "sparsify", "saelens", "hypothesaes"
LAYOUTS = (PAPER, SPARSIFY, SAE_LENS, HYPOTHESAES)  # what is foreign
TARGETS = (OURS, SPARSIFY, SAE_LENS)
LARGEST_GIB = 4.0
SAE_FILE, RECORD = "sae.safetensors", "conversion.json"
SCHEMA = 1  # of the record
KNOWN = (
    "Known are the paper's .pth files, .pt files of HypotheSAEs, and folders of sparsify (cfg.json, "
    "sae.safetensors), SAELens (cfg.json, sae_weights.safetensors) and Saefari (sae.safetensors)."
)


@dataclass
class Source:
    """Where a checkpoint is: its folder or its file, and the files that are read."""

    path: Path
    layout: str  # "" until a pickle has been looked into
    files: list[Path]


@dataclass(frozen=True)
class Conversion:
    """What `convert` has done."""

    sae: SAE
    layout: str  # of what was read
    folder: Path
    remarks: list[str]  # what differs, as sentences


def convert(
    path: Path,
    out: Path,
    *,
    layout: str = "",
    to: str = OURS,
    k: int | None = None,
    largest_gib: float = LARGEST_GIB,
) -> Conversion:
    """Write the SAE at `path` into the new folder `out`, in the layout `to`; whole, or not at all.

    `layout` is one of `LAYOUTS`, or "" to see by the files. `k` is for checkpoints that do not say how many
    latents are active in a row. Raises `ConversionError` for what cannot be read or expressed,
    `ArtifactError` where `out` cannot be written.
    """
    _check_choice("--from", layout, ("", OURS, *LAYOUTS))
    _check_choice("--to", to, TARGETS)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConversionError(f"{out} is there already.", remedy="Choose a new folder with --out.")
    source = _find(path, layout)
    sae, remarks = _read(source, k, int(largest_gib * 2**30))
    written, lost = _write(sae, to)
    if to == OURS:
        written[RECORD] = _record(source, sae, remarks)
    _publish(out, written)
    return Conversion(sae, source.layout, out, [*remarks, *lost])


def load_sae(path: Path) -> tuple[SAE, dict[str, Any]]:
    """An SAE in our own layout, a file or the folder of a training or conversion, and where it is from."""
    file = path / SAE_FILE if path.is_dir() else path
    try:
        sae = SAE.load(file)
    except ArtifactError as error:
        raise ArtifactError(
            error.what, remedy="If another package made it, run `saefari convert` first."
        ) from error
    if not 1 <= sae.k <= sae.n_latents or not all(np.isfinite(each).all() for each in sae.tensors().values()):
        what = (
            f"{file} is no SAE that can be used: k={sae.k} of {sae.n_latents} latents, or NaN in its weights."
        )
        raise ConversionError(what, remedy=REMEDY)
    try:
        record = json.loads((file.parent / RECORD).read_text(encoding="utf-8"))
        return sae, {"origin": f"{record['from']}, {record['source']}"}
    except (OSError, ValueError, TypeError, KeyError):
        return sae, {"origin": file.parent.resolve().name}


def _check_choice(name: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        remedy = f"Choose one of {', '.join(filter(None, known))}."
        raise ConversionError(f"{name} {word} is not known.", remedy=remedy)


def _find(path: Path, layout: str) -> Source:
    """What is at `path`; a file beside a configuration stands for its folder."""
    if not path.is_dir() and (path.parent / readers.CONFIG).is_file() and path.suffix == ".safetensors":
        path = path.parent
    if not path.is_dir():
        if layout in {SPARSIFY, SAE_LENS}:
            what = f"{path} is no folder with {readers.CONFIG} in it."
            raise ConversionError(what, remedy=f"Give the folder that {layout} has written.")
        return Source(path, OURS if path.suffix == ".safetensors" else layout, [path])
    weights = {SAE_LENS: readers.SAE_LENS_WEIGHTS, SPARSIFY: readers.SPARSIFY_WEIGHTS, OURS: SAE_FILE}
    for name, file in weights.items():
        files = [path / file] if name == OURS else [path / readers.CONFIG, path / file]
        if layout in {"", name} and all(each.is_file() for each in files):
            return Source(path, name, files)
    inside = sorted(each.parent.name for each in path.glob(f"*/{readers.CONFIG}"))
    if inside:
        what = f"{path} holds {len(inside)} folders with a configuration: {', '.join(inside[:8])}."
        raise ConversionError(what, remedy="Give one of these.")
    what = f"{path} holds no SAE{f' in the layout of {layout}' if layout else ' that is known'}."
    raise ConversionError(what, remedy=KNOWN)


def _read(source: Source, k: int | None, largest: int) -> tuple[SAE, list[str]]:
    """The SAE, and what had to be done to it; sets the layout where only the content tells."""
    for file in source.files:
        with opened(file, largest):
            pass
    if source.layout == OURS:
        if k is not None:
            raise ConversionError("--k is for checkpoints that do not say it.", remedy="Leave out --k.")
        return load_sae(source.files[-1])[0], []
    weights, remarks = _read_foreign(source, k, largest)
    sae, folded = to_sae(weights, source.path)
    return sae, [*remarks, *folded]


def _read_foreign(source: Source, k: int | None, largest: int) -> tuple[Weights, list[str]]:
    if source.layout == SPARSIFY:
        return readers.read_sparsify(source.path, k, largest)
    if source.layout == SAE_LENS:
        return readers.read_sae_lens(source.path, k, largest)
    pickled = read_pickled(source.path, largest)
    if not source.layout:
        keys = {PAPER: "pre_bias", HYPOTHESAES: "input_bias"}
        fitting = [layout for layout, key in keys.items() if key in pickled.tensors]
        if not fitting:
            found = ", ".join(sorted(pickled.tensors))[:300] or "no tensors"
            raise ConversionError(f"{source.path} holds {found}: no layout that is known.", remedy=KNOWN)
        source.layout = fitting[0]
    read = readers.read_paper if source.layout == PAPER else readers.read_hypothesaes
    return read(pickled, source.path, k)


def _write(sae: SAE, to: str) -> tuple[dict[str, bytes], list[str]]:
    if to == SPARSIFY:
        return write_sparsify(sae)
    return write_sae_lens(sae) if to == SAE_LENS else ({SAE_FILE: sae.to_bytes()}, [])


def _record(source: Source, sae: SAE, remarks: list[str]) -> bytes:
    """What was converted from what, for whoever asks later."""
    said = {
        "schema": SCHEMA,
        "from": source.layout,
        "source": source.path.resolve().name,
        "sha256": {file.name: sha256_of(file) for file in source.files},
        "variant": sae.variant,
        "k": sae.k,
        "n_latents": sae.n_latents,
        "width": sae.width,
        "remarks": remarks,
    }
    return json.dumps(said, indent=1).encode()


def _publish(out: Path, files: dict[str, bytes]) -> None:
    """Write the files into a draft beside `out`, which then takes its name."""
    with explain_write_errors(out), drafted_folder(out) as draft:
        for name, content in files.items():
            write_atomic(draft / name, content)
