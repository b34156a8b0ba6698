"""Hugging Face directories, read and written without torch and without transformers."""

import json
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from albert_jax.data.text import tokenizers
from albert_jax.data.text.json_tokenizer import JsonTokenizer
from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.data.text.wordpiece import WordPieceTokenizer
from albert_jax.errors import AlbertError, refuse, retold
from albert_jax.files import write_json
from albert_jax.interop import fast_tokenizer, safetensors
from albert_jax.interop.names import from_ours, parts, to_ours
from albert_jax.interop.released import config_from_hf, to_hf
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.safetensors import SafetensorsFile
from albert_jax.interop.source import Contents, LoadedModel, Source, vocab_txt
from albert_jax.interop.torch_pickle import TorchFile

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
_PROBLEMS = ("", "regression", "single_label_classification", "multi_label_classification")


class HuggingFace(Source):
    format = "hf"

    @staticmethod
    def matches(path: Path) -> bool:
        return path.is_dir() and (path / CONFIG).is_file()

    def __init__(self, path: Path, origin: str):
        super().__init__(path, origin)
        self._fields = _json(path / CONFIG)
        self.config = config_from_hf(self._fields, origin, str(path / CONFIG))
        self.vocabulary = path if tokenizers.find(path) else None
        self.vocab = path

    def _read(self) -> Contents:
        params = to_ours("hf", tensors(self.path), self.config, str(self.path))
        # The shape of a head that the source lacks is (0, 0): no classes to name.
        classes = params.get("classifier/kernel", np.zeros((0, 0))).shape[1]
        refuse(f"{self.path / CONFIG}: {flaw}" for flaw in _flaws(self._fields, classes))
        names, problem = self._fields.get("id2label"), self._fields.get("problem_type") or ""
        # One class is a number, not a class; every config.json names two labels by default.
        labels = tuple(names[str(number)] for number in range(classes)) if names and classes > 1 else ()
        return params, _head(self._fields, params), labels, problem


def _json(path: Path) -> Any:
    with (
        retold(lambda message: f"{path}: not JSON ({message}); copy it again", ValueError, RecursionError),
        retold(lambda message: f"{path}: cannot be read ({message}); a Hugging Face directory needs it", OSError),
    ):
        return json.loads(path.read_bytes())


