"""dictionary_learning: `TopKTrainer.update`, the step of its `trainSAE`, with the trainer's defaults."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from dictionary_learning.trainers.top_k import TopKTrainer
from torch import Tensor

from benchmarks.peers.contestant import Task, batches


class DictionaryLearning:
    """Adam 2e-4 / sqrt(n / 2^14). The batch is the caller's to choose: 1024, as the paper's.

    Its warm-up is 1,000 steps, made for runs of language models. Of a shorter run it takes a tenth instead,
    which is to its advantage: with the default it would never reach its own learning rate.
    """

    def __init__(self, task: Task) -> None:
        self.version, self.batch = version("dictionary-learning"), task.batch or 1024
        self._steps = task.steps
        rows_MD = task.load()
        self._batches = batches(rows_MD, self.batch, task.seed)
        self._trainer = TopKTrainer(
            steps=task.steps,
            activation_dim=rows_MD.shape[1],
            dict_size=task.n_latents,
            k=task.k,
            layer=0,
            lm_name="embeddings",
            warmup_steps=min(1000, task.steps // 10),
            seed=task.seed,
            device="cpu",
        )

    def run(self, between: Callable[[], None]) -> None:
        between()
        for step in range(self._steps):
            self._trainer.update(step, next(self._batches))
            between()

    def encode(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        return self._trainer.ae(x_BD, output_features=True)  # type: ignore[no-any-return]
