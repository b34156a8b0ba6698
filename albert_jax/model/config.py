"""Model configurations: the rows of the paper's tables as values.

Dimension letters used in names and einsums everywhere: B batch, S sequence, V vocabulary, E embedding factor, D hidden
width, N heads, K head width, F feed-forward width, P masked positions, L layers, C classes.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from albert_jax.errors import AlbertError
from albert_jax.model.attention_base import refuse_dropout


@dataclass(frozen=True)
class AlbertConfig:
    """Shape of an ALBERT, and the knobs of its computation that cannot touch a checkpoint.

    Attributes:
      vocab_size: pieces in the vocabulary (V); 0 takes the size of the vocabulary that the data was prepared with
      embedding_size: width of the word, position and segment tables (E)
      hidden_size: width of the encoder (D)
      layers: how often the encoder applies its blocks (L)
      heads: attention heads (N); cannot be read off the weights, any divisor of hidden_size loads
      feed_forward_size: inner width of the feed-forward part (F)
      groups: parameter groups; layer i uses group i * groups // layers
      inner_groups: blocks applied one after the other in each layer, each with its own weights
      max_positions: rows of the learned position table, the longest sequence
      segment_types: rows of the segment table
      activation: of feed-forward and MLM head; "gelu_tanh" is "gelu" of the original, "gelu_erf" that of Hugging Face
      hidden_dropout: rate after embeddings, attention output and feed-forward output (v1 0.1, v2 0)
      attention_dropout: rate on attention probabilities (v1 0.1, v2 0)
      classifier_dropout: rate on what enters a fine-tuning head
      initializer_range: nominal deviation of the normal cut at two deviations (its real deviation is 0.88 times this)
      layer_norm_eps: added to the variance in every LayerNorm
      compute_dtype: of matrix products and activations; parameters, statistics, softmax and loss stay float32
      attention: "xla" anywhere, "splash" on TPU, "cudnn" on NVIDIA GPU in bfloat16; the last two keep no scores in
        memory and cannot drop attention probabilities
      remat: what the backward pass recomputes: "none", all but matrix products ("dots"), or each whole block ("full")
      scan: apply the layers by lax.scan (program size independent of depth) or by a Python loop
    """

    vocab_size: int = 30_000
    embedding_size: int = 128
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward_size: int = 3072
    groups: int = 1
    inner_groups: int = 1
    max_positions: int = 512
    segment_types: int = 2
    activation: Literal["gelu_tanh", "gelu_erf", "relu"] = "gelu_tanh"
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["xla", "splash", "cudnn"] = "xla"
    remat: Literal["none", "dots", "full"] = "none"
    scan: bool = True

    def __post_init__(self) -> None:
        for name in ("embedding_size", "hidden_size", "layers", "heads", "feed_forward_size", "groups", "inner_groups",
                     "max_positions", "segment_types"):  # fmt: skip
            if getattr(self, name) < 1:
                raise AlbertError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.vocab_size < 0:
            raise AlbertError(f"model.vocab_size is {self.vocab_size}; give the pieces, or 0 to take the data's")
        if self.hidden_size % self.heads:
            raise AlbertError(
                f"model.hidden_size {self.hidden_size} is not a multiple of model.heads "
                f"{self.heads}; change one of them"
            )
        if self.groups > self.layers:
            raise AlbertError(
                f"model.groups {self.groups} exceeds model.layers {self.layers}; "
                "groups without a layer would never train"
            )
        for name in ("hidden_dropout", "attention_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise AlbertError(f"model.{name} is {getattr(self, name)}; it must lie in [0, 1)")
        if not self.layer_norm_eps > 0 or not self.initializer_range >= 0:
            raise AlbertError(
                f"model.layer_norm_eps is {self.layer_norm_eps} and model.initializer_range {self.initializer_range}; "
                "the first must be above 0, the second not below"
            )
        self._check_attention()

    def _check_attention(self) -> None:
        if self.attention == "xla":
            return
        refuse_dropout(self.attention, self.attention_dropout)
        if self.attention == "cudnn" and self.compute_dtype != "bfloat16":
            raise AlbertError(
                f"model.attention 'cudnn' computes in bfloat16 and model.compute_dtype is {self.compute_dtype!r}; "
                "set that to 'bfloat16' or model.attention to 'xla'"
            )
        if self.attention == "cudnn" and (self.head_size % 8 or self.head_size > 128):
            raise AlbertError(
                f"model.attention 'cudnn' takes heads of a multiple of 8 up to 128 and model.heads {self.heads} makes "
                f"them {self.head_size} wide; change model.heads or set model.attention to 'xla'"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head (K)."""
        return self.hidden_size // self.heads

    @property
    def group_layers(self) -> tuple[int, ...]:
        """Layers that each group serves, in order. Integers throughout: int(i / L * G) of the original differs for a
        few odd pairs such as L = G = 22, where floats skip a group."""
        owners = [i * self.groups // self.layers for i in range(self.layers)]
        return tuple(owners.count(group) for group in range(self.groups))


# Paper (arXiv 1909.11942), table 1: E 128, feed-forward 4 D, heads D / 64 but for xlarge, where page and released JSON
# disagree (16 and 32); 16 is the paper's. xxlarge has 12 layers. Dropout: v1 trained base, large and xlarge with 0.1,
# xxlarge without; v2 trained all sizes without.
_SIZES: dict[str, dict[str, int]] = {
    "tiny": dict(hidden_size=128, layers=2, heads=2, feed_forward_size=512, embedding_size=64, max_positions=128),
    "mini": dict(hidden_size=128, layers=2, heads=4, feed_forward_size=512, embedding_size=64, max_positions=128),
    "base": dict(hidden_size=768, layers=12, heads=12, feed_forward_size=3072),
    "large": dict(hidden_size=1024, layers=24, heads=16, feed_forward_size=4096),
    "xlarge": dict(hidden_size=2048, layers=24, heads=16, feed_forward_size=8192),
    "xxlarge": dict(hidden_size=4096, layers=12, heads=64, feed_forward_size=16384),
}


def albert(size: str, version: int = 2, **changes: Any) -> AlbertConfig:
    """The configuration of a published size ("base", "large", "xlarge", "xxlarge") or of one of ours.

    Ours are "tiny" (tests) and "mini" (the demo). `changes` are fields to set.

    Raises AlbertError for an unknown size or version.
    """
    if size not in _SIZES:
        raise AlbertError(f"no ALBERT size {size!r}; there are {', '.join(_SIZES)}")
    if version not in (1, 2):
        raise AlbertError(f"no ALBERT version {version!r}; there are 1 and 2")
    rate = 0.1 if version == 1 and size in ("base", "large", "xlarge") else 0.0
    row = AlbertConfig(**_SIZES[size], hidden_dropout=rate, attention_dropout=rate)  # type: ignore[arg-type]
    return dataclasses.replace(row, **changes)
