"""The story of `convert`: any ALBERT into an albert_jax directory, a Hugging Face directory or a TF 1 checkpoint."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from albert_jax.errors import AlbertError
from albert_jax.interop import compare, directory, google, hf
from albert_jax.interop.grow import add_pieces, grow
from albert_jax.interop.load import open_source
from albert_jax.interop.loaded import LoadedModel

To = Literal["albert_jax", "hf", "tf1"]
_WRITERS: dict[To, Callable[[Path, LoadedModel], None]] = {
    "albert_jax": directory.write,
    "hf": hf.write,
    "tf1": google.write,
}
_READERS: dict[To, Callable[[Path], LoadedModel]] = {"albert_jax": directory.read, "hf": hf.read, "tf1": google.read}


@dataclass(frozen=True)
class Resize:
    """What becomes larger on the way; 0 and "" leave it."""

    max_positions: int = 0  # rows of the position table
    vocab_size: int = 0  # rows of the word table, of a source without a vocabulary
    add_pieces: str = ""  # file with a new piece a line, for vocabulary and table
    seed: int = 0  # of the new rows


def convert(
    source: str | Path, destination: str | Path, to: To = "albert_jax", growth: Resize | None = None
) -> float | None:
    """Writes the model at `source` (whatever `albert_jax.load` takes) to `destination`, and prints what it did.

    The target is read back and must hold the same parameters to the bit, and logits of source and target are compared,
    each by its own program where that is installed, before the target appears under its name.

    Returns the largest difference, None where nothing could be compared.

    Raises AlbertError, the destination untouched, for a destination that is not empty and a source that cannot be read.
    """
    destination = _place(destination, source)
    found = open_source(source)
    model = _grown(found, growth or Resize())
    lacking = [folder for folder in destination.parents if not folder.exists()]
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{destination.name[:40]}.", dir=destination.parent))
    except OSError as error:
        _remove_empty(lacking)
        raise AlbertError(f"{destination}: cannot be made ({error.strerror}); choose another destination") from error
    try:
        _WRITERS[to](made, model)
        with warnings.catch_warnings(action="ignore"):  # the source's were shown
            target = _READERS[to](made)
        _check_same(model.params, target.params, made)
        said, difference = _compared(found, source, dataclasses.replace(target, head=found.head), made, to)
        made.chmod(0o755)
        _check_empty(destination)
        os.replace(made, destination)
    except OSError as error:
        raise AlbertError(f"{destination}: cannot be written ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        _remove_empty(lacking)
    numbers = sum(array.size for array in model.params.values())
    about = f"{model.config.layers} layers, D {model.config.hidden_size}, {model.config.heads} heads, "
    about += f"V {model.config.vocab_size:,}, {model.config.activation}, head {model.head or 'none'}"
    print(f"{found.origin} ({found.format}) -> {destination} ({to}): {numbers:,} parameters; {about}")
    if model.tokenizer is None:
        print("no vocabulary was found beside the source, so none was written")
    print(said)
    return difference


def _place(given: str | Path, source: str | Path) -> Path:
    """The destination as an absolute path. Raises AlbertError where nothing can be made there."""
    try:
        destination = Path(os.path.abspath(Path(given).expanduser()))
        _check_empty(destination)
        inside = os.path.isdir(source) and destination.resolve().is_relative_to(Path(source).resolve())
    except (OSError, RuntimeError) as error:  # a name that is too long, no permission, nobody's home
        said = getattr(error, "strerror", None) or error
        raise AlbertError(f"{str(given)[:200]}: cannot be made ({said}); choose another destination") from error
    if inside:
        raise AlbertError(f"{given} lies in the source {source}, which stays as it is; choose another destination")
    return destination


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_empty(destination: Path) -> None:
    if destination.is_symlink() or destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise AlbertError(f"{destination} is not empty; choose another destination, or remove it first")


def _check_same(wrote: dict[str, np.ndarray], read: dict[str, np.ndarray], where: Path) -> None:
    for path in sorted({*wrote, *read}):
        if path not in wrote or path not in read or not np.array_equal(wrote[path], read[path], equal_nan=True):
            raise AlbertError(f"{where}: {path} did not read back as it was written; is the disk sound?")


def _grown(model: LoadedModel, growth: Resize) -> LoadedModel:
    tokenizer, pieces = model.tokenizer, growth.vocab_size or None
    if growth.add_pieces:
        if tokenizer is None:
            raise AlbertError(f"{model.origin} has no vocabulary to add pieces to; give --vocab-size")
        try:
            lines = Path(growth.add_pieces).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise AlbertError(f"{growth.add_pieces}: cannot be read as pieces, one a line ({error})") from error
        tokenizer = add_pieces(tokenizer, lines)
        pieces = tokenizer.vocab_size
    if tokenizer is not None and pieces not in (None, tokenizer.vocab_size):
        raise AlbertError(
            f"{model.origin}: its vocabulary has {tokenizer.vocab_size} pieces and --vocab-size asks for {pieces}; "
            "name the new ones in a file for --add-pieces"
        )
    if pieces is None and not growth.max_positions:
        return model
    params, config = grow(model.params, model.config, growth.max_positions or None, pieces, growth.seed)
    return dataclasses.replace(model, params=params, config=config, tokenizer=tokenizer)


def _compared(
    found: LoadedModel, path: str | Path, target: LoadedModel, made: Path, to: To
) -> tuple[str, float | None]:
    """What the comparison says, and the largest difference."""
    batch = compare.fixed_batch(found)
    torch = compare.torch_is_here()
    if not torch and "hf" in (found.format, to):
        return (
            "logits were not compared: torch and transformers are not installed (pip install albert_jax[torch])",
            None,
        )
    if "hf" not in (found.format, to) and "tf1" in (found.format, to):
        return "logits were not compared: the original's program needs TensorFlow 1.15, which this Python lacks", None

    def run(model: LoadedModel, place: Any, form: str) -> tuple[compare.Outputs, str]:
        if form == "hf":
            return compare.by_transformers(place, found.head, batch), "transformers"
        return compare.by_albert_jax(model, batch), "albert_jax"

    (theirs, first), (ours, second) = run(found, path, found.format), run(target, made, to)
    difference, where = compare.largest_difference(theirs, ours, batch["mask"])
    return (
        f"largest difference of {first} on the source and {second} on the target: {difference:.3g} ({where})",
        difference,
    )
