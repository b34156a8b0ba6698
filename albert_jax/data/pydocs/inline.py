"""One paragraph with inline markup to its English sentences, code spans kept between single back quotes.

    "The root of :math:`\\alpha^2`. See :func:`~numpy.sqrt` [1]_. Give ``x`` as *floats*"
 -> ["See `sqrt`.", "Give `x` as floats."]

Markup becomes the text that a reader of the rendered page sees. In the result, back quotes occur only in pairs around
code.
"""

import re
from collections.abc import Callable

from albert_jax.data.text.sentences import split_sentences, word_set

# What has no reading as English (formulas, bare links, placeholders, long code) becomes DROPPED, and a sentence that
# holds one is left out: with a hole in it, it would teach a model English that nobody writes.
DROPPED = "\x00"
_CODE = 0xE000  # first of the private-use characters that stand for code spans while markup is removed
_MAX_CODES = 6_000
_MAX_CODE = 60  # characters in a code span; a longer one is a statement, not a mention

_SPAN = re.compile(
    r"""(?P<stars>\*\*(?=``?[^`]))?(?:
          ``(?P<double>(?:[^`]|`(?!`))+?)``(?!`)
        | :(?P<role>[\w+.:-]+):`(?P<role_text>[^`]+)`
        | `(?P<link>[^`<]*?)\s*<[^`>]*>`__?
        | `(?P<named>[^`]+)`__?(?![\w`])
        | `(?P<single>[^`]+)`(?P<md_link>\([^()\s]*\))?
    )""",
    re.VERBOSE,
)
_CODE_ROLES = word_set("""
    func class meth attr mod obj data exc const type any func_ code literal file program option envvar command keyword
    token samp kbd mpltype rc py:func py:class py:meth py:attr py:mod py:obj py:data py:exc py:const py:type c:func
    c:type c:macro c:member c:data cpp:func cpp:class
""")
_TEXT_ROLES = word_set("ref doc term emphasis strong sub sup abbr title pep rfc std:ref std:doc std:term")
_MATH = re.compile(r"[\w+*/<>=,.() -]{1,12}")
_CODE_SHAPE = re.compile(r"\S+|[\w.]*[\[({=<>+*/-].*|.*[\])}]|['\"].*|\w+ \w+ = .*|-.*")

_CITATION = re.compile(r"\s?\[(?:[#*]?\w{0,24}\d{0,4}[a-z]?)\]_{1,2}(?!\w)|\s\[\d{1,2}(?:, ?\d{1,2})*\](?=[\s.,;]|$)")
# Before a citation, words that make it part of the sentence: "described in [1]_" says nothing without it.
_CITED = re.compile(
    r"(?:^|[.:;]\s|\b(?:in|see|from|of|by|to|and|or|including|with|per|on|following|as|cf\.|also|ref\.?|reference))\s?$",
    re.IGNORECASE,
)
_TEX_QUOTES = re.compile(r"``([^`']{1,80})''|(?<!`)`(\w[\w .-]{0,60})'(?![\w'`])")
_MD_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()\s]*\))?[^()\s]*\)|\[([^\[\]]+)\]\[[^\[\]]*\]")
_URL_BRACKETS = re.compile(r"\s?[(<\[](?:see\s+)?(?:https?|ftp)://[^\s)>\]]*[)>\]]", re.IGNORECASE)
_URL = re.compile(r"(?:https?|ftp)://\S+|\bwww\.\S+|\b\S+@\S+\.\w+")
_HTML = re.compile(r"</?(?:a|b|i|p|br|em|strong|code|tt|li|ul|ol|pre|sub|sup|span|div)\b[^<>]*>", re.IGNORECASE)
_STRONG = re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*]{1,300}?)(?<=[^\s*])\*\*(?![\w*])")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*]{1,300}?)(?<=[^\s*])\*(?![\w*])")
_UNDERLINED = re.compile(r"(?<!\w)__?(?=[^\s_])([^_]{2,80}?)(?<=[^\s_])__?(?!\w)")
_SUBSTITUTION = re.compile(r"\|[A-Za-z][^|\n]*\|(?:__?)?")
_REFERENCE = re.compile(r"\b([A-Za-z][\w-]*[A-Za-z])__?(?![\w`])")
_PLACEHOLDER = re.compile(r"%\(\w+\)\w?|\$\{?\w+\}?|\{\{?[\w.]*\}?\}|%[sdr]\b")
_DOLLAR_MATH = re.compile(r"\$\$?[^$\n]+\$\$?")
_SUFFIX = re.compile("([\ue000-\uf8ff])\\\\(?:\\s)?(?=\\w)")  # reST joins a span and its plural by a backslash
_ESCAPE = re.compile(r"\\([*_`|\\<>\[\](){}#.!-])")
_SPACE_BEFORE = re.compile(r"\s+(?=[.,;:!?](?:\s|$))|(?<=\()\s+|\s+(?=\))")
_EMPTY_BRACKETS = re.compile(r"\s\(\s+\)|\s\[\s+\]|\s\(\)(?=[.,;]|$)")
_LEAD_TYPE = re.compile(
    r"^(?:Optional\b[.,:]?\s*)?(?:`[^`]+`|array_?like|int|float|str|bool|callable|ndarray)\s?[,.:;]\s+(?=\w)"
)
_LEAD_NAME = re.compile(r"^[a-z_]\w*(?:, optional)? (?=(?:The|If|An?|Whether|Number|When|This) )")
_ADMONITION = re.compile(r"^(?:NOTE|Note|WARNING|Warning|IMPORTANT|Important|TODO|Todo|TIP|Tip|CAUTION)\s?:\s*(?=\S)")


