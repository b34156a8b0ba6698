"""The verb heads; the scores are made in `albert_jax.interop.head_count`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from albert_jax.commands.environment import set_up_jax
from albert_jax.errors import AlbertError
from albert_jax.interop.head_count import check_heads, head_table
from albert_jax.interop.load import open_source


@dataclass(frozen=True)
class Options:
    """Which number of attention heads a model was trained with, by its MLM accuracy on a text."""

    # what convert takes; with an MLM head and a vocabulary
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # plain text, of the kind and language that the model was trained on
    text: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TEXT")]
    candidates: tuple[int, ...] = ()  # head counts; none takes the usual widths


def run(options: Options) -> int:
    set_up_jax()
    source = open_source(options.source)
    if source.tokenizer is None:
        raise AlbertError(f"{options.source} has no vocabulary to read the text with; put the model's own beside it")
    scores = check_heads(
        source.params, source.config, source.tokenizer, options.text, options.candidates, name=options.source
    )
    print(head_table(scores, source.config))
    return 0
