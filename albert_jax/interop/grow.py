"""A restored model made larger: a longer position table, a larger vocabulary. Old rows stay as they are to the bit."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from sentencepiece import sentencepiece_model_pb2

from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig


def grow(
    params: dict[str, np.ndarray],
    config: AlbertConfig,
    max_positions: int | None = None,
    vocab_size: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], AlbertConfig]:
    """`params` (path -> array) and `config` with that many positions and pieces.

    New rows are drawn as the original draws initial ones (a normal of deviation `config.initializer_range` cut at two
    deviations), a function of `seed`; new pieces get the MLM bias 0.

    Raises AlbertError when a table would shrink, or grow beyond the machine's memory.
    """
    if not 0 <= seed < 2**32:
        raise AlbertError(f"the seed is {seed}; give one from 0 to {2**32 - 1}")
    changes: dict[str, Any] = {}
    grown = dict(params)
    wanted = {"max_positions": ("position", max_positions), "vocab_size": ("word", vocab_size)}
    for number, (field, (table, size)) in enumerate(wanted.items()):
        if size is None:
            continue
        have = getattr(config, field)
        if size < have:
            raise AlbertError(f"the {table} table has {have} rows and {field} asks for {size}; it can only grow")
        if size * config.embedding_size * 4 > _memory():
            raise AlbertError(f"{field} asks for {size:,} rows, more than this machine's memory holds; give fewer")
        path, changes[field] = f"albert/embeddings/{table}", size
        key = jax.random.fold_in(jax.random.key(seed), number)
        draw = jax.nn.initializers.truncated_normal(config.initializer_range)
        rows = np.asarray(draw(key, (size - have, config.embedding_size), np.float32))
        grown[path] = np.concatenate([params[path], rows])
        if field == "vocab_size" and "mlm/bias" in params:
            grown["mlm/bias"] = np.concatenate([params["mlm/bias"], np.zeros(size - have, np.float32)])
    return grown, dataclasses.replace(config, **changes)


def _memory() -> int:
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def add_pieces(tokenizer: AnyTokenizer, pieces: Sequence[str]) -> AnyTokenizer:
    """`tokenizer` with `pieces` after its own: another vocabulary, whose old ids mean what they meant.

    A SentencePiece piece is found wherever it stands in a text, as "(" is; it begins with "▁" to be found at the
    beginning of a word only. Raises AlbertError for a piece that is there, or that normalised text cannot hold.
    """
    known = set(tokenizer.pieces(range(tokenizer.vocab_size)))
    for piece in pieces:
        if piece in known:
            raise AlbertError(f"the piece {piece!r} is in the vocabulary, or was given twice; leave it out")
        text = piece.removeprefix("▁").removeprefix("##")
        if not text or tokenizer.normalize(text) != text:
            raise AlbertError(
                f"the piece {piece!r} can never be met: text is normalised to {tokenizer.normalize(text)!r} before it "
                "is cut into pieces; give it so"
            )
        known.add(piece)
    if isinstance(tokenizer, WordPieceTokenizer):
        lower = tokenizer.normalization.lower
        return WordPieceTokenizer([*tokenizer.pieces(range(tokenizer.vocab_size)), *pieces], lower)
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    for piece in pieces:
        model.pieces.add(piece=piece, score=0.0, type=model.SentencePiece.USER_DEFINED)
    return Tokenizer(model.SerializeToString(), tokenizer.normalization, tokenizer.word_rule)
