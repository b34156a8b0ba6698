"""Plain text and formats close to it: text files, Markdown, POD, Info files, manual pages, collections of sayings."""

import re
from collections.abc import Iterable, Iterator

from albert_jax.data.text.sentences import word_set

_HYPHENATED = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
_COLUMNS = re.compile(r"\S {3,}\S.* {3,}\S|\t+\S+\t+|\.{4,}|[|+]-{2,}")
_CODE_LINE = re.compile(r"[;{}]\s*$|^\s*(?:[$#%>]|\./|//|/\*|--?\w)|\w\(.*\)\s*;?$|->|::|:=|==|&&")
_BULLET = re.compile(r"^\s*(?:[-*+o•·]|\(?\d{1,2}[.)]|\(?[a-z][.)])\s+(?=\S)")
_UNWRAPPED = 160  # characters: a block with a longer line has a paragraph on each line


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a plain text: blocks between blank lines, wrapped lines joined, words that were divided too."""
    for block in re.split(r"\n[ \t\f]*\n", text.replace("\r\n", "\n").replace("\f", "\n")):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        if max(map(len, lines)) > _UNWRAPPED:
            yield from lines
            continue
        odd = sum(bool(_COLUMNS.search(line) or _CODE_LINE.search(line)) for line in lines)
        if odd * 4 > len(lines):
            continue
        yield from _items(lines)


def _items(lines: Iterable[str]) -> Iterator[str]:
    """Lines of a block, divided where a list has a new item or a line starts further in."""
    gathered: list[str] = []
    for line in lines:
        if gathered and _BULLET.match(line):
            yield _joined(gathered)
            gathered = []
        gathered.append(line)
    if gathered:
        yield _joined(gathered)


def _joined(lines: list[str]) -> str:
    return _BULLET.sub("", _HYPHENATED.sub("", "\n".join(lines)))


# ---- Markdown and POD: marks inside a line are taken out, blocks of code are left out

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*$", re.MULTILINE | re.DOTALL)
_MD_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_MD_MARK = re.compile(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)|`+|^\s{0,3}(?:#+|>)\s*", re.MULTILINE)


def markdown_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a Markdown text."""
    text = _MD_MARK.sub("", _MD_LINK.sub(r"\1", _FENCE.sub("", text)))
    text = re.sub(r"\\(?=[^\w\s])", "", re.sub(r"<[^>]*>", "", text))
    return paragraphs("\n".join(line for line in text.split("\n") if not line.startswith(("    ", "\t"))))


_POD_CODE = re.compile(r"[BIFSXLCE]<<+ (.*?) >>+|([BIFSXLC])<([^<>]*)>", re.DOTALL)
_POD_ESCAPES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}


def pod_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of Perl's POD: indented ones are code, those that start with `=` are commands."""
    in_pod = True
    for block in re.split(r"\n[ \t]*\n", text):
        if block.startswith("="):
            command = block.split(None, 1)[0]
            in_pod = command not in ("=cut", "=begin", "=for")
        elif in_pod and not block.startswith((" ", "\t", "#")):
            previous = None
            while previous != block:
                previous, block = block, _POD_CODE.sub(_pod_code, block)
            yield re.sub(r"E<(\w+)>", lambda match: _POD_ESCAPES.get(match[1], ""), block)


def _pod_code(match: re.Match[str]) -> str:
    if match[1] is not None:
        return match[1]
    content = match[3]
    if match[2] == "X":
        return ""
    return content.split("|")[0].replace('"', "") if match[2] == "L" else content


# ---- Info


def info_nodes(text: str) -> Iterator[list[str]]:
    """The nodes of an Info file, each as its paragraphs."""
    for node in text.split("\x1f")[1:]:
        head, _, body = node.lstrip("\n").partition("\n")
        if head.startswith("File:"):
            body = re.sub(r"^\* Menu:.*", "", body, flags=re.MULTILINE | re.DOTALL)
            body = re.sub(r"\*[Nn]ote\s+([^:]*):(?::|[^.,]*[.,])", r"\1", body)
            body = re.sub(r"^.*\n[*=\-.]{3,}$", "", body, flags=re.MULTILINE).replace("‘", "").replace("’", "'")
            yield list(paragraphs("\n".join(line for line in body.split("\n") if not line.startswith("     "))))


