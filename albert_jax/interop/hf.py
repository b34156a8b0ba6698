"""Hugging Face directories, read and written without torch and without transformers."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.text import tokenizers
from albert_jax.errors import AlbertError
from albert_jax.interop import safetensors
from albert_jax.interop.hf_tokenizer import write_tokenizer
from albert_jax.interop.loaded import LoadedModel
from albert_jax.interop.names import from_ours, parts, to_ours
from albert_jax.interop.released import config_from_hf, to_hf
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.safetensors import SafetensorsFile
from albert_jax.interop.torch_pickle import TorchFile
from albert_jax.model.config import AlbertConfig

ARCHITECTURES: dict[str, Head | None] = {
    "AlbertModel": None,
    "AlbertForPreTraining": "pretrain",
    "AlbertForMaskedLM": "mlm",
    "AlbertForSequenceClassification": "classification",
    "AlbertForTokenClassification": "tagging",
    "AlbertForQuestionAnswering": "span",
    "AlbertForMultipleChoice": "choice",
}
CONFIG = "config.json"
SAFETENSORS, TORCH = "model.safetensors", "pytorch_model.bin"


def is_directory(path: Path) -> bool:
    """Whether `path` looks like a Hugging Face directory."""
    return path.is_dir() and (path / CONFIG).is_file()


def config(path: str | Path, name: str = "") -> AlbertConfig:
    """What config.json tells, as `read` does."""
    return config_from_hf(_json(Path(path) / CONFIG), name or str(path), str(Path(path) / CONFIG))


def read(path: str | Path, name: str = "") -> LoadedModel:
    """The model in a Hugging Face directory. `name` is what it is called on the hub, "" for the path.

    Raises AlbertError for a configuration, weights or a vocabulary that are missing, damaged or not of one model.
    """
    path = Path(path)
    fields = _json(path / CONFIG)
    model = config(path, name)
    params = to_ours("hf", tensors(path), model, str(path))
    return LoadedModel(
        origin=name or str(path),
        format="hf",
        config=model,
        params=params,
        head=_head(fields, params, path / CONFIG),
        labels=_labels(fields, params, path / CONFIG),
        problem=_problem(fields, path / CONFIG),
        tokenizer=tokenizers.load(path) if tokenizers.find(path) else None,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AlbertError(f"{path}: cannot be read ({error.strerror}); a Hugging Face directory needs it") from error
    except (ValueError, RecursionError) as error:
        raise AlbertError(f"{path}: not JSON ({error}); copy it again") from error
    if not isinstance(fields, dict):
        raise AlbertError(f"{path}: not a JSON object; copy it again")
    return fields


# ---- weights


def tensors(path: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a directory by name, each read when it is asked for: safetensors before a pickle, a whole file
    before shards. Raises AlbertError when there is none, or a shard is missing or is not what its index says."""
    for file, opened in ((SAFETENSORS, SafetensorsFile), (TORCH, TorchFile)):
        if (path / file).is_file():
            return opened(path / file)
        index = path / f"{file}.index.json"
        if index.is_file():
            return _Shards(index, opened)
    others = sorted(p.name for p in path.glob("*") if p.suffix in (".h5", ".msgpack", ".ot", ".onnx", ".gguf"))
    said = f"; {others[0]} cannot be read" if others else ""
    raise AlbertError(f"{path}: no {SAFETENSORS} and no {TORCH}, whole or in shards with an index, is here{said}")


