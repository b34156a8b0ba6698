"""A docstring to its paragraphs of prose; code, tables, headings, directives and type lines are dropped.

Docstrings are written in four dialects (NumPy sections, Google sections, reST fields, Markdown), often two
in one. So this is no parser of any of them: it walks the lines of one indentation, recognises what a block
begins with, and descends into what a block indents. What it lets through by mistake meets the sentence
filter of `pydocs_inline`. Inline markup stays in.

    Solve it.                                      ["Solve it.",
                                                    "The matrix, of any dtype.",
    Parameters                                ->    "One step is:"]
    ----------
    a : (M, N) array_like
        The matrix, of any dtype.

    One step is::

        >>> solve(a)
"""

import inspect
import re
from collections.abc import Sequence

from albert_jax.data.pydocs import grammar


def paragraphs(docstring: str) -> list[str]:
    """The prose of `docstring` as whole paragraphs, each one line, inline markup untouched."""
    found: list[str] = []
    _prose(inspect.cleandoc(docstring).expandtabs().split("\n"), found)
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedent(lines: Sequence[str]) -> list[str]:
    margin = min((_indent(line) for line in lines if line.strip()), default=0)
    return [line[margin:].rstrip() for line in lines]


def _deeper(lines: Sequence[str], start: int, than: int = 0) -> int:
    """The end of the run of blank lines and lines indented by more than `than` that starts at `start`."""
    end = start
    for at in range(start, len(lines)):
        if not lines[at].strip():
            continue
        if _indent(lines[at]) <= than:
            break
        end = at + 1
    return end


def _until_blank(lines: Sequence[str], start: int) -> int:
    end = start
    while end < len(lines) and lines[end].strip():
        end += 1
    return end


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
            if not grammar.is_code(block):
                _prose(block, found)
            at = end
        else:
            at = _block(lines, at, line, found)


def _block(lines: Sequence[str], at: int, line: str, found: list[str]) -> int:
    """Reads the block that begins with `line` at column 0; returns where the next one begins."""
    following = lines[at + 1].rstrip() if at + 1 < len(lines) else ""
    if grammar.is_heading(line, following):
        return _section(lines, at, line, found)
    if grammar.TABLE_RULE.fullmatch(line):
        return _skip_table(lines, at)
    if grammar.GRID.match(line) or grammar.PROMPT.match(line):
        return _until_blank(lines, at)
    if grammar.FENCE.match(line):
        return _skip_fence(lines, at)
    if grammar.HEADING_LINE.fullmatch(line) or grammar.ATX_HEADING.fullmatch(line):
        return at + 1
    if directive := grammar.DIRECTIVE.match(line):
        end = _deeper(lines, at + 1)
        _directive(directive["name"] or "", directive["argument"] or "", lines[at + 1 : end], found)
        return end
    if field := grammar.FIELD.match(line):
        end = _deeper(lines, at + 1)
        if field["name"].lower() not in grammar.DROPPED_FIELDS:
            _prose([field["text"] or "", *_dedent(lines[at + 1 : end])], found)
        return end
    if bullet := grammar.BULLET.match(line):
        end = _deeper(lines, at + 1)
        _prose([_after_term(line[bullet.end() :]), *_dedent(lines[at + 1 : end])], found)
        return end
    if grammar.TYPED_NAME.match(line) and _indent(following):
        return at + 1  # the description below stands for itself
    section = grammar.SECTION.fullmatch(line)
    if section and (_indent(following) or not following):
        end = _deeper(lines, at + 1)
        if end > at + 1:
            body = _dedent(lines[at + 1 : end])
            if _is_listed(section["title"]) or not grammar.is_code(body):
                _section_body(section["title"], body, found)
            return end
    return _paragraph(lines, at, found)


def _section(lines: Sequence[str], at: int, title: str, found: list[str]) -> int:
    """Reads an underlined section up to the next underlined title at its margin."""
    end = at + 2
    while end < len(lines):
        following = lines[end + 1].rstrip() if end + 1 < len(lines) else ""
        line = lines[end].rstrip()
        if line and not _indent(line) and grammar.is_heading(line, following):
            break
        end += 1
    _section_body(title, lines[at + 2 : end], found)
    return end


def _is_listed(title: str) -> bool:
    """Whether the section lists names with descriptions, such as "Parameters"."""
    return title.strip(" :").lower() in grammar.FIELD_SECTIONS


def _section_body(title: str, body: Sequence[str], found: list[str]) -> None:
    if _is_listed(title):
        _fields(_dedent(body), found)
    elif title.strip(" :").lower() not in grammar.DROPPED_SECTIONS:
        _prose(_dedent(body), found)


