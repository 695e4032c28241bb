"""Training: TopK with AuxK, as arXiv 2408.00657 section 3.1, with a recipe chosen on held-out error.

    L = NMSE(x^, x) + 1/32 NMSE(e^, e),    NMSE(u, v) = mean (u - v)^2 / mean (v - mean_batch v)^2

e = x - x^ is what was missed; e^ decodes it from the strongest dead latents. Only the product of the
encoder is dense; the decoder and both weight gradients touch the k active rows of each sample. Order of
rows and noise depend on (seed, step) alone, so a resumed run sees what the uninterrupted run would.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch.nn.functional import embedding_bag

from sae_core import metrics
from sae_core.errors import TrainingError
from sae_core.files import write_atomic
from sae_core.sae import SAE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = "saefari-checkpoint-1"
AUX_WEIGHT = 1 / 32
EPOCHS = 60
MIN_ROWS = 16
SMALL_STEP = 1_000_000_000  # multiplications in the encoder's product of one batch
LEAST_VARIANCE = 1e-9  # of a batch: one of equal rows has none, and would make every weight NaN
MANY_ROWS = 30_000  # from here on 32 active latents per row beat 16


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, besides the data."""

    n_latents: int
    k: int
    steps: int
    batch: int = 1024
    learning_rate: float = 3e-3
    warmup: float = 0.02  # share of the steps
    decay: float = 0.3  # share of the steps, at the end, linearly to zero
    noise: float = 0.3  # norm of the noise added to an input, relative to the input's own
    dead_epochs: float = 1.0  # a latent that was in nobody's top k for so many epochs is dead
    seed: int = 0
    log_every: int = 10  # steps between evaluations

    @classmethod
    def for_corpus(cls, n_rows: int, width: int, **chosen: float | None) -> TrainConfig:
        """The default size for `n_rows` training rows; arguments that are not None replace it.

        A small corpus wants fewer latents: about one for ten rows, and at most 8 per dimension.
        """
        n_latents = int(min(8 * width, max(32, 64 * round(n_rows / 640))))
        k = 32 if n_rows >= MANY_ROWS else 16
        batch = int(min(1024, max(32, 32 * round(n_rows / 512))))
        wanted: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        n_latents = int(wanted.pop("n_latents", n_latents))
        k = int(wanted.pop("k", min(k, max(1, n_latents // 4))))
        batch = int(wanted.pop("batch", batch))
        steps = int(wanted.pop("steps", math.ceil(EPOCHS * n_rows / batch)))
        return cls(n_latents=n_latents, k=k, steps=steps, batch=batch, **wanted)

    def check(self, n_rows: int) -> None:
        """Raise `TrainingError`, in a sentence, for a configuration that cannot be trained."""
        if n_rows < MIN_ROWS:
            what = f"{n_rows} training rows are too few to train on."
            raise TrainingError(what, remedy=f"Give a corpus of at least {MIN_ROWS * 2} documents.")
        sizes = {"latents": self.n_latents, "k": self.k, "steps": self.steps, "batch": self.batch}
        for name, value in sizes.items():
            if value < 1:
                raise TrainingError(f"{name} is {value}.", remedy=f"Choose {name} of at least 1.")
        if self.k > self.n_latents:
            what = f"k={self.k} latents per row, but there are only {self.n_latents}."
            raise TrainingError(what, remedy="Choose k <= latents (--k, --latents).")
        if n_rows < self.n_latents:
            what = f"{n_rows} training rows are fewer than the {self.n_latents} latents."
            raise TrainingError(what, remedy="Choose fewer latents (--latents), or give more documents.")


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    fvu_train: float  # of the last batch, without noise
    fvu_heldout: float
    l0: float
    dead: float  # share of latents
    learning_rate: float
    rows_per_second: float


@dataclass
class State:
    """What a checkpoint holds: weights, moments, and since when each latent has been silent."""

    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    silent_N: torch.Tensor = field(default_factory=lambda: torch.zeros(0))  # steps since it was picked
    step: int = 0


class _Gather(torch.autograd.Function):
    """Pre-activations at given latents, with gradients that touch only those rows of W_enc."""

    @staticmethod
    def forward(ctx, x_BD, W_enc_ND, indices_BK, values_BK):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        ctx.save_for_backward(x_BD, W_enc_ND, indices_BK)
        return values_BK.clone()

    @staticmethod
    def backward(ctx, grad_BK):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN205
        x_BD, W_enc_ND, indices_BK = ctx.saved_tensors
        with torch.enable_grad():
            weight = W_enc_ND.detach().requires_grad_()
            bags_BD = embedding_bag(indices_BK, weight, per_sample_weights=grad_BK, mode="sum")
        # A bag is sum_k g_k w_k: its value is the gradient of x, and its pull-back of x is that of W_enc.
        (grad_W,) = torch.autograd.grad(bags_BD, weight, x_BD)
        return bags_BD.detach(), grad_W, None, None


def train(
    x_MD: NDArray[np.float32],
    heldout_MD: NDArray[np.float32],
    config: TrainConfig,
    folder: Path,
    *,
    data_hash: str = "",
    device: str = "auto",
    checkpoint_seconds: float = 20.0,
    report: Callable[[Progress], None] | None = None,
) -> SAE:
    """Train on the rows of `x_MD`, (M, D) float32; measure on `heldout_MD`; resume if `folder` can.

    `folder` holds `checkpoint.safetensors` and `log.jsonl`. A checkpoint of another configuration or other
    data is not resumed but replaced. Raises `TrainingError` for sizes or data that cannot be trained.
    """
    config.check(len(x_MD))
    _check_rows(x_MD)
    folder.mkdir(parents=True, exist_ok=True)
    identity = json.dumps({"config": asdict(config), "data": data_hash, "rows": len(x_MD)}, sort_keys=True)
    where = pick_device(device)
    state = _resume(folder, identity) or _fresh(x_MD, config)
    log = _Log(folder / "log.jsonl", keep_until=state.step)
    loop = _Loop(x_MD, config, state, where)
    began = saved = time.monotonic()
    first = state.step
    while state.step < config.steps:
        with _threads(config.batch * config.n_latents * x_MD.shape[1]):
            batch_fvu = loop.step()
        is_last = state.step == config.steps
        if state.step % config.log_every == 0 or is_last:
            scores = metrics.evaluate(loop.sae(), heldout_MD[:2048])
            rate = (state.step - first) * config.batch / max(time.monotonic() - began, 1e-9)
            line = Progress(
                step=state.step,
                fvu_train=float(batch_fvu),
                fvu_heldout=scores["fvu"],
                l0=scores["l0"],
                dead=loop.dead_share(),
                learning_rate=learning_rate(config, state.step - 1),
                rows_per_second=rate,
            )
            log.write(line)
            if report is not None:
                report(line)
        if is_last or time.monotonic() - saved >= checkpoint_seconds:
            _save(folder, loop.snapshot(), identity)
            saved = time.monotonic()
    return loop.sae()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, constant, linear decay to zero; `step` counts from 0."""
    warm = max(1.0, config.warmup * config.steps)
    fall = max(1.0, config.decay * config.steps)
    return config.learning_rate * min(1.0, (step + 1) / warm, (config.steps - step) / fall)


@contextmanager
def _threads(products: int) -> Iterator[None]:
    """One thread for a small step: a second saves a third of it, or costs ten times it when busy."""
    before = torch.get_num_threads()
    if products < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a training log; a line torn by a crash is left out."""
    return _Log.read(folder / "log.jsonl")


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the GPU where torch sees one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"device {device} was asked for, but torch sees no GPU.", remedy="Use --device cpu."
        )
    return torch.device(device)


class _Loop:
    """Weights, optimiser and data of a run; `step` advances the state by one."""

    def __init__(
        self, x_MD: NDArray[np.float32], config: TrainConfig, state: State, device: torch.device
    ) -> None:
        self.x_MD, self.config, self.state, self.device = torch.from_numpy(x_MD), config, state, device
        self.weights = {k: v.to(device).requires_grad_() for k, v in state.weights.items()}
        self.silent_N = state.silent_N.to(device)
        self.optimiser = torch.optim.Adam(self.weights.values(), lr=config.learning_rate, fused=True)
        if state.moments:
            self._restore_moments()
        self.dead_after = max(1, math.ceil(config.dead_epochs * len(x_MD) / config.batch))
        self.k_aux = min(2 * config.k, config.n_latents)

    def step(self) -> torch.Tensor:
        """One update; the batch's FVU before it."""
        config = self.config
        x_BD = self._batch().to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.state.step)
        loss, batch_fvu = self._loss(x_BD)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._keep_directions_unit_before()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            W_dec_ND = self.weights["W_dec_ND"]
            W_dec_ND.div_(W_dec_ND.norm(dim=1, keepdim=True).clamp_min(1e-12))
        self.state.step += 1
        return batch_fvu

    def sae(self) -> SAE:
        """The present weights as an SAE on the CPU."""
        weights = {name: value.detach().cpu().numpy().copy() for name, value in self.weights.items()}
        return SAE(**weights, k=self.config.k)

    def dead_share(self) -> float:
        return float((self.silent_N >= self.dead_after).float().mean())

    def snapshot(self) -> State:
        """The state with weights and moments copied to the CPU."""
        moments = {}
        for name, value in self.weights.items():
            slot = self.optimiser.state[value]
            moments[f"{name}.mean"] = slot["exp_avg"].cpu()
            moments[f"{name}.square"] = slot["exp_avg_sq"].cpu()
        weights = {name: value.detach().cpu() for name, value in self.weights.items()}
        return replace(self.state, weights=weights, moments=moments, silent_N=self.silent_N.cpu())

    def _loss(self, x_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w, config = self.weights, self.config
        centred_BD = self._noisy(x_BD) - w["b_dec_D"]
        with torch.no_grad():
            pre_BN = torch.addmm(w["b_enc_N"], centred_BD, w["W_enc_ND"].T)
            top = pre_BN.topk(config.k, dim=1, sorted=False)
        values_BK = self._activations(centred_BD, top.indices, top.values)
        bags_BD = embedding_bag(top.indices, w["W_dec_ND"], per_sample_weights=values_BK, mode="sum")
        error_BD = x_BD - (bags_BD + w["b_dec_D"])
        batch_fvu = _nmse(error_BD, x_BD)
        aux = self._aux_loss(centred_BD, pre_BN, error_BD.detach())
        with torch.no_grad():
            self.silent_N += 1
            self.silent_N[top.indices[top.values > 0]] = 0
        return batch_fvu + AUX_WEIGHT * aux, batch_fvu.detach()

    def _activations(
        self, x_BD: torch.Tensor, indices_BK: torch.Tensor, pre_BK: torch.Tensor
    ) -> torch.Tensor:
        gathered = _Gather.apply(x_BD, self.weights["W_enc_ND"], indices_BK, pre_BK)  # type: ignore[no-untyped-call]
        bias = self.weights["b_enc_N"]
        # The value already holds the bias; this adds its gradient and nothing else.
        return torch.relu(gathered + (bias - bias.detach())[indices_BK])

    def _aux_loss(self, x_BD: torch.Tensor, pre_BN: torch.Tensor, error_BD: torch.Tensor) -> torch.Tensor:
        dead_N = self.silent_N >= self.dead_after
        n_dead = int(dead_N.sum())
        if n_dead == 0:
            return error_BD.new_zeros(())
        top = pre_BN.masked_fill(~dead_N, -torch.inf).topk(min(self.k_aux, n_dead), dim=1, sorted=False)
        values = self._activations(x_BD, top.indices, top.values)
        guess_BD = embedding_bag(top.indices, self.weights["W_dec_ND"], per_sample_weights=values, mode="sum")
        return _nmse(error_BD - guess_BD, error_BD)

    def _batch(self) -> torch.Tensor:
        """Rows of this step: the order of an epoch depends on (seed, epoch) alone."""
        n, size = len(self.x_MD), min(self.config.batch, len(self.x_MD))
        per_epoch = max(1, n // size)
        epoch, place = divmod(self.state.step, per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(n)
            self._epoch, self._order = epoch, torch.from_numpy(order)
        rows = self._order[place * size : (place + 1) * size]
        batch_BD: torch.Tensor = self.x_MD[rows].float()
        return batch_BD

    def _noisy(self, x_BD: torch.Tensor) -> torch.Tensor:
        if self.config.noise == 0:
            return x_BD
        rng = np.random.default_rng((self.config.seed, 2, self.state.step))
        noise = torch.from_numpy(rng.standard_normal(x_BD.shape, dtype=np.float32)).to(self.device)
        scale = self.config.noise / math.sqrt(x_BD.shape[1])
        lengths: torch.Tensor = x_BD.norm(dim=1, keepdim=True)
        return x_BD + scale * lengths * noise

    def _keep_directions_unit_before(self) -> None:
        """Remove the part of the decoder's gradient that would only change the length of a direction."""
        W_dec_ND = self.weights["W_dec_ND"]
        if W_dec_ND.grad is not None:
            along = (W_dec_ND.grad * W_dec_ND.detach()).sum(dim=1, keepdim=True)
            W_dec_ND.grad -= along * W_dec_ND.detach()

    def _restore_moments(self) -> None:
        for name, value in self.weights.items():
            self.optimiser.state[value] = {
                "step": torch.tensor(float(self.state.step), device=self.device),
                "exp_avg": self.state.moments[f"{name}.mean"].to(self.device),
                "exp_avg_sq": self.state.moments[f"{name}.square"].to(self.device),
            }


class _Log:
    """A JSONL file that never claims steps which a resumed run has not made."""

    def __init__(self, path: Path, *, keep_until: int) -> None:
        self.path = path
        kept = [line for line in self.read(path) if line["step"] <= keep_until]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: Progress) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")

    @staticmethod
    def read(path: Path) -> list[dict[str, float]]:
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
        return lines


def _nmse(error_BD: torch.Tensor, target_BD: torch.Tensor) -> torch.Tensor:
    variance = (target_BD - target_BD.mean(dim=0)).square().mean()
    return error_BD.square().mean() / variance.clamp_min(LEAST_VARIANCE)


def _fresh(x_MD: NDArray[np.float32], config: TrainConfig) -> State:
    """b_dec the coordinate-wise median of up to 10,000 rows; random unit directions; W_enc = W_dec."""
    rng = torch.Generator().manual_seed(config.seed)
    rows = np.random.default_rng((config.seed, 0)).permutation(len(x_MD))[:10_000]
    directions_ND = torch.randn(config.n_latents, x_MD.shape[1], generator=rng)
    directions_ND /= directions_ND.norm(dim=1, keepdim=True)
    weights = {
        "W_enc_ND": directions_ND.clone(),
        "W_dec_ND": directions_ND,
        "b_enc_N": torch.zeros(config.n_latents),
        "b_dec_D": torch.from_numpy(np.median(x_MD[np.sort(rows)], axis=0).astype(np.float32)),
    }
    return State(weights=weights, silent_N=torch.zeros(config.n_latents, dtype=torch.int32))


def _save(folder: Path, state: State, identity: str) -> None:
    tensors = {**state.weights, **state.moments, "silent_N": state.silent_N}
    metadata = {"format": FORMAT, "identity": identity, "step": str(state.step), "torch": torch.__version__}
    _write_tensors(folder / "checkpoint.safetensors", tensors, metadata)


def _resume(folder: Path, identity: str) -> State | None:
    """The checkpoint of exactly this run, or None if there is none that can be used."""
    found = _read_tensors(folder / "checkpoint.safetensors")
    if found is None or found[1].get("format") != FORMAT or found[1].get("identity") != identity:
        return None
    tensors, metadata = found
    silent_N = tensors.pop("silent_N")
    moments = {name: value for name, value in tensors.items() if name.endswith((".mean", ".square"))}
    weights = {name: value for name, value in tensors.items() if name not in moments}
    return State(weights=weights, moments=moments, silent_N=silent_N, step=int(metadata["step"]))


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically."""
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    write_atomic(path, to_bytes(contiguous, metadata=dict(metadata)))


def _read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
    """Tensors and metadata of a safetensors file, or None if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None


def _check_rows(x_MD: NDArray[np.float32]) -> None:
    finite_M = np.isfinite(x_MD).all(axis=1)
    if not finite_M.all():
        row = int(np.flatnonzero(~finite_M)[0])
        raise TrainingError(
            f"Row {row} of the embeddings is not finite.", remedy="Embed that document again."
        )
    if not (x_MD != x_MD[0]).any():
        raise TrainingError("All embeddings are the same row.", remedy="Give documents that differ.")
