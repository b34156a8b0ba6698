"""Running text inside data files of games: descriptions and dialogues among coordinates and statistics.

No reader a game: whatever the format (JSON, Lua, WML, lists), prose stands between quotes, and prose.py tells it from
the rest. Kept is a string that starts as a sentence does.
"""

import re
from collections.abc import Iterator

_STRING = re.compile(r'"((?:[^"\\]|\\.|"")*)"|`([^`\n]*)`|«([^»]*)»', re.DOTALL)
_ESCAPES = {"n": "\n", "t": " ", "r": ""}
# Filled in while the game runs: without it the sentence has a gap.
_FORMATTING = "i|b|u|tt|big|small|span|ref|color|good|bad|info|neutral|header|bold|italic"
_PLACEHOLDER = re.compile(rf"<(?!/?(?:{_FORMATTING})\b)[^<>\n]*>|\$\w|%[\d$]*[sdi]\b|\{{\w+\}}")
_COMMENT = re.compile(r'"//\w*"\s*:\s*"(?:[^"\\]|\\.)*"|^[ \t]*(?:#|//|--).*$', re.MULTILINE)
_TAG = re.compile(r"<[^<>\n]{1,80}>|\[[A-Z_]+\]")
_STARTS = re.compile(r"\s*[\"'“‘(.…]*[A-Z]")
_MIN_CHARACTERS = 40


def paragraphs(text: str) -> Iterator[str]:
    """The quoted strings of a data file that may be text, in the file's order."""
    for match in _STRING.finditer(_COMMENT.sub("", text)):
        string = match[1] if match[1] is not None else match[2] if match[2] is not None else match[3]
        if string is None or len(string) < _MIN_CHARACTERS or not _STARTS.match(string) or _PLACEHOLDER.search(string):
            continue
        string = string.replace('""', '"')
        string = re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), string)
        yield from _TAG.sub(" ", string).split("\n\n")


_MESSAGE = re.compile(r"^msg\n(.*?)^endmsg$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^@(?:match|reply|question|\S+).*$|\[/?[a-z][^\]]*\]", re.MULTILINE)


def map_messages(text: str) -> Iterator[str]:
    """The signs, books and dialogues of a Crossfire map: what stands between `msg` and `endmsg`."""
    for match in _MESSAGE.finditer(text):
        yield from re.split(r"\n\s*\n", _MARK.sub("\n", match[1]))
