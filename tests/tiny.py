"""A corpus and an experiment small enough to train in seconds, for the tests of every room above `data`."""

import dataclasses
from pathlib import Path

from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.engine.sharding import MeshConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Pretrain
from albert_jax.telemetry.run import TelemetryConfig
from tests.data.sample_text import write_corpus

VOCAB_SIZE = 300


def prepared(directory: Path) -> Path:
    """A prepared directory of that text."""
    out = directory / "corpus"
    text = write_corpus(directory / "text.txt", 40)
    prepare(
        PrepareConfig(corpus=(str(text),), out=str(out), vocab_size=VOCAB_SIZE, workers=1, validation=0.1, test=0.1)
    )
    return out


def experiment(data: Path, **changes) -> Experiment:
    base = Experiment(
        name="tiny",
        model=albert(
            "tiny",
            vocab_size=0,
            hidden_size=32,
            embedding_size=16,
            feed_forward_size=64,
            heads=2,
            max_positions=32,
        ),
        task=Pretrain(data=str(data), pairs=PairConfig(max_length=32), eval_examples=20),
        optim=AdamW(peak_lr=1e-3, schedule=Schedule(warmup_steps=3)),
        steps=12,
        batch_size=8,
        eval_every=6,
        mesh=MeshConfig(devices=1),
        checkpoint=CheckpointConfig(every=4),
        telemetry=TelemetryConfig(log_every=1, tensorboard=False),
    )
    return dataclasses.replace(base, **changes)
