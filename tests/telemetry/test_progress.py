"""What the progress line says, live and plain, and what result tables look like."""

import io

import pytest
from rich.console import Console

from albert_jax.telemetry.progress import PrepareProgress, Progress, ProgressLine, in_chunks
from albert_jax.telemetry.scores import Score
from albert_jax.telemetry.tables import format_count, format_seconds, format_table, print_table

SCALARS = {
    "loss": 7.1234567,
    "mlm_accuracy": 0.2131,
    "order_accuracy": 0.782,
    "learning_rate": 1.3e-3,
    "tokens_per_second": 15_234.0,
    "peak_share": 0.612,
    "grad_norm": 1.0,
}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def make(total=1000, start=0, live=False, width=200, **rest):
    output, clock = io.StringIO(), Clock()
    console = Console(file=output, force_terminal=live, width=width, highlight=False, color_system=None)
    return Progress(total, start, "pretrain", console=console, clock=clock, **rest), output, clock


def test_plain_line_holds_everything():
    progress, output, clock = make()
    progress.move(1)
    clock.now = 10.0
    progress.show(101, "train", SCALARS)
    assert output.getvalue() == (
        "pretrain 101/1,000 10% | loss 7.1235 | MLM 21.3% | order 78.2% | rate 1.30e-03 | 15.2k tokens/s | "
        "MFU 61% | 1:30 left\n"  # 100 steps took 10 s, 899 are left
    )


def test_plain_lines_keep_their_distance():
    progress, output, clock = make(plain_seconds=10.0)
    for step in range(1, 101):
        clock.now += 1.0
        progress.show(step, "train", {"loss": 1.0})
    assert len(output.getvalue().splitlines()) == 10
    progress.show(1000, "train", {"loss": 0.5})  # the last step is never left out
    assert "1,000/1,000 100%" in output.getvalue().splitlines()[-1]


def test_validation_always_gets_a_line_and_fine_tuning_its_scores():
    progress, output, _ = make()
    progress.show(50, "validation", {"loss": 0.5, "accuracy": 0.625, "f1_macro": 0.5871})
    progress.show(51, "validation", {"loss": 0.4})
    assert output.getvalue().splitlines() == [
        "pretrain 50/1,000 validation | loss 0.5000 | accuracy 62.5% | macro F1 0.587",
        "pretrain 51/1,000 validation | loss 0.4000",
    ]


def test_time_left_ignores_compilation_and_counts_from_a_resume():
    progress, _, clock = make(total=1000, start=900)
    assert progress.seconds_left is None
    assert progress.parts()[-1] == "compiling the first step"
    clock.now = 60.0
    progress.move(901)
    assert progress.seconds_left is None
    clock.now = 62.0
    progress.move(911)
    assert progress.seconds_left == pytest.approx(89 * 0.2)


def test_live_line_is_rewritten_in_place():
    progress, output, clock = make(live=True)
    assert "compiling the first step" in output.getvalue()
    progress.move(1)
    clock.now = 5.0
    progress.show(51, "train", SCALARS)
    clock.now = 6.0
    progress.move(61)
    progress.say("a [bold] in the text")
    progress.close()
    progress.close()
    text = output.getvalue()
    assert "\x1b[2K" in text  # erase the line
    assert "pretrain 61/1,000 6% | loss 7.1235" in text
    assert "a [bold] in the text" in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_live_line_stays_one_line_and_keeps_time_left(width):
    progress, output, clock = make(live=True, width=width)
    progress.move(1)
    clock.now = 10.0
    progress.show(101, "train", SCALARS)
    progress.close()
    last = output.getvalue().replace("\r", "\n").split("\x1b[2K")[-1].split("\x1b[?25h")[0].strip("\n")
    assert "\n" not in last and len(last) <= width
    assert "pretrain 101/1,000" in last and "1:30 left" in last


def test_a_step_alone_prints_nothing_on_a_plain_output():
    progress, output, clock = make()
    for step in range(100):
        clock.now += 20.0
        progress.move(step)
    assert output.getvalue() == ""


def test_scores_of_ones_own_are_on_the_line():
    progress, output, _ = make(scores=[Score("within_one", format=".1%", headline=True), Score("quiet")])
    progress.show(50, "validation", {"accuracy": 0.5, "quiet": 1.0, "within_one": 0.75, "learning_rate": 0.1})
    assert output.getvalue() == "pretrain 50/1,000 validation | within one 75.0% | rate 1.00e-01\n"


def test_a_line_that_follows_what_is_read():
    output, clock = io.StringIO(), Clock()
    console = Console(file=output, force_terminal=False, width=200)
    with ProgressLine("predict", 50, counted=False, console=console, plain_seconds=10.0, clock=clock) as line:
        for word in line.follow(["hello"] * 10, len):
            assert word == "hello"
            clock.now += 3.0
    assert output.getvalue().splitlines() == [
        "predict 40% | 0:18 left",
        "predict 80% | 0:06 left",
        "predict 100% | took 0:30",
    ]


def test_what_is_quick_or_not_shown_prints_nothing(capfd):
    assert list(in_chunks(range(5), 2, "encoding")) == [range(0, 2), range(2, 4), range(4, 5)]
    for shown in (True, False):
        with PrepareProgress(100, shown) as progress:
            progress.report(1, 10, 40)
    assert progress.done == 100
    assert capfd.readouterr() == ("", "")


def test_numbers_for_people():
    assert [format_count(value) for value in (7, 830, 15_234, 152_340, 3_100_000, 2.5e9)] == [
        "7",
        "830",
        "15.2k",
        "152k",
        "3.1M",
        "2.5G",
    ]
    assert [format_seconds(value) for value in (7.2, 754, 11_045, 200_000)] == [
        "0:07",
        "12:34",
        "3:04:05",
        "2d 7h",
    ]


def test_table():
    rows = [("MLM accuracy of [bold]", 0.31274, 0.047), ("examples", 12_345, None)]
    lines = format_table(("score", "value", "baseline"), rows, "Result").splitlines()
    assert lines[0] == "Result"
    assert lines[1].split() == ["score", "value", "baseline"]
    assert lines[3].split() == ["MLM", "accuracy", "of", "[bold]", "0.3127", "0.0470"]
    assert lines[4].split() == ["examples", "12,345", "-"]
    assert lines[3].index("0.3127") + 6 == lines[4].index("12,345") + 6  # numbers end in one column


def test_table_in_a_pipe_is_not_cut(capsys):
    print_table("", ("name", "value"), [("x" * 120, 1)])
    assert "x" * 120 in capsys.readouterr().out
