"""The demo's tagging: which words of a paragraph of documentation did its author mark as code?

Paper row: none; entities of one type, CODE, in paragraphs that have at least one.
Command:   python -m albert_jax seeds --config configs/demo_tag.py --workdir runs/demo/tag --n 3
           and beside it, with --from-scratch --workdir runs/demo/tag_scratch, the same without pretraining
Hardware:  2 CPU cores, about a minute a seed.
Vary:      --task.examples 400 --steps 300 for few labelled paragraphs.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Tagging
from albert_jax.telemetry.run import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="demo_tag",
        model=albert("mini", vocab_size=0, scan=False),
        task=Tagging(data="runs/demo/corpus", max_length=64, eval_examples=600),
        optim=AdamW(peak_lr=1e-3, schedule=Schedule(warmup_steps=20)),
        steps=800,
        batch_size=32,
        eval_batch_size=128,
        init="runs/demo/pretrain",
        eval_every=0,
        checkpoint=CheckpointConfig(every=800, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
