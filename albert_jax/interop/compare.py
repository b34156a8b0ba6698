"""A converted model beside its source: both run on one fixed batch, each by its own program where that is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.interop.hf import ARCHITECTURES
from albert_jax.interop.restored import Head, build
from albert_jax.interop.source import Format, LoadedModel

Outputs = dict[str, np.ndarray]
_HF_OUTPUTS = {
    "last_hidden_state": "hidden",
    "pooler_output": "pooled",
    "prediction_logits": "mlm_logits",
    "sop_logits": "order_logits",
    "logits": "logits",
    "start_logits": "start_logits",
    "end_logits": "end_logits",
}


def compared(
    source: LoadedModel, source_path: str | Path, target: LoadedModel, target_path: Path
) -> tuple[str, float | None]:
    """A sentence about the largest difference of source and target, and that difference; None where it is not known."""
    formats: set[Format] = {source.format, target.format}
    if "hf" in formats and not torch_is_installed():
        lacking = "torch and transformers are not installed (pip install albert_jax[torch])"
        return f"logits were not compared: {lacking}", None
    if "hf" not in formats and "tf1" in formats:
        return "logits were not compared: the original's program needs TensorFlow 1.15, which this Python lacks", None
    batch = fixed_batch(source)

    def run(model: LoadedModel, path: str | Path) -> tuple[Outputs, str]:
        # Ours computes Google's models too, which have no program to compare with when the other side is torch.
        if model.format == "hf":
            return by_transformers(path, source.head, batch), "transformers"
        return by_albert_jax(model, batch), "albert_jax"

    (theirs, first), (ours, second) = run(source, source_path), run(target, target_path)
    difference, where = largest_difference(theirs, ours, batch["mask"])
    sentence = f"largest difference of {first} on the source and {second} on the target: {difference:.3g} ({where})"
    return sentence, difference


def fixed_batch(model: LoadedModel) -> dict[str, Any]:
    """Two rows of pieces of both texts, the second padded; with the choice head each of two texts."""
    S, V = min(model.config.max_positions, 48), model.config.vocab_size
    lead = (2, 2) if model.head == "choice" else (2,)
    # From 5 on: the first pieces of every vocabulary are special ones.
    ids = np.random.default_rng(0).integers(min(5, V - 1), V, (*lead, S)).astype(np.int32)
    mask = np.ones((*lead, S), bool)
    mask[1, ..., S // 2 :] = False
    segments = np.broadcast_to(np.arange(S) >= S // 3, ids.shape) & mask & (model.config.segment_types > 1)
    return {"input_ids": np.where(mask, ids, 0), "segment_ids": segments.astype(np.int32), "mask": mask}


def by_albert_jax(model: LoadedModel, batch: dict[str, Any]) -> Outputs:
    """What `albert_jax` computes."""
    module = build(model.config, model.head, dict(model.params), model.origin)
    positions = np.tile(np.arange(batch["mask"].shape[-1]), (2, 1)) if model.head in ("pretrain", "mlm") else None
    found = module(**batch, positions=positions)._asdict()
    if model.head is not None:  # the classes of transformers with a head return its logits only
        found.pop("hidden"), found.pop("pooled")
    return {name: np.asarray(value) for name, value in found.items() if value is not None}


def torch_is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def by_transformers(path: str | Path, head: Head | None, batch: dict[str, np.ndarray]) -> Outputs:
    """What torch and transformers compute from a Hugging Face directory or hub name. They must be installed."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error(), transformers.logging.disable_progress_bar()
    names = {known: name for name, known in ARCHITECTURES.items()}
    # The plain attention: the fused ones round in another order.
    options: dict[str, Any] = {"attn_implementation": "eager"}
    module = getattr(transformers, names[head]).from_pretrained(str(path), **options).float().eval()
    given = {
        "input_ids": torch.tensor(batch["input_ids"]).long(),
        "token_type_ids": torch.tensor(batch["segment_ids"]).long(),
        "attention_mask": torch.tensor(batch["mask"]).long(),
    }
    with torch.no_grad():
        out = module(**given)
    found = {name: getattr(out, theirs).numpy() for theirs, name in _HF_OUTPUTS.items() if theirs in out}
    return {"mlm_logits": found["logits"]} if head == "mlm" else found


def largest_difference(source: Outputs, target: Outputs, mask: np.ndarray) -> tuple[float, str]:
    """The largest difference over all outputs, at real tokens, and the output that has it."""
    worst = (0.0, "")
    for name in source.keys() & target.keys():
        # A grown vocabulary has pieces that the source does not know; they are left out.
        size = min(source[name].shape[-1], target[name].shape[-1])
        gap = np.abs(source[name][..., :size] - target[name][..., :size])
        if gap.shape[: mask.ndim] == mask.shape:
            gap = gap[mask]
        worst = max(worst, (float(gap.max()), name))
    return worst
