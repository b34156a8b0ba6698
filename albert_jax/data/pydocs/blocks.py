"""A docstring to its paragraphs of prose; code, tables, headings, directives and type lines are dropped.

    Solve it.                                      ["Solve it.",
                                                    "The matrix, of any dtype.",
    Parameters                                ->    "One step is:"]
    ----------
    a : (M, N) array_like
        The matrix, of any dtype.

    One step is::

        >>> solve(a)

Inline markup stays in, for `inline`.
"""

# Docstrings are written in four dialects (NumPy sections, Google sections, reST fields, Markdown), often two in one.
# So this is no parser of any of them: it walks the lines of one indentation, recognises what a block begins with, and
# descends into what a block indents. What it lets through by mistake meets the sentence filter of `inline`.

import inspect
import re
from collections.abc import Sequence

from albert_jax.data.text.sentences import word_set

# ---- what a line begins with

_HEADING_LINE = re.compile(r"([=\-~^\"'#*+:_])\1{2,}\s*")
_ATX_HEADING = re.compile(r"#{1,6}\s+\S.*")
_TABLE_RULE = re.compile(r"[=\-]{2,}(\s+[=\-]{2,})+\s*")
_GRID = re.compile(r"\+[-=+]{3,}\+\s*|\|.*")
_FENCE = re.compile(r"(```+|~~~+)")
_PROMPT = re.compile(r">>>|In \[\d*\]:|Out\[\d*\]:|[$%] \S|\.\.\. |C:\\")
_DIRECTIVE = re.compile(r"\.\.(?:\s+(?P<name>[\w:.+-]+)::(?:\s+(?P<argument>.*))?|\s.*|$)")
_OPTION = re.compile(r":[\w-]+:")
_FIELD = re.compile(r"[:@](?P<name>[a-zA-Z]+)(?:\s+[^:]*)?:(?:\s+(?P<text>.*))?$")
_BULLET = re.compile(r"(?:[-*+•‣]|\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4}|#)[.)])\s+(?=\S)")
_SECTION = re.compile(r"(?P<title>[A-Z][A-Za-z]*(?: [A-Za-z]+){0,2})\s*::?\s*")
_TYPED_NAME = re.compile(r"\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)* : \S")
_INLINE_SECTION = re.compile(r"^(?:Returns?|Yields?|Raises|Notes?|Warnings?|Examples?|TODO|Todo|Tip|Important):\s+")
_BROKEN_WORD = re.compile(r"(?<=[a-z])- (?=[a-z])(?!(?:and|or|to)\b)")  # a compound broken at its hyphen
_STOPPED = re.compile(r"[.!?:;,]['\"”’)`*]*$")

_FIELD_SECTIONS = word_set(
    """
    parameters | other parameters | parameter | args | arguments | keyword args | keyword arguments | keywords |
    kwargs | attributes | attribute | returns | return | return value | return values | yields | yield | receives |
    raises | raise | warns | exceptions | fields | methods | members | variables | properties | options | inputs |
    outputs | input | output | constants | hyperparameters | init parameters | call arguments | params |
    positional arguments | class attributes | instance attributes | functions | metadata | type parameters
    """,
    "|",
)
_DROPPED_SECTIONS = word_set(
    """
    references | reference | see also | index | bibliography | citation | citations | license | copyright | author |
    authors | credits | table of contents | contents | usage | synopsis | signature | todo | changelog | history |
    links | further reading
    """,
    "|",
)
# Directives whose body is prose; of the last three the first word of the argument is a version.
_PROSE_DIRECTIVES = word_set("""
    note warning tip important caution attention hint danger error admonition topic sidebar epigraph seealso
    versionadded versionchanged deprecated
""")
_VERSION_DIRECTIVES = frozenset(("versionadded", "versionchanged", "deprecated"))
_DROPPED_FIELDS = word_set("""
    type rtype vartype kwtype meta license licence copyright author version see since organization contact url
""")
# Statements, prompts, brackets, options, assignments, calls, keys of a dict, lone names, and what ends as code does.
_CODE_LINE = re.compile(
    r"""(?:from\ \S+\ )?import\ \S | (?:def|class|for|while|if|with|elif)\ .*:$ | (?:else|try|finally):$
      | @\w | \# | >>>\  | \$\  | return\b | print\( | assert\  | raise\  | del\  | </?\w | [{\[}\])/]
      | --?\w | \.{3}
      | [\w.\[\],\ *]+\ [-+*/|]?=\  | [\w.]+\(.*\)?[,;]?$ | ["']?\w+["']?:\  | [\w.]+$
      | .*[\[({=\\;,|\])]$ | .*\ (?:->|=>|==|:=|<-)\  | \S+\t""",
    re.VERBOSE,
)
# A name and what separates it from its description: "x (int): ", "``'auto'`` : ", "*args -- ".
_TERM = re.compile(
    r"""(?:\*{0,2}[`'"]{1,3}[^`'"]+[`'"]{1,3}\*{0,2}|\*{1,2}[\w .,/()=-]+\*{1,2}|[\w.\[\]=/*-]+)
        (?:\s*[,/|]\s*(?:[`'"]{1,2}[^`'"]+[`'"]{1,2}|[\w.]+)|\s+or\s+[`'"]{1,2}[^`'"]+[`'"]{1,2})*
        \s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\])?
        (?:\s*:|\s+--?|\s+[–—]|\s*=)\s+""",
    re.VERBOSE,
)


