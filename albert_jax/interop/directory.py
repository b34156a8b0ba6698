"""Our own directories as models: a converted one, and the workdir of a training run.

A converted directory holds a model that was not trained here: `model.json` with its configuration and head,
`weights.safetensors` with its parameters under our paths, and `vocab/` where it has a vocabulary. `convert` writes it.
"""

import dataclasses
from pathlib import Path
from typing import cast, get_args, get_type_hints

import numpy as np

from albert_jax.cluster import workdirs
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import read_object, reading, write_json
from albert_jax.interop import safetensors
from albert_jax.interop.names import our_flaws, parts
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.safetensors import SafetensorsFile, aligned
from albert_jax.interop.source import Contents, LoadedModel, Source
from albert_jax.model.config import AlbertConfig

MODEL_FILE, WEIGHTS, VOCAB, EXPERIMENT = "model.json", "weights.safetensors", "vocab", "experiment.json"
_FORMAT = 1  # of model.json; another number where an older reader would misread it
_ADVICE = "convert again, or restore it from a copy"


def is_converted(path: Path) -> bool:
    return (path / MODEL_FILE).is_file()


def read_metadata(path: str | Path) -> LoadedModel:
    """The content of model.json, as a model without weights and vocabulary. Raises AlbertError when it is damaged."""
    file = Path(path) / MODEL_FILE
    stored = read_object(file, _ADVICE)
    with reading(file, _ADVICE):
        if stored["format"] != _FORMAT:
            raise ValueError("written by another version")
        hints = get_type_hints(AlbertConfig)
        for name, value in stored["model"].items():  # the class itself checks numbers but not types
            kind = hints.get(name, type(value))  # and refuses a field that it lacks
            kinds = (int, float) if kind is float else (kind,)
            if not (value in get_args(kind) if get_args(kind) else type(value) in kinds):
                raise ValueError(f"model.{name} is {value!r}")
        head, labels, problem, origin = (stored[name] for name in ("head", "labels", "problem", "origin"))
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels are {labels!r}")
        if not all(isinstance(text, str) for text in (head or "", problem, origin)):
            raise ValueError(f"head is {head!r}, problem {problem!r}, origin {origin!r}")
        try:
            config = AlbertConfig(**stored["model"])
        except AlbertError as error:  # its sentence names the field, not the file
            raise ValueError(str(error)) from error
        return LoadedModel(origin, "albert_jax", config, {}, head, tuple(labels), problem, None)


def params(path: str | Path) -> dict[str, np.ndarray]:
    """Path -> parameter, float32. Raises AlbertError when the file is missing or damaged."""
    return dict(SafetensorsFile(Path(path) / WEIGHTS))


def write(directory: Path, model: LoadedModel) -> None:
    """Writes `model` into `directory`, which exists and is empty. Raises AlbertError where it cannot be written."""
    if model.tokenizer is not None:
        model.tokenizer.save(directory / VOCAB)
    safetensors.write(directory / WEIGHTS, model.params)
    metadata = {name: getattr(model, name) for name in ("head", "labels", "problem", "origin")}
    # Last, since a directory with this file counts as converted.
    fields = {"format": _FORMAT, "model": dataclasses.asdict(model.config), **metadata}
    write_json(directory / MODEL_FILE, fields)


class Directory(Source):
    format = "albert_jax"
    matches = staticmethod(is_converted)

    def __init__(self, path: Path, origin: str):
        super().__init__(path, origin)
        self._metadata = self._read_metadata()
        self.config, self.vocab = self._metadata.config, path / VOCAB
        self.vocabulary = self.vocab if self.vocab.is_dir() else None

    def _read_metadata(self) -> LoadedModel:
        return read_metadata(self.path)

    def _read(self) -> Contents:
        return self._checked(params(self.path))

    def _checked(self, params: dict[str, np.ndarray], others: bool = False) -> Contents:
        """`params` with what model.json tells. With `others`, parts of no known head may stand beside the encoder."""
        refuse(f"{self.origin}: {flaw}" for flaw in our_flaws(params, self.config, others))
        head, labels, bias = self._metadata.head, self._metadata.labels, params.get("classifier/bias")
        if head is not None and head not in NEEDED:
            known = ", ".join(NEEDED)
            raise AlbertError(f"{self.origin}: there is no head {head!r}; the heads are {known}: convert again")
        if head is not None and not NEEDED[head] <= parts(params):
            lacking = f"the parameters of its head {head!r} are missing"
            raise AlbertError(f"{self.origin}: {lacking}; restore them from a copy")
        if labels and bias is not None and len(bias) != len(labels):
            sizes = f"{len(labels)} classes and the classifier has {len(bias)}"
            raise AlbertError(f"{self.origin}: it names {sizes}; {_ADVICE}")
        return params, head, labels, self._metadata.problem


