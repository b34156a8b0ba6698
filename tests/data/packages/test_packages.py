"""From names of packages to documents: an archive of small real .deb files, and an apt that is played by the test."""

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from albert_jax.data.corpus.corpora import gather, write_texts
from albert_jax.data.corpus.prepare import PrepareConfig, prepare
from albert_jax.data.packages import archive, extract, fetch
from albert_jax.data.packages.extract import read_packages
from albert_jax.data.store.documents import SPLITS
from albert_jax.data.store.store import DocumentStore
from albert_jax.errors import AlbertError
from benchmarks import debian
from tests.data.debs import write_deb

COPYRIGHT = "Format: https://x.org\n\nFiles: *\nCopyright: 1999 A\nLicense: {}\n\nLicense: {}\n The text of it.\n"
NAMES = ("boats", "bees")


def story(subject: str, number: int) -> str:
    """A file of four paragraphs that no other file has."""
    verbs = ("found", "lost", "sold", "drew")
    places = (f"in the town of number {chr(97 + number % 26)}{chr(97 + number // 26)}", "by the sea", "in the hills")
    return "\n\n".join(
        f"This is what they say of the {subject} that was {verb} {places[number % 3]} {places[0]}. It is not known to"
        f" us who {verb} it, but all of the people have told the same story of it since then."
        for verb in verbs
    )


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    """A folder with the packages that the played apt offers."""
    folder = tmp_path / "archive"
    for name, licence in zip(NAMES, ("GPL-2+", "CC-BY-SA-3.0 or GPL-2+"), strict=True):
        files = {f"usr/share/doc/{name}/{number:02}.txt": story(name, number) for number in range(40)}
        files[f"usr/share/doc/{name}/copyright"] = COPYRIGHT.format(licence, licence)
        write_deb(folder, name, "1:2.0-1", files)
    return folder


@pytest.fixture
def apt(offered: Path, tmp_path: Path, monkeypatch) -> list[str]:
    """An apt that offers the files of `offered`; the commands that were given to it."""
    given: list[str] = []

    def run(*command: str, folder: str | None = None) -> subprocess.CompletedProcess[str]:
        given.append(" ".join(command))
        out, err = [], []
        files = {path.name.partition("_")[0]: path for path in sorted(offered.glob("*.deb"))}
        if command[1] == "pkgnames":
            out = list(files)
        for word in [word for word in command[2:] if not word.startswith("-")]:
            name, _, version = word.partition("=")
            if name not in files:
                err.append(f"E: Unable to locate package {name}")
                continue
            content = files[name].read_bytes()
            if version and version != files[name].name.split("_")[1].replace("%3a", ":"):
                err.append(f"E: Version '{version}' for '{name}' was not found")
            elif folder:
                Path(folder, files[name].name).write_bytes(content)
            else:
                digest = hashlib.sha256(content).hexdigest()
                out.append(f"'http://x.org/{files[name].name}' {files[name].name} {len(content)} SHA256:{digest}")
        return subprocess.CompletedProcess(command, 100 if err else 0, "\n".join(out), "\n".join(err))

    monkeypatch.setattr(fetch, "_apt", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return given


# ---- .deb files


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_a_package_is_read(tmp_path: Path, compression: str) -> None:
    path = write_deb(tmp_path, "a", "1.0", {"b/c": "two", "a": "one"}, compression, link="other-doc")
    assert archive.read(path) == archive.Package(
        "a",
        "1.0",
        (archive.Member("a", b"one"), archive.Member("b/c", b"two")),
        {"usr/share/doc/a": "other-doc"},
    )


def test_dpkg_takes_our_packages_for_real_ones(tmp_path: Path) -> None:
    try:
        told = subprocess.run(
            ["dpkg-deb", "-c", str(write_deb(tmp_path, "a", "1.0", {"b/c": "two"}))], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("no dpkg-deb here")
    assert "./b/c" in told.stdout, told.stderr


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-200], lambda b: b"x" + b, lambda b: b.replace(b"data.tar", b"dat_.tar")]
)
def test_a_broken_package_is_one_line(tmp_path: Path, damage) -> None:
    path = write_deb(tmp_path, "a", "1.0", {"a": "one" * 1000})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AlbertError, match=r"a_1.0_all.deb: broken package \(.*\); remove it and run the same") as error:
        archive.read(path)
    assert "\n" not in str(error.value)


# ---- documents


