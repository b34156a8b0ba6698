"""The rows of `benchmarks.learning` as data: a recipe is the base with changes, a peer a rate and a type of numbers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.optim import AdamW, Lamb, Muon, Optimizer, Schedule
from albert_jax.tasks import Pretrain

_LINEAR = Schedule(warmup_share=0.05)


@dataclass(frozen=True)
class Recipe:
    """All that a row may change. Of a row with `first`, a share of the clock goes to a first part with those changes:

    {"length": 64}                  by the knobs task.pairs.first_length and first_examples, within one run
    {"batch": 16}, {"layers": 2}    as two runs, the second by --init from the first: parameters go on, moments and
                                    schedule start anew
    """

    optim: Optimizer = field(default_factory=lambda: Muon(peak_lr=3e-3, schedule=_LINEAR))
    batch: int = 32  # examples of a step (B)
    length: int = 128  # pieces of an example (S)
    hidden: int = 256  # D; heads are D / 64, the feed-forward width 4 D
    layers: int = 4  # L
    model: Mapping[str, Any] = field(default_factory=dict)  # other fields of the model
    rate: float = 0.15  # of masked pieces
    end_rate: float = 0.0  # that it falls to, linearly over the run; 0: it stays
    label_smoothing: float = 0.0
    initial: Literal["random", "corpus"] = "random"  # values; making them is on the clock
    micro_batches: int = 1
    first: Mapping[str, Any] = field(default_factory=dict)  # changes of the first part
    first_share: float = 0.5  # of the clock that the first part gets

    def config(self) -> AlbertConfig:
        sizes = {"hidden_size": self.hidden, "heads": self.hidden // 64, "feed_forward_size": 4 * self.hidden}
        rest = {"layers": self.layers, "max_positions": 128, "scan": False, "compute_dtype": "bfloat16"}
        return albert("small", vocab_size=0, **{**sizes, **rest, **self.model})

    def task(self, corpus: str, steps: int = 0, first_steps: int = 0) -> Pretrain:
        """The task of a run of `steps`, of which `first_steps` are of the first part's length."""
        first = (
            {"first_length": self.first["length"], "first_examples": first_steps * self.batch} if first_steps else {}
        )
        falling = {"end_rate": self.end_rate, "end_examples": max(1, steps) * self.batch} if self.end_rate else {}
        return Pretrain(
            data=corpus,
            pairs=PairConfig(max_length=self.length, **first),
            masks=MaskConfig(rate=self.rate, **falling),
            label_smoothing=self.label_smoothing,
            initial=self.initial,
        )

    def parts(self) -> list[tuple[float, "Recipe"]]:
        """(share of the clock, recipe) of each run, one after the other."""
        if not self.first or "length" in self.first:
            return [(1.0, self)]
        # The first run keeps its rate: the second, which starts from its parameters, is the one that decays.
        stays = dataclasses.replace(self.optim.schedule, stable_share=0.9)
        before = dataclasses.replace(
            self, first={}, optim=dataclasses.replace(self.optim, schedule=stays), **self.first
        )
        after = dataclasses.replace(self, first={}, initial="random")
        return [(self.first_share, before), (1 - self.first_share, after)]


def _muon(rate: float, **schedule: float) -> Muon:
    return Muon(peak_lr=rate, schedule=dataclasses.replace(_LINEAR, **schedule))


ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "lamb_1e-2": {"optim": Lamb(peak_lr=1e-2, schedule=_LINEAR)},
    "adamw_1e-3": {"optim": AdamW(peak_lr=1e-3, schedule=_LINEAR)},
    "adamw_2e-3": {"optim": AdamW(peak_lr=2e-3, schedule=_LINEAR)},
    "muon_1.5e-3": {"optim": _muon(1.5e-3)},
    "muon_6e-3": {"optim": _muon(6e-3)},
    "stable_0.6": {"optim": _muon(3e-3, stable_share=0.6)},
    "mask_0.3": {"rate": 0.3},
    "mask_0.3_to_0.15": {"rate": 0.3, "end_rate": 0.15},
    "batch_16": {"batch": 16},
    "batch_64": {"batch": 64},
    "batch_16_then_32": {"first": {"batch": 16}, "first_share": 0.33},
    "length_64_then_128": {"first": {"length": 64}},
    "layers_1": {"layers": 1},
    "layers_2": {"layers": 2},
    "layers_6": {"layers": 6},
    "layers_2_then_4": {"first": {"layers": 2}},
    "width_128_layers_2": {"hidden": 128, "layers": 2},
    "width_128_layers_4": {"hidden": 128},
    "width_384_layers_4": {"hidden": 384},
    "initial_0.05": {"model": {"initializer_range": 0.05}},
    "factor_64": {"model": {"embedding_size": 64}},
    "factor_256": {"model": {"embedding_size": 256}},
    "smoothing_0.1": {"label_smoothing": 0.1},
    "float32": {"model": {"compute_dtype": "float32"}},
    "heads_8": {"model": {"heads": 8}},
    "micro_batches_4": {"micro_batches": 4},
    "corpus": {"initial": "corpus"},
    "corpus_1.5e-3": {"initial": "corpus", "optim": _muon(1.5e-3)},
    "corpus_1e-3": {"initial": "corpus", "optim": _muon(1e-3)},
    # All that helped, together: configs/pretrain_small.py, with a rate that decays from the start.
    "small": {
        "initial": "corpus",
        "optim": _muon(1.5e-3),
        "rate": 0.3,
        "end_rate": 0.15,
        "model": {"heads": 8},
        "micro_batches": 4,
    },
    "dropout_0.1": {"model": {"hidden_dropout": 0.1, "attention_dropout": 0.1}},
}

# Hugging Face's AlbertForPreTraining of the base's shape under AdamW.
PEERS: dict[str, dict[str, Any]] = {
    "peer_float32_1e-3": {"dtype": "float32", "rate": 1e-3},
    "peer_float32_2e-3": {"dtype": "float32", "rate": 2e-3},
    "peer_bfloat16_1e-3": {"dtype": "bfloat16", "rate": 1e-3},
    "peer_bfloat16_2e-3": {"dtype": "bfloat16", "rate": 2e-3},
}


def recipe(name: str) -> Recipe:
    return dataclasses.replace(Recipe(), **ROWS[name])
