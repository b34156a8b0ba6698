"""Adam with decoupled weight decay."""

from dataclasses import dataclass, field
from typing import Any

import optax

from albert_jax.fields import JsonRates
from albert_jax.optim import links
from albert_jax.optim.lamb import ClipRule, clip, tail
from albert_jax.optim.schedule import Schedule


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and LayerNorms are not decayed.

    Attributes:
      peak_lr: learning rate at the end of warm-up
      schedule: warm-up and decay
      b1: decay of the running mean of gradients
      b2: decay of the running mean of squared gradients
      eps: added to the root of the second moment
      weight_decay: times the parameter, added to the update
      bias_correction: correct the moments for their start at 0; the original's fine-tuning code does not
      clip_norm: norm that gradients are clipped to; 0 switches clipping off
      clip_rule: "global" clips the gradient of the whole batch; "replica" clips each device's gradient of its own rows'
        mean loss and then adds them up, as the original does on TPUs (nothing divides by their number)
      rates: multipliers by parameter path, pattern (regular expression) to factor; 0 freezes
      layer_decay: rates that fall with depth; only 1, for all layers are one block here
    """

    peak_lr: float = 2e-5
    schedule: Schedule = field(default_factory=Schedule)
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    bias_correction: bool = True
    clip_norm: float = 1.0
    clip_rule: ClipRule = "global"
    rates: JsonRates = field(default_factory=dict)
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        links.check_layer_decay(self.layer_decay)

    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        """The chain; `params` (arrays or shapes) tells which paths there are."""
        if self.bias_correction:
            moments = optax.scale_by_adam(self.b1, self.b2, self.eps)
        else:
            moments = links.scale_by_uncorrected_moments(self.b1, self.b2, self.eps)
        return optax.named_chain(
            ("clip", clip(self.clip_norm, self.clip_rule)),
            ("moments", moments),
            ("decay", optax.add_decayed_weights(self.weight_decay, mask=links.adapts)),
            *tail(self.rates, self.schedule.build(self.peak_lr, total_steps), params),
        )