def _skip_table(lines: Sequence[str], at: int) -> int:
    """Past a simple table, whose third rule is its last; without one, past the lines up to a blank."""
    rules = [here for here in range(at, min(at + 200, len(lines))) if grammar.TABLE_RULE.fullmatch(lines[here].strip())]
    return rules[min(2, len(rules) - 1)] + 1 if len(rules) > 1 else _until_blank(lines, at)


def _skip_fence(lines: Sequence[str], at: int) -> int:
    fence = lines[at].strip()[:3]
    if lines[at].strip().count(fence) > 1:  # opened and closed in one line
        return at + 1
    for end in range(at + 1, len(lines)):
        if lines[end].strip().startswith(fence):
            return end + 1
    return len(lines)


def _directive(name: str, argument: str, body: Sequence[str], found: list[str]) -> None:
    if name not in grammar.PROSE_DIRECTIVES:
        return
    body = _dedent(body)
    while body and grammar.OPTION.match(body[0]):
        body = body[1:]
    if name in grammar.VERSION_DIRECTIVES:
        argument = argument.partition(" ")[2]
    elif name in ("admonition", "topic", "sidebar"):
        argument = ""  # a title
    _prose([argument, *body], found)


def _after_term(line: str) -> str:
    """`line` without a leading name that it defines: "``'auto'``: picks one." -> "picks one."."""
    term = grammar.TERM.match(line)
    return line[term.end() :] if term and len(term[0]) < 80 else line


def _fields(lines: Sequence[str], found: list[str]) -> None:
    """Reads a list of names with descriptions, in either style; what names nothing is read as prose.

    "name : type" or "name" above an indented description (NumPy), or "name (type): description" (Google).
    """
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        following = lines[at + 1].rstrip() if at + 1 < len(lines) else ""
        if not line:
            at += 1
            continue
        if _indent(line):
            end = _deeper(lines, at)
            _prose(lines[at:end], found)
            at = end
            continue
        if grammar.is_heading(line, following) or grammar.starts_block(line):
            at = _block(lines, at, line, found)
            continue
        end = _deeper(lines, at + 1)
        body = _dedent(lines[at + 1 : end])
        is_described = bool(body) and bool(following)
        if term := grammar.TERM.match(line):
            is_type = is_described and term[0].rstrip().endswith(" :")
            first = [] if is_type else [line[term.end() :]]
            while not body and end < len(lines) and lines[end].strip() and not _names_something(lines[end]):
                first.append(lines[end])  # at the margin, but it goes on with the description
                end += 1
            _prose([*first, *body], found)
            at = end
        elif is_described and not _is_running_text(line):
            _prose(body, found)
            at = end
        else:
            at = _paragraph(lines, at, found)


def _names_something(line: str) -> bool:
    if grammar.TERM.match(line) or grammar.starts_block(line):
        return True
    return bool(re.fullmatch(r"\S+\s*:", line.strip()))


def _is_running_text(line: str) -> bool:
    """Whether a line above an indented block is prose that hangs, rather than a name and its type."""
    words = line.split()
    return len(words) >= 6 and not re.search(r"\s:\s|[{}\[\]=]", line) and "," not in words[0]


def _ends_paragraph(line: str, following: str) -> bool:
    """Whether `line`, at the margin, is not more of the running text above it."""
    if grammar.starts_block(line) or grammar.is_heading(line, following) or grammar.SECTION.fullmatch(line):
        return True
    return bool(grammar.TYPED_NAME.match(line)) and _indent(following) > 0


def _paragraph(lines: Sequence[str], at: int, found: list[str]) -> int:
    """Reads lines of running text, with what hangs below them; returns where the next block begins."""
    text = [lines[at].strip()]
    end = at + 1
    while end < len(lines) and lines[end].strip():
        line = lines[end].rstrip()
        following = lines[end + 1].rstrip() if end + 1 < len(lines) else ""
        if _indent(line):
            block = _dedent(lines[end : _deeper(lines, end)])
            if text[-1].endswith(":") or grammar.starts_block(block[0]) or grammar.is_code(block):
                break
            if len(text) == 1 and grammar.is_term(text[0]) and block[0][:1].isupper():
                return end  # a term above its definition
        elif _ends_paragraph(line, following):
            break
        text.append(line.strip())
        end += 1
    whole = grammar.INLINE_SECTION.sub("", grammar.BROKEN_WORD.sub("-", " ".join(text)), count=1)
    if whole.endswith("::"):  # a literal block follows
        whole = whole[:-1]
        end = _deeper(lines, end)
    if whole.strip(": "):
        found.append(whole)
    return end
