"""A paragraph of English to its sentences, by rules.

    'Calls numpy.array, e.g. on lists. See Eq. 3 (of A. Jones et al.). Done?'
 -> ['Calls numpy.array, e.g. on lists.', 'See Eq. 3 (of A. Jones et al.).', 'Done?']

A stop ends a sentence when white space and then something that can start a sentence follow it: a capital, a digit, a
back-quoted span, or a dotted or underscored name. That leaves three doubtful kinds, decided here: abbreviations,
initials (`J. Smith` or the matrix `A`), and stops inside brackets. Numbers, versions, dotted names and file names need
no rule: no white space follows their dots. Ideographic stops need no white space.
"""

import re

# By hand, because a learned splitter (NLTK's punkt, spaCy) is a model to download, and another version of it would cut
# the same corpus into other sentences.


def word_set(text: str, separator: str | None = None) -> frozenset[str]:
    """The words of `text`, or its phrases between `separator`s, white space collapsed."""
    return frozenset(" ".join(word.split()) for word in text.split(separator))


_CLOSERS = "\"'”’»)\\]}*`"
_CANDIDATE = re.compile(rf"[.!?…]+[{_CLOSERS}]*(?=\s)|[。！？]+[」』）”]*")
_WORD_BEFORE = re.compile(r"[^\s(\[{\"'“‘«`]*$")
_STARTS_SENTENCE = re.compile(
    r"""\s*(?:
        ["'“‘«(\[{*_¿¡]*[^\W\d_a-z]        # a capital, or a letter of a script without case, quoted or not
      | ["'“‘«(\[{*]*\d
      | ["'“‘]\w                           # any quoted word
      | [(]?`                              # a back-quoted span
      | [a-z_]\w*(?:[._]\w+)+              # a dotted or underscored name
      | [a-z_]\w*\(                        # a call
    )""",
    re.VERBOSE,
)
_NUMBER_FOLLOWS = re.compile(r"\s*[(\[]?(?:\d|[A-Z]\b|[IVX]+\b)")
_BRACKET_FOLLOWS = re.compile(r"\s*[(\[]")
_NEXT_WORD = re.compile(r"\s*[\"'“‘«(\[{]*([^\W\d_]+)")
_INITIALS = re.compile(r"(?:[A-Z]\.-?)*[A-Z]|Ph\.D|M\.Sc|B\.Sc")
_DIGITS = re.compile(r"\d+")

# Never the end of a sentence.
_NEVER = word_set(
    "e.g eg i.e ie cf vs viz resp approx ca wrt w.r.t a.k.a aka incl esp dr mr mrs ms prof st fig figs eq eqs eqn eqns"
)
# Not the end when a number (or one capital, or a Roman numeral) follows: "sec. 3", but "10 sec. The ...".
_BEFORE_NUMBER = word_set(
    "no nos sec sect ref refs vol p pp ch chap ver v ex def tab thm prop app art alg par ed eds lem"
)
# Not the end when a bracket follows: "et al. (2015)", "etc. (see below)".
_BEFORE_BRACKET = word_set("al etc")
# Words that start sentences far more often than they follow an initial: "the matrix A. The ...".
_STARTERS = word_set(
    """
    a all also although an and any as at because before but by can default each either every for from given hence here
    how however if in instead it its like make may more most must no not note now on once one only or other otherwise
    please returns see set similarly since so some such that the their then there therefore these they this those
    though thus to two under unless unlike until use used uses using we what when where whether which while will with
    you your
    """
)
_OPEN_REACH = 400  # characters: an open bracket that is not closed within them was no bracket


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of `paragraph`, in order; none for an empty one.

    Nothing but white space is lost: the sentences joined by spaces are the paragraph with its white space collapsed to
    single spaces (ideographic text excepted, which has no spaces to begin with).
    """
    text = " ".join(paragraph.split())
    sentences = []
    start = 0
    for candidate in _CANDIDATE.finditer(text):
        end = candidate.end()
        if candidate[0][0] not in "。！？" and not _is_boundary(text, start, candidate.start(), end):
            continue
        sentences.append(text[start:end].strip())
        start = end
    rest = text[start:].strip()
    if rest:
        sentences.append(rest)
    return sentences


def _is_boundary(text: str, start: int, stop: int, end: int) -> bool:
    """Whether the stop text[stop:end] ends the sentence that began at text[start]."""
    if not _STARTS_SENTENCE.match(text, end) or _inside_brackets(text, start, end):
        return False
    if text[stop] != "." or end - stop > 1:
        # "!", "?", an ellipsis, or a stop with quotes or brackets closed after it. A lone ellipsis is an omission.
        return not (text[stop : stop + 2] in ("..", "…") and text[stop - 1 : stop] in ("", " "))
    match = _WORD_BEFORE.search(text, start, stop)
    word = match[0] if match else ""
    lower = word.lower()
    if lower in _NEVER:
        return False
    if lower in _BEFORE_NUMBER and _NUMBER_FOLLOWS.match(text, end):
        return False
    if lower in _BEFORE_BRACKET and _BRACKET_FOLLOWS.match(text, end):
        return False
    if text[start:stop].strip() == word and (_DIGITS.fullmatch(word) or len(word) == 1):
        return False  # "3." and "A." number a list, "Note." is a sentence
    if _INITIALS.fullmatch(word):
        following = _NEXT_WORD.match(text, end)
        return following is None or following[1].lower() in _STARTERS
    return True


def _inside_brackets(text: str, start: int, end: int) -> bool:
    """Whether more brackets were opened than closed in text[start:end], and one closes soon after."""
    # All kinds count alike, so that the half-open interval (0, 1] is balanced.
    sentence = text[start:end]
    opened = sum(map(sentence.count, "([{"))
    if not opened or opened <= sum(map(sentence.count, ")]}")):
        return False
    following = text[end : end + _OPEN_REACH]
    closed_at = min((at for at in map(following.find, ")]}") if at >= 0), default=-1)
    if closed_at < 0:
        return False
    # A bracket opened later closes first: it is not ours that closes.
    return not any(0 <= following.find(bracket) < closed_at for bracket in "([{")