def test_documents_have_source_and_licence_and_any_number_of_workers_gives_the_same(offered: Path) -> None:
    paths = sorted(offered.glob("*.deb"))
    texts = list(read_packages(paths))
    assert texts == list(read_packages(paths, workers=2))
    assert len(texts) == 80
    first = texts[0]
    assert (first.package, first.version, first.licence) == ("bees", "1:2.0-1", "CC-BY-SA-3.0 or GPL-2+")
    assert first.name == "bees/usr/share/doc/bees/00.txt"
    assert first.sentences[:2] == (
        "This is what they say of the bees that was found in the town of number aa in the town of number aa.",
        "It is not known to us who found it, but all of the people have told the same story of it since then.",
    )
    # The second sentence of each paragraph is in all files of both packages: twice, and never again.
    assert [len(text.sentences) for text in texts[:3]] == [8, 8, 4]
    assert first.characters == sum(len(sentence) + 1 for sentence in first.sentences)


def test_a_long_file_is_divided_and_keeps_its_name(tmp_path: Path) -> None:
    text = "\n\n".join(story("ship", number) for number in range(200))
    path = write_deb(tmp_path, "a", "1", {"usr/share/doc/a/all.txt": text})
    texts = list(read_packages([path]))
    assert len(texts) > 1
    assert {text.name for text in texts} == {"a/usr/share/doc/a/all.txt"}
    assert all(text.characters <= extract.MAX_DOCUMENT_CHARACTERS for text in texts)


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (COPYRIGHT.format("GPL-2+", "GPL-2+"), "GPL-2+"),
        (COPYRIGHT.format("Expat", "MIT and BSD-3-clause"), "Expat, MIT and BSD-3-clause"),
        ("This is in the public domain.", "public-domain"),
        (
            "Free under the GNU General Public\nLicense, its text under the Free Documentation License.",
            "GFDL",
        ),
        ("License: You may do with it what you like.", "see its copyright file"),
    ],
)
def test_licences(text: str, licence: str) -> None:
    files = (archive.Member("usr/share/doc/a/copyright", text.encode()),)
    assert extract.licence_of(archive.Package("a", "1", files, {})).startswith(licence)


def test_a_licence_in_another_package() -> None:
    package = archive.Package("a", "1", (), {"usr/share/doc/a": "a-common"})
    assert extract.licence_of(package) == "as a-common"


# ---- names and pins


def test_packages_are_downloaded_once(apt: list[str], tmp_path: Path) -> None:
    found = fetch.fetch("boats, bees,boats")
    assert [(package.name, package.version) for package in found] == [("bees", "1:2.0-1"), ("boats", "1:2.0-1")]
    assert found[0].path.parent == tmp_path / "cache/albert_jax/debian"
    assert found[0].sha256 == hashlib.sha256(found[0].path.read_bytes()).hexdigest()
    assert sum("print-uris" not in command for command in apt) == 1
    assert fetch.fetch("bees,boats") == found
    assert sum("print-uris" not in command for command in apt) == 1


def test_a_newer_package_replaces_the_one_in_the_cache(apt: list[str], offered: Path) -> None:
    fetch.fetch("bees")
    next(offered.glob("bees_*")).unlink()
    write_deb(offered, "bees", "1:2.1-1", {"usr/share/doc/bees/00.txt": story("bee", 1)})
    assert fetch.fetch("bees")[0].version == "1:2.1-1"