class _Shards(Mapping[str, np.ndarray]):
    """Tensors that an index spreads over several files."""

    def __init__(self, index: Path, opened: type[SafetensorsFile] | type[TorchFile]):
        places = _json(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(p, str) and Path(p).name == p for p in places.values()):
            raise AlbertError(f"{index}: no weight_map from names to files beside it; copy it again")
        self._places: dict[str, str] = places
        for file in sorted(set(places.values())):
            if not (index.parent / file).is_file():
                raise AlbertError(f"{index}: its shard {file} is missing; copy every shard")
        self._files = {file: opened(index.parent / file) for file in set(places.values())}
        for file, found in self._files.items():
            listed = {name for name, place in places.items() if place == file}
            for name in sorted(listed ^ set(found)):
                where = (
                    f"lacks {name}, which the index puts there"
                    if name in listed
                    else f"holds {name}, which the \
index does not put there"
                )
                raise AlbertError(f"{index}: {file} {where}; copy index and shards from one model")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[self._places[name]][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


# ---- head and labels


def _head(fields: dict[str, Any], params: Mapping[str, np.ndarray], source: Path) -> Head | None:
    """The head that `architectures` names, or that the tensors are of where it names none or a part of them."""
    names = fields.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AlbertError(
            f"{source}: architectures is {names!r}; give a list with one name of {', '.join(ARCHITECTURES)}"
        )
    if names and names[0] not in ARCHITECTURES:
        raise AlbertError(
            f"{source}: architectures is {names[0]!r}; the heads known here are {', '.join(ARCHITECTURES)}"
        )
    there = parts(params)
    head = ARCHITECTURES[names[0]] if names else None
    if head is not None and NEEDED[head] <= there:
        return head
    if "mlm" in there:
        return "pretrain" if NEEDED["pretrain"] <= there else "mlm"
    if head is not None and NEEDED[head] - {"albert/pooler"} - there:
        return None  # released directories name a head whose tensors they lack, and transformers draws them afresh
    if "classifier" in there:
        return "classification" if "albert/pooler" in there else "tagging"
    return "span" if "span" in there else None


def _labels(fields: dict[str, Any], params: Mapping[str, np.ndarray], source: Path) -> tuple[str, ...]:
    """Names of the classes by number. Raises AlbertError when their count is not the classifier's."""
    names = fields.get("id2label")
    if not names or "classifier/kernel" not in params:
        return ()
    classes = params["classifier/kernel"].shape[1]
    if classes == 1:
        return ()  # a number, not a class; every config.json has two labels by default
    if not isinstance(names, dict) or not all(isinstance(label, str) for label in names.values()):
        raise AlbertError(f"{source}: id2label is not an object of names by number; correct it, or remove it")
    if len(names) != classes:
        raise AlbertError(
            f"{source}: id2label names {len(names)} classes, the classifier has {classes}; correct the one"
        )
    if lacking := [number for number in range(classes) if str(number) not in names]:
        raise AlbertError(
            f"{source}: id2label has no name for class {lacking[0]} but for {', '.join(sorted(names)[:8])}; number the "
            f"classes 0 to {classes - 1}"
        )
    labels = tuple(names[str(number)] for number in range(classes))
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise AlbertError(f"{source}: id2label has the name {twice[0]!r} twice; give every class a name of its own")
    return labels


_PROBLEMS = ("", "regression", "single_label_classification", "multi_label_classification")


def _problem(fields: dict[str, Any], source: Path) -> str:
    problem = fields.get("problem_type") or ""
    if problem not in _PROBLEMS:
        raise AlbertError(f"{source}: problem_type is {problem!r}; it is one of {', '.join(_PROBLEMS[1:])}, or missing")
    return problem


# ---- writing


def write(directory: Path, model: LoadedModel) -> None:
    """Writes config.json, model.safetensors and, with a vocabulary, spiece.model and tokenizer files into `directory`.

    Raises AlbertError for parameters that have no place there.
    """
    names = {head: name for name, head in ARCHITECTURES.items()}
    fields = {**to_hf(model.config), "architectures": [names[model.head]], "dtype": "float32"}
    if "classifier/kernel" in model.params:
        classes = model.params["classifier/kernel"].shape[1]
        labels = model.labels or tuple(f"LABEL_{number}" for number in range(classes))
        fields["id2label"] = {str(number): label for number, label in enumerate(labels)}
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    if model.problem:
        fields["problem_type"] = model.problem
    text = json.dumps(dict(sorted(fields.items())), indent=2, ensure_ascii=False)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
    safetensors.write(directory / SAFETENSORS, from_ours("hf", model.params, model.config))
    if model.tokenizer is not None:
        write_tokenizer(directory, model.tokenizer, model.config.max_positions)
