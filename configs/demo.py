"""The demo: pretraining that a laptop finishes in minutes.

Paper row: none; a small ALBERT (E 64, D 256, 4 layers) on the documentation of the installed packages.
Command:   launch/demo.sh, or
           python -m albert_jax prepare --corpus pydocs --out runs/demo/corpus --vocab-size 4096
           python -m albert_jax train --config configs/demo.py --workdir runs/demo/pretrain
Hardware:  2 CPU cores, about 5 minutes.
Vary:      --steps 20000 for a better model.
"""

from albert_jax.checkpoint import CheckpointConfig
from albert_jax.data.masking import MaskConfig
from albert_jax.data.pairs import PairConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Schedule
from albert_jax.tasks import Pretrain
from albert_jax.telemetry import TelemetryConfig


def experiment() -> Experiment:
    return Experiment(
        name="demo",
        model=albert("mini", vocab_size=0),
        task=Pretrain(data="runs/demo/corpus", pairs=PairConfig(max_length=64), masks=MaskConfig()),
        optim=AdamW(peak_lr=1e-3, schedule=Schedule(warmup_steps=200), weight_decay=0.01),
        steps=2500,
        batch_size=64,
        eval_every=500,
        checkpoint=CheckpointConfig(every=500),
        telemetry=TelemetryConfig(log_every=50),
    )
