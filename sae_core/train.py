"""Training: sparse autoencoders as arXiv 2408.00657 section 3.1, with a recipe chosen on held-out error.

    L = NMSE(x^, x) + 1/8 NMSE(e^, e),    NMSE(u, v) = mean (u - v)^2 / mean (v - mean_batch v)^2

e = x - x^ is what was missed; e^ decodes it from the strongest of the latents that have been silent (the
paper weighs this by 1/32). Gradients are written out, as only then nothing dense is made (`sae_core.sparse`).
Order of rows and noise depend on (seed, step) alone, so a resumed run, or one of several processes, sees what
the uninterrupted run of one process would.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from sae_core import sparse
from sae_core.checkpoint import Log, Progress, State, load_checkpoint, save_checkpoint
from sae_core.errors import TrainingError
from sae_core.metrics import RARE_DENSITY, blocks
from sae_core.ranks import Ranks
from sae_core.recipe import TrainConfig, fall, learning_rate, noise
from sae_core.sae import SAE
from sae_core.variants import make_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.sparse import Picks

logger = logging.getLogger(__name__)

SMALL_STEP = 1_000_000_000  # multiplications in the encoder's product of one batch
LEAST_VARIANCE = 1e-9  # of a batch: one of equal rows has none, and would make every weight NaN
MAX_WATCHED = 2048  # held-out rows on which a run is evaluated while it goes on
MEDIAN_ROWS = 10_000
CHECKPOINT_SECONDS = 20.0  # between two checkpoints
TEMPERATURE = 0.05  # of the similarities that the retrieval loss compares
WEIGHTS = ("W_enc_ND", "W_dec_ND", "b_enc_N", "b_dec_D")


class Rows(Protocol):
    """Rows of embeddings, in memory or on disk: an array, or anything that is indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, D)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> NDArray[Any]: ...


def train(x_MD: Rows, heldout_MD: Rows, config: TrainConfig, folder: Path, **options: Any) -> SAE:
    """Train on the rows of `x_MD`, (M, D), and return the SAE; the options are those of `Run`."""
    run = Run(x_MD, heldout_MD, config, folder, **options)
    while not run.is_done:
        run.advance()
    return run.finish()


