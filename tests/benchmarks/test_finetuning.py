"""The benchmark on labelled tasks: how they are made, and what is printed of runs that are done; none is trained."""

import json
from pathlib import Path

import pytest

from albert_jax.errors import AlbertError
from benchmarks import finetuning, tasks_from_packages
from benchmarks.tasks_from_packages import Example, Source, divided, sentences_of_mdoc

PAGE = r"""
.Dd May 1, 2020
.Sh NAME
.Nm bge
.Nd a driver that is not in the prose.
.Sh DESCRIPTION
The
.Nm
driver calls
.Fn if_alloc "u_char type" ,
which sets
.Va "struct ifnet" ""
and
.Dv IFF_UP ;
see
.Xr ifconfig 8 .
.Bd -literal
Nothing of this.
.Ed
A heading without an end
.Pp
Files are in
.Pa /dev .
.Sh AUTHORS
Somebody wrote it.
"""


def test_macros_of_a_manual_page_become_kinds_of_words():
    first, second = sentences_of_mdoc(PAGE, "bge")
    kinds = {word: kind for word, kind in first if kind}
    assert " ".join(word for word, _ in first) == (
        "The bge driver calls if_alloc , which sets struct ifnet and IFF_UP ; see ifconfig ."
    )
    assert kinds == {
        "bge": "name", "if_alloc": "function", "struct": "variable", "ifnet": "variable", "IFF_UP": "constant",
        "ifconfig": "page",
    }  # fmt: skip
    assert second == [("Files", ""), ("are", ""), ("in", ""), ("/", "file"), ("dev", "file"), (".", "")]
    assert tasks_from_packages._iob(["", "file", "file", "page"]) == ("O", "B-file", "I-file", "B-page")


def examples():
    for n in range(300):
        word = f"{'abcdefghij'[n // 100]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n % 10]}"
        yield Example(f"text {word}", "odd" if n % 2 else "even", group=f"group {n // 5}")
    yield Example("Text aaa!", "even")  # once more
    yield Example("of two labels", "odd")
    yield Example("Of two labels.", "even")


def test_a_split_holds_whole_groups_and_each_text_once():
    splits = divided(examples())
    texts = [example.text for found in splits.values() for example in found]
    assert len(texts) == len(set(texts)) == 300
    groups = {name: {example.group for example in found} for name, found in splits.items()}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["dev"]
    assert 150 < len(splits["train"]) < 250 and len(splits["test"]) > len(splits["dev"]) > 5
    # In any order of reading, but for which spelling of a text that comes twice is kept: that is the first.
    once = [*examples()][:300]
    assert divided(reversed(once)) == divided(once) == splits


def test_a_given_test_split_stays_and_no_other_text_joins_it():
    given = [Example(f"given {word}", "x", split="test") for word in ("one", "two")]
    assert [*divided([*examples(), *given])["test"]] == sorted(given, key=tasks_from_packages._order)


@pytest.fixture
def tasks(tmp_path) -> Path:
    package = tmp_path / "some.whl"
    package.write_bytes(b"of any content")
    source = Source("some==1", "", "MIT", lambda _: examples(), "Odd or even.")
    told = tasks_from_packages.write("parity", source, package, tmp_path / "tasks")
    assert told["kind"] == "classification" and told["classes"] == 2
    words = [
        Example(f"open {name} now", tags=("O", "B-file", "O")) for name in ("a", "b", "c", "d", "e", "f", "g", "h")
    ]
    source = Source("some==1", "", "MIT", lambda _: iter(words), "Files.")
    tasks_from_packages.write("files", source, package, tmp_path / "tasks")
    assert "licence: MIT" in (tmp_path / "tasks" / "files" / "README.md").read_text()
    return tmp_path / "tasks"


def test_tasks_are_found_with_the_labels_of_all_training_examples(tasks):
    files, parity = finetuning.tasks_in(tasks, [])
    assert (files.name, files.labels, files.suffix) == ("files", ("O", "B-file", "I-file"), ".conll")
    assert (parity.name, parity.labels, parity.examples) == (
        "parity",
        ("even", "odd"),
        len(divided(examples())["train"]),
    )
    with pytest.raises(AlbertError, match="nothing: no train.tsv"):
        finetuning.tasks_in(tasks, ["nothing"])


def test_a_run_takes_its_count_its_draw_and_the_fields_asked_for(tasks):
    files, parity = finetuning.tasks_in(tasks, [])
    box, scratch = finetuning.starts_of(["box=some/model", "scratch"])
    run = finetuning.experiment_of(parity, scratch, 100, 2, ["--optim.peak-lr", "0.5"], steps=3)
    assert (run.task.examples, run.task.sample_seed, run.seed, run.steps, run.epochs) == (100, 2, 2, 3, 0)
    assert (run.init, run.from_scratch, run.optim.peak_lr) == ("some/model", True, 0.5)
    whole = finetuning.experiment_of(files, box, 0, 0, [], steps=0)
    assert (whole.task.labels, whole.task.examples, whole.from_scratch) == (files.labels, 0, False)
    assert whole.recipe and (whole.epochs, whole.steps) == (0, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scratch"], "no model whose shape"),
        (["box"], "give NAME=MODEL"),
        (["box=a", "box=b"], "a name stands there twice"),
    ],
)
def test_starts_that_mean_nothing_are_refused(words, message):
    with pytest.raises(AlbertError, match=message):
        finetuning.starts_of(words)


def test_runs_that_are_done_become_a_table_and_curves(tasks, tmp_path, capsys):
    out, scores = tmp_path / "out", {"box": (0.7, 0.9, 0.8), "scratch": (0.5, 0.6, 0.7)}
    for start, values in scores.items():
        for count in ("100", "all"):
            for seed, value in enumerate(values):
                folder = out / "parity" / start / count / f"seed-{seed}"
                folder.mkdir(parents=True)
                record = {
                    "ranking": ["accuracy", True],
                    "scores": {"accuracy": value, "loss": None},
                    "baselines": {"accuracy": 0.75 if count == "100" else 0.85},
                    "against": {"accuracy": "TF-IDF"},
                }
                (folder / "evaluation-test.json").write_text(json.dumps(record))
    words = ["--tasks", str(tasks), "--out", str(out), "--only", "parity", "--starts", "box=some/model", "scratch"]
    # 2,000 are more than there are, so that is no column of its own.
    finetuning.main([*words, "--counts", "100", "2000", "0", "--plot", str(tmp_path / "curves.png")])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["start", "100", "all"] in printed
    assert ["box", "0.800", "(0.700-0.900)", "0.800", "(0.700-0.900)"] in printed
    assert ["best", "baseline", "0.750", "(0.750-0.750)", "0.850", "(0.850-0.850)"] in printed
    assert ["box", "1", "of", "1", "0", "of", "1"] in printed
    assert ["scratch", "0", "of", "1", "0", "of", "1"] in printed
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AlbertError, match="its runs have steps 0, asked is 3"):
        finetuning.main([*words, "--steps", "3"])
