"""A restored model made larger: a longer position table, a larger vocabulary. Old rows stay as they are to the bit."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sentencepiece import sentencepiece_model_pb2

from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import refuse, retold
from albert_jax.interop.source import LoadedModel
from albert_jax.model.config import AlbertConfig


@dataclass(frozen=True)
class Resize:
    """What becomes larger in a conversion; 0 and "" leave it as it is."""

    max_positions: int = 0  # rows of the position table
    vocab_size: int = 0  # rows of the word table, of a source without a vocabulary
    add_pieces: str = ""  # file with a new piece a line, for vocabulary and table
    seed: int = 0  # of the new rows


def resized(model: LoadedModel, resize: Resize) -> LoadedModel:
    """`model` with its tables and its vocabulary grown. Raises AlbertError where they cannot grow so."""
    refuse(f"{model.origin}{flaw}" for flaw in _resize_flaws(model.tokenizer, resize))
    tokenizer, pieces = model.tokenizer, resize.vocab_size or None
    if tokenizer is not None and resize.add_pieces:
        file = resize.add_pieces
        with retold(lambda message: f"{file}: cannot be read as pieces, one a line ({message})", OSError, ValueError):
            lines = Path(file).read_text(encoding="utf-8").split()
        tokenizer = add_pieces(tokenizer, lines)
        pieces = tokenizer.vocab_size
    if pieces is None and not resize.max_positions:
        return model
    params, config = grow(model.params, model.config, resize.max_positions or None, pieces, resize.seed)
    return dataclasses.replace(model, params=params, config=config, tokenizer=tokenizer)


def _resize_flaws(tokenizer: AnyTokenizer | None, resize: Resize) -> Iterator[str]:
    if tokenizer is None and resize.add_pieces:
        yield " has no vocabulary to add pieces to; give --vocab-size"
    # A row without a piece would never be looked up, and the vocabulary would be refused beside the larger table.
    if tokenizer is not None and not resize.add_pieces and resize.vocab_size not in (0, tokenizer.vocab_size):
        sizes = f"{tokenizer.vocab_size} pieces and --vocab-size asks for {resize.vocab_size}"
        yield f": its vocabulary has {sizes}; name the new ones in a file for --add-pieces"


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
    refuse(_unfit(wanted, config, seed))
    grown = dict(params)
    for field, size in wanted.items():
        more = size - getattr(config, field)
        path = f"albert/embeddings/{_TABLES[field]}"
        # A key for each table, so that the rows of one do not depend on whether the other grows.
        key = jax.random.fold_in(jax.random.key(seed), list(sizes).index(field))
        # As the original draws its initial values: a normal of this deviation, cut at two deviations.
        draw = jax.nn.initializers.truncated_normal(config.initializer_range)
        rows = np.asarray(draw(key, (more, config.embedding_size), np.float32))
        grown[path] = np.concatenate([params[path], rows])
        if field == "vocab_size" and "mlm/bias" in params:
            grown["mlm/bias"] = np.concatenate([params["mlm/bias"], np.zeros(more, np.float32)])
    changes: dict[str, Any] = wanted
    return grown, dataclasses.replace(config, **changes)


_TABLES = {"max_positions": "position", "vocab_size": "word"}


def _unfit(wanted: dict[str, int], config: AlbertConfig, seed: int) -> Iterator[str]:
    if not 0 <= seed < 2**32:  # JAX would take a larger one modulo 2**32
        yield f"the seed is {seed}; give one from 0 to {2**32 - 1}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes of this machine
    for field, size in wanted.items():
        if size < getattr(config, field):
            rows = getattr(config, field)
            yield f"the {_TABLES[field]} table has {rows} rows and {field} asks for {size}; it can only grow"
        if size * config.embedding_size * 4 > memory:
            yield f"{field} asks for {size:,} rows, more than this machine's memory holds; give fewer"


def add_pieces(tokenizer: AnyTokenizer, pieces: Sequence[str]) -> AnyTokenizer:
    """`tokenizer` with `pieces` after its own: another vocabulary, whose old ids mean what they meant.

    A SentencePiece piece is found wherever it stands in a text, as "(" is; it begins with "▁" to be found at the
    beginning of a word only. Raises AlbertError for a piece that exists already, or that normalised text cannot hold.
    """
    refuse(_unusable(tokenizer, pieces))
    # At the end, so that no old id moves.
    if isinstance(tokenizer, WordPieceTokenizer):
        lower = tokenizer.normalization.lower
        return WordPieceTokenizer([*tokenizer.pieces(range(tokenizer.vocab_size)), *pieces], lower)
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    for piece in pieces:
        # User-defined, since no score that is made up could stand beside those of the unigram model's training.
        model.pieces.add(piece=piece, score=0.0, type=model.SentencePiece.USER_DEFINED)
    return Tokenizer(model.SerializeToString(), tokenizer.normalization, tokenizer.word_rule)


def _unusable(tokenizer: AnyTokenizer, pieces: Sequence[str]) -> Iterator[str]:
    known = set(tokenizer.pieces(range(tokenizer.vocab_size)))
    for piece in pieces:
        if piece in known:
            yield f"the piece {piece!r} is in the vocabulary, or was given twice; leave it out"
        known.add(piece)
        text = piece.removeprefix("▁").removeprefix("##")
        normal = tokenizer.normalize(text)
        if not text or normal != text:
            yield f"the piece {piece!r} can never be met: text is normalised to {normal!r} first; give it so"