class Run:
    """One training run with its files; it goes on from the checkpoint that `folder` holds.

    `heldout_MD` is never trained on: it decides which weights are the best, and when to stop. A checkpoint of
    another configuration or other data is not resumed but replaced. `TrainingError` for sizes or data that
    cannot be trained. On a full disk training goes on, says so, and the checkpoint before stays.
    """

    def __init__(
        self,
        x_MD: Rows,
        heldout_MD: Rows,
        config: TrainConfig,
        folder: Path,
        *,
        data_hash: str = "",
        device: str = "auto",
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        report: Callable[[Progress], None] | None = None,
        ranks: Ranks = Ranks(),  # noqa: B008 (immutable)
    ) -> None:
        with ranks.together():
            config.check(len(x_MD))
            ranks.check(min(config.batch, len(x_MD)))
            _check_rows(x_MD)
            if ranks.is_first:
                folder.mkdir(parents=True, exist_ok=True)
        self.config, self.folder, self.ranks = config, folder, ranks
        self._identity = json.dumps(
            {"config": asdict(config), "data": data_hash, "rows": len(x_MD)}, sort_keys=True
        )
        self.trainer = Trainer(x_MD, config, device, self._first_state(x_MD), ranks)
        self.state = self.trainer.state
        self._heldout_HD = np.asarray(heldout_MD[:MAX_WATCHED], dtype=np.float32)
        self._interval = config.evaluation_steps(len(self._heldout_HD))
        self._log = Log(folder, keep_until=self.state.step) if ranks.is_first else None
        self._report, self._checkpoint_seconds = report, checkpoint_seconds
        self._first, self._began = self.state.step, time.monotonic()
        self._saved = self._began
        self._batch_fvus: list[torch.Tensor] = []
        self._is_full = False
        self._evaluating = 0.0  # seconds

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self.state.step

    @property
    def is_done(self) -> bool:
        """Whether the last step has been made."""
        return self.state.step >= self.state.last

    @property
    def evaluation_share(self) -> float:
        """Share of the time since this process began the run that went into evaluation."""
        return self._evaluating / max(time.monotonic() - self._began, 1e-9)

    def advance(self) -> None:
        """Make one step; evaluate, log and save when it is time."""
        self._batch_fvus.append(self.trainer.step())
        if self.state.step % self._interval == 0 or self.is_done:
            self._evaluate()
        if time.monotonic() - self._saved >= self._checkpoint_seconds:
            self._save()

    def finish(self) -> SAE:
        """The SAE that was best on the held-out rows."""
        self._save()
        return self.trainer.sae(self.state.best or None)

    def _first_state(self, x_MD: Rows) -> State:
        """What to begin with: the first process decides, as other machines may not see its folder."""
        if not self.ranks.is_first:
            return State.from_bytes(self.ranks.share(b""))
        state = load_checkpoint(self.folder, self._identity) or _fresh(x_MD, self.config)
        if self.ranks.size > 1:
            self.ranks.share(state.to_bytes(self._identity))
        return state

    def _evaluate(self) -> None:
        state, config = self.state, self.config
        began = time.monotonic()
        scores = self.trainer.evaluate(self._heldout_HD)
        self._evaluating += time.monotonic() - began
        self._remember_best(scores["fvu"])
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (state.step - self._first) * config.batch / seconds
        line = Progress(
            step=state.step,
            fvu_train=float(torch.stack(self._batch_fvus).mean()),
            fvu_heldout=scores["fvu"],
            l0=scores["l0"],
            dead=self.trainer.dead_share(),
            rare=self.trainer.rare_share(),
            learning_rate=learning_rate(config, state.step - 1, state.last),
            rows_per_second=rate,
            seconds_left=(state.last - state.step) * config.batch / rate,
        )
        self._batch_fvus.clear()
        if self._log is not None:
            with self._tolerating_a_full_disk():
                self._log.write(line)
        if self._report is not None:
            self._report(line)

    def _remember_best(self, fvu: float) -> None:
        state = self.state
        state.stalled += 1
        if fvu < state.best_fvu or not state.best:
            state.best, state.best_fvu = self.trainer.copy_weights(), fvu
            state.best_step, state.stalled = state.step, 0
        if self.config.patience and state.stalled >= self.config.patience:
            # The decay is worth too much to be left out: it begins now.
            state.last = min(state.last, state.step + math.ceil(fall(self.config)))

    def _save(self) -> None:
        if self.ranks.is_first:
            with self._tolerating_a_full_disk():
                save_checkpoint(self.folder, self.trainer.snapshot(), self._identity)
        self._saved = time.monotonic()

    @contextmanager
    def _tolerating_a_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not self._is_full:
                message = "The disk is full: %s keeps its last checkpoint. Training goes on; free some space."
                logger.warning(message, self.folder)
            self._is_full = True


