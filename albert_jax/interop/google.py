"""Google's TF 1 checkpoints as models, both ways: found in what people have of them (Google's archives, training
directories, checkpoint prefixes, TF-Hub modules), read, and written as Google's archives have them."""

import glob
import json
import re
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

import numpy as np

from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.data.text.tokenizers import DAMAGED, RELEASED_NAMES
from albert_jax.errors import AlbertError, retold
from albert_jax.files import write_json
from albert_jax.interop import tf_bundle
from albert_jax.interop.names import from_ours, parts, to_ours
from albert_jax.interop.released import RELEASED, config_from_google, released, to_google
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.source import Contents, LoadedModel, Source, vocab_txt
from albert_jax.interop.tf_bundle import Bundle
from albert_jax.model.config import AlbertConfig

CONFIG_FILE = "albert_config.json"
PREFIX = "model.ckpt-best"  # what the checkpoints in Google's archives are called
SENTENCEPIECE, WORDPIECE = "30k-clean.model", "vocab_chinese.txt"
_ARCHIVE = (".tar", ".tar.gz", ".tgz")
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
_GIVE = "give an archive, a directory or a checkpoint's prefix"


class Google(Source):
    """An archive, a directory with a checkpoint in it or below, a checkpoint's prefix, or a TF-Hub module."""

    format = "tf1"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.exists() or Path(f"{path}.index").exists()

    @classmethod
    @contextmanager
    def opened(cls, path: Path, origin: str) -> Iterator[Self]:
        with find(path) as checkpoint:
            yield cls(path, origin, checkpoint)

    def __init__(self, path: Path, origin: str, checkpoint: "TfCheckpoint"):
        super().__init__(path, origin)
        self._tensors, self.config, self.vocabulary = checkpoint.tensors, checkpoint.config(), checkpoint.vocabulary
        # An archive's vocabulary is unpacked for as long as the block lasts; `tokenizers.load` reads it in the archive.
        self.vocab = path if path.is_file() or self.vocabulary is None else self.vocabulary

    def _read(self) -> Contents:
        # Adam's and LAMB's moments, two thirds of a training checkpoint, are no parameters and are never read.
        params = to_ours("tf", self._tensors(), self.config, self.origin)
        return params, _head(params), (), ""


def _head(params: Mapping[str, np.ndarray]) -> Head | None:
    present = parts(params)
    if "classifier" in present:  # RACE's has one number for each text
        return "choice" if params["classifier/kernel"].shape[1] == 1 else "classification"
    # Of the most specific first: every pretraining checkpoint has an MLM head, too.
    order: tuple[Head, ...] = ("span", "pretrain", "mlm")
    return next((head for head in order if NEEDED[head] <= present), None)


def write(directory: Path, model: LoadedModel) -> None:
    """Writes a checkpoint, albert_config.json and the vocabulary into `directory`, as Google's archives have them.
    Raises AlbertError for what the original's code cannot compute, and where the files cannot be written."""
    write_json(directory / CONFIG_FILE, to_google(model.config))
    tf_bundle.write(directory / PREFIX, from_ours("tf", model.params, model.config))
    # By this file `tf.train.latest_checkpoint` finds it.
    (directory / "checkpoint").write_text(f'model_checkpoint_path: "{PREFIX}"\n', encoding="utf-8")
    if isinstance(model.tokenizer, JsonTokenizer):
        lacking = "the original's code reads a spiece.model or a vocab.txt, and this model has a tokenizer.json"
        warnings.warn(f"{model.origin}: {lacking}: no vocabulary is written", stacklevel=2)
    elif isinstance(model.tokenizer, Tokenizer):
        (directory / SENTENCEPIECE).write_bytes(model.tokenizer.model)
    elif model.tokenizer is not None:
        (directory / WORDPIECE).write_bytes(vocab_txt(model.tokenizer))


