"""Any ALBERT as a model to call: ours, Google's, Hugging Face's."""

import dataclasses
import warnings
from pathlib import Path

from albert_jax.cluster import workdirs
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError
from albert_jax.interop import directory, google, hf
from albert_jax.interop.loaded import LoadedModel
from albert_jax.interop.restored import Head, RestoredAlbert, build
from albert_jax.interop.tf_checkpoint import find
from albert_jax.model.config import AlbertConfig


def load(
    path_or_name: str | Path, layers: int | None = None, head: Head | None = None
) -> tuple[RestoredAlbert, AnyTokenizer | None]:
    """A model with the weights that `path_or_name` holds, and its vocabulary (None where the source has none).

        model, tokenizer = albert_jax.load("runs/base")
        out = model([tokenizer.cls_id, *tokenizer.encode("some text"), tokenizer.sep_id][None])

    The model is a Flax NNX module: `model(input_ids, segment_ids=None, mask=None)` gives `.hidden` [B, S, D] and
    `.pooled` [B, D], and with `all_hidden=True` also `.all_hidden` [L, B, S, D]; see `RestoredAlbert`. It computes in
    float32 without dropout. Equality with TF 1.15 and torch is asserted by the tests in `tests/interop`.

    Args:
      path_or_name: an albert_jax directory or workdir, a Hugging Face directory or hub name, or Google's checkpoint
        (archive, directory, prefix, TF-Hub module)
      layers: depth to apply the shared blocks to, another than the source's if wanted
      head: "pretrain" (`.mlm_logits` [B, P, V] for `positions` [B, P], `.order_logits` [B, 2]), "mlm",
        "classification", "tagging", "choice" (`.logits`), "span" (`.start_logits`, `.end_logits`); None: no head

    Raises AlbertError for what is no model, is damaged, or lacks the head.
    """
    source = open_source(path_or_name)
    if layers is not None and type(layers) is not int:
        raise AlbertError(f"layers is {layers!r}; give a whole number, or None for the source's own depth")
    config = source.config if layers is None else dataclasses.replace(source.config, layers=layers)
    return build(config, head, source.params, source.origin), source.tokenizer


def open_source(path_or_name: str | Path) -> LoadedModel:
    """The model at a path, or under a name on the Hugging Face hub.

    Raises AlbertError for what is no model or is damaged, and for a vocabulary whose size is not the word table's.
    """
    path = _place(path_or_name)
    source = _open(path, str(path_or_name))
    pieces = source.tokenizer.vocab_size if source.tokenizer else source.config.vocab_size
    if pieces != source.config.vocab_size:
        raise AlbertError(
            f"{source.origin}: its vocabulary has {pieces} pieces, its word table {source.config.vocab_size} rows; "
            "put the vocabulary of this model beside it, or none"
        )
    _warn_of_groups(source)
    return source


def peek(path_or_name: str | Path) -> tuple[AlbertConfig, Path]:
    """The configuration of the model that `open_source` would open, read without its weights where that can be, and
    where `data.tokenizers.load` finds its vocabulary, should it have one. Raises AlbertError as `open_source` does."""
    path = _place(path_or_name)
    if directory.is_ours(path):
        return directory.config(path), path / "vocab"
    if not path.exists() and not Path(f"{path}.index").exists():
        path = _download(str(path_or_name))
    if hf.is_directory(path):
        return hf.config(path, str(path_or_name)), path
    with find(path) as found:
        lasting = path if path.is_file() or found.vocabulary is None else found.vocabulary
        return found.config(), lasting


_KINDS = "a directory, an archive, a checkpoint's prefix or a name on the Hugging Face hub"


def _place(path_or_name: str | Path) -> Path:
    """Where to look. Raises AlbertError for what can be neither a path nor a name."""
    given = str(path_or_name)
    if not given:
        raise AlbertError(f"the source's name is empty; give {_KINDS}")
    if given.startswith(("http:", "https:")):
        raise AlbertError(f"{given}: an address is not read; fetch what is there and give {_KINDS}")
    try:
        path = workdirs.local_dir(path_or_name).expanduser()
        path.exists(), Path(f"{path}.index").exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, no permission, nobody's home
        said = getattr(error, "strerror", None) or error
        raise AlbertError(f"{given[:200]}: cannot be read ({said}); give {_KINDS}") from error
    return path


def _warn_of_groups(source: LoadedModel) -> None:
    """Which group a layer uses is i * groups // layers; both originals compute it in floating point, which for a few
    odd pairs (22 layers in 22 groups) skips a group."""
    L, G = source.config.layers, source.config.groups
    if G == 1:
        return
    theirs = {"tf1": [int(i / L * G) for i in range(L)], "hf": [int(i / (L / G)) for i in range(L)]}
    if theirs.get(source.format, []) not in ([], [i * G // L for i in range(L)]):
        warnings.warn(
            f"{source.origin}: with {L} layers in {G} groups its own program skips a group by rounding, and this one "
            "does not: their numbers differ",
            stacklevel=2,
        )


def _open(path: Path, given: str) -> LoadedModel:
    if directory.is_ours(path):
        return directory.read(path)
    if hf.is_directory(path):
        return hf.read(path)
    if path.exists() or Path(f"{path}.index").exists():
        return google.read(path)
    return hf.read(_download(given), given)


# Weights of other programs are left on the hub.
_WANTED = ["config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json",
           "spiece.model", "vocab.txt", "tokenizer_config.json"]  # fmt: skip


def _download(name: str) -> Path:
    """The directory into which huggingface_hub has fetched the model `name`."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name.replace("/", ""):
        raise AlbertError(f"{name}: there is no such path; give {_KINDS}")
    try:
        import huggingface_hub
    except ImportError as error:
        raise AlbertError(
            f"{name}: there is no such path; if it is a name on the Hugging Face hub, install albert_jax[hf] first"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_WANTED))
    except Exception as error:  # its own errors, and those of several HTTP libraries below it
        said = str(error).strip().splitlines() or [repr(error)]
        raise AlbertError(
            f"{name}: no such path, and the Hugging Face hub could not be asked for it ({type(error).__name__}: "
            f"{said[0][:200]}); check name and network, or give a directory"
        ) from error
