"""Which score ranks a run's checkpoints, and in which direction."""

import pytest

from albert_jax.engine.stopping import StoppingConfig
from albert_jax.errors import AlbertError
from albert_jax.fields import check
from albert_jax.telemetry.scores import Score, loss

ERROR = Score("perplexity", higher_is_better=False)  # no name says which way it goes
SCORES = (loss(), Score("f1"), ERROR)


def test_the_task_s_own_score_ranks_unless_another_is_named():
    assert StoppingConfig().rank_by("f1", SCORES) is SCORES[1]
    assert StoppingConfig(score="perplexity").rank_by("f1", SCORES) is ERROR


def test_a_score_that_the_task_lacks_is_named_with_those_it_has():
    with pytest.raises(AlbertError, match="stopping.score is 'bleu'; the task's scores are loss, f1, perplexity"):
        StoppingConfig(score="bleu").rank_by("f1", SCORES)


def test_numbers_out_of_range_are_named():
    for config, line in (
        (StoppingConfig(patience=-1), "stopping.patience is -1; it must not be negative"),
        (StoppingConfig(least_gain=float("nan")), "stopping.least_gain is nan; it must not be negative"),
    ):
        with pytest.raises(AlbertError, match=line):
            check(config, "stopping")
