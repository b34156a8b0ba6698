"""What a fine-tuning run takes from the table where its config leaves it open, and that a workdir keeps it."""

import dataclasses

import pytest

from albert_jax import experiment as experiments
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.model.config import albert
from albert_jax.optim import AdamW, Lamb, Schedule
from albert_jax.tasks import Classification
from albert_jax.tasks.recipes import TABLE, choose, evaluation_steps


def asked(width=256, **changes) -> Experiment:
    model = albert("tiny", vocab_size=300, hidden_size=width, heads=4)
    base = Experiment(
        name="r", model=model, task=Classification(max_length=32), optim=AdamW(peak_lr=0), steps=0, batch_size=0,
        eval_every=0, recipe=True,
    )  # fmt: skip
    return dataclasses.replace(base, **changes).check()


def test_the_table_goes_from_narrow_to_wide_and_has_a_row_for_all():
    order = [(width, -examples) for width, examples, _ in TABLE]
    assert order == sorted(order)
    for width, rate in ((64, 1e-3), (128, 1e-3), (256, 3e-4), (384, 2e-4), (768, 3e-5), (1024, 2e-5), (4096, 2e-5)):
        assert [choose(width, examples).peak_lr for examples in (1, 999, 1000, 10**6)] == [rate] * 4
        assert [choose(width, examples).batch_size for examples in (1, 999, 1000, 10**6)] == [16, 16, 32, 32]
    small, large = choose(128, 5000), choose(768, 5000)
    assert [small.steps(examples, 32) for examples in (50, 3200, 10**5)] == [300, 1000, 3000]
    assert large.steps(393_000, 32) == round(3 * 393_000 / 32)  # MNLI is not cut short


def test_a_run_takes_what_it_does_not_give():
    made, lines = asked().with_recipe(400)
    assert (made.optim.peak_lr, made.batch_size, made.steps, made.optim.schedule.warmup_share) == (3e-4, 16, 375, 0.1)
    assert lines == ["recipe for width 256, 400 examples: rate 0.0003, 15 epochs (375 steps), batch 16, warm-up 10%"]
    assert made.eval_every == 25 and made.in_steps(400) == made  # an epoch, of 20
    given = asked(batch_size=8, epochs=2.0, optim=AdamW(peak_lr=1e-4, schedule=Schedule(warmup_steps=5)))
    assert given.with_recipe(400) == (given, [])
    made, lines = asked(optim=AdamW(peak_lr=7e-4), batch_size=8).with_recipe(400)
    assert (made.optim.peak_lr, made.batch_size, made.steps) == (7e-4, 8, 750)
    assert lines == ["recipe for width 256, 400 examples: 15 epochs (750 steps), warm-up 10%"]
    assert dataclasses.replace(asked(), recipe=False).with_recipe(400)[1] == []


def test_short_epochs_are_not_all_evaluated():
    assert evaluation_steps(300, 100, 16) == 21  # three epochs of 7 steps
    assert evaluation_steps(300, 2, 16) == 15
    assert evaluation_steps(3000, 32_000, 32) == 1000


def test_a_workdir_keeps_what_it_was_trained_with():
    stored, _ = asked().with_recipe(400)
    read = experiments.from_dict(Experiment, experiments.to_dict(stored))
    old = dataclasses.replace(read, optim=AdamW(peak_lr=2e-5), batch_size=32, steps=38, recipe=False)
    for before in (read, old):
        assert experiments.differences(before, asked().left_open_as(before)) == []
    other = asked(batch_size=8).left_open_as(old)
    assert experiments.differences(old, other) == ["batch_size: 32 -> 8"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optim": Lamb(peak_lr=0)}, "recipe knows rates of AdamW; give optim.peak_lr of Lamb"),
        ({"task": experiments.example().task}, "recipe is for fine-tuning"),
        ({"recipe": False}, "steps is 0; it must be at least 1"),
        ({"recipe": False, "steps": 5}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": -1}, "batch_size is -1; it must not be negative"),
    ],
)
def test_what_cannot_be_left_open(changes, said):
    with pytest.raises(AlbertError, match=said):
        asked(**changes)
