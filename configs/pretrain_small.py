"""The model in the box: a small ALBERT that a laptop pretrains in hours, a GPU in minutes.

Paper row: none; E 128, D 256, 4 layers, 2.9 M parameters, on 119 MB of English from documentation packages.
Command:   python -m albert_jax prepare --corpus debian:configs/pretrain_small.tsv --out runs/small/corpus \
               --vocab-size 16000 --validation 0.01 --test 0.01
           python -m albert_jax train --config configs/pretrain_small.py --workdir runs/small/pretrain
           launch/box.sh does both and writes the box.
Hardware:  1 CPU core with bfloat16 units: about 7,000 pieces/s.
Why so:    Muon, initial values from the corpus and at first 30 % of the pieces masked, for at equal time on one core
           these learned most (docs/learning.md); heads of 32, half of which start with a look at the neighbours;
           micro-batches, whose activations stay in the cache. The rate stays at its peak for most of the run, so that
           a run can be made longer before it decays.
Vary:      --steps 10000 for 40 M pieces; --model.hidden-size 384 --model.heads 12.
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
        name="pretrain_small",
        model=albert("small", vocab_size=0, heads=8, scan=False, compute_dtype="bfloat16"),
        task=Pretrain(
            data="runs/small/corpus",
            pairs=PairConfig(max_length=128),
            masks=MaskConfig(rate=0.3, end_rate=0.15, end_examples=800_000),
            initial="corpus",
        ),
        optim=Muon(peak_lr=1.5e-3, schedule=Schedule(warmup_steps=200, stable_share=0.75)),
        steps=25_000,
        batch_size=32,
        micro_batches=4,
        eval_batch_size=64,
        eval_every=500,
        checkpoint=CheckpointConfig(every=250, keep=2),
        watch=WatchConfig(grace_steps=2000, order_grace_steps=7000),
        telemetry=TelemetryConfig(log_every=50),
    )
