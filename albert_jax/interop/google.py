"""Google's TF 1 checkpoints as models, both ways."""

import json
from pathlib import Path
from typing import Any

from albert_jax.data.text import tokenizers
from albert_jax.data.text.sentencepiece import Tokenizer
from albert_jax.interop import tf_bundle
from albert_jax.interop.hf_tokenizer import wordpiece_lines
from albert_jax.interop.loaded import LoadedModel
from albert_jax.interop.names import from_ours, is_training_state, parts, to_ours
from albert_jax.interop.released import to_google
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.tf_checkpoint import CONFIG_FILE, find

PREFIX = "model.ckpt-best"
SENTENCEPIECE, WORDPIECE = "30k-clean.model", "vocab_chinese.txt"


def read(path: str | Path) -> LoadedModel:
    """The model in an archive, a directory, at a prefix or in a TF-Hub module.

    Raises AlbertError for what is missing, damaged or not of one model.
    """
    with find(path) as found:
        config = found.config()
        tensors = found.tensors()
        params = to_ours("tf", tensors, config, str(path))
        for name in filter(is_training_state, tensors):
            tensors[name]  # a damaged copy is told of even where the damage is in what is not needed
        tokenizer = tokenizers.load(found.vocabulary) if found.vocabulary else None
    return LoadedModel(
        origin=str(path),
        format="tf1",
        config=config,
        params=params,
        head=_head(params),
        labels=(),
        problem="",
        tokenizer=tokenizer,
    )


def _head(params: dict[str, Any]) -> Head | None:
    there = parts(params)
    if "classifier" in there:  # RACE's has one number for each text
        return "choice" if params["classifier/kernel"].shape[1] == 1 else "classification"
    order: tuple[Head, ...] = ("span", "pretrain", "mlm")
    return next((head for head in order if NEEDED[head] <= there), None)


def write(directory: Path, model: LoadedModel) -> None:
    """Writes a checkpoint, albert_config.json and the vocabulary into `directory`, as Google's archives have them.

    Raises AlbertError for what the original's code cannot compute.
    """
    text = json.dumps(to_google(model.config), indent=2)
    (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    tf_bundle.write(directory / PREFIX, from_ours("tf", model.params, model.config))
    (directory / "checkpoint").write_text(f'model_checkpoint_path: "{PREFIX}"\n', encoding="utf-8")
    if isinstance(model.tokenizer, Tokenizer):
        (directory / SENTENCEPIECE).write_bytes(model.tokenizer.model)
    elif model.tokenizer is not None:
        (directory / WORDPIECE).write_bytes(wordpiece_lines(model.tokenizer))
