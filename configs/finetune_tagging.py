r"""Tagging of words (named entities) on your own files.

Paper row: none; the recipe is that of configs/finetune_conll2003.py with a warm-up.
Command:   python -m albert_jax train --config configs/finetune_tagging.py --workdir runs/tagging \
               --task.train train.conll --task.dev dev.conll --task.test test.conll --init PRETRAINED
           python -m albert_jax evaluate --workdir runs/tagging --split test
Files:     a word a line, its tag in the last column (IOB1, IOB2 or BIOES), a blank line after each sentence; several
           files may follow each option.
Hardware:  whatever the pretrained model needs for 16 sentences of 128 pieces.
Vary:      --optim.rates '{"^albert/": 0}' trains the head alone (frozen encoder, linear probe).
           --stopping.patience 3 ends when F1 has not risen for three epochs. --micro-batches 4 saves memory.
           seeds --n 5 in the place of train prints median, least, greatest and degenerate runs: fine-tuning varies.
Status:    not yet run with a model of the paper's size.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Tagging
from albert_jax.telemetry.run import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="finetune_tagging",
        model=albert("base", vocab_size=0),
        model_of_init=True,
        task=Tagging(),
        optim=AdamW(peak_lr=2e-5, schedule=Schedule(warmup_share=0.1)),
        steps=0,
        epochs=5,
        batch_size=16,
        eval_every=0,
        checkpoint=CheckpointConfig(every=1000, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
