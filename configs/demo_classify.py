"""The demo's fine-tuning: which package does a paragraph of documentation belong to?

Paper row: none; names of packages are blanked in the text, or it would be a keyword search.
Command:   launch/demo.sh, or
           python -m albert_jax seeds --config configs/demo_classify.py --workdir runs/demo/classify --n 3
           and beside it, with --from-scratch --workdir runs/demo/scratch, the same without pretraining
Hardware:  2 CPU cores, a minute.
Vary:      --task.examples 0 for all labelled paragraphs.
"""

from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Classification
from albert_jax.telemetry.run import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="demo_classify",
        model=albert("mini", vocab_size=0, scan=False),
        task=Classification(data="runs/demo/corpus", max_length=64, examples=400, eval_examples=600),
        optim=AdamW(peak_lr=5e-4, schedule=Schedule(warmup_steps=20)),
        steps=200,
        eval_batch_size=128,
        batch_size=32,
        init="runs/demo/pretrain",
        eval_every=0,
        checkpoint=CheckpointConfig(every=200, keep=1),
        telemetry=TelemetryConfig(log_every=10),
    )
