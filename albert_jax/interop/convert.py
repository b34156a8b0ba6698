"""Any ALBERT into an albert_jax directory, a Hugging Face directory or a TF 1 checkpoint, with larger tables where
that is asked for, and the comparison of source and target: on one fixed batch, each by its own program where that is
installed."""

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sentencepiece import sentencepiece_model_pb2

from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError, extra, refuse, retold
from albert_jax.interop import directory, google, hf, same_pieces
from albert_jax.interop.hf import ARCHITECTURES
from albert_jax.interop.load import open_source, source_at
from albert_jax.interop.names import table
from albert_jax.interop.restored import Head, build
from albert_jax.interop.source import Format, LoadedModel
from albert_jax.model.config import AlbertConfig

_WRITERS: dict[Format, Callable[[Path, LoadedModel], None]] = {
    "albert_jax": directory.write,
    "hf": hf.write,
    "tf1": google.write,
}


@dataclass(frozen=True)
class Resize:
    """What becomes larger in a conversion; 0 and "" leave it as it is."""

    max_positions: int = 0  # rows of the position table
    vocab_size: int = 0  # rows of the word table, of a source without a vocabulary
    add_pieces: str = ""  # file with a new piece a line, for vocabulary and table
    seed: int = 0  # of the new rows


def convert(
    source: str | Path,
    destination: str | Path,
    to: Format = "albert_jax",
    growth: Resize | None = None,
    texts: str = "",
) -> float | None:
    """Writes the model at `source` (whatever `albert_jax.load` takes) to `destination`, and prints what it did.

    The target is read back and must hold the same parameters to the bit, and logits of source and target are compared,
    before the target appears under its name. Where one of them is Hugging Face's, the pieces that transformers cuts
    text into are compared with ours, on built-in texts and on the lines of the file `texts`. Returns the largest
    difference of logits, None where nothing could be compared.

    Raises AlbertError, the destination untouched, for a destination that is not empty and a source that cannot be read.
    """
    # Before the source is read, which may take minutes.
    destination = _empty_destination(destination, source)
    with source_at(source) as opened:
        found, source_path = _without_other_parts(opened.load()), opened.path
    model = resized(found, growth or Resize())
    with _appearing(destination) as made:
        _WRITERS[to](made, model)
        # The warnings were shown when the source was read.
        with warnings.catch_warnings(action="ignore"):
            target = open_source(made)
        refuse(_unequal(model.params, target.params, made))
        # Google's format does not name a head; the comparison is of the source's.
        comparison, difference = compared(found, source_path, dataclasses.replace(target, head=found.head), made)
        told = list(_tokenizers_told(found, source_path, target, made, destination, texts))
    numbers = sum(array.size for array in model.params.values())
    shape = f"{model.config.layers} layers, D {model.config.hidden_size}, {model.config.heads} heads, "
    shape += f"V {model.config.vocab_size:,}, {model.config.activation}, head {model.head or 'none'}"
    print(f"{found.origin} ({found.format}) -> {destination} ({to}): {numbers:,} parameters; {shape}")
    if model.tokenizer is None:
        print("no vocabulary was found beside the source, so none was written")
    print(*told, comparison, sep="\n")
    return difference


def _tokenizers_told(
    source: LoadedModel, source_path: Path, target: LoadedModel, target_path: Path, destination: Path, texts: str
) -> Iterator[str]:
    """What transformers' tokenizers of the Hugging Face directories among both cut otherwise than ours."""
    for model, path, name in ((source, source_path, source.origin), (target, target_path, destination)):
        # Ours is that of the source's own file, where it has more than one.
        if model.format == "hf" and model.tokenizer and (theirs := same_pieces.of_transformers(path)):
            yield same_pieces.told(model.tokenizer, theirs, name, texts)


def _unequal(written: dict[str, np.ndarray], read: dict[str, np.ndarray], directory: Path) -> Iterator[str]:
    for path in sorted({*written, *read}):
        if path not in written or path not in read or not np.array_equal(written[path], read[path], equal_nan=True):
            yield f"{directory}: {path} did not read back as it was written; is the disk sound?"


def _without_other_parts(model: LoadedModel) -> LoadedModel:
    """`model` without what a user's own task trained beside the encoder, which no format has a name for."""
    known = {row.ours for row in table(model.config)}
    if others := sorted(model.params.keys() - known):
        print(f"left out, since no format has a name for it: {', '.join(others)}")
    return dataclasses.replace(model, params={path: x for path, x in model.params.items() if path in known})


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
    name, advice = str(given)[:200], "choose another destination"
    # A name that is too long, no permission, the home directory of nobody.
    with retold(lambda message: f"{name}: cannot be made ({message}); {advice}", OSError, RuntimeError):
        destination = Path(os.path.abspath(Path(given).expanduser()))
        refuse(_occupied(destination))
        if os.path.isdir(source) and destination.resolve().is_relative_to(Path(source).resolve()):
            raise AlbertError(f"{given} lies in the source {source}, which stays as it is; choose another destination")
    return destination


