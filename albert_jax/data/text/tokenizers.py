"""Any vocabulary, known by its file: SentencePiece for the English models, WordPiece for the Chinese ones, and the
tokenizer.json of transformers 5."""

import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from albert_jax.data.text import json_tokenizer, wordpiece
from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.vocabulary import CHOICES_FILE, read_choices, read_content
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError, retold
from albert_jax.files import read_object

AnyTokenizer = Tokenizer | WordPieceTokenizer | JsonTokenizer
# By the kind that vocab.json names; a SentencePiece vocabulary has none.
_KINDS: dict[str, type[AnyTokenizer]] = {wordpiece.KIND: WordPieceTokenizer, json_tokenizer.KIND: JsonTokenizer}

# What vocabularies are called in the directories of Google's releases and of Hugging Face. tokenizer.json is last: of a
# model with several the others are the original's, and tokenizer.json was made from them.
RELEASED_NAMES = ("30k-clean.model", "spiece.model", "vocab.txt", "vocab_chinese.txt", JsonTokenizer.FILE)
_HF_CHOICES = "tokenizer_config.json"
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
# What reading a damaged archive raises, beside OSError.
DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def load(path: str | Path, lower: bool = True) -> AnyTokenizer:
    """The vocabulary of a directory that `save` wrote, of a released model's directory or archive, or in a single file.

    A file named *.txt is a WordPiece vocabulary, *.json a tokenizer.json, any other a SentencePiece model. Beside one
    of Hugging Face's, tokenizer_config.json says whether case and accents are kept; a tokenizer.json says so itself. A
    vocabulary without choices is read as the released ones are: lower case and no accents, unless `lower` is False (the
    case is kept, accents only by WordPiece, as in the original).

    Raises AlbertError when there is no vocabulary, or a damaged one.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(_ARCHIVES):
        return _from_archive(path, lower)
    if not path.is_dir():
        return _foreign(read_content(path), path, {}, lower)
    file = find(path)
    # Our own choices come first: a directory may hold our vocab.json beside a vocab.txt.
    if (path / CHOICES_FILE).exists():
        return _KINDS.get(str(read_choices(path).get("kind")), Tokenizer).load(path)
    if file is None:
        return Tokenizer.load(path)  # which says what is missing
    stored = path / _HF_CHOICES
    choices = read_object(stored, "copy it again") if stored.is_file() else {}
    return _foreign(read_content(file), file, choices, lower)


def find(directory: Path) -> Path | None:
    """The vocabulary of a released model in `directory`, None where there is none."""
    return next((directory / name for name in RELEASED_NAMES if (directory / name).is_file()), None)


def _foreign(content: bytes, file: Path, choices: dict[str, Any], lower: bool) -> AnyTokenizer:
    """A vocabulary that we did not write: the `content` of `file`, and Hugging Face's `choices` where it has them."""
    if file.suffix == ".json":
        return JsonTokenizer(content, _special_names(choices), str(file))
    lower &= choices.get("do_lower_case") is not False
    if file.suffix == ".txt":
        return WordPieceTokenizer.parse(content, {"lower": lower}, str(file))
    return Tokenizer(content, Normalization(lower, choices.get("keep_accents") is True), source=str(file))


def _special_names(choices: dict[str, Any]) -> dict[str, str]:
    """The special pieces that a tokenizer_config.json names, each as a string or as an object with its content."""
    given = {field: choices.get(field) for field in json_tokenizer.SPECIALS}
    names = {field: name.get("content") if isinstance(name, dict) else name for field, name in given.items()}
    return {field: name for field, name in names.items() if isinstance(name, str)}


def _from_archive(path: Path, lower: bool) -> AnyTokenizer:
    """The vocabulary in one of Google's archives, which is read up to it and not unpacked."""
    damaged = retold(lambda said: f"{path}: damaged archive or full disk ({said}); fetch it again", *DAMAGED, OSError)
    with damaged, tarfile.open(path) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name in RELEASED_NAMES and (content := archive.extractfile(member)) is not None:
                return _foreign(content.read(), path / name, {}, lower)
    raise AlbertError(f"{path}: no vocabulary ({', '.join(RELEASED_NAMES)}) is in this archive; give one on its own")
