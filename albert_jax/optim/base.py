"""What every optimizer has: a learning rate with its schedule, clipping, and factors by parameter path."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from albert_jax.errors import refuse
from albert_jax.fields import JsonRates, check, knob
from albert_jax.optim.links import scale_by_path

RATE = "give a rate of at least 0"  # advice about a peak_lr out of range


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps of a run: linear warm-up, then its peak for a while, then polynomial decay."""

    warmup_steps: int = knob(0, at_least=0)  # steps over which the rate rises linearly from 0 to its peak
    warmup_share: float = knob(0.0, at_least=0, at_most=1)  # the same as a share of the run, instead of warmup_steps
    # share of the run, after warm-up, that stays at the peak before decay begins; 0 decays at once
    stable_share: float = knob(0.0, at_least=0, below=1)
    decay_power: float = knob(1.0, above=0)  # exponent of the decay; 1.0 is linear (ALBERT), 0.5 the LAMB paper's
    end_fraction: float = knob(0.0, at_least=0)  # rate at the last step as a share of the peak
    # step that decay counts from: "warmup_end" (the peak is reached, then decays), or "step_zero" as in the original,
    # where warm-up only overrides a decay that runs from step 0, so that the rate drops where warm-up ends
    decay_from: Literal["warmup_end", "step_zero"] = "warmup_end"

    def warmup(self, total_steps: int) -> int:
        """Steps of warm-up in a run of `total_steps`."""
        return self.warmup_steps or round(self.warmup_share * total_steps)

    def build(self, peak: float, total_steps: int) -> optax.Schedule:
        """Rate as a function of the 0-based step; step 0 of a warm-up has rate 0.

        Raises AlbertError for a warm-up that is given twice or does not fit into the run.
        """
        refuse(self._flaws(total_steps))
        warmup = self.warmup(total_steps)
        start = warmup if self.decay_from == "warmup_end" else 0
        start += round(self.stable_share * total_steps)

        def rate(step: jax.Array | int) -> jax.Array:
            # Not optax.polynomial_schedule: `step_zero` needs warm-up and decay to overlap, which no join of two can.
            step = jnp.asarray(step, jnp.float32)
            done = jnp.clip((step - start) / max(total_steps - start, 1), 0.0, 1.0)
            decayed = self.end_fraction + (1.0 - self.end_fraction) * (1.0 - done) ** self.decay_power
            warm = step / max(warmup, 1)
            return peak * jnp.where(step < warmup, warm, decayed)

        return rate

    def _flaws(self, total_steps: int) -> Iterator[str]:
        if self.warmup_share and self.warmup_steps:
            given = f"{self.warmup_share:g} and warmup_steps {self.warmup_steps}"
            yield f"optim.schedule.warmup_share is {given}; give one of them, 0 for the other"
        if self.stable_share and self.warmup(total_steps) + self.stable_share * total_steps >= total_steps:
            yield (
                f"optim.schedule.stable_share {self.stable_share:g} and the warm-up of {self.warmup(total_steps)} "
                f"steps leave nothing of {total_steps} steps to decay; lower one of them"
            )
        if self.warmup(total_steps) > total_steps:
            given = f"{self.warmup_steps} but the run has {total_steps} steps"
            yield f"optim.schedule.warmup_steps is {given}; lower it, or raise steps"


@dataclass(frozen=True)
class Optimizer(ABC):
    """One optimizer is one frozen dataclass in one file, this package's or your own config's. It adds its fields and
    its links, which stand between clipping and the learning rate:

        @dataclass(frozen=True)
        class Lion(Optimizer):
            b1: float = knob(0.9, at_least=0, below=1)  # weight of the momentum in the update

            def build(self, total_steps, params):
                return self.chain(total_steps, params, moments=optax.scale_by_lion(self.b1))

    Raises AlbertError when it is made with a number out of its range.
    """

    peak_lr: float = knob(1e-3, at_least=0, advice=RATE)  # learning rate at the end of warm-up
    schedule: Schedule = field(default_factory=Schedule)  # warm-up and decay
    clip_norm: float = knob(1.0, at_least=0)  # norm that gradients are clipped to; 0 switches clipping off
    # "global" clips the gradient of the whole batch; "replica" clips each device's gradient of its own rows' mean loss
    # and then adds them up, as the original does on TPUs (nothing divides by their number)
    clip_rule: Literal["global", "replica"] = "global"
    rates: JsonRates = field(default_factory=dict)  # factors by parameter path, pattern to factor; 0 freezes
    layer_decay: float = 1.0  # rates that fall with depth; only 1, for all layers are one block here

    def __post_init__(self) -> None:
        check(self, "optim")
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if self.layer_decay != 1.0:
            yield (
                f"optim.layer_decay is {self.layer_decay:g}, but ALBERT applies one shared block at every depth, so no "
                "layer has a rate of its own; scale by parameter path instead, such as "
                '--optim.rates \'{"albert/embeddings": 0.5, "albert/encoder": 0.8}\''
            )

    @abstractmethod
    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        """The optimizer of a run; `params` is a tree of arrays or shapes."""

    def chain(
        self, total_steps: int, params: Any, **links: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Clipping, then `links` in their order, then `rates` and the learning rate.

        Checkpoints name the state of a link by its keyword, so renaming one orphans the stored runs.
        """
        # Clipping by replica is done by the training step, before the devices' gradients are added up.
        clips = self.clip_norm and self.clip_rule == "global"
        return optax.named_chain(
            ("clip", optax.clip_by_global_norm(self.clip_norm) if clips else optax.identity()),
            *links.items(),
            ("rates", scale_by_path(self.rates, params)),
            ("rate", optax.scale_by_learning_rate(self.learning_rate(total_steps))),
        )

    def learning_rate(self, total_steps: int) -> optax.Schedule:
        """Learning rate by step. Raises AlbertError when the schedule does not fit into the run."""
        return self.schedule.build(self.peak_lr, total_steps)

    @property
    def replica_clip(self) -> float:
        """Norm that the training step clips each device's gradient to; 0 where it does not."""
        return self.clip_norm if self.clip_rule == "replica" else 0.0
