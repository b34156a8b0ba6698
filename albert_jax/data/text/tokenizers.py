"""Any vocabulary, told by its file: SentencePiece for the English models, WordPiece for the Chinese ones."""

import json
import lzma
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from albert_jax.data.text.normalize import Normalization
from albert_jax.data.text.sentencepiece import CHOICES_FILE, Tokenizer
from albert_jax.data.text.wordpiece import KIND, WordPieceTokenizer
from albert_jax.errors import AlbertError

AnyTokenizer = Tokenizer | WordPieceTokenizer

# What vocabularies are called in the directories of Google's releases and of Hugging Face.
RELEASED_NAMES = ("30k-clean.model", "spiece.model", "vocab.txt", "vocab_chinese.txt")
_HF_CHOICES = "tokenizer_config.json"
_ARCHIVES = (".tar", ".tar.gz", ".tgz")
# What reading a damaged archive raises, beside OSError.
DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def load(path: str | Path, lower: bool = True) -> AnyTokenizer:
    """The vocabulary of a directory that `save` wrote, of a released model's directory or archive, or in a single file.

    A file named *.txt is a WordPiece vocabulary, any other a SentencePiece model. Beside one of Hugging Face's,
    tokenizer_config.json says whether case and accents are kept. What names no choices is read as the released ones
    are: lower case and no accents, unless `lower` is False (the case is kept, accents only by WordPiece, as in the
    original).

    Raises:
        AlbertError: nothing there, no vocabulary in it, or a broken one.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(_ARCHIVES):
        return _of_archive(path, lower)
    if not path.is_dir():
        return _foreign(path, {}, lower)
    if (path / CHOICES_FILE).exists():
        return WordPieceTokenizer.load(path) if _is_wordpiece(path) else Tokenizer.load(path)
    file = find(path)
    if file is None:
        return Tokenizer.load(path)  # and its complaint
    stored = path / _HF_CHOICES
    return _foreign(file, _object(stored) if stored.is_file() else {}, lower)


def find(directory: Path) -> Path | None:
    """The vocabulary of a released model in `directory`, None where there is none."""
    return next((directory / name for name in RELEASED_NAMES if (directory / name).is_file()), None)


def is_there(path: Path) -> bool:
    """Whether `load` would find a vocabulary at `path`, sound or not; of an archive it is not known."""
    return path.is_file() or (path / CHOICES_FILE).is_file() or (path.is_dir() and find(path) is not None)


def _foreign(file: Path, choices: dict, lower: bool) -> AnyTokenizer:
    lower &= choices.get("do_lower_case") is not False
    if file.suffix == ".txt":
        return WordPieceTokenizer.load(file, lower)
    tokenizer = Tokenizer.load(file)
    wanted = Normalization(lower, keep_accents=choices.get("keep_accents") is True)
    return tokenizer if wanted == tokenizer.normalization else tokenizer.with_choices(wanted, tokenizer.word_rule)


def _of_archive(path: Path, lower: bool) -> AnyTokenizer:
    """The vocabulary in one of Google's archives, which is read up to it."""
    try:
        with tarfile.open(path) as archive, tempfile.TemporaryDirectory() as scratch:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in RELEASED_NAMES and (content := archive.extractfile(member)) is not None:
                    file = Path(scratch) / name
                    file.write_bytes(content.read())
                    try:
                        return _foreign(file, {}, lower)
                    except AlbertError as error:
                        raise AlbertError(str(error).replace(scratch, str(path))) from error
    except (*DAMAGED, OSError) as error:
        said = str(error).partition("\n")[0]
        raise AlbertError(f"{path}: damaged archive or full disk ({said}); fetch it again") from error
    raise AlbertError(f"{path}: no vocabulary ({', '.join(RELEASED_NAMES)}) is in this archive; give one on its own")


def _object(path: Path) -> dict:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AlbertError(f"{path}: cannot be read as JSON ({error}); copy it again") from error
    if not isinstance(fields, dict):
        raise AlbertError(f"{path}: not a JSON object; copy it again")
    return fields


def _is_wordpiece(path: Path) -> bool:
    try:
        return json.loads((path / CHOICES_FILE).read_bytes()).get("kind") == KIND
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise AlbertError(f"{path / CHOICES_FILE}: not the choices of a vocabulary: {error}") from error
