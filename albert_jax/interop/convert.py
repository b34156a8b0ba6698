"""Any ALBERT into an albert_jax directory, a Hugging Face directory or a TF 1 checkpoint, and the comparison of source
and target: on one fixed batch, each by its own program where that is installed."""

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.interop import directory, google, hf
from albert_jax.interop.grow import Resize, resized
from albert_jax.interop.hf import ARCHITECTURES
from albert_jax.interop.load import open_source
from albert_jax.interop.names import table
from albert_jax.interop.restored import Head, build
from albert_jax.interop.source import Format, LoadedModel

_WRITERS: dict[Format, Callable[[Path, LoadedModel], None]] = {
    "albert_jax": directory.write,
    "hf": hf.write,
    "tf1": google.write,
}


def convert(
    source: str | Path, destination: str | Path, to: Format = "albert_jax", growth: Resize | None = None
) -> float | None:
    """Writes the model at `source` (whatever `albert_jax.load` takes) to `destination`, and prints what it did.

    The target is read back and must hold the same parameters to the bit, and logits of source and target are compared,
    before the target appears under its name. Returns the largest difference, None where nothing could be compared.

    Raises AlbertError, the destination untouched, for a destination that is not empty and a source that cannot be read.
    """
    # Before the source is read, which may take minutes.
    destination = _empty_destination(destination, source)
    found = _without_other_parts(open_source(source))
    model = resized(found, growth or Resize())
    with _appearing(destination) as made:
        _WRITERS[to](made, model)
        # The warnings were shown when the source was read.
        with warnings.catch_warnings(action="ignore"):
            target = open_source(made)
        refuse(_unequal(model.params, target.params, made))
        # Google's format does not name a head; the comparison is of the source's.
        comparison, difference = compared(found, source, dataclasses.replace(target, head=found.head), made)
    numbers = sum(array.size for array in model.params.values())
    shape = f"{model.config.layers} layers, D {model.config.hidden_size}, {model.config.heads} heads, "
    shape += f"V {model.config.vocab_size:,}, {model.config.activation}, head {model.head or 'none'}"
    print(f"{found.origin} ({found.format}) -> {destination} ({to}): {numbers:,} parameters; {shape}")
    if model.tokenizer is None:
        print("no vocabulary was found beside the source, so none was written")
    print(comparison)
    return difference


def _without_other_parts(model: LoadedModel) -> LoadedModel:
    """`model` without what a user's own task trained beside the encoder, which no format has a name for."""
    known = {row.ours for row in table(model.config)}
    others = sorted(model.params.keys() - known)
    if others:
        print(f"left out, since no format has a name for it: {', '.join(others)}")
    return dataclasses.replace(model, params={path: x for path, x in model.params.items() if path in known})


def _unequal(written: dict[str, np.ndarray], read: dict[str, np.ndarray], directory: Path) -> Iterator[str]:
    for path in sorted({*written, *read}):
        if path not in written or path not in read or not np.array_equal(written[path], read[path], equal_nan=True):
            yield f"{directory}: {path} did not read back as it was written; is the disk sound?"


# ---- the destination


@contextlib.contextmanager
def _appearing(destination: Path) -> Iterator[Path]:
    """A directory to write into, which becomes `destination` when the block ends without an error, and otherwise is
    removed together with the parents that were made for it."""
    lacking = [folder for folder in destination.parents if not folder.exists()]
    made: Path | None = None
    try:
        with retold(lambda message: f"{destination}: cannot be made ({message}); choose another destination", OSError):
            destination.parent.mkdir(parents=True, exist_ok=True)
            # Beside the destination: a rename is atomic only within one file system.
            made = Path(tempfile.mkdtemp(prefix=f".{destination.name[:40]}.", dir=destination.parent))
        with retold(lambda message: f"{destination}: cannot be written ({message}); make room there", OSError):
            yield made
            made.chmod(0o755)  # mkdtemp's directories are their owner's alone
            refuse(_occupied(destination))  # again, since the conversion took its time
            os.replace(made, destination)
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        for folder in lacking:
            with contextlib.suppress(OSError):  # it is not empty where the conversion succeeded
                folder.rmdir()


def _empty_destination(given: str | Path, source: str | Path) -> Path:
    """The destination as an absolute path. Raises AlbertError where nothing can be made there."""

    def failed(message: str) -> str:
        return f"{str(given)[:200]}: cannot be made ({message}); choose another destination"

    # A name that is too long, no permission, the home directory of nobody.
    with retold(failed, OSError, RuntimeError):
        destination = Path(os.path.abspath(Path(given).expanduser()))
        refuse(_occupied(destination))
        if os.path.isdir(source) and destination.resolve().is_relative_to(Path(source).resolve()):
            raise AlbertError(f"{given} lies in the source {source}, which stays as it is; choose another destination")
    return destination


def _occupied(destination: Path) -> Iterator[str]:
    if destination.is_symlink() or destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        yield f"{destination} is not empty; choose another destination, or remove it first"


# ---- the comparison

Outputs = dict[str, np.ndarray]
_HF_OUTPUTS = {
    "last_hidden_state": "hidden", "pooler_output": "pooled", "prediction_logits": "mlm_logits",
    "sop_logits": "order_logits", "logits": "logits", "start_logits": "start_logits", "end_logits": "end_logits",
}  # fmt: skip


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
    # Long enough to have both texts and padding, short enough for a large model on a laptop.
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
