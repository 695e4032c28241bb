"""Reading a pickled checkpoint without trusting it: another process does, see `sandbox.py`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load

from sae_core.errors import ConversionError
from sae_core.foreign.files import REMEDY, metadata_of, opened

if TYPE_CHECKING:
    from torch import Tensor

SANDBOX = Path(__file__).with_name("sandbox.py")
SECONDS = 300.0
HEADER = 2**20  # what an answer has besides its tensors
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
UNCONFINED = (
    "The file was read as weights only, but this system cannot cut a process off from network and files: "
    "convert only what you trust."
)


class Pickled(NamedTuple):
    """What a pickled checkpoint holds."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]  # what stands beside the tensors, as far as JSON has words for it
    remarks: list[str]


def read_pickled(path: Path, largest: int, seconds: float = SECONDS) -> Pickled:
    """Tensors and plain values of a `.pth` or `.pt` file; nothing that it asks to run is run.

    Raises `ConversionError` for a file that is larger than `largest` bytes, holds more than weights, is
    damaged, or takes longer than `seconds` or more memory than such a file needs.
    """
    with opened(path, largest) as (file, size):
        command = [sys.executable, "-I", "-B", str(SANDBOX)]
        with subprocess.Popen(  # noqa: S603 (our own script)
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd="/"
        ) as process:
            assert process.stdout is not None  # noqa: S101 (it is a pipe)
            timer = Timer(seconds, process.kill)
            timer.start()
            try:
                answer = process.stdout.read(2 * size + HEADER)
            finally:
                timer.cancel()
                process.kill()
    begin, _, content = answer.partition(b"\n")
    word, _, reason = begin.decode(errors="replace").partition(" ")
    if word == "no":
        raise ConversionError(_explain(path, reason), remedy=REMEDY)
    try:
        tensors, values = load(content), json.loads(metadata_of(content)["values"])
    except (SafetensorError, KeyError, ValueError) as error:
        what = f"Reading {path} took more memory or time than such a file needs, or it broke the reader."
        raise ConversionError(what, remedy=REMEDY) from error
    return Pickled(tensors, values, [] if reason == "confined" else [UNCONFINED])


def _explain(path: Path, reason: str) -> str:
    """A sentence for what torch said."""
    asked = re.search(r"GLOBAL ([\w.]+)", reason)
    if asked:
        return f"{path} holds more than weights: it asks for {asked[1]}. Nothing of it was run."
    return f"{path} cannot be read as weights: {reason.partition('. ')[0][:300].rstrip('.')}."