class Trainer:
    """Weights, optimiser and data in memory; `step` makes one update."""

    def __init__(
        self,
        x_MD: Rows,
        config: TrainConfig,
        device: str = "cpu",
        state: State | None = None,
        ranks: Ranks = Ranks(),  # noqa: B008 (immutable)
    ) -> None:
        self.x_MD, self.config, self.ranks, self.device = x_MD, config, ranks, pick_device(device)
        self.state = (state or _fresh(x_MD, config)).to(self.device)
        self.weights = {name: self.state.weights[name] for name in WEIGHTS}  # in one order everywhere
        self.variant = make_variant(config, self.state.threshold)
        self.dtype = _selection_dtype(config, x_MD.shape[1], self.device)
        self.dead_after = config.epoch_steps(len(x_MD), config.dead_epochs)
        self.k_aux = max(1, config.k // 2)  # the paper's 2 k costs four times as much and errs no less
        self._epoch_steps = config.epoch_steps(len(x_MD))
        self.batch = min(config.batch, len(x_MD))
        self._a_BN = torch.empty(self.batch, config.n_latents, dtype=self.dtype, device=self.device)
        self._make_gradients()
        encoder = {"params": [self.weights["W_enc_ND"]], "weight_decay": config.weight_decay}
        others = [value for name, value in self.weights.items() if name != "W_enc_ND"]
        groups = [encoder, {"params": others, "weight_decay": 0.0}]
        betas = (0.9, config.beta2)
        self.optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
        self._restore_moments()
        self._epoch = -1

    def step(self) -> torch.Tensor:
        """One update; the batch's FVU before it."""
        with torch.no_grad(), _threads(self.batch * self.config.n_latents * self.x_MD.shape[1]):
            return self._step()

    def evaluate(self, x_HD: NDArray[np.float32]) -> dict[str, float]:
        """FVU and L0 on rows that are not trained on, with the picks of the trained SAE and no noise."""
        sums = torch.zeros(3, dtype=torch.float64)  # squared error, squares around the mean, activations
        mean_D = torch.from_numpy(x_HD.mean(axis=0)).to(self.device)
        with torch.no_grad(), _threads(self.batch * self.config.n_latents * x_HD.shape[1]):
            own_HD = x_HD[self.ranks.part(len(x_HD))]
            for block in blocks(len(own_HD), self.batch):
                x_BD = torch.from_numpy(own_HD[block]).to(self.device)
                centred_BD = x_BD - self.weights["b_dec_D"]
                picks = self.variant.pick_after_training(self._preactivations(centred_BD))
                values_P = self._values(picks, centred_BD)
                rebuilt_BD = picks.decode(values_P, self.weights["W_dec_ND"]) + self.weights["b_dec_D"]
                sums[0] += float((x_BD - rebuilt_BD).square().sum())
                sums[1] += float((x_BD - mean_D).square().sum())
                sums[2] += float((values_P > 0).sum())
        self.ranks.sum_(sums)
        error, variance, fires = sums.tolist()
        return {"fvu": error / variance if variance > 0 else float("nan"), "l0": fires / max(1, len(x_HD))}

    def sae(self, weights: dict[str, torch.Tensor] | None = None) -> SAE:
        """The present weights as an SAE on the CPU, or those that `copy_weights` gave."""
        weights = dict(weights or self.copy_weights())
        threshold = float(weights.pop("threshold"))
        return SAE(
            **{name: value.cpu().numpy() for name, value in weights.items()},
            k=self.config.k,
            threshold=None if self.variant.threshold is None else threshold,
            prefixes=self.variant.prefixes if len(self.variant.prefixes) > 1 else (),
        )

    def copy_weights(self) -> dict[str, torch.Tensor]:
        """The weights, and the threshold, as they are now."""
        now = {**self.weights, "threshold": self.state.threshold}
        return {name: value.detach().clone() for name, value in now.items()}

    def dead_share(self) -> float:
        """Share of the latents that have not fired for an epoch."""
        return float((self.state.silent_N >= self._epoch_steps).float().mean())

    def rare_share(self) -> float:
        """Share of the latents that fire, but on less than a ten-thousandth of the rows of the last epoch."""
        fired_N = self.state.fired_before_N if self._epoch > 0 else self.state.fired_N
        rows = len(self.x_MD) if self._epoch > 0 else max(1, self.state.step) * self.batch
        return float(((fired_N > 0) & (fired_N < RARE_DENSITY * rows)).float().mean())

    def snapshot(self) -> State:
        """The state with the optimiser's moments, as a checkpoint needs it."""
        moments = {}
        for name, value in self.weights.items():
            slot = self.optimiser.state.get(value)
            if slot:
                moments[f"{name}/mean"], moments[f"{name}/square"] = slot["exp_avg"], slot["exp_avg_sq"]
        return replace(self.state, moments=moments)

    def _step(self) -> torch.Tensor:
        config, state = self.config, self.state
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, state.step, state.last)
        self._numbers.zero_()
        self._add_gradients()
        self._threshold.copy_(state.threshold)  # where there is one, each process has it from its own part
        self.ranks.sum_(self._numbers)
        state.threshold.copy_(self._threshold[0] / self.ranks.size)
        squared = sparse.make_orthogonal(self._grads["W_dec_ND"], self.weights["W_dec_ND"])
        squared += sum(grad.square().sum() for name, grad in self._grads.items() if name[0] == "b")
        squared += torch.linalg.vector_norm(self._grads["W_enc_ND"]) ** 2
        self._flat.mul_((1 / (squared.sqrt() + 1e-6)).clamp(max=1.0))
        self.optimiser.step()
        sparse.make_unit(self.weights["W_dec_ND"])
        state.silent_N += 1
        state.silent_N[self._fired_N > 0] = 0
        state.fired_N += self._fired_N
        state.step += 1
        return self._fvu.clone()

    def _add_gradients(self) -> None:
        """The gradients of this process's part of the batch, what fired in it, and its share of the FVU."""
        w = self.weights
        x_BD, noisy_BD, spread = self._batch()
        centred_BD = noisy_BD - w["b_dec_D"]
        a_BN = self._preactivations(centred_BD)
        parts = self.variant.pick(a_BN).split(self.variant.prefixes)
        values = [self._values(picks, centred_BD) for picks in parts]
        rebuilt_BD = w["b_dec_D"].expand_as(x_BD)
        pulls = []  # the gradient of each prefix's loss by its reconstruction
        for picks, values_P in zip(parts, values, strict=True):
            rebuilt_BD = rebuilt_BD + picks.decode(values_P, w["W_dec_ND"])
            pulls.append((rebuilt_BD - x_BD) * (2 / (spread * len(parts))))
            self._fired_N += picks.sum_by_latent((values_P > 0).float())
        error_BD = x_BD - rebuilt_BD
        self._fvu += error_BD.square().sum() / spread
        if self.config.retrieval:
            pulls[-1] += self.config.retrieval * self._retrieval_pull(x_BD, rebuilt_BD)
        pull_BD = torch.zeros_like(x_BD)
        for picks, values_P, own_BD in reversed(list(zip(parts, values, pulls, strict=True))):
            pull_BD = pull_BD + own_BD  # a latent is in its own prefix and in all that are longer
            self._add_pull(picks, values_P, pull_BD, centred_BD)
        self._grads["b_dec_D"] += pull_BD.sum(dim=0)
        self._add_auxiliary(centred_BD, a_BN, error_BD)

    def _add_pull(
        self, picks: Picks, values_P: torch.Tensor, pull_BD: torch.Tensor, centred_BD: torch.Tensor
    ) -> None:
        """Carry the gradient of a reconstruction back to the weights that made it."""
        w, grads = self.weights, self._grads
        back_P = picks.dots(pull_BD, w["W_dec_ND"]) * (values_P > 0)
        picks.add_outer(values_P, pull_BD, grads["W_dec_ND"])
        picks.add_outer(back_P, centred_BD, grads["W_enc_ND"])
        back_N = picks.sum_by_latent(back_P)
        grads["b_enc_N"] += back_N
        grads["b_dec_D"] -= back_N @ w["W_enc_ND"]

    def _add_auxiliary(self, centred_BD: torch.Tensor, a_BN: torch.Tensor, error_BD: torch.Tensor) -> None:
        """The loss that wakes dead latents: the strongest of them decode what the others missed."""
        dead_D = torch.nonzero(self.state.silent_N >= self.dead_after).squeeze(1)
        if len(dead_D) == 0:
            return
        strongest = a_BN[:, dead_D].topk(min(self.k_aux, len(dead_D)), dim=1, sorted=False).indices
        picks = sparse.Picks.of(dead_D[strongest], self.config.n_latents)
        values_P = self._values(picks, centred_BD)
        guess_BD = picks.decode(values_P, self.weights["W_dec_ND"])
        pull_BD = (guess_BD - error_BD) * (2 * self.config.aux_weight / self._spread(error_BD))
        self._add_pull(picks, values_P, pull_BD, centred_BD)

    def _retrieval_pull(self, x_BD: torch.Tensor, rebuilt_BD: torch.Tensor) -> torch.Tensor:
        """Gradient of KL(similarities of the rows | those of the reconstructions), by the reconstructions."""
        target_BB = _similarities(x_BD)
        with torch.enable_grad():
            leaf_BD = rebuilt_BD.detach().requires_grad_()
            divergence = torch.nn.functional.kl_div(
                _similarities(leaf_BD), target_BB, log_target=True, reduction="batchmean"
            )
        pull_BD: torch.Tensor = torch.autograd.grad(divergence, leaf_BD)[0]
        return pull_BD / self.ranks.size

    def _preactivations(self, centred_BD: torch.Tensor) -> torch.Tensor:
        w = self.weights
        out_BN = self._a_BN[: len(centred_BD)]
        return sparse.preactivations(centred_BD, w["W_enc_ND"], w["b_enc_N"], self.dtype, out_BN)

    def _values(self, picks: Picks, centred_BD: torch.Tensor) -> torch.Tensor:
        """The activations of the picks, in float32 whatever they were selected in, (P,)."""
        a_P = picks.dots(centred_BD, self.weights["W_enc_ND"])
        return (a_P + self.weights["b_enc_N"][picks.latents_P]).relu_()

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The rows of this process, the same with noise, and the whole batch's sum of squares."""
        per_epoch = max(1, len(self.x_MD) // self.batch)
        epoch, place = divmod(self.state.step, per_epoch)
        if epoch != self._epoch:
            self._begin_epoch(epoch, is_start=place == 0)
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        whole_BD = torch.from_numpy(np.asarray(self.x_MD[rows], dtype=np.float32)).to(self.device)
        spread = (whole_BD - whole_BD.mean(dim=0)).square().sum()
        part = self.ranks.part(self.batch)
        x_BD = whole_BD[part]
        return x_BD, self._noisy(x_BD, part), spread.clamp_min(LEAST_VARIANCE * whole_BD.numel())

    def _begin_epoch(self, epoch: int, *, is_start: bool) -> None:
        if is_start and epoch > 0:
            self.state.fired_before_N.copy_(self.state.fired_N)
            self.state.fired_N.zero_()
        self._epoch = epoch
        self._order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(len(self.x_MD))

    def _noisy(self, x_BD: torch.Tensor, part: slice) -> torch.Tensor:
        """Each row moved along random signs: even as Gaussian noise, exact in length, a tenth of the cost."""
        relative = noise(self.config, self.state.step, self.state.last)
        if relative == 0:
            return x_BD
        width = x_BD.shape[1]
        rng = np.random.default_rng((self.config.seed, 2, self.state.step))
        bits = np.unpackbits(np.frombuffer(rng.bytes(math.ceil(self.batch * width / 8)), dtype=np.uint8))
        bits_BD = torch.from_numpy(bits[: self.batch * width].reshape(self.batch, width)[part])
        signs_BD = bits_BD.to(self.device, torch.float32).mul_(2).sub_(1)
        lengths = x_BD.norm(dim=1, keepdim=True) * (relative / math.sqrt(width))
        return torch.addcmul(x_BD, signs_BD, lengths)

    def _spread(self, error_BD: torch.Tensor) -> torch.Tensor:
        """Sum of squares of the whole batch around its mean, where this process has only a part."""
        sums = torch.stack([error_BD.sum(dim=0), error_BD.square().sum(dim=0)])
        self.ranks.sum_(sums)
        spread = sums[1].sum() - sums[0].square().sum() / self.batch
        return spread.clamp_min(LEAST_VARIANCE * self.batch * error_BD.shape[1])

    def _make_gradients(self) -> None:
        """One array for all that processes add up: the gradients, what fired, the FVU, the threshold."""
        sizes = [value.numel() for value in self.weights.values()]
        self._numbers = torch.zeros(sum(sizes) + self.config.n_latents + 2, device=self.device)
        parts = torch.split(self._numbers, [*sizes, self.config.n_latents, 1, 1])
        *flat, self._fired_N, self._fvu, self._threshold = parts
        self._flat = self._numbers[: sum(sizes)]
        self._grads = {}
        for (name, value), numbers in zip(self.weights.items(), flat, strict=True):
            value.requires_grad_()
            value.grad = self._grads[name] = numbers.view_as(value)

    def _restore_moments(self) -> None:
        for name, value in self.weights.items():
            if f"{name}/mean" in self.state.moments:
                self.optimiser.state[value] = {
                    "step": torch.tensor(float(self.state.step), device=self.device),
                    "exp_avg": self.state.moments[f"{name}/mean"],
                    "exp_avg_sq": self.state.moments[f"{name}/square"],
                }
        self.state.moments = {}


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the GPU where torch sees one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(
            f"device {device} was asked for, but torch sees no GPU.", remedy="Use --device cpu."
        )
    return torch.device(device)


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


def _selection_dtype(config: TrainConfig, width: int, device: torch.device) -> torch.dtype:
    """The numbers in which pre-activations are compared: bfloat16 where a large step is faster with it."""
    if config.select == "auto":
        is_large = config.batch * config.n_latents * width >= SMALL_STEP
        if device.type == "cuda":
            has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            has_it = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        return torch.bfloat16 if is_large and has_it else torch.float32
    return torch.bfloat16 if config.select == "bfloat16" else torch.float32


def _similarities(x_BD: torch.Tensor) -> torch.Tensor:
    """Log of the softmax of each row's cosine similarities to the others, (B, B)."""
    unit_BD = torch.nn.functional.normalize(x_BD, dim=1)
    cosines_BB = (unit_BD @ unit_BD.T) / TEMPERATURE
    itself = torch.eye(len(x_BD), dtype=torch.bool, device=x_BD.device)
    return cosines_BB.masked_fill(itself, -1e4).log_softmax(dim=1)


def _fresh(x_MD: Rows, config: TrainConfig) -> State:
    """b_dec the coordinate-wise median of up to 10,000 rows; random unit directions; W_enc = W_dec."""
    rng = torch.Generator().manual_seed(config.seed)
    rows = np.random.default_rng((config.seed, 0)).permutation(len(x_MD))[:MEDIAN_ROWS]
    directions_ND = torch.randn(config.n_latents, x_MD.shape[1], generator=rng)
    directions_ND /= directions_ND.norm(dim=1, keepdim=True)
    median_D = np.median(np.asarray(x_MD[np.sort(rows)], dtype=np.float32), axis=0)
    weights = {
        "W_enc_ND": directions_ND.clone(),
        "W_dec_ND": directions_ND,
        "b_enc_N": torch.zeros(config.n_latents),
        "b_dec_D": torch.from_numpy(median_D.astype(np.float32)),
    }
    counts_N = torch.zeros(config.n_latents)
    return State(weights, torch.zeros(()), counts_N, counts_N.clone(), counts_N.clone(), last=config.steps)


def _check_rows(x_MD: Rows) -> None:
    """Refuse rows that are not numbers, by name, and rows that are all the same."""
    first_D = np.asarray(x_MD[:1], dtype=np.float32)[0]
    differ = False
    for block in blocks(len(x_MD)):
        x_BD = np.asarray(x_MD[block], dtype=np.float32)
        finite_B = np.isfinite(x_BD).all(axis=1)
        if not finite_B.all():
            row = block.start + int(np.flatnonzero(~finite_B)[0])
            raise TrainingError(
                f"Row {row} of the embeddings is not finite.", remedy="Embed that document again."
            )
        differ = differ or bool((x_BD != first_D).any())
    if not differ:
        raise TrainingError("All embeddings are the same row.", remedy="Give documents that differ.")