def test_pins(apt: list[str], offered: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    debian.main(["boats", "bees", "--pins", str(table), "--sample", "1"])
    pins = fetch.read_pins(table)
    assert list(pins) == ["bees", "boats"]
    assert pins["bees"].characters == sum(text.characters for text in read_packages([next(offered.glob("bees_*"))]))
    assert pins["bees"].licence == "CC-BY-SA-3.0 or GPL-2+"
    assert fetch.fetch(str(table)) == fetch.fetch("bees,boats")
    asked = len(apt)
    fetch.fetch(str(table))
    assert len(apt) == asked  # what is pinned and in the cache needs no apt

    # Another version offered, and the pinned one still in the cache; then not.
    next(offered.glob("bees_*")).unlink()
    write_deb(offered, "bees", "1:2.1-1", {"usr/share/doc/bees/00.txt": story("bee", 1)})
    assert fetch.fetch(str(table))[0].version == "1:2.0-1"
    next(fetch.cache_dir().glob("bees_*")).unlink()
    with pytest.raises(AlbertError, match="bees is pinned at 1:2.0-1, and this system offers 1:2.1-1; put the pinned"):
        fetch.fetch(str(table))

    # The same version with other bytes.
    next(offered.glob("bees_*")).unlink()
    write_deb(offered, "bees", "1:2.0-1", {"usr/share/doc/bees/00.txt": story("bee", 1)})
    with pytest.raises(
        AlbertError, match=r"bees 1:2.0-1 is pinned with SHA-256 \w{12}\.\.\., and .* has \w{12}\.\.\.;"
    ):
        fetch.fetch(str(table))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("boat", "debian:boat: no such package in this system's lists; nearest: boats"),
        ("zzzzzz", "debian:zzzzzz: no such package in this system's lists; run `apt-get update` first"),
        ("", "no package named"),
        ("Big Boats", "is no name of a package"),
        ("no/such.tsv", "no/such.tsv: cannot be read"),
    ],
)
def test_names_that_are_not_there(apt: list[str], wanted: str, told: str) -> None:
    with pytest.raises(AlbertError, match=told) as error:
        gather([f"debian:{wanted}"], "auto")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bees\t1.0\tabc\tGPL\t10", "line 2: not a package, version, SHA-256"),
        (f"bees\t1.0\t{'a' * 64}\tGPL\tten", "line 2: characters 'ten' is no number"),
        ("bees 1.0", "line 2: not a package"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, line: str, told: str) -> None:
    table = tmp_path / "table.tsv"
    table.write_text(f"package\tversion\tsha256\tlicence\tcharacters\n{line}\n")
    with pytest.raises(AlbertError, match=told):
        fetch.read_pins(table)
    table.write_text("anarchism\n")
    with pytest.raises(AlbertError, match="line 1: the columns are package, version, sha256, licence, characters"):
        fetch.read_pins(table)


def test_no_apt(offered: Path, tmp_path: Path, monkeypatch) -> None:
    def run(*command: str, folder: str | None = None) -> subprocess.CompletedProcess[str]:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(fetch, "_apt", run)
    with pytest.raises(AlbertError, match=r"debian:bees: no apt on this system; put the .deb files into .*as files"):
        fetch.fetch("bees", tmp_path)
    assert [package.name for package in fetch.fetch("bees", offered)] == ["bees"]


# ---- prepare


def test_prepare_end_to_end(apt: list[str], offered: Path, tmp_path: Path) -> None:
    config = PrepareConfig(
        ("debian:boats,bees",), str(tmp_path / "a"), vocab_size=60, validation=0.2, test=0.2, workers=1
    )
    prepare(config)
    files = {}
    for split in SPLITS:
        store = DocumentStore.open(config.out, split)
        records = [store.record(index) for index in range(len(store))]
        assert {record.label for record in records} == {"bees", "boats"}
        files[split] = {record.name for record in records}
    assert sum(map(len, files.values())) == len(set().union(*files.values())) == 80
    pins = fetch.read_pins(Path(config.out, "sources.tsv"))
    assert [(pin.package, pin.version) for pin in pins.values()] == [("bees", "1:2.0-1"), ("boats", "1:2.0-1")]
    assert prepare(config).already_done

    # Two corpora are as one, a table is as its names, and the text given as a file as both.
    for other in (("debian:boats", "debian:bees"), (f"debian:{config.out}/sources.tsv",)):
        assert gather(other, "auto")[1] == gather(config.corpus, "auto")[1]
    text = tmp_path / "text.jsonl"
    write_texts(fetch.fetch("boats,bees"), text, workers=1)
    line = json.loads(text.read_text().splitlines()[0])
    assert (line["name"], line["licence"]) == ("bees/usr/share/doc/bees/00.txt", "CC-BY-SA-3.0 or GPL-2+")
    as_file = replace(config, corpus=(str(text),), out=str(tmp_path / "b"))
    prepare(as_file)
    for split in SPLITS:
        stores = [DocumentStore.open(out, split) for out in (config.out, as_file.out)]
        first, second = ([store.record(i).pieces.tolist() for i in range(len(store))] for store in stores)
        assert first == second

    # Another version is another text.
    before = gather(config.corpus, "auto")[1]
    next(offered.glob("bees_*")).unlink()
    write_deb(offered, "bees", "1:2.1-1", {"usr/share/doc/bees/00.txt": story("bee", 1)})
    assert gather(config.corpus, "auto")[1] != before


def test_the_shipped_table_is_one() -> None:
    pins = fetch.read_pins(Path(__file__).parents[3] / "configs/pretrain_small.tsv")
    assert len(pins) > 40
    total = sum(pin.characters for pin in pins.values())
    assert 100e6 < total < 200e6
    assert all(pin.characters and pin.licence for pin in pins.values())
