"""The verb convert; the work is `albert_jax.interop.convert`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from albert_jax.commands.environment import set_up_jax
from albert_jax.interop.convert import Resize, convert
from albert_jax.interop.source import Format


@dataclass(frozen=True)
class Options:
    """A checkpoint of Google's, Hugging Face's or ours into one of the others."""

    # archive, directory, prefix or TF-Hub module of Google's; Hugging Face directory or hub name; ours or a workdir
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    destination: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DESTINATION")]  # directory to make
    to: Format = "albert_jax"  # format of the destination
    texts: str = ""  # file of texts, one a line, on which transformers' tokenizer is compared with ours
    # Without a name, so that its flags are --seed and not --resize.seed.
    resize: Annotated[Resize, tyro.conf.arg(name="")] = field(default_factory=Resize)


def run(options: Options) -> int:
    set_up_jax()
    convert(options.source, options.destination, options.to, options.resize, options.texts)
    return 0
