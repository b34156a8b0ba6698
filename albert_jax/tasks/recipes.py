"""Rate, epochs, batch and warm-up of a fine-tuning run, by the width of its encoder and the number of its training
examples: what an experiment with `recipe` takes where it gives none of its own."""

from dataclasses import dataclass

_ANY = 1 << 62
EVALUATIONS = 20  # in a run, at most, so that scoring and saving many short epochs costs no more than training them


@dataclass(frozen=True)
class Recipe:
    """What a run is trained with. Rates are AdamW's."""

    peak_lr: float
    epochs: float  # times that each example is seen; more where they give fewer steps than least_steps, and so on
    batch_size: int
    warmup_share: float = 0.1  # of the run
    least_steps: int = 300
    most_steps: int = 3000

    def steps(self, examples: int, batch_size: int) -> int:
        """Steps of a run on so many examples with a batch that may be another."""
        return min(max(round(self.epochs * examples / batch_size), self.least_steps), self.most_steps)


# (width D from which on, examples up to which) -> recipe; the last row that fits both is taken, so widths ascend and
# examples descend. From width 768 on rates are those of the paper's table 14. That of 192 is by trials with the model
# in the box on 400 texts: at 1e-3 a classifier on [CLS] fell back from 0.62 to 0.43 in a task of 50 classes. The others
# below 768 are guesses to be measured.
TABLE: tuple[tuple[int, int, Recipe], ...] = (
    (0, _ANY, Recipe(1e-3, 10, 32)),
    (0, 999, Recipe(1e-3, 20, 16)),
    (192, _ANY, Recipe(3e-4, 10, 32)),
    (192, 999, Recipe(3e-4, 15, 16)),
    (320, _ANY, Recipe(2e-4, 10, 32)),
    (320, 999, Recipe(2e-4, 15, 16)),
    (512, _ANY, Recipe(1e-4, 5, 32)),
    (512, 999, Recipe(1e-4, 10, 16)),
    (768, _ANY, Recipe(3e-5, 3, 32, most_steps=_ANY)),
    (768, 999, Recipe(3e-5, 10, 16)),
    (1024, _ANY, Recipe(2e-5, 3, 32, most_steps=_ANY)),
    (1024, 999, Recipe(2e-5, 10, 16)),
)


def choose(width: int, examples: int) -> Recipe:
    """The recipe for an encoder of `width` (hidden size D) and so many training examples."""
    return [recipe for least, most, recipe in TABLE if width >= least and examples <= most][-1]


def evaluation_steps(total: int, examples: int, batch_size: int) -> int:
    """Steps between two evaluations of a run of `total`: whole epochs, so many that there are at most `EVALUATIONS`."""
    epoch = -(-examples // batch_size)
    return epoch * -(-total // (epoch * EVALUATIONS))