@dataclass(frozen=True)
class TfCheckpoint:
    prefix: Path  # of the `.index` and `.data-*` files
    config_path: Path | None  # its `albert_config.json`, or None (modules of TF-Hub come without)
    vocabulary: Path | None  # a SentencePiece model or a WordPiece `vocab.txt`, or None
    name: str  # absolute path of what was asked for, by which the table of released models goes

    def tensors(self) -> Bundle:
        """Variables by name, read when asked for; training state and "module/" are left to `names.to_ours`."""
        return Bundle(self.prefix)

    def config(self) -> AlbertConfig:
        """From the file; without one from the table, for weights of a released shape, with a warning. Raises
        AlbertError where the file is damaged, and without one for weights of another shape."""
        path, damage = self.config_path, (OSError, ValueError, RecursionError)
        if path is None:
            return config_from_weights(self.tensors(), self.name)
        with retold(lambda message: f"{path}: not a JSON file ({message}); copy it again", *damage):
            fields = json.loads(path.read_bytes())
        return config_from_google(fields, self.name, str(path))


@contextmanager
def find(path: str | Path, config: str | Path | None = None) -> Iterator[TfCheckpoint]:
    """The checkpoint that `path` means: an archive of Google's (.tar, .tar.gz, .tgz), a directory with
    `model.ckpt*.index` in it or below, the prefix of a checkpoint ("…/model.ckpt-best"), or a TF-Hub module
    (saved_model.pb and variables/). `config` is its `albert_config.json`, where that is not beside it. What was
    unpacked is gone when the context ends, so read within it.

    Raises AlbertError where there is none, or several and no file `checkpoint` that chooses, or an unsafe archive.
    """
    given = Path(path)
    name = str(given.absolute())
    if given.is_file() and given.name.endswith(_ARCHIVE):
        with tempfile.TemporaryDirectory(prefix="albert_jax-") as directory:
            _unpack(given, Path(directory))
            try:
                yield _with_neighbours(_prefix(Path(directory), name), Path(directory), config, name)
            except AlbertError as error:  # the unpacked file that it names will be gone; what remains is the archive
                raise AlbertError(str(error).replace(directory, name)) from error
    elif given.is_dir():
        yield _with_neighbours(_prefix(given, name), given, config, name)
    else:
        # Each of a checkpoint's files means the checkpoint.
        prefix = Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", name))
        if not Path(f"{prefix}.index").is_file():
            if prefix.is_file():
                raise AlbertError(f"{prefix}: no archive and no checkpoint's prefix; give the directory it is in")
            found = "its data is here, its index is not" if any(_data_files(prefix)) else "there is no such checkpoint"
            raise AlbertError(f"{prefix}.index: {found}; {_GIVE}")
        yield _with_neighbours(prefix, prefix.parent, config, name)


def config_from_weights(bundle: Bundle, name: str = "") -> AlbertConfig:
    """The released configuration whose weights have these shapes; a warning says which was taken. Raises AlbertError
    where there is none, since heads and depth leave no trace in shapes."""
    shapes = {key.removeprefix("module/"): entry.shape for key, entry in bundle.entries.items()}
    words = shapes.get("bert/embeddings/word_embeddings")
    kernel = shapes.get("bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel")
    wanted = {r: ((c.vocab_size, c.embedding_size), (c.hidden_size, c.feed_forward_size)) for r, c in RELEASED.items()}
    rows = [row for row, sizes in wanted.items() if sizes == (words, kernel)]
    rows = [row for row in rows if row in released(name)] or rows
    if not rows:
        raise AlbertError(
            f"{bundle.prefix}: no {CONFIG_FILE} beside it, and a word table {words} with feed-forward kernel {kernel} "
            "is no released ALBERT's; put its file there, since heads and layers cannot be read off weights"
        )
    # The last, which is version 2 where the name leaves it open.
    message = f"{bundle.prefix}: no {CONFIG_FILE}; taking that of {rows[-1]}, whose weights have these shapes"
    warnings.warn(message, stacklevel=2)
    return RELEASED[rows[-1]]