def _occupied(destination: Path) -> Iterator[str]:
    if destination.is_symlink() or destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        yield f"{destination} is not empty; choose another destination, or remove it first"


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
    if "hf" in formats and not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        lacking = f"torch and transformers are not installed ({extra('torch')})"
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
    both = f"{first} on the source and {second} on the target"
    return f"largest difference of {both}: {difference:.3g} ({where})", difference


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
    module = build(model.config, model.head, dict(model.params), model.origin)
    positions = np.tile(np.arange(batch["mask"].shape[-1]), (2, 1)) if model.head in ("pretrain", "mlm") else None
    found = module(**batch, positions=positions)._asdict()
    if model.head is not None:  # the classes of transformers with a head return its logits only
        found.pop("hidden"), found.pop("pooled")
    return {name: np.asarray(value) for name, value in found.items() if value is not None}


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


def resized(model: LoadedModel, resize: Resize) -> LoadedModel:
    """`model` with its tables and its vocabulary grown. Raises AlbertError where they cannot grow so."""
    tokenizer, pieces, file = model.tokenizer, resize.vocab_size or None, resize.add_pieces
    if tokenizer is None and file:
        raise AlbertError(f"{model.origin} has no vocabulary to add pieces to; give --vocab-size")
    # A row without a piece would never be looked up, and the vocabulary would be refused beside the larger table.
    if tokenizer is not None and not file and pieces not in (None, tokenizer.vocab_size):
        sizes = f"{tokenizer.vocab_size} pieces and --vocab-size asks for {pieces}"
        raise AlbertError(f"{model.origin}: its vocabulary has {sizes}; name the new ones in a file for --add-pieces")
    if tokenizer is not None and file:
        with retold(lambda message: f"{file}: cannot be read as pieces, one a line ({message})", OSError, ValueError):
            lines = Path(file).read_text(encoding="utf-8").split()
        tokenizer = add_pieces(tokenizer, lines)
        pieces = tokenizer.vocab_size
    if pieces is None and not resize.max_positions:
        return model
    params, config = grow(model.params, model.config, resize.max_positions or None, pieces, resize.seed)
    return dataclasses.replace(model, params=params, config=config, tokenizer=tokenizer)


def grow(
    params: dict[str, np.ndarray],
    config: AlbertConfig,
    max_positions: int | None = None,
    vocab_size: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], AlbertConfig]:
    """`params` (path -> array) and `config` with that many positions and pieces. Raises AlbertError when a table would
    shrink, or grow beyond the machine's memory."""
    sizes = {"max_positions": max_positions, "vocab_size": vocab_size}
    wanted = {field: size for field, size in sizes.items() if size is not None}
    if not 0 <= seed < 2**32:  # JAX would take a larger one modulo 2**32
        raise AlbertError(f"the seed is {seed}; give one from 0 to {2**32 - 1}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes of this machine
    grown = dict(params)
    for field, size in wanted.items():
        rows, table = getattr(config, field), {"max_positions": "position", "vocab_size": "word"}[field]
        if (more := size - rows) < 0:
            raise AlbertError(f"the {table} table has {rows} rows and {field} asks for {size}; it can only grow")
        if size * config.embedding_size * 4 > memory:
            raise AlbertError(f"{field} asks for {size:,} rows, more than this machine's memory holds; give fewer")
        path = f"albert/embeddings/{table}"
        # A key for each table, so that the rows of one do not depend on whether the other grows.
        key = jax.random.fold_in(jax.random.key(seed), list(sizes).index(field))
        # As the original draws its initial values: a normal of this deviation, cut at two deviations.
        draw = jax.nn.initializers.truncated_normal(config.initializer_range)
        fresh = np.asarray(draw(key, (more, config.embedding_size), np.float32))
        grown[path] = np.concatenate([params[path], fresh])
        if field == "vocab_size" and "mlm/bias" in params:
            grown["mlm/bias"] = np.concatenate([params["mlm/bias"], np.zeros(more, np.float32)])
    changes: dict[str, Any] = wanted
    return grown, dataclasses.replace(config, **changes)


def add_pieces(tokenizer: AnyTokenizer, pieces: Sequence[str]) -> AnyTokenizer:
    """`tokenizer` with `pieces` after its own: another vocabulary, whose old ids mean what they meant.

    A SentencePiece piece is found wherever it stands in a text, as "(" is; it begins with "▁" to be found at the
    beginning of a word only. Raises AlbertError for a piece that exists already, or that normalised text cannot hold.
    """
    known = set(tokenizer.pieces(range(tokenizer.vocab_size)))
    for piece in pieces:
        if piece in known:
            raise AlbertError(f"the piece {piece!r} is in the vocabulary, or was given twice; leave it out")
        known.add(piece)
        text = piece.removeprefix("▁").removeprefix("##")
        normal = tokenizer.normalize(text)
        if not text or normal != text:
            fact = f"the piece {piece!r} can never be met: text is normalised to {normal!r} first"
            raise AlbertError(f"{fact}; give it so")
    if isinstance(tokenizer, JsonTokenizer):
        raise AlbertError("pieces are added to a spiece.model or a vocab.txt; add yours with transformers before")
    # At the end, so that no old id moves.
    if isinstance(tokenizer, WordPieceTokenizer):
        lower = tokenizer.normalization.lower
        return WordPieceTokenizer([*tokenizer.pieces(range(tokenizer.vocab_size)), *pieces], lower)
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    for piece in pieces:
        # User-defined, since no score that is made up could stand beside those of the unigram model's training.
        model.pieces.add(piece=piece, score=0.0, type=model.SentencePiece.USER_DEFINED)
    return Tokenizer(model.SerializeToString(), tokenizer.normalization, tokenizer.word_rule)