def sentences(paragraph: str) -> list[str]:
    """The English sentences of `paragraph` in order, markup removed, code between single back quotes."""
    text = remove_markup(paragraph)
    found = split_sentences(text)
    if found and found[-1][-1:] not in ".!?:)\"'…" + DROPPED:
        found[-1] = found[-1].rstrip(",;-`" if found[-1].count("`") % 2 else ",;- ") + "."
    elif found and found[-1][-1:] in ")\"'" and not re.search(r"[.!?][)\"']+$", found[-1]):
        found[-1] += "."
    return [sentence for sentence in found if is_english(sentence)]


def remove_markup(paragraph: str) -> str:
    """`paragraph` as read on a rendered page: code between single back quotes, DROPPED where nothing is readable."""
    codes: list[str] = []

    def keep(code: str) -> str:
        code = " ".join(code.replace("`", "").split())
        if not code or len(code) > _MAX_CODE or len(codes) >= _MAX_CODES:
            return DROPPED
        codes.append(code)
        return chr(_CODE + len(codes) - 1)

    # The order matters: code goes first, behind characters that no expression below matches. Each test for a character
    # saves a search, and most paragraphs have none of them.
    text = paragraph
    if "`" in text:
        if "'" in text:
            text = _TEX_QUOTES.sub(lambda match: f'"{match[1] or match[2]}"', text)
        text = _SPAN.sub(lambda match: _read_span(match, keep), text).replace(
            "`", "'" if "``" not in text and text.count("`") == 2 else ""
        )
    if codes:
        text = _SUFFIX.sub(r"\1", text)
    if "*" in text:
        text = _EMPHASIS.sub(r"\1", _STRONG.sub(r"\1", text))
    if "[" in text:
        text = _MD_LINK.sub(lambda match: match[1] or match[2] or "", text)
        text = _CITATION.sub(_cite, text)
    if "://" in text or "www." in text or "@" in text:
        text = _URL.sub(DROPPED, _URL_BRACKETS.sub("", text))
    if "<" in text:
        text = _HTML.sub(" ", text)
    if "$" in text:
        text = _DOLLAR_MATH.sub(DROPPED, text)
    if "%" in text or "{" in text or "$" in text:
        text = _PLACEHOLDER.sub(DROPPED, text)
    if "|" in text:
        text = _SUBSTITUTION.sub(DROPPED, text)
    if "_" in text:
        text = _REFERENCE.sub(r"\1", _UNDERLINED.sub(r"\1", text))
    if "\\" in text:
        text = _ESCAPE.sub(r"\1", text.replace("\\ ", ""))
    text = _EMPTY_BRACKETS.sub("", _SPACE_BEFORE.sub("", text))
    if codes:
        stand_ins = f"[{chr(_CODE)}-{chr(_CODE + _MAX_CODES)}]"
        text = re.sub(stand_ins, lambda match: f"`{codes[ord(match[0]) - _CODE]}`", text)
    text = _LEAD_NAME.sub("", _LEAD_TYPE.sub("", " ".join(text.split())))
    return _ADMONITION.sub("", text)


def _cite(match: re.Match[str]) -> str:
    return DROPPED if _CITED.search(match.string, max(0, match.start() - 12), match.start()) else ""


