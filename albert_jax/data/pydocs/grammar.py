"""What the lines of a docstring look like: one expression for each thing that a block can begin with.

Four dialects are told apart by their looks alone: NumPy sections, Google sections, reST fields, Markdown.
"""

import re
from collections.abc import Sequence

from albert_jax.data.text.sentences import word_set

HEADING_LINE = re.compile(r"([=\-~^\"'#*+:_])\1{2,}\s*")
ATX_HEADING = re.compile(r"#{1,6}\s+\S.*")
TABLE_RULE = re.compile(r"[=\-]{2,}(\s+[=\-]{2,})+\s*")
GRID = re.compile(r"\+[-=+]{3,}\+\s*|\|.*")
FENCE = re.compile(r"(```+|~~~+)")
PROMPT = re.compile(r">>>|In \[\d*\]:|Out\[\d*\]:|[$%] \S|\.\.\. |C:\\")
DIRECTIVE = re.compile(r"\.\.(?:\s+(?P<name>[\w:.+-]+)::(?:\s+(?P<argument>.*))?|\s.*|$)")
OPTION = re.compile(r":[\w-]+:")
FIELD = re.compile(r"[:@](?P<name>[a-zA-Z]+)(?:\s+[^:]*)?:(?:\s+(?P<text>.*))?$")
BULLET = re.compile(r"(?:[-*+•‣]|\(?(?:\d{1,2}|[a-zA-Z]|[ivx]{1,4}|#)[.)])\s+(?=\S)")
SECTION = re.compile(r"(?P<title>[A-Z][A-Za-z]*(?: [A-Za-z]+){0,2})\s*::?\s*")
TYPED_NAME = re.compile(r"\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)* : \S")
INLINE_SECTION = re.compile(r"^(?:Returns?|Yields?|Raises|Notes?|Warnings?|Examples?|TODO|Todo|Tip|Important):\s+")
BROKEN_WORD = re.compile(r"(?<=[a-z])- (?=[a-z])(?!(?:and|or|to)\b)")  # a compound broken at its hyphen
STOPPED = re.compile(r"[.!?:;,]['\"”’)`*]*$")

FIELD_SECTIONS = word_set(
    """
    parameters | other parameters | parameter | args | arguments | keyword args | keyword arguments |
    keywords | kwargs | attributes  | attribute | returns | return | return value | return values |
    yields | yield | receives | raises | raise | warns | exceptions | fields  | methods | members |
    variables | properties | options | inputs | outputs | input | output | constants | hyperparameters
    | init parameters | call arguments | params | positional arguments | class attributes | instance
    attributes | functions  | metadata | type parameters
    """,
    "|",
)
DROPPED_SECTIONS = word_set(
    """
    references | reference | see also | index | bibliography | citation | citations | license |
    copyright | author | authors | credits  | table of contents | contents | usage | synopsis |
    signature | todo | changelog | history | links | further reading
    """,
    "|",
)
# Directives whose body is prose; of the last three the first word of the argument is a version.
PROSE_DIRECTIVES = word_set(
    """
    note warning tip important caution attention hint danger error admonition topic sidebar epigraph
    seealso versionadded versionchanged deprecated
    """
)
VERSION_DIRECTIVES = frozenset(("versionadded", "versionchanged", "deprecated"))
DROPPED_FIELDS = word_set(
    """
    type rtype vartype kwtype meta license licence copyright author version see since organization
    contact url
    """
)
CODE_LINE = re.compile(
    r"""(?:from\ \S+\ )?import\ \S | (?:def|class|for|while|if|with|elif)\ .*:$ | (?:else|try|finally):$
      | @\w | \# | >>>\  | \$\  | return\b | print\( | assert\  | raise\  | del\  | </?\w | [{\[}\])/]
      | --?\w | \.{3}
      | [\w.\[\],\ *]+\ [-+*/|]?=\  | [\w.]+\(.*\)?[,;]?$ | ["']?\w+["']?:\  | [\w.]+$
      | .*[\[({=\\;,|\])]$ | .*\ (?:->|=>|==|:=|<-)\  | \S+\t""",
    re.VERBOSE,
)


# A name and what separates it from its description: "x (int): ", "``'auto'`` : ", "*args -- ".
TERM = re.compile(
    r"""(?:\*{0,2}[`'"]{1,3}[^`'"]+[`'"]{1,3}\*{0,2}|\*{1,2}[\w .,/()=-]+\*{1,2}|[\w.\[\]=/*-]+)
        (?:\s*[,/|]\s*(?:[`'"]{1,2}[^`'"]+[`'"]{1,2}|[\w.]+)|\s+or\s+[`'"]{1,2}[^`'"]+[`'"]{1,2})*
        \s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\])?
        (?:\s*:|\s+--?|\s+[–—]|\s*=)\s+""",
    re.VERBOSE,
)


def is_heading(line: str, following: str) -> bool:
    """Whether `following` underlines `line`, whose text may be a little longer than the rule below it."""
    if not HEADING_LINE.fullmatch(following) or HEADING_LINE.fullmatch(line):
        return False
    return len(line) <= len(following) + 12 and not TABLE_RULE.fullmatch(line)


def is_term(line: str) -> bool:
    """Whether a line above an indented block is short and open enough to be what the block defines."""
    return len(line.split()) < 6 and not STOPPED.search(line)


def starts_block(line: str) -> bool:
    """Whether `line` begins something other than running text."""
    return bool(
        BULLET.match(line)
        or PROMPT.match(line)
        or FENCE.match(line)
        or GRID.match(line)
        or DIRECTIVE.match(line)
        or FIELD.match(line)
        or TABLE_RULE.fullmatch(line)
    )


def is_code(block: Sequence[str]) -> bool:
    """Whether more than 4 in 10 lines of an indented block read like code rather than like a quotation."""
    lines = [line.strip() for line in block if line.strip()]
    if not lines or PROMPT.match(lines[0]):
        return bool(lines)
    code = sum(bool(CODE_LINE.match(line)) for line in lines)
    return code > 0.4 * len(lines)
