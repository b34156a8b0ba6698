"""A package's files to paragraphs: which files are text, and which reader reads them.

A `Part` is a file, or a part of a file that holds many texts (a dictionary's letter, a module's book, an R package's
novel). Held-out data is drawn by parts, so that no part is in two splits.
"""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from albert_jax.data.packages import dictionaries, markup, plain, prose, rdata, strings, sword
from albert_jax.data.packages.archive import Member, Package
from albert_jax.data.text.sentences import word_set

ENTRIES = 40  # of a dictionary or a collection of sayings in one document
MIN_ENTRY_WORDS = 5  # of a gloss or a saying: shorter than a paragraph, and text all the same


@dataclass(frozen=True)
class Part:
    """Paragraphs as they were read, before it is known which of them are prose."""

    file: str  # "usr/share/doc/anarchism/html/intro.html", or with "#" and a part: ".../gcide.dict.dz#a"
    paragraphs: Iterable[str]
    min_words: int = prose.MIN_WORDS


# Translations are named by their language, as a folder or before the suffix. What is missed here prose.py leaves out.
_LANGUAGE = (
    "a[rfzs]|b[ge]|bn|bs|ca|cs|cy|da|de|el|eo|es|et|eu|f[aiar]|fr|ga|gl|gu|h[eiru]|id|is|it|ja|k[akmno]|l[tv]|m[klrs]"
    "|nb|nl|nn|oc|pa|pl|pt|ro|ru|s[iklqrv]|ta|te|t[hr]|uk|vi|zh|ast|kab|fur|pt[-_]?br|zh[-_]?(?:cn|tw|hans|hant)"
)
_TRANSLATION = re.compile(
    rf"/(?:{_LANGUAGE})(?:[-_.@][A-Za-z]+)?/"
    rf"|[._-](?:{_LANGUAGE})(?:[-_][A-Z]{{2}})?(?:\.utf-?8)?\.(?:html?|txt|xml|md|pod)(?:\.[a-z0-9]+)?$",
    re.IGNORECASE,
)
_ENGLISH = re.compile(r"/(?:en|C|en[-_](?:US|GB))/|\.en\.", re.IGNORECASE)
_SKIPPED_NAME = re.compile(
    r"(?:copyright|changelog|changes|news|readme\.debian|todo|authors|credits|licen[cs]e|copying|install|index"
    r"|genindex|py-modindex|thanks|contributors|maintainers|00index|bugs|search|fdl|gpl|whatsnew.*|release.*|news.*"
    r"|.*changelog.*|.*-(?:license|copying))(?:[.-].*)?",
    re.IGNORECASE,
)
_SKIPPED_FOLDER = re.compile(
    r"/(?:locale|doc-base|lintian|bug|icons|applications|_sources|examples?|tests?|testthat|whatsnew|releaselog|develop"
    r"|LICENSES?|TEST_DATA)/"
)
_PACKED = (".gz", ".dz", ".bz2", ".xz")
_UNPACK = {".gz": gzip.decompress, ".dz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
_HTML = word_set("html htm xhtml")
_XML = word_set("xml docbook page dbk")
_TEXT = word_set("txt text faq asc") | {""}
_GAME_DATA = word_set("json cfg lua txt")
_DOCUMENTATION = ("usr/share/doc/", "usr/share/state/", "usr/share/dasher/training_english_")


def parts(package: Package) -> Iterator[Part]:
    """All that is readable in a package, in the order of its files' names."""
    by_path = {file.path: file for file in package.files}
    pages = {_stem(path) for path in by_path if _suffix(path) in _HTML}
    for file in package.files:
        if _is_wanted(file.path):
            yield from _parts(file, by_path, pages)


def _is_wanted(path: str) -> bool:
    if _SKIPPED_NAME.fullmatch(PurePosixPath(path).name) or _SKIPPED_FOLDER.search(f"/{path}"):
        return False
    return not _TRANSLATION.search(f"/{path}") or bool(_ENGLISH.search(f"/{path}"))


def _parts(file: Member, by_path: dict[str, Member], pages: set[str]) -> Iterator[Part]:
    """`file` as one part or several; none if it is no text, or that of one of the HTML `pages` in another format."""
    path, suffix = file.path, _suffix(file.path)
    if suffix == "dict":
        yield from _dictionary(file, by_path)
    elif suffix == "conf" and path.startswith("usr/share/sword/mods.d/"):
        yield from _sword(file, by_path)
    elif path.endswith("/data/Rdata.rdb"):
        for number, text in enumerate(rdata.texts(file.content), 1):
            yield Part(f"{path}#{number}", plain.paragraphs(text))
    elif path.startswith("usr/share/games/fortunes/"):
        if not suffix:
            yield from _sayings(path, plain.sayings(_text(file)))
    elif path.startswith("usr/share/display-dhammapada/"):
        yield Part(path, plain.paragraphs(_text(file)))
    elif path.startswith("usr/share/crawl/"):
        if suffix == "txt" and "/dat/" in path:
            entries = (entry.partition("\n\n")[2] for entry in plain.sayings(_text(file), "%%%%"))
            yield Part(path, (paragraph for entry in entries for paragraph in entry.split("\n\n")))
    elif "/crossfire/maps/" in path:
        yield Part(path, strings.map_messages(_text(file)), MIN_ENTRY_WORDS)
    elif path.startswith("usr/share/games/"):
        if suffix in _GAME_DATA:
            yield Part(path, strings.paragraphs(_text(file)))
    elif path.startswith("usr/share/man/man"):
        yield Part(path, plain.manual_paragraphs(_text(file)))
    elif suffix in _HTML or (suffix in _XML and path.startswith(("usr/share/doc/", "usr/share/help/"))):
        yield Part(path, markup.paragraphs(_text(file)))
    elif path.startswith("usr/share/info/"):
        if len(pages) < 20:  # else they are the same manual, a page a node
            yield Part(path, (paragraph for node in plain.info_nodes(_text(file)) for paragraph in node))
    elif suffix == "pod":
        yield Part(path, plain.pod_paragraphs(_text(file)))
    elif _stem(path) not in pages and path.startswith(_DOCUMENTATION):
        if suffix == "md":
            yield Part(path, plain.markdown_paragraphs(_text(file)))
        elif suffix in _TEXT:
            yield Part(path, plain.paragraphs(_text(file)))


def _suffix(path: str) -> str:
    """The kind of a file by its name, compression aside: "a/b.txt.gz" -> "txt"."""
    name = PurePosixPath(path).name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.rpartition(".")[2].lower() if "." in name else ""


def _stem(path: str) -> str:
    return re.sub(r"(?:\.(?:html?|txt|md|text|gz|en|xz|info))+$", "", PurePosixPath(path).name)


def _text(file: Member) -> str:
    content = _unpacked(file)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _unpacked(file: Member) -> bytes:
    unpack = _UNPACK.get(PurePosixPath(file.path).suffix)
    try:
        return unpack(file.content) if unpack else file.content
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""  # not what its name says: no text


def _sayings(path: str, found: Iterable[str]) -> Iterator[Part]:
    # Sayings do not follow from each other, so there is no sense in long documents of them.
    gathered = list(found)
    for start in range(0, len(gathered), ENTRIES):
        yield Part(path, gathered[start : start + ENTRIES], MIN_ENTRY_WORDS)


_ENTRY_READERS = {"gcide": dictionaries.gcide_paragraphs, "wn": dictionaries.wordnet_paragraphs}


def _dictionary(file: Member, by_path: dict[str, Member]) -> Iterator[Part]:
    """A part for each two letters that headwords start with, in documents of `ENTRIES` entries."""
    index = by_path.get(re.sub(r"\.dict(?:\.dz)?$", ".index", file.path))
    if index is None:
        return
    reader = _ENTRY_READERS.get(PurePosixPath(file.path).name.partition(".")[0], dictionaries.other_paragraphs)
    gathered: list[str] = []
    count, letters = 0, ""
    for word, entry in dictionaries.entries(index.content.decode("utf-8", "replace"), _unpacked(file)):
        if count == ENTRIES or letters != word[:2].lower():
            yield Part(f"{file.path}#{letters}", gathered, MIN_ENTRY_WORDS)
            gathered, count, letters = [], 0, word[:2].lower()
        gathered += reader(word, entry)
        count += 1
    yield Part(f"{file.path}#{letters}", gathered, MIN_ENTRY_WORDS)


def _sword(file: Member, by_path: dict[str, Member]) -> Iterator[Part]:
    settings = {name: value.strip() for name, value in re.findall(r"^(\w+)=(.*)$", _text(file), re.MULTILINE)}
    driver = settings.get("ModDrv", "")
    if not driver.startswith(("zText", "zCom")) or settings.get("Lang", "en") != "en":
        return
    folder = PurePosixPath("usr/share/sword", settings.get("DataPath", ""))
    for testament in ("ot", "nt"):
        for unit in "bcv":  # what a block holds: a book, a chapter, a verse
            names = [f"{folder}/{testament}.{unit}z{kind}" for kind in "svz"]
            if all(name in by_path for name in names):
                index, verses, content = (by_path[name].content for name in names)
                for number, block in enumerate(sword.blocks(index, verses, content, driver.endswith("4"))):
                    yield Part(f"{names[2]}#{number}", markup.osis_paragraphs(block))
