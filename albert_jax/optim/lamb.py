"""LAMB exactly as ALBERT trained with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import optax

from albert_jax.fields import JsonRates
from albert_jax.optim import links
from albert_jax.optim.schedule import Schedule

ClipRule = Literal["global", "replica"]


@dataclass(frozen=True)
class Lamb:
    """Layer-wise adaptive rates (You et al. 2019) in the variant of the original code.

    It differs from `optax.lamb`: moments are not bias-corrected, and biases and LayerNorms leave both the weight decay
    and the trust ratio.

    Attributes:
      peak_lr: learning rate at the end of warm-up; the paper's 1.76e-3 belongs to batch 4096
      schedule: warm-up and decay
      b1: decay of the running mean of gradients
      b2: decay of the running mean of squared gradients
      eps: added to the root of the second moment
      weight_decay: times the parameter, added to the update before the trust ratio
      clip_norm: norm that gradients are clipped to; 0 switches clipping off
      clip_rule: "global" clips the gradient of the whole batch; "replica" clips each device's gradient of its own rows'
        mean loss and then adds them up, as the original does on TPUs (nothing divides by their number)
      rates: multipliers by parameter path, pattern (regular expression) to factor; 0 freezes
      layer_decay: rates that fall with depth; only 1, for all layers are one block here
    """

    peak_lr: float = 1.76e-3
    schedule: Schedule = field(default_factory=Schedule)
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    clip_rule: ClipRule = "global"
    rates: JsonRates = field(default_factory=dict)
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        links.check_layer_decay(self.layer_decay)

    def build(self, total_steps: int, params: Any) -> optax.GradientTransformation:
        """The chain; `params` (arrays or shapes) tells which paths there are."""
        return optax.named_chain(
            ("clip", clip(self.clip_norm, self.clip_rule)),
            ("moments", links.scale_by_uncorrected_moments(self.b1, self.b2, self.eps)),
            ("decay", optax.add_decayed_weights(self.weight_decay, mask=links.adapts)),
            ("trust", links.scale_by_trust_ratio()),
            *tail(self.rates, self.schedule.build(self.peak_lr, total_steps), params),
        )


def clip(norm: float, rule: ClipRule) -> optax.GradientTransformation:
    """Clipping of the whole gradient; that of every replica is the step's work."""
    return optax.clip_by_global_norm(norm) if norm and rule == "global" else optax.identity()


def tail(rates: Mapping[str, float], schedule: optax.Schedule, params: Any) -> tuple:
    """The last links of every optimizer: multipliers by path and the learning rate."""
    return ("rates", links.scale_by_path(rates, params)), ("rate", optax.scale_by_learning_rate(schedule))
