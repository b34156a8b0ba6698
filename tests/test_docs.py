"""README and docs: commands that run on a tiny model, flags and paths that exist.

A command of the package is run, page by page in the order in which it stands, with a tiny model and few steps. Only
what needs a cloud, a download or hours is not: its verb, flags and config are looked up, and a launcher is run with
--dry-run.
"""

import io
import os
import re
import shlex
import subprocess
from contextlib import redirect_stdout, suppress
from functools import cache
from glob import glob
from pathlib import Path

import pytest

from albert_jax.__main__ import VERBS, main
from albert_jax.interop import box
from tests.data.sample_text import write_corpus
from tests.tasks.test_tagging import write_sentences

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"--[a-z][\w.-]*")
OURS = re.compile(r"launch/\w|python -m (albert_jax|benchmarks|tests)\b|python (benchmarks|tests)/")
# Verbs that take minutes or a compiler that is not everywhere, and words of what is not on this machine.
NOT_RUN = {"plan", "bench", "search"}
ELSEWHERE = re.compile(r"gs://|tfds:|^/shared/|HOST:|configs/pretrain_|^albert/|\.tar\.gz$|^Dataflow|^DirectRunner")
TINY = (
    "--batch-size 8 --mesh.devices 1 --telemetry.no-tensorboard --eval-batch-size 8 --eval-every 0 --epochs 0 --steps 2"
)
SMALL = "--model.hidden-size 32 --model.feed-forward-size 64 --model.embedding-size 16 --model.heads 2"
FEW = "--optim.schedule.warmup-steps 1 --task.eval-examples 8"
CHANGES = {  # config -> words that make it small
    "demo": f"{SMALL} {FEW}",
    "demo_classify": f"{SMALL} {FEW} --task.min-paragraphs 5 --task.examples 16 --task.max-length 32",
    "demo_tag": f"{SMALL} {FEW} --task.examples 16 --task.max-length 32",
    "finetune_tagging": "--task.max-length 32",
    "finetune_conll2003": "--task.max-length 32",
    "finetune_classification": "--task.max-length 32",
    "own_task": "--task.max-length 32",
}


def commands(page: Path) -> list[list[str]]:
    """The words of each command on a page that is ours, the last of each pipe."""
    found = []
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in ("", "bash", "sh"):
            continue
        for line in body.replace("\\\n", " ").splitlines():
            line = line.split(" | ")[-1].strip().replace(".venv/bin/python", "python").removeprefix("bash ")
            if OURS.match(line):
                found.append(shlex.split(line, comments=True))
    return found


def verb(words: list[str]) -> str:
    """The verb of a command of the package, else ""."""
    return words[3] if words[1:3] == ["-m", "albert_jax"] else ""


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


def runs(words: list[str]) -> bool:
    return bool(verb(words)) and verb(words) not in NOT_RUN and not any(map(ELSEWHERE.search, words))


@cache
def known_flags(name: str, config: str) -> frozenset[str]:
    """What --help of a verb offers; with a config, for its task."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        main([name, *(["--config", str(ROOT / config)] if config else []), "--help"])
    return frozenset(FLAG.findall(printed.getvalue()))


def script(words: list[str]) -> Path:
    """The file that a command which is not the package's runs."""
    if words[1:2] == ["-m"]:
        return ROOT / (words[2].replace(".", "/") + ".py")
    return ROOT / words[0 if words[0].startswith("launch/") else 1]


