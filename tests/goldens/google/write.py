"""Writes `written/model.ckpt-best` with our code, for `make.py written` to restore in TensorFlow:

python -m tests.goldens.google.write && /tmp/tf1/bin/python tests/goldens/google/make.py written
"""

from pathlib import Path

from albert_jax.interop import tf_bundle
from albert_jax.interop.names import from_ours
from albert_jax.interop.released import config_from_google
from tests.goldens.google import draw
from tests.goldens.google.compare import GOLDENS, flat, params


def write(prefix: Path) -> None:
    config = config_from_google(draw.config("groups"))
    tf_bundle.write(prefix, from_ours("tf", flat(params("groups", config)), config))


if __name__ == "__main__":
    write(GOLDENS / "written" / "model.ckpt-best")
