"""How fast each backend embeds real abstracts with the bundled model, and how closely it agrees with torch.

Texts: arxiv-astro-hep in the folder named by SAEFARI_CORPORA, else the docstrings installed here. Runs are
interleaved, so that a busy machine is busy for all; the cosine is to float32 torch, the lowest of all
documents. ONNX Runtime is measured where onnxruntime and onnx are installed. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from sae_core.embed import MAX_PIECES, Embedder, TorchEmbedder, bundled_model, load_embedder, load_openvino
from sae_core.sources.docstrings import harvest

QUERY = "how dust reddens the light of distant galaxies"
PACKAGES = {
    "torch": (),  # the rest of the project needs it anyway
    "openvino": ("openvino", "openvino-telemetry"),
    "onnx": ("onnxruntime", "flatbuffers", "protobuf"),
}


def torch_float32(threads: int) -> Embedder:
    set_torch_threads(threads)
    return load_embedder(backend="torch", device="cpu")


def torch_bf16(threads: int) -> Embedder:
    import torch
    from sentence_transformers import SentenceTransformer

    set_torch_threads(threads)
    model = SentenceTransformer(
        str(bundled_model()),
        device="cpu",
        local_files_only=True,
        model_kwargs={"dtype": torch.bfloat16, "use_safetensors": True},
    )
    return TorchEmbedder(model, "torch, bf16", "benchmark")


def set_torch_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


class OnnxEmbedder:
    """The model exported from torch, in batches of 16 of like length."""

    name = "ONNX Runtime, float32"
    fingerprint = "benchmark"
    width = 384

    def __init__(self, threads: int) -> None:
        from tokenizers import Tokenizer

        onnxruntime = importlib.import_module("onnxruntime")  # no dependency: nothing else uses it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(exported(), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(bundled_model() / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_PIECES)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out_BD = np.empty((len(texts), self.width), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for start in range(0, len(texts), 16):
            rows = by_length[start : start + 16]
            encodings = self._tokenizer.encode_batch([texts[row] for row in rows])
            pieces_BT = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
            mask_BT = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
            states_BTD = self._session.run(None, {"pieces": pieces_BT, "mask": mask_BT})[0]
            out_BD[rows] = (states_BTD * mask_BT[:, :, None]).sum(axis=1) / mask_BT.sum(axis=1)[:, None]
        return np.asarray(out_BD / np.linalg.norm(out_BD, axis=1, keepdims=True))


def exported() -> bytes:
    """The model as ONNX, kept in the folder of temporary files between runs."""
    path = Path(tempfile.gettempdir()) / "saefari-benchmark-minilm.onnx"
    if not path.exists():
        import torch
        from transformers import BertModel

        class States(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bert = BertModel.from_pretrained(
                    bundled_model(), local_files_only=True, attn_implementation="eager"
                )

            def forward(self, pieces: torch.Tensor, mask: torch.Tensor) -> Any:
                return self.bert(input_ids=pieces, attention_mask=mask).last_hidden_state

        example = torch.ones((2, 8), dtype=torch.int64)
        axes = {0: "batch", 1: "pieces"}
        warnings.simplefilter("ignore")  # the exporter's own; the result is compared with torch below
        torch.onnx.export(
            States().train(mode=False),
            (example, example),
            str(path),
            input_names=["pieces", "mask"],
            output_names=["states"],
            dynamic_axes={"pieces": axes, "mask": axes, "states": axes},
            dynamo=False,
        )
    return path.read_bytes()


BACKENDS: dict[str, Callable[[int], Embedder]] = {
    "torch float32": torch_float32,
    "torch bf16": torch_bf16,
    "openvino f32": lambda threads: load_openvino(precision="f32", threads=threads),
    "openvino bf16": lambda threads: load_openvino(precision="bf16", threads=threads),
    "onnx float32": OnnxEmbedder,
}


def installed() -> list[str]:
    needs = {"openvino": ["openvino"], "onnx": ["onnxruntime", "onnx"]}
    return [
        name
        for name in BACKENDS
        if all(importlib.util.find_spec(package) for package in needs.get(name.split()[0], []))
    ]


def load_texts(n: int) -> tuple[list[str], str]:
    folder = os.environ.get("SAEFARI_CORPORA")
    path = Path(folder or ".") / "arxiv-astro-hep.parquet"
    if folder and path.is_file():
        table = pq.read_table(path, columns=["title", "abstract"])
        rows = np.linspace(0, table.num_rows - 1, n).astype(int)
        return [f"{row['title']}\n\n{row['abstract']}" for row in table.take(rows).to_pylist()], path.name
    return [document.text for document in harvest(n)], "docstrings"


def size_in_mb(packages: Sequence[str]) -> float:
    paths = [Path(str(file.locate())) for name in packages for file in importlib.metadata.files(name) or []]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def start_up(name: str) -> float:
    """Seconds from the start of a fresh Python to the answer to a first query."""
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--first-query", name], check=True, capture_output=True)
    return time.perf_counter() - start


def query_ms(embedder: Embedder) -> float:
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        embedder.embed([QUERY])
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[3:])


def measure(texts: list[str], names: list[str], threads: list[int], rounds: int) -> list[dict[str, Any]]:
    reference_MD = torch_float32(max(threads)).embed(texts)
    rows: list[dict[str, Any]] = []
    embedders: list[Embedder] = []
    for name in names:
        for n_threads in threads:
            embedders.append(BACKENDS[name](n_threads))
            lowest = float((embedders[-1].embed(texts) * reference_MD).sum(axis=1).min())  # and warmed up
            rows.append({"backend": name, "threads": n_threads, "lowest_cosine": lowest, "seconds": []})
    for _ in range(rounds):
        for row, embedder in zip(rows, embedders, strict=True):
            set_torch_threads(row["threads"])
            start = time.perf_counter()
            embedder.embed(texts)
            row["seconds"].append(time.perf_counter() - start)
    for row, embedder in zip(rows, embedders, strict=True):
        set_torch_threads(row["threads"])
        row["query_ms"] = query_ms(embedder)
        row["per_second"] = len(texts) / statistics.median(row["seconds"])
        row["best_per_second"] = len(texts) / min(row.pop("seconds"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=256, help="texts to embed (256)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved runs of each backend (3)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads to try (1 2)")
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="those to try (all installed)"
    )
    parser.add_argument("--first-query", metavar="BACKEND", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first_query:
        BACKENDS[arguments.first_query](max(arguments.threads)).embed([QUERY])
        return
    names = [name for name in installed() if name in arguments.backends]
    texts, source = load_texts(arguments.documents)
    print(
        f"{len(texts)} texts of {source}, {np.mean([len(text) for text in texts]):.0f} characters on average"
    )
    rows = measure(texts, names, arguments.threads, arguments.rounds)
    starts = {name: start_up(name) for name in names}
    print(f"{'backend':15} threads   documents/s (best)   lowest cosine  query ms  start s  extra MB")
    for row in rows:
        row["start_seconds"] = starts[row["backend"]]
        row["extra_mb"] = size_in_mb(PACKAGES[row["backend"].split()[0]])
        print(
            f"{row['backend']:15} {row['threads']:7}"
            f" {row['per_second']:10.1f} ({row['best_per_second']:6.1f})"
            f" {row['lowest_cosine']:15.6f} {row['query_ms']:9.1f} {row['start_seconds']:8.1f}"
            f" {row['extra_mb']:9.0f}"
        )
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    result = {"benchmark": "embed_backends", "texts": source, "n": len(texts), **machine, "rows": rows}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
