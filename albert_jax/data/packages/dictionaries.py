"""Dictionaries for dictd: an index of headwords, and their definitions in one compressed text (dictd(8)).

Entries are read by the index, in the order of the text. How an entry is written differs; three ways are known:
GCIDE's (pronunciation, etymology, numbered senses with quotations), WordNet's (glosses with examples), and all others
(paragraphs).
"""

import re
import string
from collections.abc import Iterator

from albert_jax.data.packages.plain import paragraphs as plain_paragraphs

_DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"  # of dictd's numbers, base 64
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}


def entries(index: str, text: bytes) -> Iterator[tuple[str, str]]:
    """(headword, entry) for each entry of a dictionary, in the order of the text, each once."""
    found: dict[tuple[int, int], str] = {}
    for line in index.splitlines():
        fields = line.split("\t")
        if len(fields) >= 3 and not fields[0].startswith("00"):
            start, length = _number(fields[1]), _number(fields[2])
            if start + length <= len(text):
                found.setdefault((start, length), fields[0])
    for (start, length), word in sorted(found.items()):
        yield word, text[start : start + length].decode("utf-8", "replace")


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + _VALUES.get(digit, 0)
    return value


_BRACES = re.compile(r"\{([^{}]*)\}")
_SQUARE = re.compile(r"\[[^\[\]]*\]")
_LABEL = re.compile(r"\((?:[A-Z][a-z]*\.?(?: and | & |[ ,]+)?)+\)(?=\s)")
# "--Shak.", "--Sir T. Browne (1646)." "-- called also" is none.
_AUTHOR = re.compile(
    r"\s--\s?(?:[A-Z][\w.'’]*[\s,]?(?:of |and |& |the |de )*){1,5}(?:[ivxlc]+\.[\s\d,]*)?(?:\([^)]*\)\.?)?(?=\s|$)"
)
_SENSE = re.compile(r"^\d+\.\s+")
_LETTERED = re.compile(r"\([a-z]\)\s")
# "Pyrrhotine \Pyr"rho*tine\, Pyrrhotite \Pyr"rho*tite\": spellings, each with its pronunciation.
_HEADWORDS = re.compile(r"^(?:[^\\]{1,60}\\[^\\]*\\,?\s*)+")
_GRAMMAR = re.compile(
    r"^(?:[,;.\s]*(?:\b(?:n|a|adj|adv|v|t|i|prop|prep|conj|pron|interj|p|pr|vb|imp|pl|sing|superl|compar|obs|fem|masc|def|article|"
    r"or|and|&)\b\.?|\([^)]*\)|\{[^}]*\}[.,;]?))*[.,;:\s]*"
)


def gcide_paragraphs(word: str, entry: str) -> Iterator[str]:
    """The senses and quotations of an entry of GCIDE, without pronunciation, etymology, labels and names of sources."""
    blocks = re.split(r"\n[ \t]*\n", entry)
    headword = ""
    for number, block in enumerate(blocks):
        text = " ".join(block.split())
        if number == 0:
            headword = text.partition("\\")[0].strip() if "\\" in text else word
            text = _HEADWORDS.sub("", text, count=1).removeprefix(headword)
        while (stripped := _SQUARE.sub("", text)) != text:
            text = stripped
        if number == 0:
            text = _GRAMMAR.sub("", text, count=1)
        text = _SENSE.sub("", _LETTERED.sub("", text).strip())
        if text.startswith("Syn:"):
            continue
        text = _BRACES.sub(r"\1", _LABEL.sub("", text)).removeprefix("Note: ")
        text = _AUTHOR.sub(" ", text).strip()
        if not text or text.startswith(("See ", "Same as ", "pl. of ")):
            continue
        if text[-1] not in ".!?\"'":
            text += "."
        yield f"{headword[:1].upper()}{headword[1:]}: {text[:1].lower()}{text[1:]}" if number == 0 else text


_ENTRY_MARKS = re.compile(
    r"^\s*(?:<[^>]*>|/[^/\n]*/|\d+\.|(?:n|adj|adv|v|vt|vi|obs|interj)\.,?|\[[^\]]*\]|\([A-Z]+\)|\s|,)+"
)
_GLOSS = re.compile(r"^\s+(?:(?:n|v|adj|adv|s|r|a)\s+)?(?:\d+\s*)?:\s|^\s+\d+:\s", re.MULTILINE)
_RELATIONS = re.compile(r"\[(?:syn|ant|also):[^\]]*\]", re.DOTALL)


def wordnet_paragraphs(word: str, entry: str) -> Iterator[str]:
    """The glosses of an entry of WordNet, each with its examples, as `Headword: gloss. Example.`"""
    head, _, body = entry.partition("\n")
    word = head.strip() or word
    body = _RELATIONS.sub("", body)
    for gloss in _GLOSS.split("\n" + body):
        text = " ".join(gloss.split())
        if not text:
            continue
        definition, *examples = re.split(r";\s+(?=[\"`])", text)
        examples = [re.sub(r'"\s*-+\s*[A-Z].*$', "", example) for example in examples]
        quoted = [example.strip("\"`'; ") for example in examples]
        examples = [f"{e[:1].upper()}{e[1:]}{'' if e[-1:] in '.!?' else '.'}" for e in quoted if e.count(" ") >= 2]
        yield " ".join([f"{word[:1].upper()}{word[1:]}: {definition.rstrip(';. ')}.", *examples])


def other_paragraphs(word: str, entry: str) -> Iterator[str]:
    """The paragraphs of an entry of any other dictionary; a headword on a line of its own goes before the first."""
    head, _, body = entry.partition("\n")
    prefix = f"{head.strip()}: " if head.strip().lower() == word.lower() else ""
    for paragraph in plain_paragraphs(_BRACES.sub(r"\1", body if prefix else entry)):
        yield prefix + _ENTRY_MARKS.sub("", paragraph)
        prefix = ""
