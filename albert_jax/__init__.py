"""ALBERT (Lan et al. 2019, "A Lite BERT") in JAX: pretraining, fine-tuning, restoring.

Importing the package touches no device and imports no optional dependency.
"""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`albert_jax.load` and `albert_jax.Predictor`, imported when they are asked for; see
    `albert_jax.interop.load.load` and `albert_jax.predict.Predictor`."""
    if name == "load":
        from albert_jax.interop.load import load

        return load
    if name == "Predictor":
        from albert_jax.predict import Predictor

        return Predictor
    raise AttributeError(f"module 'albert_jax' has no attribute {name!r}")
