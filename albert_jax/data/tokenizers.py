"""Any vocabulary, told by its file: SentencePiece for the English models, WordPiece for the Chinese ones."""

import json
from pathlib import Path

from albert_jax.data.text import Normalization
from albert_jax.data.tokenizer import CHOICES_FILE, Tokenizer
from albert_jax.data.wordpiece import KIND, WordPieceTokenizer
from albert_jax.errors import AlbertError

AnyTokenizer = Tokenizer | WordPieceTokenizer

# What vocabularies are called in the directories of Google's releases and of Hugging Face.
_FOREIGN_MODELS = ("spiece.model", "30k-clean.model")
_FOREIGN_LISTS = ("vocab.txt", "vocab_chinese.txt")


def load(path: str | Path, lower: bool = True) -> AnyTokenizer:
    """The vocabulary of a directory that `save` wrote, of a released model's directory, or in a single file.

    A file named *.txt is a WordPiece vocabulary, any other a SentencePiece model. What names no choices is read as
    the released ones are: lower case and no accents, unless `lower` is False (the case is kept, accents only by
    WordPiece, as in the original).

    Raises:
        AlbertError: nothing there, no vocabulary in the directory, or a broken one.
    """
    path = Path(path)
    if not path.is_dir():
        return WordPieceTokenizer.load(path, lower) if path.suffix == ".txt" else _bare(path, lower)
    if (path / CHOICES_FILE).exists():
        return WordPieceTokenizer.load(path) if _is_wordpiece(path) else Tokenizer.load(path)
    for name in _FOREIGN_MODELS:
        if (path / name).is_file():
            return _bare(path / name, lower)
    for name in _FOREIGN_LISTS:
        if (path / name).is_file():
            return WordPieceTokenizer.load(path / name, lower)
    return Tokenizer.load(path)  # and its complaint


def _bare(path: Path, lower: bool) -> Tokenizer:
    tokenizer = Tokenizer.load(path)
    if lower:
        return tokenizer
    return tokenizer.with_choices(Normalization(lower=False), tokenizer.word_rule)


def _is_wordpiece(path: Path) -> bool:
    try:
        return json.loads((path / CHOICES_FILE).read_bytes()).get("kind") == KIND
    except (OSError, ValueError, AttributeError) as error:
        raise AlbertError(f"{path / CHOICES_FILE}: not the choices of a vocabulary: {error}") from error
