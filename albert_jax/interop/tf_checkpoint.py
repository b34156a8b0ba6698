"""Finding a TF 1 checkpoint, its configuration and its vocabulary in what people have of them: Google's archives,
training directories, checkpoint prefixes, TF-Hub modules."""

import glob
import json
import re
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from albert_jax.data.text.tokenizers import DAMAGED, RELEASED_NAMES
from albert_jax.errors import AlbertError
from albert_jax.interop.released import RELEASED, config_from_google, released
from albert_jax.interop.tf_bundle import Bundle
from albert_jax.model.config import AlbertConfig

CONFIG_FILE = "albert_config.json"
_ARCHIVE = (".tar", ".tar.gz", ".tgz")
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class TfCheckpoint:
    """What was found.

    Attributes:
      prefix: of the `.index` and `.data-*` files
      config_path: its `albert_config.json`, or None (modules of TF-Hub come without)
      vocabulary: a SentencePiece model or a WordPiece `vocab.txt`, or None
      name: absolute path of what was asked for: the table of released models goes by it
    """

    prefix: Path
    config_path: Path | None
    vocabulary: Path | None
    name: str

    def tensors(self) -> Bundle:
        """Variables by name, read when asked for; training state and "module/" are left to `names.to_ours`."""
        return Bundle(self.prefix)

    def config(self) -> AlbertConfig:
        """From the file; without one, from the table, for weights of a released shape, with a warning.

        Raises AlbertError where neither tells.
        """
        if self.config_path is None:
            return config_from_weights(self.tensors(), self.name)
        try:
            fields = json.loads(self.config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise AlbertError(f"{self.config_path}: not a JSON file ({error}); copy it again") from error
        if not isinstance(fields, dict):
            raise AlbertError(
                f"{self.config_path}: a {type(fields).__name__} instead of fields and values; copy it again"
            )
        return config_from_google(fields, self.name, str(self.config_path))


@contextmanager
def find(path: str | Path, config: str | Path | None = None) -> Iterator[TfCheckpoint]:
    """The checkpoint that `path` means. What was unpacked is gone when the context ends, so read within it.

    Args:
      path: an archive of Google's (.tar, .tar.gz, .tgz), a directory with `model.ckpt*.index` in it or below, the
        prefix of a checkpoint ("…/model.ckpt-best"), or a TF-Hub module (saved_model.pb and variables/)
      config: its `albert_config.json`, where that is not beside the checkpoint

    Raises AlbertError where there is none, or several and no file `checkpoint` that chooses, or an unsafe archive.
    """
    given = Path(path)
    name = str(given.absolute())
    if given.is_file() and given.name.endswith(_ARCHIVE):
        with tempfile.TemporaryDirectory(prefix="albert_jax-") as directory:
            _unpack(given, Path(directory))
            try:
                yield _located(_prefix(Path(directory), name), Path(directory), config, name)
            except AlbertError as error:  # what was unpacked will be gone; what the person has is the archive
                raise AlbertError(str(error).replace(directory, name)) from error
    elif given.is_dir():
        yield _located(_prefix(given, name), given, config, name)
    else:
        prefix = Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", name))
        if not Path(f"{prefix}.index").is_file():
            if prefix.is_file():
                raise AlbertError(f"{prefix}: no archive and no checkpoint's prefix; give the directory it is in")
            told = "its data is here, its index is not" if any(_siblings(prefix)) else "there is no such checkpoint"
            raise AlbertError(f"{prefix}.index: {told}; give an archive, a directory or a checkpoint's prefix")
        yield _located(prefix, prefix.parent, config, name)


def config_from_weights(bundle: Bundle, name: str = "") -> AlbertConfig:
    """The released configuration whose weights have these shapes; a warning says which was taken.

    Raises AlbertError where there is none: heads and depth leave no trace in shapes.
    """
    shapes = {key.removeprefix("module/"): entry.shape for key, entry in bundle.entries.items()}
    words = shapes.get("bert/embeddings/word_embeddings")
    kernel = shapes.get("bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel")
    rows = [
        row
        for row, config in RELEASED.items()
        if words == (config.vocab_size, config.embedding_size)
        and kernel == (config.hidden_size, config.feed_forward_size)
    ]
    rows = [row for row in rows if row in released(name)] or rows
    if not rows:
        raise AlbertError(
            f"{bundle.prefix}: no {CONFIG_FILE} beside it; a word table {words} and feed-forward kernel {kernel} are "
            "no released ALBERT's; put its file there, since heads and layers cannot be read off weights"
        )
    row = rows[-1]  # version 2 where the name leaves it open
    warnings.warn(
        f"{bundle.prefix}: no {CONFIG_FILE}; taking that of {row}, whose weights have these shapes", stacklevel=2
    )
    return RELEASED[row]


def _located(prefix: Path, directory: Path, config: str | Path | None, name: str) -> TfCheckpoint:
    if config is not None and not Path(config).is_file():
        raise AlbertError(f"{config}: no such configuration; give the albert_config.json of {name}")
    homes = [prefix.parent, directory]
    if prefix.parent.name == "variables":  # a saved model keeps them below it
        homes.append(prefix.parent.parent)
    places = [place for home in homes for place in (home, home / "assets")]
    config_path = Path(config) if config is not None else _first(places, [CONFIG_FILE])
    vocabulary = _first(places, RELEASED_NAMES) or _first(places, ["*.model"])
    return TfCheckpoint(prefix, config_path, vocabulary, name)


def _first(places: Iterable[Path], patterns: Iterable[str]) -> Path | None:
    return next(
        (p for place in places for pattern in patterns for p in sorted(place.glob(pattern)) if p.is_file()), None
    )


def _prefix(directory: Path, name: str) -> Path:
    """The one checkpoint below `directory`, or the one that a file `checkpoint` there names, or model.ckpt-best."""
    found = sorted(Path(str(path)[: -len(".index")]) for path in directory.rglob("*.index"))
    found = [prefix for prefix in found if any(_siblings(prefix))] or found
    if not found:
        lonely = sorted(path.name for path in directory.rglob("*.data-*-of-*"))
        told = f"{lonely[0]} has no .index beside it" if lonely else "no .index file of a checkpoint is in it"
        raise AlbertError(f"{name}: {told}; give an archive, a directory or a checkpoint's prefix")
    for note in sorted(path for path in directory.rglob("checkpoint") if path.is_file()):
        match = re.search(
            r'^model_checkpoint_path: "([^"]*)"', note.read_text(encoding="utf-8", errors="replace"), re.M
        )
        latest = note.parent / PurePosixPath(match[1]).name if match else None
        if latest in found:
            if all(prefix.is_relative_to(note.parent) for prefix in found):
                return latest
            found = [prefix for prefix in found if prefix == latest or prefix.parent != note.parent]
    best = [prefix for prefix in found if prefix.name == "model.ckpt-best"]
    if len(best or found) > 1:
        names = ", ".join(str(prefix.relative_to(directory)) for prefix in (best or found)[:4])
        raise AlbertError(f"{name}: {len(best or found)} checkpoints ({names}, ...); give the prefix of one")
    return (best or found)[0]


def _siblings(prefix: Path) -> Iterator[Path]:
    return (path for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*") if _DATA.search(path.name))


def _unpack(archive: Path, directory: Path) -> None:
    """The archive's files into `directory`: plain files below it, nothing else."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts or not (member.isfile() or member.isdir()):
                    raise AlbertError(
                        f"{archive}: {member.name} is no plain file below it; such an archive is not unpacked"
                    )
                if member.isdir() or place.suffix == ".meta":  # a graph, many megabytes, not needed
                    continue
                target = directory / place
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            assert tar.fileobj is not None
            while tar.fileobj.read(1 << 20):  # gzip's own checksum stands behind the last member
                pass
    except (*DAMAGED, OSError) as error:
        said = str(error).partition("\n")[0]
        raise AlbertError(f"{archive}: damaged archive or full disk ({said}); fetch it again") from error
