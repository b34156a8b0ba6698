"""The directories of tests/goldens/hf, what torch computed from them, and the same computed here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from albert_jax.interop.load import open_source
from albert_jax.interop.restored import RestoredOutput, build
from albert_jax.trees import by_name

GOLDENS = Path(__file__).parents[1] / "goldens" / "hf"
CASES = sorted(path.name for path in GOLDENS.iterdir())
# Our output, and what torch's is called in the .npz.
OUTPUTS = {
    "mlm_logits": "prediction_logits",
    "order_logits": "sop_logits",
    "logits": "logits",
    "start_logits": "start_logits",
    "end_logits": "end_logits",
}


def golden(case):
    return dict(np.load(GOLDENS / case / "golden.npz"))


def cross_entropy(logits, labels):
    """The mean over labels that are not -100, as torch takes it."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    return -(picked * (labels != -100)).sum() / (labels != -100).sum()


def loss_of(head, out, stored):
    """The loss that the head's class in transformers computes; of the bare model the one of make_hf.py."""
    if head is None:
        return ((out.hidden * stored["weights"]).sum() + out.pooled.sum()) / stored["mask"].size
    if head == "span":
        return (cross_entropy(out.start_logits, stored["start"]) + cross_entropy(out.end_logits, stored["end"])) / 2
    if head == "pretrain":
        return cross_entropy(out.mlm_logits, stored["labels"]) + cross_entropy(out.order_logits, stored["order"])
    return cross_entropy(out.mlm_logits if head == "mlm" else out.logits, stored["labels"])


def computed(source, stored):
    """Output, loss and gradients (path -> array) of a model on the stored batch."""
    module = build(source.config, source.head, dict(source.params), source.origin)
    graph, _ = nnx.split(module, nnx.Param)
    length = stored["mask"].shape[-1]
    positions = np.tile(np.arange(length), (len(stored["mask"]), 1)) if source.head in ("pretrain", "mlm") else None

    def run(params):
        model = nnx.merge(graph, nnx.State(params))
        batch = (stored["input_ids"], stored["segment_ids"], stored["mask"])
        encoded, logits = model.outputs(*batch, positions, all_hidden=True)
        out = RestoredOutput(*encoded, **logits)
        return loss_of(source.head, out, stored), out

    with jax.default_matmul_precision("highest"):
        (loss, out), slopes = jax.jit(jax.value_and_grad(run, has_aux=True))(by_name(source.params))
    return out, loss, slopes


def opened(case):
    return open_source(GOLDENS / case)