def _is_heading(line: str, following: str) -> bool:
    """Whether `following` underlines `line`, whose text may be a little longer than the rule below it."""
    if not _HEADING_LINE.fullmatch(following) or _HEADING_LINE.fullmatch(line):
        return False
    # A title that was lengthened keeps its old rule.
    return len(line) <= len(following) + 12 and not _TABLE_RULE.fullmatch(line)


def _is_term(line: str) -> bool:
    """Whether a line above an indented block is short and open enough to be what the block defines."""
    return len(line.split()) < 6 and not _STOPPED.search(line)


def _starts_block(line: str) -> bool:
    """Whether `line` begins something other than running text."""
    rules = (_BULLET, _PROMPT, _FENCE, _GRID, _DIRECTIVE, _FIELD)
    return any(rule.match(line) for rule in rules) or bool(_TABLE_RULE.fullmatch(line))


def _is_code(block: Sequence[str]) -> bool:
    """Whether more than 4 in 10 lines of an indented block read like code rather than like a quotation."""
    lines = [line.strip() for line in block if line.strip()]
    if lines and _PROMPT.match(lines[0]):
        return True  # a session, whose output may read like prose
    return sum(bool(_CODE_LINE.match(line)) for line in lines) > 0.4 * len(lines)


def paragraphs(docstring: str) -> list[str]:
    """The prose of `docstring` as whole paragraphs, each one line, inline markup untouched."""
    found: list[str] = []
    _prose(inspect.cleandoc(docstring).expandtabs().split("\n"), found)
    return found


def _line(lines: Sequence[str], at: int) -> str:
    """Line `at` without white space at its end; "" past the last."""
    return lines[at].rstrip() if at < len(lines) else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedent(lines: Sequence[str]) -> list[str]:
    margin = min((_indent(line) for line in lines if line.strip()), default=0)
    return [line[margin:].rstrip() for line in lines]


def _deeper(lines: Sequence[str], start: int) -> int:
    """The end of the run of blank and indented lines that starts at `start`; blank ones at its end do not count."""
    end = start
    for at in range(start, len(lines)):
        if lines[at].strip():
            if not _indent(lines[at]):
                break
            end = at + 1
    return end


def _until_blank(lines: Sequence[str], start: int) -> int:
    return next((at for at in range(start, len(lines)) if not lines[at].strip()), len(lines))


def _prose(lines: Sequence[str], found: list[str]) -> None:
    """Adds the paragraphs of `lines`, whose margin is column 0, to `found`."""
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        if not line:
            at += 1
        elif _indent(line):
            end = _deeper(lines, at)
            block = _dedent(lines[at:end])
            if not _is_code(block):
                _prose(block, found)
            at = end
        else:
            at = _block(lines, at, line, found)


def _block(lines: Sequence[str], at: int, line: str, found: list[str]) -> int:
    """Reads the block that begins with `line` at column 0; returns where the next one begins."""
    following = _line(lines, at + 1)
    if _is_heading(line, following):
        return _section(lines, at, line, found)
    if _TABLE_RULE.fullmatch(line):
        return _skip_table(lines, at)
    if _GRID.match(line) or _PROMPT.match(line):
        return _until_blank(lines, at)
    if _FENCE.match(line):
        return _skip_fence(lines, at)
    if _HEADING_LINE.fullmatch(line) or _ATX_HEADING.fullmatch(line):
        return at + 1
    end = _deeper(lines, at + 1)
    body = _dedent(lines[at + 1 : end])
    if directive := _DIRECTIVE.match(line):
        _directive(directive["name"] or "", directive["argument"] or "", body, found)
        return end
    if field := _FIELD.match(line):
        if field["name"].lower() not in _DROPPED_FIELDS:
            _prose([field["text"] or "", *body], found)
        return end
    if bullet := _BULLET.match(line):
        _prose([_after_term(line[bullet.end() :]), *body], found)
        return end
    if _TYPED_NAME.match(line) and _indent(following):
        return at + 1  # the description below stands for itself
    section = _SECTION.fullmatch(line)
    if section and body and (_indent(following) or not following):
        # "Example usage:" above a block of code is no section to be read, "Args:" above lines that look like code is.
        if _is_listed(section["title"]) or not _is_code(body):
            _section_body(section["title"], body, found)
        return end
    return _paragraph(lines, at, found)


def _section(lines: Sequence[str], at: int, title: str, found: list[str]) -> int:
    """Reads an underlined section up to the next underlined title at its margin."""
    end = at + 2
    while end < len(lines):
        line = lines[end].rstrip()
        if line and not _indent(line) and _is_heading(line, _line(lines, end + 1)):
            break
        end += 1
    _section_body(title, lines[at + 2 : end], found)
    return end


