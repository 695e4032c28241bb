"""How an SAE is trained: every choice, its default, and the rule that follows from the size of the corpus.

The defaults come from the study in docs/results.md, which `benchmarks/recipe_study.py` makes again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sae_core.errors import TrainingError

EPOCHS = 60
MIN_ROWS = 16
MANY_ROWS = 30_000  # from here on 32 active latents per row beat 16
MAX_BATCH = 1024
RATE, RATE_LATENTS, MAX_RATE = 4.5e-3, 3072, 9e-3  # the rate for so many latents, and for few
EVALUATIONS = 100  # of a run, at most
EVALUATION_SHARE = 0.04  # of the time of a run: a row costs a third of what it costs to train on it
FLOATS_PER_WEIGHT = 5  # the weight, its gradient, two moments, and the best so far
VARIANTS = ("topk", "batchtopk", "matryoshka")
SELECTIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, besides the data."""

    n_latents: int
    k: int
    steps: int
    batch: int = 1024
    learning_rate: float = RATE
    warmup: float = 0.02  # share of the steps
    decay: float = 0.3  # share of the steps, at the end, linearly to zero
    noise: float = (
        0.3  # norm of the noise added to an input, relative to the input's; decays as the rate does
    )
    weight_decay: float = 1.5  # of the encoder, times the learning rate: what the rows do not ask for fades
    beta2: float = 0.98  # memory of the second moment
    dead_epochs: float = 0.05  # a latent that has not fired for so long gets the auxiliary loss
    aux_weight: float = 1 / 8  # of the auxiliary loss; the paper's is 1/32
    seed: int = 0
    variant: str = "topk"
    select: str = "auto"  # in which numbers the pre-activations are compared; values are float32 always
    retrieval: float = 0.0  # weight of the loss that keeps the similarities within a batch
    patience: int = 0  # evaluations without a better held-out error before the decay begins; 0: never early
    evaluate_every: int = 0  # steps; 0: as often as costs under 5 % of the time

    @classmethod
    def for_corpus(cls, n_rows: int, width: int, **chosen: Any) -> TrainConfig:
        """The default recipe for `n_rows` training rows; arguments that are not None replace its parts.

        A small corpus wants fewer latents: about one for ten rows, and at most 8 per dimension. The more
        latents, the lower the rate, as the square root; above it latents die.
        """
        wanted = {name: value for name, value in chosen.items() if value is not None}
        n_latents = int(wanted.pop("n_latents", min(8 * width, max(32, 64 * round(n_rows / 640)))))
        k = 32 if n_rows >= MANY_ROWS else 16
        k = int(wanted.pop("k", min(k, max(1, n_latents // 4))))
        batch = int(wanted.pop("batch", min(MAX_BATCH, max(32, 32 * round(n_rows / 512)))))
        rate = float(wanted.pop("learning_rate", min(MAX_RATE, RATE * math.sqrt(RATE_LATENTS / n_latents))))
        steps = int(wanted.pop("steps", math.ceil(EPOCHS * n_rows / max(1, batch))))
        return cls(n_latents=n_latents, k=k, steps=steps, batch=batch, learning_rate=rate, **wanted)

    def check(self, n_rows: int) -> None:
        """Raise `TrainingError`, in a sentence, for a configuration that cannot be trained."""
        if n_rows < MIN_ROWS:
            what = f"{n_rows} training rows are too few to train on."
            raise TrainingError(what, remedy=f"Give a corpus of at least {MIN_ROWS * 2} documents.")
        sizes = {"latents": self.n_latents, "k": self.k, "steps": self.steps, "batch": self.batch}
        for name, value in sizes.items():
            if value < 1:
                raise TrainingError(f"{name} is {value}.", remedy=f"Choose {name} of at least 1.")
        if self.k >= self.n_latents:
            what = f"k={self.k} latents per row of {self.n_latents}: such a code is not sparse."
            raise TrainingError(what, remedy="Choose k < latents (--k, --latents).")
        if n_rows < self.n_latents:
            what = f"{n_rows} training rows are fewer than the {self.n_latents} latents."
            raise TrainingError(what, remedy="Choose fewer latents (--latents), or give more documents.")
        words = (("variant", self.variant, VARIANTS), ("select", self.select, SELECTIONS))
        for name, word, known in words:
            if word not in known:
                raise TrainingError(f"{name} is '{word}'.", remedy=f"Choose one of {', '.join(known)}.")

    def memory_bytes(self, width: int) -> int:
        """What training takes besides the rows: weights, gradients, moments, the best weights, one batch."""
        weights = 2 * self.n_latents * width + self.n_latents + width
        return 4 * (FLOATS_PER_WEIGHT * weights + self.batch * (self.n_latents + 8 * width))

    def epoch_steps(self, n_rows: int, epochs: float = 1.0) -> int:
        """Steps in so many epochs, at least one."""
        return max(1, math.ceil(epochs * n_rows / self.batch))

    def evaluation_steps(self, n_heldout: int) -> int:
        """Steps between two evaluations on `n_heldout` rows."""
        if self.evaluate_every:
            return self.evaluate_every
        cheap = n_heldout / (3 * EVALUATION_SHARE * self.batch)
        return max(1, math.ceil(max(cheap, self.steps / EVALUATIONS)))


def learning_rate(config: TrainConfig, step: int, last: int | None = None) -> float:
    """Linear warm-up, constant, linear decay to zero at step `last`; `step` counts from 0."""
    warm = max(1.0, config.warmup * config.steps)
    return config.learning_rate * min(1.0, (step + 1) / warm, _decay(config, step, last))


def noise(config: TrainConfig, step: int, last: int | None = None) -> float:
    """Relative norm of the noise: constant, and zero at the end, where the picks settle on clean inputs."""
    return config.noise * _decay(config, step, last)


def fall(config: TrainConfig) -> float:
    """Length of the decay in steps."""
    return max(1.0, config.decay * config.steps)


def _decay(config: TrainConfig, step: int, last: int | None) -> float:
    return min(1.0, ((last or config.steps) - step) / fall(config))