def _read_span(match: re.Match[str], keep: Callable[[str], str]) -> str:
    """What one back-quoted span reads as: code handed to `keep`, plain text, or DROPPED."""
    if (code := match["double"]) is not None:
        return keep(code)
    if (text := match["role_text"]) is not None:
        role = match["role"].lower()
        if role.endswith("math"):
            return text if _MATH.fullmatch(text) else DROPPED
        title = re.fullmatch(r"(.*?)\s*<[^<>]*>", text)
        if title and title[1]:
            return keep(title[1]) if role in _CODE_ROLES and _CODE_SHAPE.fullmatch(title[1]) else title[1]
        if role in _TEXT_ROLES:
            # A bare label such as `array-api-support` names a section, and is no English.
            return text if role in ("term", "emphasis", "strong", "abbr", "title", "sub", "sup") else DROPPED
        return keep(_short(text.lstrip("!")))
    if (text := match["link"]) is not None:
        return text or DROPPED
    if (text := match["named"]) is not None:
        return text
    text = match["single"]
    # reST uses single back quotes for parameters, Markdown for code; a phrase is neither.
    return keep(_short(text)) if _CODE_SHAPE.fullmatch(text) else text


def _short(name: str) -> str:
    """A cross-reference as rendered: "~numpy.sqrt" -> "sqrt", ".Axes.plot" -> "Axes.plot"; ".npz" is a file ending."""
    if name.startswith("~"):
        return name.rpartition(".")[2].lstrip("~")
    return name[1:] if re.match(r"\.(?:[A-Z]|\w+\.\w)", name) else name


_WORD = re.compile(r"[(\"'“‘\[]*[A-Za-z]+(?:['’-][A-Za-z]+)*[)\"'”’\].,;:!?]*")
_CODE_IN_SENTENCE = re.compile(r"`[^`]*`")
_ODD = re.compile(r"[^A-Za-zÀ-ÿ0-9_ .,;:'\"()\[\]!?‘’“”–—/%&+-]")
_NEVER_IN_TEXT = re.compile(r"[\\{}\x00|]|::|->|=>|<-|==|[.]{4}|[-=~*#_+^]{3}|\b(?:Copyright|©|SPDX)\b|[A-Za-z]_\{")
_FUNCTION_WORDS = word_set("""
    a an the this that these those it its they them their you your we our there which who what where when why how is
    are was were be been being am do does did has have had can could will would should shall may might must not no if
    else then than so as and or but nor of in on at by for with from to into onto over under between via per about
    after before during while until all any each every some both either neither one only same other such more most also
    just like because since unless whether same whose
""")
_ENDS = re.compile(r"[.!?…:]['\"”’)\]]*")
_FRAGMENT = re.compile(
    r"(?:or|and|but|which|where|that|then|so|with|when|if)\b(?!.*[.!?]$)|(?:where|which|and|or|TODO|FIXME|XXX)\b"
)
_CUT_OFF = re.compile(r"\b(?:of|or|and|the|an?|with|from|than|whose|e\.g|i\.e)\.$")
_MIN_WORDS, _MAX_WORDS = 3, 90


def is_english(sentence: str) -> bool:
    """Whether `sentence` (code between back quotes) reads as an English sentence, by counts that any prose passes."""
    # Cheap counts instead of a model of language: what passes depends on the text alone, on any machine.
    if sentence.count("`") % 2:
        return False
    text = _CODE_IN_SENTENCE.sub("code", sentence)
    if _NEVER_IN_TEXT.search(text):
        return False
    tokens = text.split(" ")
    if not _MIN_WORDS <= len(tokens) <= _MAX_WORDS:
        return False
    words = [token for token in tokens if _WORD.fullmatch(token)]
    if len(words) < max(3.0, 0.7 * len(tokens)):
        return False
    # Lists of types and names have words, but none that binds them.
    functional = sum(word.strip("()[]\"'“”‘’.,;:!?").lower() in _FUNCTION_WORDS for word in words)
    if functional < 1 or functional < 0.12 * len(tokens):
        return False
    if sum(word.isupper() and len(word) > 1 for word in words) > 0.4 * len(words):
        return False
    if len(_ODD.findall(text)) > 2 + 0.02 * len(text):
        return False
    if (text[-1] == ":" and len(tokens) < 6) or _FRAGMENT.match(text) or _CUT_OFF.search(text):
        return False
    if not (text[0].isalnum() or text[0] in "(\"'“‘["):
        return False
    return bool(_ENDS.search(text, len(text) - 4))
