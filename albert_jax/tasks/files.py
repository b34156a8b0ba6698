"""What tasks on a user's own files share: which field names a split's files, and where the vocabulary is from."""

from typing import Any

from albert_jax.data.text.tokenizers import AnyTokenizer, load
from albert_jax.errors import AlbertError

FIELDS = {"train": "train", "validation": "dev", "test": "test"}  # split -> field of the task


def check_counts(task: Any) -> None:
    """Raises AlbertError for a negative number of examples."""
    for field in ("examples", "eval_examples"):
        if getattr(task, field) < 0:
            raise AlbertError(f"task.{field} is {getattr(task, field)}; give how many, or 0 for all")


def places(task: Any, split: str) -> tuple[str, ...]:
    """The files (or tfds:NAME) of a split. Raises AlbertError where the task names none, or nothing."""
    field = FIELDS[split]
    found = getattr(task, field)
    if not found:
        use = {"validation": "; the best checkpoint is chosen by them", "test": " to train, or --data FILE to evaluate"}
        raise AlbertError(f"there are no {split} examples: give --task.{field} FILE{use.get(split, '')}")
    if not all(found):
        raise AlbertError(f"task.{field} holds an empty name; give --task.{field} FILE")
    return found


def open_tokenizer(task: Any) -> tuple[AnyTokenizer, str]:
    """The vocabulary of a task and where it is from: `task.vocab`, or that of the prepared directory `task.data`.

    Raises AlbertError where the task names neither, or both a prepared directory and files.
    """
    if task.data and task.train:
        raise AlbertError("task.data and task.train are both given; set the one that is not meant to nothing")
    if not (task.data or task.train):
        raise AlbertError("there are no training examples: give --task.train FILE --task.dev FILE")
    source = task.vocab or (f"{task.data}/vocab" if task.data else "")
    if not source:
        raise AlbertError(
            "labelled files come without a vocabulary: give --init WORKDIR of a pretrained model, or --task.vocab DIR"
        )
    return load(source), source