def _is_listed(title: str) -> bool:
    """Whether the section lists names with descriptions, such as "Parameters"."""
    return title.strip(" :").lower() in _FIELD_SECTIONS


def _section_body(title: str, body: Sequence[str], found: list[str]) -> None:
    if _is_listed(title):
        _fields(_dedent(body), found)
    elif title.strip(" :").lower() not in _DROPPED_SECTIONS:
        _prose(_dedent(body), found)


def _skip_table(lines: Sequence[str], at: int) -> int:
    # A simple table has three rules: above and below its head, and at its end. Blank lines may stand between its rows.
    rules = [here for here in range(at, min(at + 200, len(lines))) if _TABLE_RULE.fullmatch(lines[here].strip())]
    return rules[min(2, len(rules) - 1)] + 1 if len(rules) > 1 else _until_blank(lines, at)


def _skip_fence(lines: Sequence[str], at: int) -> int:
    fence = lines[at].strip()[:3]
    if lines[at].strip().count(fence) > 1:  # opened and closed in one line
        return at + 1
    ends = (end + 1 for end in range(at + 1, len(lines)) if lines[end].strip().startswith(fence))
    return next(ends, len(lines))


def _directive(name: str, argument: str, body: list[str], found: list[str]) -> None:
    if name not in _PROSE_DIRECTIVES:
        return
    while body and _OPTION.match(body[0]):
        body = body[1:]
    if name in _VERSION_DIRECTIVES:
        argument = argument.partition(" ")[2]
    elif name in ("admonition", "topic", "sidebar"):
        argument = ""  # a title
    _prose([argument, *body], found)


def _after_term(line: str) -> str:
    """`line` without a leading name that it defines: "``'auto'``: picks one." -> "picks one."."""
    term = _TERM.match(line)
    return line[term.end() :] if term and len(term[0]) < 80 else line


def _fields(lines: Sequence[str], found: list[str]) -> None:
    """Reads a list of names with descriptions, in either style; what names nothing is read as prose.

    "name : type" or "name" above an indented description (NumPy), or "name (type): description" (Google).
    """
    end = 0
    while (at := end) < len(lines):
        line, following = _line(lines, at), _line(lines, at + 1)
        end = _deeper(lines, at + 1)
        if not line:
            end = at + 1
            continue
        if _indent(line):
            _prose(lines[at:end], found)
            continue
        if _is_heading(line, following) or _starts_block(line):
            end = _block(lines, at, line, found)
            continue
        body = _dedent(lines[at + 1 : end])
        is_described = bool(body) and bool(following)
        if term := _TERM.match(line):
            is_type = is_described and term[0].rstrip().endswith(" :")
            first = [] if is_type else [line[term.end() :]]
            while not body and end < len(lines) and lines[end].strip() and not _names_something(lines[end]):
                first.append(lines[end])  # at the margin, but it goes on with the description
                end += 1
            _prose([*first, *body], found)
        # A type of any form ("int or None", "{'a', 'b'}") is dropped, its description stays.
        elif is_described and not _is_running_text(line):
            _prose(body, found)
        else:
            end = _paragraph(lines, at, found)


def _names_something(line: str) -> bool:
    return bool(_TERM.match(line) or re.fullmatch(r"\S+\s*:", line.strip())) or _starts_block(line)


def _is_running_text(line: str) -> bool:
    """Whether a line above an indented block is prose that hangs, rather than a name and its type."""
    words = line.split()
    return len(words) >= 6 and not re.search(r"\s:\s|[{}\[\]=]", line) and "," not in words[0]


def _ends_paragraph(line: str, following: str) -> bool:
    """Whether `line`, at the margin, is not more of the running text above it."""
    is_block = _starts_block(line) or _is_heading(line, following) or bool(_SECTION.fullmatch(line))
    return is_block or (bool(_TYPED_NAME.match(line)) and _indent(following) > 0)


def _paragraph(lines: Sequence[str], at: int, found: list[str]) -> int:
    """Reads lines of running text, with what hangs below them; returns where the next block begins."""
    text = [lines[at].strip()]
    end = at + 1
    while end < len(lines) and lines[end].strip():
        line, following = _line(lines, end), _line(lines, end + 1)
        if _indent(line):
            # What hangs below a line goes on with it, unless it is a block of its own.
            block = _dedent(lines[end : _deeper(lines, end)])
            if text[-1].endswith(":") or _starts_block(block[0]) or _is_code(block):
                break
            if len(text) == 1 and _is_term(text[0]) and block[0][:1].isupper():
                return end  # a term above its definition
        elif _ends_paragraph(line, following):
            break
        text.append(line.strip())
        end += 1
    # "Note: it is slow." in running text is a sentence with a label before it.
    whole = _INLINE_SECTION.sub("", _BROKEN_WORD.sub("-", " ".join(text)), count=1)
    if whole.endswith("::"):  # a literal block follows
        whole = whole[:-1]
        end = _deeper(lines, end)
    if whole.strip(": "):
        found.append(whole)
    return end
