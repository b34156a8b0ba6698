"""Model configurations: the rows of the paper's tables as values.

Dimension letters used in names and einsums everywhere: B batch, S sequence, V vocabulary, E embedding factor, D hidden
width, N heads, K head width, F feed-forward width, P masked positions, L layers, C classes.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from albert_jax import fields
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import knob


@dataclass(frozen=True)
class AlbertConfig:
    """Shape of an ALBERT, and the knobs of its computation that cannot touch a checkpoint."""

    # pieces in the vocabulary (V); 0 takes the size of the vocabulary that the data was prepared with
    vocab_size: int = knob(30_000, at_least=0, advice="give the pieces, or 0 to take the data's")
    embedding_size: int = knob(128, at_least=1)  # width of the word, position and segment tables (E)
    hidden_size: int = knob(768, at_least=1)  # width of the encoder (D)
    layers: int = knob(12, at_least=1)  # how often the encoder applies its blocks (L)
    # attention heads (N); cannot be read off the weights, any divisor of hidden_size loads
    heads: int = knob(12, at_least=1)
    feed_forward_size: int = knob(3072, at_least=1)  # inner width of the feed-forward part (F)
    groups: int = knob(1, at_least=1)  # parameter groups; layer i uses group i * groups // layers
    # blocks applied one after the other in each layer, each with its own weights
    inner_groups: int = knob(1, at_least=1)
    max_positions: int = knob(512, at_least=1)  # rows of the learned position table, the longest sequence
    segment_types: int = knob(2, at_least=1)  # rows of the segment table
    # of feed-forward and MLM head; "gelu_tanh" is "gelu" of the original, "gelu_erf" that of Hugging Face
    activation: Literal["gelu_tanh", "gelu_erf", "relu"] = "gelu_tanh"
    # rate after embeddings, attention output and feed-forward output (v1 0.1, v2 0)
    hidden_dropout: float = knob(0.0, at_least=0, below=1)
    attention_dropout: float = knob(0.0, at_least=0, below=1)  # rate on attention probabilities (v1 0.1, v2 0)
    classifier_dropout: float = knob(0.1, at_least=0, below=1)  # rate on what enters a fine-tuning head
    # nominal deviation of the normal cut at two deviations (its real deviation is 0.88 times this)
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12  # added to the variance in every LayerNorm
    # of matrix products and activations; parameters, statistics, softmax and loss stay float32
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    # "xla" anywhere, "splash" on TPU, "cudnn" on NVIDIA GPU in bfloat16; the last two keep no scores in memory and
    # cannot drop attention probabilities
    attention: Literal["xla", "splash", "cudnn"] = knob("xla", free=True)
    # what the backward pass recomputes: "none", all but matrix products ("dots"), or each whole block ("full")
    remat: Literal["none", "dots", "full"] = knob("none", free=True)
    # apply the layers by lax.scan (program size independent of depth) or by a Python loop
    scan: bool = knob(True, free=True)

    def __post_init__(self) -> None:
        # Checked here and not with the experiment only: the files of other projects make configurations too.
        fields.check(self, "model")
        refuse(self._misfits())

    def _misfits(self) -> Iterator[str]:
        """Fields that do not go together."""
        if self.hidden_size % self.heads:
            yield f"model.hidden_size {self.hidden_size} is not a multiple of model.heads {self.heads}; change one"
        # No ranges of their own, since one sentence names both numbers as their file has them.
        if self.layer_norm_eps <= 0 or self.initializer_range < 0:
            yield (
                f"model.layer_norm_eps is {self.layer_norm_eps} and model.initializer_range {self.initializer_range}; "
                "the first must be above 0, the second not below"
            )
        if self.groups > self.layers:
            yield f"model.groups {self.groups} exceeds model.layers {self.layers}; groups without a layer never train"
        if self.attention == "xla":
            return
        if self.attention_dropout:
            yield (
                f"model.attention {self.attention!r} cannot drop attention probabilities; set "
                f"model.attention_dropout {self.attention_dropout:g} to 0 or model.attention to 'xla'"
            )
        if self.attention == "cudnn" and self.compute_dtype != "bfloat16":
            yield (
                f"model.attention 'cudnn' computes in bfloat16 and model.compute_dtype is {self.compute_dtype!r}; "
                "set that to 'bfloat16' or model.attention to 'xla'"
            )
        head_size = self.hidden_size // self.heads
        if self.attention == "cudnn" and (head_size % 8 or head_size > 128):
            yield (
                f"model.attention 'cudnn' takes heads of a multiple of 8 up to 128 and model.heads {self.heads} makes "
                f"them {head_size} wide; change model.heads or set model.attention to 'xla'"
            )

    @property
    def group_layers(self) -> tuple[int, ...]:
        """Layers that each group serves, in order."""
        # Integers throughout: int(i / L * G) of the original skips a group for odd pairs such as L = G = 22.
        owners = [i * self.groups // self.layers for i in range(self.layers)]
        return tuple(owners.count(group) for group in range(self.groups))


# Paper (arXiv 1909.11942), table 1: E 128, feed-forward 4 D, heads D / 64 but for xlarge, where page and released JSON
# disagree (16 and 32); 16 is the paper's. xxlarge has 12 layers. Dropout: v1 trained base, large and xlarge with 0.1,
# xxlarge without; v2 trained all sizes without.
_SIZES: dict[str, dict[str, int]] = {
    "tiny": dict(hidden_size=128, layers=2, heads=2, feed_forward_size=512, embedding_size=64, max_positions=128),
    "mini": dict(hidden_size=128, layers=2, heads=4, feed_forward_size=512, embedding_size=64, max_positions=128),
    "small": dict(hidden_size=256, layers=4, heads=4, feed_forward_size=1024, max_positions=256),
    "base": dict(hidden_size=768, layers=12, heads=12, feed_forward_size=3072),
    "large": dict(hidden_size=1024, layers=24, heads=16, feed_forward_size=4096),
    "xlarge": dict(hidden_size=2048, layers=24, heads=16, feed_forward_size=8192),
    "xxlarge": dict(hidden_size=4096, layers=12, heads=64, feed_forward_size=16384),
}


def albert(size: str, version: int = 2, **changes: Any) -> AlbertConfig:
    """A published size ("base", "large", "xlarge", "xxlarge") or one of ours ("tiny" for tests, "mini" for the demo,
    "small" for the box), with the fields `changes`. Raises AlbertError for an unknown size or version."""
    if size not in _SIZES:
        raise AlbertError(f"no ALBERT size {size!r}; there are {', '.join(_SIZES)}")
    if version not in (1, 2):
        raise AlbertError(f"no ALBERT version {version!r}; there are 1 and 2")
    rate = 0.1 if version == 1 and size in ("base", "large", "xlarge") else 0.0
    row = AlbertConfig(**_SIZES[size], hidden_dropout=rate, attention_dropout=rate)  # type: ignore[arg-type]
    return dataclasses.replace(row, **changes)
