"""Any ALBERT as a model to call: ours, Google's, Hugging Face's."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from albert_jax.cluster import workdirs
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.errors import AlbertError, extra, retold
from albert_jax.interop import box
from albert_jax.interop.directory import Directory, Workdir
from albert_jax.interop.google import Google
from albert_jax.interop.hf import HuggingFace
from albert_jax.interop.restored import Head, RestoredAlbert, build
from albert_jax.interop.source import LoadedModel, Source

# The first that matches reads. Google's is last: it takes any directory with a checkpoint below it, a prefix or an
# archive, and says what is missing in a directory of none of these formats.
READERS: tuple[type[Source], ...] = (Directory, Workdir, HuggingFace, Google)


def load(
    path_or_name: str | Path, layers: int | None = None, head: Head | None = None
) -> tuple[RestoredAlbert, AnyTokenizer | None]:
    """A model with the weights that `path_or_name` holds, and its vocabulary (None where the source has none).

        model, tokenizer = albert_jax.load("albert_jax/small")  # the model in the box, no network needed
        out = model([[tokenizer.cls_id, *tokenizer.encode("some text"), tokenizer.sep_id]])
        out.hidden  # [1, S, D]: a vector for each piece

    The model is a Flax NNX module: `model(input_ids, segment_ids=None, mask=None)` gives `.hidden` [B, S, D] and
    `.pooled` [B, D], and with `all_hidden=True` also `.all_hidden` [L, B, S, D]; see `RestoredAlbert`. It computes in
    float32 without dropout. Equality with TF 1.15 and torch is asserted by the tests in `tests/interop`.

    Args:
      path_or_name: an albert_jax directory or workdir, a model in the box ("albert_jax/NAME"), a Hugging Face directory
        or hub name, or Google's checkpoint (archive, directory, prefix, TF-Hub module)
      layers: depth to apply the shared blocks to, another than the source's if wanted
      head: "pretrain" (`.mlm_logits` [B, P, V] for `positions` [B, P], `.order_logits` [B, 2]), "mlm",
        "classification", "tagging", "choice" (`.logits`), "span" (`.start_logits`, `.end_logits`); None: no head

    Raises AlbertError for what is no model, is damaged, or lacks the head.
    """
    source = open_source(path_or_name)
    # Checked by hand since True, 3.0 and "3" would pass the configuration's own comparison or fail without a name.
    if layers is not None and type(layers) is not int:
        raise AlbertError(f"layers is {layers!r}; give a whole number, or None for the source's own depth")
    config = source.config if layers is None else dataclasses.replace(source.config, layers=layers)
    return build(config, head, source.params, source.origin), source.tokenizer


def open_source(path_or_name: str | Path) -> LoadedModel:
    """The model at a path, or under a name in the box or on the Hugging Face hub, weights and all.

    Raises AlbertError for what is no model or is damaged, and for a vocabulary whose size is not the word table's.
    """
    with source_at(path_or_name) as source:
        return source.load()


_OPEN: dict[str, Source] = {}  # the sources of the `source_at` blocks that are being executed


@contextmanager
def source_at(path_or_name: str | Path) -> Iterator[Source]:
    """The source at a path, in the box or under a hub name, open within the block.

    `source.config` and `source.vocab` are read without weights, `source.load()` with them. Calls of `source_at` and
    `open_source` with the same name within the block use this source: whoever needs several opens a block around all.

    Raises AlbertError for what is no model, and for a configuration that is damaged or of no ALBERT.
    """
    given = str(path_or_name)
    # Shared because opening is dear: an archive is unpacked, which takes seconds, and the hub is asked for a name.
    if given in _OPEN:
        yield _OPEN[given]
        return
    path = _local_path(path_or_name)
    origin, reader = str(path), _reader(path)
    # What is no path of any format is taken for a name, so a local directory always comes before box and hub.
    if reader is None:
        origin, path = given, box.directory(given) if box.is_name(given) else _download(given)
        reader = _reader(path) or HuggingFace
    with reader.opened(path, origin) as source:
        _OPEN[given] = source
        try:
            yield source
        finally:
            del _OPEN[given]


def _reader(path: Path) -> type[Source] | None:
    return next((reader for reader in READERS if reader.matches(path)), None)


_KINDS = "a directory, an archive, a checkpoint's prefix or a name on the Hugging Face hub"


def _local_path(path_or_name: str | Path) -> Path:
    """The path to look at. Raises AlbertError for what can be neither a path nor a name."""
    given = str(path_or_name)
    if not given:
        raise AlbertError(f"the source's name is empty; give {_KINDS}")
    if given.startswith(("http:", "https:")):
        raise AlbertError(f"{given}: an address is not read; fetch what is there and give {_KINDS}")
    # Python raises for a name that is too long, a directory without permission and the home directory of nobody, and
    # only when the path is looked up, as the readers will do.
    with retold(lambda message: f"{given[:200]}: cannot be read ({message}); give {_KINDS}", OSError, RuntimeError):
        path = workdirs.local_dir(path_or_name).expanduser()
        path.exists(), Path(f"{path}.index").exists()
    return path


# Weights of other programs (TensorFlow, Flax, ONNX) are left on the hub.
_WANTED = ["config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json",
           "spiece.model", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]  # fmt: skip


def _download(name: str) -> Path:
    """The directory into which huggingface_hub has fetched the model `name`."""
    # "owner/model" or "model"; anything else was meant as a path, and the hub's complaint would mislead.
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name.replace("/", ""):
        raise AlbertError(f"{name}: there is no such path; give {_KINDS}")
    lacking = f"{name}: there is no such path; if it is a name on the Hugging Face hub, first: {extra('hf')}"
    with retold(lambda _: lacking, ImportError):
        import huggingface_hub
    failed = f"{name}: no such path, and the Hugging Face hub could not be asked for it"
    # Exception, for the library's own errors and those of several HTTP libraries below it.
    with retold(lambda message: f"{failed} ({message[:200]}); check name and network, or give a directory", Exception):
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_WANTED))
