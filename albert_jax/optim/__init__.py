"""Optimizers: one frozen dataclass each, with `build(total_steps, params) -> optax.GradientTransformation`."""

from albert_jax.optim.adamw import AdamW as AdamW
from albert_jax.optim.lamb import Lamb as Lamb
from albert_jax.optim.schedule import Schedule as Schedule
