"""`benchmarks.learning`: its rows can be built, its tables hold what was measured."""

import argparse
import dataclasses
import json

import pytest

from albert_jax.data.examples.masking import MaskConfig
from albert_jax.data.examples.pairs import PairConfig
from albert_jax.engine.state import abstract_params
from albert_jax.trees import flatten
from benchmarks import learning
from benchmarks.learning_rows import ROWS, Recipe, recipe


def test_every_row_is_the_base_with_its_change() -> None:
    base = recipe("base")
    assert base == Recipe()
    for name in ROWS:
        made = recipe(name)
        assert (made == base) == (name == "base")
        for share, part in made.parts():
            assert 0 < share <= 1
            part.optim.learning_rate(30)  # the schedule fits into a run, however short
            heads = part.model.get("heads", part.hidden // 64)
            assert (part.config().hidden_size, part.config().heads) == (part.hidden, heads)
    task = recipe("length_64_then_128").task("corpus", steps=50, first_steps=30)
    assert task.pairs == PairConfig(128, first_length=64, first_examples=30 * 32) and task.masks == MaskConfig()
    task = recipe("mask_0.3_to_0.15").task("corpus", steps=50)
    assert task.masks == MaskConfig(rate=0.3, end_rate=0.15, end_examples=50 * 32)
    assert recipe("corpus").task("corpus").initial == "corpus" and recipe("base").task("corpus").initial == "random"


@pytest.mark.parametrize("name", ["layers_2_then_4", "batch_16_then_32"])
def test_the_second_part_of_a_row_takes_all_parameters_of_the_first(name: str) -> None:
    (first_share, first), (second_share, second) = recipe(name).parts()
    assert first_share + second_share == 1
    assert dataclasses.replace(second, first_share=Recipe().first_share) == Recipe()
    assert (first.layers, first.batch) == ((2, 32) if name.startswith("layers") else (4, 16))
    shapes = [
        {path: leaf.shape for path, leaf in flatten(abstract_params(part.task("").objective(part.config()))).items()}
        for part in (first, second)
    ]
    assert shapes[0] == shapes[1]
    # The rate of the first part is still its peak where the second takes over from it, or nearly.
    rate = first.optim.learning_rate(1000)
    assert float(rate(940)) == pytest.approx(3e-3) and float(rate(25)) == pytest.approx(1.5e-3)


def run(row: str, seed: int, loss: float, **more) -> dict:
    point = {"share": 1.0, "seconds": 9.0, "mlm_loss": loss, "mlm_accuracy": 0.25, "order_accuracy": 0.5}
    curve = [point | {"share": 1 / 3, "mlm_loss": loss + 2}, point | {"share": 2 / 3, "mlm_loss": loss + 1}, point]
    same = {"minutes": 5.0, "cores": 1, "text": "text 0123", "eval_examples": 64, "made": "a machine, a day"}
    figures = {"steps": 100, "pieces_per_second": 5000.4, "cpu_seconds": 300.0, "wall_seconds": 310.0}
    return {"row": row, "seed": seed, "curve": curve, **same, **figures, **more}


def test_tables_show_means_and_deviations() -> None:
    lines = learning.tables([run("float32", 0, 5.0), run("base", 0, 4.0), run("base", 1, 4.2)]).splitlines()
    assert lines[0] == "5 minutes of 1 core, text text 0123, 64 held-out examples; a machine, a day"
    assert len(lines) == 6 and lines[4].startswith("| `base` | 2 | 6.100 ± 0.141 | 5.100 ± 0.141 | 4.100 ± 0.141 |")
    assert lines[5] == (
        "| `float32` | 1 | 7.000 | 6.000 | 5.000 | 0.250 | 0.250 | 0.250 | 0.500 | 100 | 5,000 | 300 | 310 |"
    )
    # Another clock is another table: 5 and 15 minutes do not compare.
    both = learning.tables([run("base", 0, 4.0), run("base", 0, 3.0, minutes=15.0, finetuned={"tagging": 0.5})])
    assert both.count("| row |") == 2 and both.endswith("| 310 | 0.500 |")


def test_written_runs_fill_the_page_beside_them(tmp_path) -> None:
    page = tmp_path / "learning.md"
    page.write_text(f"before\n{learning.MARKS[0]}\nold\n{learning.MARKS[1]}\nafter\n")
    learning.write(tmp_path / "learning.json", [run("base", 0, 4.0)])
    assert json.loads((tmp_path / "learning.json").read_text())["runs"] == [run("base", 0, 4.0)]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{learning.MARKS[1]}\nafter\n")
    assert "| `base` | 1 | 6.000 |" in text and "old" not in text
    learning.write(tmp_path / "learning.json", [])
    assert "Not yet run." in page.read_text()


def test_the_page_in_docs_holds_the_tables_of_the_runs_in_docs() -> None:
    runs = json.loads((learning.ROOT / "docs" / "learning.json").read_text())["runs"]
    page = (learning.ROOT / "docs" / "learning.md").read_text()
    assert page.split(learning.MARKS[0])[1].split(learning.MARKS[1])[0].strip() == (
        learning.tables(runs) or "Not yet run."
    )
    assert all(f"`{row}`" in page for row in ROWS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no row 'nothing'; there are base, lamb_1e-2"),
        (["--rows", "peer_float32_1e-3"], "needs --peer PYTHON"),
        (["--rows", "base", "--peer", "/no/python"], "--peer /no/python: no such program"),
        (["--rows", "base", "--cores", "9999"], "lower one of them"),
        (["--rows", "base", "--minutes", "0"], "give numbers above 0"),
    ],
)
def test_what_cannot_be_run_is_refused(words: list[str], message: str) -> None:
    asked: argparse.Namespace = learning.arguments().parse_args(words)
    rows = asked.rows.split(",") if asked.rows else ["nothing"]
    assert any(message in flaw for flaw in learning.flaws(asked, rows))
