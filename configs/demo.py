"""The demo: pretraining that a laptop finishes in minutes.

Paper row: none; ALBERT-mini (E 64, D 128, 2 layers, 0.5 M parameters) on the documentation of the installed packages.
Command:   launch/demo.sh, or
           python -m albert_jax prepare --corpus pydocs --out runs/demo/corpus --vocab-size 4096 --test 0.1
           python -m albert_jax train --config configs/demo.py --workdir runs/demo/pretrain
Hardware:  2 CPU cores, 2 to 4 minutes.
Why so:    what counts in minutes is the number of steps, so the model is shallow, batch and length small;
           3 of 10 pieces are predicted, twice the paper's share, because each is a lesson. Tables, positions and
           attention start with what the corpus says (docs/learning.md). Of 700 steps, Muon at 3e-3 made more than at
           1.5e-3, and from random values LAMB at 1e-2 learned faster than AdamW at 2e-3.
Vary:      --steps 30000 for a better model.
"""

from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import Muon, Schedule
from albert_jax.tasks import Pretrain
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.telemetry.watch import WatchConfig


def experiment() -> Experiment:
    return Experiment(
        name="demo",
        model=albert("mini", vocab_size=0, scan=False, compute_dtype="bfloat16"),
        task=Pretrain(
            data="runs/demo/corpus", pairs=PairConfig(max_length=64), masks=MaskConfig(rate=0.3), initial="corpus"
        ),
        optim=Muon(peak_lr=3e-3, schedule=Schedule(warmup_steps=100)),
        steps=2800,
        batch_size=32,
        eval_batch_size=128,
        eval_every=700,
        checkpoint=CheckpointConfig(every=700),
        watch=WatchConfig(grace_steps=1000, order_grace_steps=2800),
        telemetry=TelemetryConfig(log_every=20),
    )