PARSED = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), PARSED, ids=[f"{page.stem}: {shlex.join(words)[:60]}" for page, words in PARSED]
)
def test_a_command_exists_with_its_flags(page, words):
    config = option(words, "--config")
    assert not config or (ROOT / config).is_file(), f"{page.name}: no {config}"
    own = words[: words.index("--")] if "--" in words else words
    flags = {word.split("=")[0] for word in own if FLAG.match(word)}
    if name := verb(words):
        assert name in VERBS, f"{page.name}: no verb {name}"
        assert flags <= known_flags(name, config), f"{page.name}: {name} has no {flags - known_flags(name, config)}"
        return
    file = script(words)
    assert file.is_file(), f"{page.name}: no {file}"
    if file.suffix == ".sh":
        assert os.access(file, os.X_OK)
    for word in words[1:]:
        if word.startswith(("tests/", "configs/", "benchmarks/")):
            assert (ROOT / word).exists(), f"{page.name}: no {word}"
    if "--dry-run)" in file.read_text() or "launch/common.sh" in file.read_text():
        dry = [*own, "--dry-run", *words[len(own) :]]
        done = subprocess.run(["bash", *dry], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{page.name}: {shlex.join(words)}: {done.stderr}"
    else:
        unknown = [flag for flag in flags if flag not in file.read_text()]
        assert not unknown, f"{page.name}: {file.name} has no {unknown}"


# ---- run


def made_small(words: list[str], two_seeds: bool = True) -> list[str]:
    """The words after "python -m albert_jax" with changes that make them quick; the later of two options wins."""
    name, rest = verb(words), ["pydocs:optax,tyro" if word == "pydocs" else word for word in words[4:]]
    if name == "prepare":
        return [name, *rest, "--workers", "1", *([] if "--vocab" in words else ["--vocab-size", "300"])]
    if config := option(words, "--config"):
        seeds = ["--n", "2" if two_seeds else "1"] if name == "seeds" else []
        return [name, *rest, *seeds, *TINY.split(), *CHANGES[Path(config).stem].split()]
    return [name, *rest]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What launch/demo.sh leaves: a prepared pydocs corpus and a model pretrained on it."""
    place = tmp_path_factory.mktemp("demo")
    corpus, workdir = f"{place}/corpus", f"{place}/pretrain"
    command = "python -m albert_jax prepare --corpus pydocs --test 0.1 --out"
    assert main(made_small([*command.split(), corpus])) == 0
    command = f"python -m albert_jax train --config {ROOT}/configs/demo.py --task.data {corpus} --workdir"
    assert main(made_small([*command.split(), workdir])) == 0
    return place


def workplace(directory: Path, demo: Path, made: set[str]) -> None:
    """Files of the names that the pages use; of runs, those that the page does not make itself."""
    for name in ("configs", "docs"):
        (directory / name).symlink_to(ROOT / name)
    (directory / "PRETRAINED").symlink_to(demo / "pretrain")
    (directory / "text").mkdir()
    write_corpus(directory / "text" / "a.txt", 40)
    (directory / "texts.txt").write_text("the class may call a method\nwith the suite\n")
    for seed, name in enumerate(("train.conll", "dev.conll", "test.conll", "eng.train", "eng.testa", "eng.testb")):
        write_sentences(directory / name, 16, seed)
    rows = [(f"the {word} of item {n}", word) for n in range(8) for word in ("class", "call")]
    for split in ("train", "dev", "test"):
        for suffix, mark in (("csv", ","), ("tsv", "\t")):
            lines = ["text,label".replace(",", mark), *(mark.join(row) for row in rows)]
            (directory / f"{split}.{suffix}").write_text("\n".join(lines) + "\n")
    given = {"runs/mine": "pretrain", "runs/demo/corpus": "corpus", "runs/demo/pretrain": "pretrain"}
    for name, source in given.items():
        if name not in made:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).symlink_to(demo / source)


RUNNING = {page: [words for words in commands(page) if runs(words)] for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if RUNNING[page]], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(page, demo, tmp_path, monkeypatch, capsys):
    made = {option(words, name) for words in RUNNING[page] for name in ("--workdir", "--out")}
    compared = [word for words in RUNNING[page] if verb(words) == "compare" for word in words]
    workplace(tmp_path, demo, made)
    monkeypatch.chdir(tmp_path)
    for words in RUNNING[page]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the class may call\n")))
        two_seeds = any(word.startswith(option(words, "--workdir") + "/seed-") for word in compared)
        asked = made_small(words, two_seeds)
        if verb(words) == "compare":  # as the shell does
            asked = [found for word in asked for found in (sorted(glob(word)) if "*" in word else [word])]
        assert main(asked) == 0, (
            f"{page.name}: {shlex.join(words)}\nrun as {shlex.join(asked)}\n{capsys.readouterr().err}"
        )


def test_enough_commands_are_run():
    """That a page is not skipped without a word."""
    done = {verb(words) for found in RUNNING.values() for words in found}
    assert {"prepare", "train", "evaluate", "predict", "seeds", "compare", "inspect", "convert"} <= done
    assert {page.stem for page, found in RUNNING.items() if found} >= {"README", "notebook", "downstream", "finetune"}


# ---- links, paths and flags in the text


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "colab" / "README.md"], ids=lambda page: f"{page.parent.name}/{page.stem}"
)
def test_links_paths_and_flags_of_a_page_exist(page):
    text = prose(page)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), f"{page.name}: {target}"
    for code in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"(albert_jax|benchmarks|colab|configs|docs|launch|tests)/[\w./*-]+", code):
            assert code in box.names() or list(ROOT.glob(code.rstrip("/"))), f"{page.name}: no {code}"
        if code.startswith("--"):
            for flag in FLAG.findall(code):
                assert flag in all_flags(), f"{page.name}: nothing has the flag {flag}"


@cache
def all_flags() -> frozenset[str]:
    configs = (
        "docs/own_task.py",
        "configs/demo.py",
        "configs/finetune_tagging.py",
        "configs/finetune_classification.py",
    )
    found = {flag for config in configs for flag in known_flags("train", config)}
    for name in VERBS:
        found |= known_flags(name, "")
    for file in (*(ROOT / "launch").glob("*.sh"), *(ROOT / "benchmarks").glob("*.py")):
        found |= set(FLAG.findall(file.read_text()))
    return frozenset(found)