class Workdir(Directory):
    """A training run: the best of its checkpoints, of a task of ours or of the user's."""

    @staticmethod
    def matches(path: Path) -> bool:
        return (path / EXPERIMENT).is_file()

    def _read_metadata(self) -> LoadedModel:
        # Here, since it imports the tasks' libraries, which takes longer than loading a model of another format.
        from albert_jax import experiment as experiments

        experiment = experiments.read(self.path)
        task = experiment.task
        labels = tuple(getattr(task, "labels", ()))
        head = cast(Head | None, task.head or None)  # a user's own kind of task has none of ours
        return LoadedModel(self.origin, "albert_jax", experiment.model, {}, head, labels, task.problem, None)

    def _read(self) -> Contents:
        # A user's task may train parts that no table here has; they must not keep its encoder from being used.
        return self._checked(best_params(self.path), others=True)


def best_params(workdir: Path) -> dict[str, np.ndarray]:
    """Path -> array of the best checkpoint; the optimizer's moments are not read.

    Read by TensorStore one array after the other. Orbax, which wrote them, reads all NumPy arrays at once, compressed
    and decompressed side by side, and when one is damaged the readers of the others print their traces. What it writes
    are documented formats: a Zarr 3 array for each parameter, named after its path with dots for slashes, in an OCDBT
    key-value store.

    Raises AlbertError where there is no finished checkpoint, or a damaged one.
    """
    import tensorstore

    from albert_jax.engine.checkpoint import FOLDER, open_for_reading

    what = str(workdir / FOLDER)  # what is being read, for the message

    def damaged(message: str) -> str:
        message = message.partition(" [")[0][:160]  # the source files and lines of TensorStore follow
        advice = "restore the checkpoint from a copy, or remove it, and the next best is taken"
        return f"{what}: damaged ({message}); {advice}"

    with retold(damaged, Exception):  # Orbax and json raise anything for damaged files
        step = open_for_reading(workdir).best_step
    folder = what = str(workdirs.shared_dir(workdir) / FOLDER / str(step) / "params")
    url = folder if "://" in folder else f"file://{folder}"
    found: dict[str, np.ndarray] = {}
    with retold(damaged, ValueError, OSError, RuntimeError):
        # Without a cache, which would hold every array a second time.
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
        keys = tensorstore.KvStore.open({"driver": "ocdbt", "base": url}, context=context).result().list().result()
        # Keys are NAME/zarr.json and NAME/c/..., the chunks.
        stores = {}
        for name in sorted({key.decode().partition("/")[0] for key in keys}):
            kvstore = {"driver": "ocdbt", "base": url, "path": f"{name}/"}
            spec = {"driver": "zarr3", "kvstore": kvstore}
            stores[name] = tensorstore.open(spec, context=context, read=True).result()
        # The largest first, while there is most memory for its compressed and its decompressed copy.
        for name in sorted(stores, key=lambda name: -stores[name].size):
            path = name.replace(".", "/")
            what = f"{folder}: {path}"
            found[path] = aligned(stores[name].shape, stores[name].dtype.numpy_dtype)
            tensorstore.array(found[path], context=context).write(stores[name]).result()
    if not found:
        raise AlbertError(f"{folder}: no array is in it; restore the checkpoint from a copy, or remove it")
    return dict(sorted(found.items()))
