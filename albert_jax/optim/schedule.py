"""Learning rate over the steps of a run: linear warm-up, then polynomial decay."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from albert_jax.errors import AlbertError


@dataclass(frozen=True)
class Schedule:
    """Warm-up and decay.

    Attributes:
      warmup_steps: steps over which the rate rises linearly from 0 to its peak
      warmup_share: the same as a share of the run, rounded, instead of warmup_steps
      decay_power: exponent of the decay to `end_fraction`; 1.0 is linear (ALBERT), 0.5 the LAMB paper's
      end_fraction: rate at the last step as a share of the peak
      decay_from: where decay counts from: "warmup_end" (the peak is reached, then decays), or "step_zero" as the
        original does: warm-up merely overrides a decay that runs from step 0, so the rate drops where warm-up ends
    """

    warmup_steps: int = 0
    warmup_share: float = 0.0
    decay_power: float = 1.0
    end_fraction: float = 0.0
    decay_from: Literal["warmup_end", "step_zero"] = "warmup_end"

    def warmup(self, total_steps: int) -> int:
        """Steps of warm-up in a run of so many."""
        return self.warmup_steps or round(self.warmup_share * total_steps)

    def build(self, peak: float, total_steps: int) -> optax.Schedule:
        """Rate as a function of the step, 0-based: step 0 of a warm-up has rate 0.

        Raises AlbertError for a peak that is negative or no number, or a warm-up that does not fit into the run.
        """
        if not 0 <= peak < float("inf"):
            raise AlbertError(f"optim.peak_lr is {peak:g}; give a rate of at least 0")
        if not 0 <= self.warmup_share <= 1 or (self.warmup_share and self.warmup_steps):
            raise AlbertError(
                f"schedule.warmup_share is {self.warmup_share:g} and warmup_steps {self.warmup_steps}; "
                "give a share of at most 1, or steps"
            )
        warmup = self.warmup(total_steps)
        if not 0 <= warmup <= total_steps:
            raise AlbertError(
                f"schedule.warmup_steps is {self.warmup_steps} but the run has {total_steps} steps; "
                "lower it, or raise steps"
            )
        start = warmup if self.decay_from == "warmup_end" else 0

        def rate(step: jax.Array | int) -> jax.Array:
            step = jnp.asarray(step, jnp.float32)
            done = jnp.clip((step - start) / max(total_steps - start, 1), 0.0, 1.0)
            decayed = self.end_fraction + (1.0 - self.end_fraction) * (1.0 - done) ** self.decay_power
            warm = step / max(warmup, 1)
            return peak * jnp.where(step < warmup, warm, decayed)

        return rate