def _with_neighbours(prefix: Path, directory: Path, config: str | Path | None, name: str) -> TfCheckpoint:
    """The checkpoint with the configuration and the vocabulary beside it or in `directory`, or in assets/ of either."""
    if config is not None and not Path(config).is_file():
        raise AlbertError(f"{config}: no such configuration; give the albert_config.json of {name}")
    homes = [prefix.parent, directory]
    if prefix.parent.name == "variables":  # a saved model keeps its checkpoint one level below its assets
        homes.append(prefix.parent.parent)
    folders = [folder for home in homes for folder in (home, home / "assets")]
    config_path = Path(config) if config is not None else _first(folders, [CONFIG_FILE])
    # A SentencePiece model that is not Google's may have any name.
    vocabulary = _first(folders, RELEASED_NAMES) or _first(folders, ["*.model"])
    return TfCheckpoint(prefix, config_path, vocabulary, name)


def _first(folders: Iterable[Path], patterns: Iterable[str]) -> Path | None:
    found = (path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next(filter(Path.is_file, found), None)


def _prefix(directory: Path, name: str) -> Path:
    """The one checkpoint below `directory`, or the one that a file `checkpoint` names, or model.ckpt-best."""
    found = sorted(Path(str(path)[: -len(".index")]) for path in directory.rglob("*.index"))
    # An index without data is passed over, but named by the complaint where there is no other.
    found = [prefix for prefix in found if any(_data_files(prefix))] or found
    if found:
        found = _noted(directory, found)
        found = [prefix for prefix in found if prefix.name == PREFIX] or found
    if not found:
        lonely = sorted(path.name for path in directory.rglob("*.data-*-of-*"))
        lacking = f"{lonely[0]} has no .index beside it" if lonely else "no .index file of a checkpoint is in it"
        raise AlbertError(f"{name}: {lacking}; {_GIVE}")
    if len(found) > 1:
        names = ", ".join(str(prefix.relative_to(directory)) for prefix in found[:4])
        raise AlbertError(f"{name}: {len(found)} checkpoints ({names}, ...); give the prefix of one")
    return found[0]


def _noted(directory: Path, found: list[Path]) -> list[Path]:
    """What files `checkpoint`, which TensorFlow writes beside its checkpoints, leave of `found`."""
    for note in sorted(path for path in directory.rglob("checkpoint") if path.is_file()):
        text = note.read_text(encoding="utf-8", errors="replace")
        match = re.search(r'^model_checkpoint_path: "([^"]*)"', text, re.M)
        # Its path may be that of the machine it was written on; only the name counts.
        latest = note.parent / PurePosixPath(match[1]).name if match else None
        if latest in found:
            if all(prefix.is_relative_to(note.parent) for prefix in found):
                return [latest]
            # It speaks for its own directory, not for checkpoints of other runs beside it.
            found = [prefix for prefix in found if prefix == latest or prefix.parent != note.parent]
    return found


def _data_files(prefix: Path) -> Iterator[Path]:
    return (path for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*") if _DATA.search(path.name))


def _unpack(archive: Path, directory: Path) -> None:
    """The archive's plain files into `directory`. Raises AlbertError for a damaged archive, and for one with links,
    devices or paths that lead out of it."""
    damage = (*DAMAGED, OSError)
    with (
        retold(lambda message: f"{archive}: damaged archive or full disk ({message}); fetch it again", *damage),
        tarfile.open(archive) as tar,
    ):
        for member in tar:
            path = PurePosixPath(member.name)
            # By hand rather than by tarfile's filter "data", which drops a leading "/" and follows links within.
            if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                raise AlbertError(f"{archive}: {member.name} is no plain file below it; fetch another archive")
            if member.isdir() or path.suffix == ".meta":  # a graph, many megabytes, not needed
                continue
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with cast(IO[bytes], tar.extractfile(member)) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        # gzip's own checksum stands behind the last member, where tarfile does not read on.
        while cast(IO[bytes], tar.fileobj).read(1 << 20):
            pass