def tensors(path: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a directory by name, each read when it is asked for: safetensors before a pickle, a whole file
    before shards. Raises AlbertError when there is none, or a shard is missing or is not what its index says."""
    # Safetensors first, which cannot hold code.
    for file, reader in ((SAFETENSORS, SafetensorsFile), (TORCH, TorchFile)):
        if (path / file).is_file():
            return reader(path / file)
        index = path / f"{file}.index.json"
        if index.is_file():
            return _shards(index, reader)
    others = sorted(p.name for p in path.glob("*") if p.suffix in (".h5", ".msgpack", ".ot", ".onnx", ".gguf"))
    unread = f"; {others[0]} cannot be read" if others else ""
    raise AlbertError(f"{path}: no {SAFETENSORS} and no {TORCH}, whole or in shards with an index, is here{unread}")


def _shards(index: Path, reader: type[SafetensorsFile] | type[TorchFile]) -> Mapping[str, np.ndarray]:
    fields = _json(index)
    file_of: Any = fields.get("weight_map") if isinstance(fields, dict) else None
    # Only bare names: an index must not reach files outside its directory.
    if not isinstance(file_of, dict) or not all(isinstance(p, str) and Path(p).name == p for p in file_of.values()):
        raise AlbertError(f"{index}: no weight_map from names to files beside it; copy it again")
    paths = {file: index.parent / file for file in sorted(set(file_of.values()))}
    lacking = (file for file, path in paths.items() if not path.is_file())
    refuse(f"{index}: its shard {file} is missing; copy every shard" for file in lacking)
    files: dict[str, Any] = {file: reader(path) for file, path in paths.items()}
    for file, found in files.items():
        # Both ways: a shard with more than the index lists is of another model.
        listed = {name for name in file_of if file_of[name] == file}
        for name in sorted(listed ^ set(found)):
            what = "lacks {}, which the index puts there" if name in listed else "holds {}, which the index does not"
            raise AlbertError(f"{index}: {file} {what.format(name)}; copy index and shards from one model")
    return ChainMap(*files.values())


def _flaws(fields: dict[str, Any], classes: int) -> Iterator[str]:
    """What is wrong in config.json with the head, of a classifier of so many classes, 0 for none."""
    names, known = fields.get("architectures") or [], ", ".join(ARCHITECTURES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield f"architectures is {names!r}; give a list with one name of {known}"
    if names and names[0] not in ARCHITECTURES:
        yield f"architectures is {names[0]!r}; the heads known here are {known}"
    problem, labels = fields.get("problem_type") or "", fields.get("id2label")
    if problem not in _PROBLEMS:
        yield f"problem_type is {problem!r}; it is one of {', '.join(_PROBLEMS[1:])}, or missing"
    if not labels or classes < 2:
        return
    if not isinstance(labels, dict) or not all(isinstance(label, str) for label in labels.values()):
        yield "id2label is not an object of names by number; correct it, or remove it"
    if len(labels) != classes:
        yield f"id2label names {len(labels)} classes, the classifier has {classes}; correct the one"
    for number in range(classes):
        if str(number) not in labels:
            given = ", ".join(sorted(labels)[:8])
            yield f"id2label has no name for class {number} but for {given}; number the classes 0 to {classes - 1}"
    label, times = Counter(labels.values()).most_common(1)[0]
    if times > 1:
        yield f"id2label has the name {label!r} twice; give every class a name of its own"


def _head(fields: dict[str, Any], params: Mapping[str, np.ndarray]) -> Head | None:
    """The head that `architectures` names, or that the tensors are of where it names none or only a part of them."""
    names, present = fields.get("architectures") or [], parts(params)
    head = ARCHITECTURES[names[0]] if names else None
    if head is not None and NEEDED[head] <= present:
        return head
    # From here on the name is of another head than the tensors, or there is none: the tensors decide.
    if "mlm" in present:
        return "pretrain" if NEEDED["pretrain"] <= present else "mlm"
    # Released directories name a head whose tensors they lack, and transformers draws them afresh.
    if head is not None and NEEDED[head] - {"albert/pooler"} - present:
        return None
    if "classifier" in present:
        return "classification" if "albert/pooler" in present else "tagging"
    return "span" if "span" in present else None


def write(directory: Path, model: LoadedModel, dtype: type[np.floating] = np.float32, rules: bool = True) -> None:
    """Writes config.json, model.safetensors (its numbers of type `dtype`) and, with a vocabulary, its files into
    `directory`; `rules` as of `write_tokenizer`. Raises AlbertError for parameters that have no name in this format or
    are too large for `dtype`, and where the files cannot be written."""
    names = {head: name for name, head in ARCHITECTURES.items()}
    fields = {**to_hf(model.config), "architectures": [names[model.head]], "dtype": np.dtype(dtype).name}
    if "classifier/kernel" in model.params:
        classes = model.params["classifier/kernel"].shape[1]
        # As transformers names classes that nobody named; without names it would expect a classifier of two.
        labels = model.labels or tuple(f"LABEL_{number}" for number in range(classes))
        fields["id2label"] = {str(number): label for number, label in enumerate(labels)}
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    if model.problem:
        fields["problem_type"] = model.problem
    write_json(directory / CONFIG, dict(sorted(fields.items())))
    named, most = from_ours("hf", model.params, model.config), np.finfo(dtype).max
    large = (name for name, array in named.items() if np.abs(array).max(initial=0) > most)
    refuse(f"{model.origin}: {name} holds numbers above {most:g}, the most of {fields['dtype']}" for name in large)
    safetensors.write(directory / SAFETENSORS, {name: array.astype(dtype, copy=False) for name, array in named.items()})
    if model.tokenizer is not None:
        write_tokenizer(directory, model.tokenizer, model.config.max_positions, rules)


# Written out, since transformers 5 leaves the segments of a pair out otherwise.
_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]
_SPECIAL = {
    "bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "sep_token": "[SEP]", "pad_token": "<pad>",
    "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


# The class of transformers that takes tokenizer.json as it is. AlbertTokenizer of transformers 5 makes rules of its own
# from the pieces: quotes replaced, numbers before a comma as one piece that the model never saw.
_AS_IT_IS = "PreTrainedTokenizerFast"


def write_tokenizer(directory: Path, tokenizer: AnyTokenizer, max_length: int, rules: bool = True) -> None:
    """Writes tokenizer_config.json and, of a WordPiece vocabulary, vocab.txt; of a SentencePiece one spiece.model for
    the slow tokenizer of transformers and, unless `rules` is False, tokenizer.json for its fast one and
    special_tokens_map.json."""
    config: dict[str, Any] = {"do_lower_case": tokenizer.normalization.lower, "model_max_length": max_length}
    if isinstance(tokenizer, JsonTokenizer):
        (directory / JsonTokenizer.FILE).write_bytes(tokenizer.content)
        config |= {"tokenizer_class": _AS_IT_IS, **tokenizer.special}
    elif isinstance(tokenizer, WordPieceTokenizer):
        (directory / "vocab.txt").write_bytes(vocab_txt(tokenizer))
        config |= {"tokenizer_class": "BertTokenizer"}
    else:
        (directory / "spiece.model").write_bytes(tokenizer.model)
        keep = tokenizer.normalization.keep_accents
        kind = _AS_IT_IS if rules else "AlbertTokenizer"
        config |= {"tokenizer_class": kind, "keep_accents": keep, "remove_space": True, **_SPECIAL}
        if rules:
            write_json(directory / "special_tokens_map.json", _SPECIAL)
            (directory / JsonTokenizer.FILE).write_bytes(fast_tokenizer.content(tokenizer))
    write_json(directory / "tokenizer_config.json", config | {"model_input_names": _INPUTS})