# ---- manual pages

_ROFF_ESCAPES = [
    (re.compile(r"\\f(?:\(..|\[[^\]]*\]|.)|\\s[-+]?\d+|\\[&|^/,%:)]|\\[cdu]|\\m\[[^\]]*\]"), ""),
    (re.compile(r"\\[-(]en|\\\(hy|\\-"), "-"),
    (re.compile(r"\\\(em|\\\[em\]"), " -- "),
    (re.compile(r"\\\(aq|\\\(cq|\\\[aq\]|\\\[cq\]|\\'"), "'"),
    (re.compile(r"\\\(oq|\\\[oq\]"), "'"),
    (re.compile(r"\\\((?:lq|rq|dq)|\\\[(?:lq|rq|dq)\]|\\\*\(?[lLrR]q|\\\*q"), '"'),
    (re.compile(r"\\[~ 0]"), " "),
    (re.compile(r"\\e|\\\(rs"), "\\\\"),
    (re.compile(r"\\\((..)|\\\[([^\]]*)\]|\\\*(?:\(..|\[[^\]]*\]|.)"), ""),
    (re.compile(r'\\".*'), ""),
]
_ROFF_FONT = re.compile(r"\.\s*(?:B|I|R|BR|BI|IB|IR|RB|RI|SM|SB|MR)\s+")
_ROFF_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|((?:\\ |\S)+)')
_ROFF_JOINED = ("BR", "BI", "IB", "IR", "RB", "RI", "MR")  # their arguments follow each other without a space
_ROFF_SKIPPED = {".nf": ".fi", ".EX": ".EE", ".TS": ".TE", ".EQ": ".EN", ".SY": ".YS", ".de": "..", ".ig": ".."}
_ROFF_SECTIONS = word_set("name, synopsis, see also, colophon, author, authors, copyright, reporting bugs, files", ",")


def manual_paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a manual page in the `man` macros; none of one in `mdoc`."""
    gathered: list[str] = []
    skipped_until, section, tag = "", "", False
    for line in text.split("\n"):
        if skipped_until:
            if line.startswith(skipped_until):
                skipped_until = ""
            continue
        macro = line.split(None, 1)[0] if line.startswith((".", "'")) and line.strip() else ""
        if macro in (".Dd", ".Sh"):
            return
        if macro in _ROFF_SKIPPED:
            skipped_until = _ROFF_SKIPPED[macro]
            gathered = gathered if gathered and macro in (".nf", ".EX") else []
        elif macro in (".SH", ".SS", ".PP", ".P", ".LP", ".TP", ".IP", ".HP", ".TQ", ".sp", ".RS", ".RE", ".TH"):
            if gathered and section not in _ROFF_SECTIONS:
                yield _roff(" ".join(gathered))
            gathered, tag = [], macro in (".TP", ".TQ", ".HP")
            if macro == ".SH":
                section = line[3:].strip().strip('"').lower()
        elif tag:
            tag = not line.strip() or macro in (".PD", '.\\"')
        elif _ROFF_FONT.match(line):
            arguments = [first or second for first, second in _ROFF_ARGUMENT.findall(_ROFF_FONT.sub("", line))]
            name = line[1:].split()[0]
            gathered.append(("" if name in _ROFF_JOINED else " ").join(arguments))
        elif not macro:
            if line.strip():
                gathered.append(line.strip())
            elif gathered:
                if section not in _ROFF_SECTIONS:
                    yield _roff(" ".join(gathered))
                gathered = []
    if gathered and section not in _ROFF_SECTIONS:
        yield _roff(" ".join(gathered))


def _roff(text: str) -> str:
    for pattern, replacement in _ROFF_ESCAPES:
        text = pattern.sub(replacement, text)
    return text


# ---- collections

_ATTRIBUTION = re.compile(r"\n\s*--\s.*\Z", re.DOTALL)


def sayings(text: str, separator: str = "%") -> Iterator[str]:
    """The entries of a `fortune` file (divided by lines of one %), without the name of who said it."""
    for entry in re.split(rf"^{re.escape(separator)}+[ \t]*$", text, flags=re.MULTILINE):
        yield _ATTRIBUTION.sub("", entry.strip("\n"))
