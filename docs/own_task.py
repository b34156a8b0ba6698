"""A kind of task of your own: how many words has a text? Data, model, loss, scores, answers and experiment in one file.

    python -m albert_jax train    --config docs/own_task.py --workdir runs/words --init PRETRAINED \
        --task.train train.txt --task.dev dev.txt --task.test test.txt
    python -m albert_jax evaluate --workdir runs/words
    python -m albert_jax predict  --workdir runs/words --input texts.txt
"""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from albert_jax.data.labelled.tables import Labelled
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.model.heads import AlbertForSequenceClassification
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks.base import Evaluation
from albert_jax.tasks.texts import OpenTextTask, TextTask
from albert_jax.telemetry.scores import Score, loss, share


@dataclass(frozen=True)
class WordCount(TextTask):
    """Texts, one a line; the target is how many words each has."""

    scale: float = 10.0  # words that the model's output 1.0 stands for: losses and rates like numbers near 1

    def opened(self, config, tokenizer=None):
        return OpenWordCount(self, config, tokenizer)


class OpenWordCount(OpenTextTask):
    scores = (
        loss(headline=True),
        Score("rmse", "RMSE", ".2f", higher_is_better=False, headline=True),
        share("within_one", "within one word", headline=True),
    )
    best = "rmse"  # picks the best checkpoint
    outputs = ("words",)  # what an answer is made from

    def read_split(self, split):
        lines = [
            line for path in self.task.paths(split) for line in Path(path).read_text().splitlines() if line.strip()
        ]
        return [Labelled((line,), float(len(line.split())), f"line {n}") for n, line in enumerate(lines, 1)]

    def targets(self, records):
        return np.array([record.target for record in records], np.float32)

    def model(self, rngs):
        return AlbertForSequenceClassification(self.config, 1, rngs=rngs)

    def sums(self, model, batch, dropout_keys):
        scaled = model(batch["input_ids"], batch["segment_ids"], batch["mask"], dropout_keys)[:, 0]
        squared = jnp.square(scaled - batch["label"] / self.task.scale)
        outputs = {"words": scaled * self.task.scale, "label": batch["label"]}
        return {"loss": ((squared * batch["example_weight"]).sum(), "examples")}, outputs

    def evaluation(self, scores, outputs):
        wrong = np.array([float(row["words"] - row["label"]) for row in outputs])
        own = {"rmse": float(np.sqrt(np.mean(wrong**2))), "within_one": float(np.mean(np.abs(wrong) <= 1))}
        return Evaluation({**scores, **own})

    def baselines(self, split):
        counts = self.targets(self.split(split).records)
        return {"rmse": float(counts.std())}  # of always answering the mean

    def answer(self, outputs):
        return {"words": round(float(outputs["words"]), 2)}


def experiment() -> Experiment:
    optim = AdamW(peak_lr=1e-3, schedule=Schedule(warmup_share=0.1))
    model = albert("base", vocab_size=0)
    return Experiment("word count", model, WordCount(), optim, 0, 32, epochs=3, eval_every=0, model_of_init=True)
