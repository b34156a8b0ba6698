"""A model as it was found, whatever format it came in."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from albert_jax.data.text.tokenizers import AnyTokenizer
from albert_jax.interop.restored import Head
from albert_jax.model.config import AlbertConfig

Format = Literal["albert_jax", "hf", "tf1"]


@dataclass(frozen=True)
class LoadedModel:
    """Attributes:
    origin: path or hub name that it came from
    format: that it came in
    config: the model's
    params: path -> float32 array, of the encoder and of every head that was found
    head: the head that the source says it is for
    labels: names of the classifier's classes, by number; () where nobody named them
    problem: Hugging Face's problem_type, "" for none
    tokenizer: the vocabulary beside it, None where there is none
    """

    origin: str
    format: Format
    config: AlbertConfig
    params: dict[str, np.ndarray]
    head: Head | None
    labels: tuple[str, ...]
    problem: str
    tokenizer: AnyTokenizer | None
