"""The story of `convert`: any ALBERT into an albert_jax directory, a Hugging Face directory or a TF 1 checkpoint."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from albert_jax.errors import refuse, retold
from albert_jax.interop import directory, google, hf
from albert_jax.interop.compare import compared
from albert_jax.interop.grow import Resize, resized
from albert_jax.interop.load import open_source
from albert_jax.interop.names import table
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
    each by its own program where that is installed, before the target appears under its name.

    Returns the largest difference, None where nothing could be compared.

    Raises AlbertError, the destination untouched, for a destination that is not empty and a source that cannot be read.
    """
    destination = _empty_destination(destination, source)
    found = _without_other_parts(open_source(source))
    model = resized(found, growth or Resize())
    with _appearing(destination) as made:
        _WRITERS[to](made, model)
        with warnings.catch_warnings(action="ignore"):  # the source's were shown
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
            made = Path(tempfile.mkdtemp(prefix=f".{destination.name[:40]}.", dir=destination.parent))
        with retold(lambda message: f"{destination}: cannot be written ({message}); make room there", OSError):
            yield made
            made.chmod(0o755)
            refuse(_occupied(destination))
            os.replace(made, destination)
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        for folder in lacking:
            with contextlib.suppress(OSError):  # it is not empty where the conversion succeeded
                folder.rmdir()


def _empty_destination(given: str | Path, source: str | Path) -> Path:
    """The destination as an absolute path. Raises AlbertError where nothing can be made there."""
    # OSError for a name that is too long and for lack of permission, RuntimeError for the home directory of nobody.

    def failed(message: str) -> str:
        return f"{str(given)[:200]}: cannot be made ({message}); choose another destination"

    with retold(failed, OSError, RuntimeError):
        destination = Path(os.path.abspath(Path(given).expanduser()))
        refuse(_occupied(destination))
        if os.path.isdir(source):
            refuse(_inside(destination.resolve(), Path(source).resolve(), f"{given} lies in the source {source}"))
    return destination


def _occupied(destination: Path) -> Iterator[str]:
    if destination.is_symlink() or destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        yield f"{destination} is not empty; choose another destination, or remove it first"


def _inside(destination: Path, source: Path, fact: str) -> Iterator[str]:
    if destination.is_relative_to(source):
        yield f"{fact}, which stays as it is; choose another destination"
