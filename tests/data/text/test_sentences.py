"""Sentence splitting: one row a rule, each with the exact sentences."""

import pytest

from albert_jax.data.text.sentences import split_sentences

ROWS = {
    "plain": ("One is here. Two is there.", ["One is here.", "Two is there."]),
    "question and exclamation": ("Is it? Yes! Good.", ["Is it?", "Yes!", "Good."]),
    "no stop at the end": ("First one. second without capital", ["First one. second without capital"]),
    "tail without stop": ("A stop. Then a tail", ["A stop.", "Then a tail"]),
    "white space collapsed": ("  One\n\tline.\n   Two \n lines. ", ["One line.", "Two lines."]),
    "e.g. and i.e.": (
        "Use a list, e.g. Python's own, i.e. The builtin. Good.",
        ["Use a list, e.g. Python's own, i.e. The builtin.", "Good."],
    ),
    "bracketed e.g.": ("Some types (e.g. Arrays) work. Yes.", ["Some types (e.g. Arrays) work.", "Yes."]),
    "etc. in the middle": ("Lists, sets, etc. are fine. Ok.", ["Lists, sets, etc. are fine.", "Ok."]),
    "etc. at the end": ("Lists, sets, etc. They work.", ["Lists, sets, etc.", "They work."]),
    "etc. before a bracket": ("Sets etc. (See below) work. Ok.", ["Sets etc. (See below) work.", "Ok."]),
    "cf. and vs.": ("Rows vs. Columns, cf. Table one. End.", ["Rows vs. Columns, cf. Table one.", "End."]),
    "et al.": (
        "By Lan et al. (2019) it was shown. By Lan et al. The rest follows.",
        ["By Lan et al. (2019) it was shown.", "By Lan et al.", "The rest follows."],
    ),
    "figures and equations": (
        "See Fig. 3 and Eq. (4). Then stop.",
        ["See Fig. 3 and Eq. (4).", "Then stop."],
    ),
    "section as an abbreviation": ("In Sec. 3.1 we saw. Ok.", ["In Sec. 3.1 we saw.", "Ok."]),
    "sec as seconds": ("It takes 10 sec. The rest waits.", ["It takes 10 sec.", "The rest waits."]),
    "no. 5 and the word no": (
        "Algorithm no. 5 is used. The answer is no. Then stop.",
        ["Algorithm no. 5 is used.", "The answer is no.", "Then stop."],
    ),
    "decimals": (
        "It is 3.14 or .5 wide. Two is 2. Three is 3.",
        ["It is 3.14 or .5 wide.", "Two is 2.", "Three is 3."],
    ),
    "versions": (
        "New in version 1.20.3. Removed in v2.0. Ok.",
        ["New in version 1.20.3.", "Removed in v2.0.", "Ok."],
    ),
    "dotted names": (
        "Calls numpy.array on x. See numpy.linalg.norm. It ends.",
        ["Calls numpy.array on x.", "See numpy.linalg.norm.", "It ends."],
    ),
    "file names": (
        "Reads setup.cfg first. Then __init__.py follows.",
        ["Reads setup.cfg first.", "Then __init__.py follows."],
    ),
    "a dotted name starts": ("It is new. numpy.ravel copies.", ["It is new.", "numpy.ravel copies."]),
    "a call starts": ("It is new. ravel() copies.", ["It is new.", "ravel() copies."]),
    "a code span starts": ("It is new. `axis` is old.", ["It is new.", "`axis` is old."]),
    "a digit starts": ("There are many. 3 of them fit.", ["There are many.", "3 of them fit."]),
    "ellipsis inside": ("It goes on ... And on. Then ends.", ["It goes on ... And on.", "Then ends."]),
    "ellipsis ends": ("And so on... The end.", ["And so on...", "The end."]),
    "ellipsis in a list": ("For x1, x2, ..., X5 it holds. Ok.", ["For x1, x2, ..., X5 it holds.", "Ok."]),
    "quote after the stop": ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
    "bracket after the stop": ("It works (mostly.) Then it fails.", ["It works (mostly.)", "Then it fails."]),
    "sentence in brackets": (
        "It works. (This is odd. Very odd.) It ends.",
        ["It works.", "(This is odd. Very odd.)", "It ends."],
    ),
    "quote opens the next": ('It works. "Odd" is a word.', ["It works.", '"Odd" is a word.']),
    "a quoted small letter": ("Use 'a'. 'b' is old. Ok.", ["Use 'a'.", "'b' is old.", "Ok."]),
    "half-open intervals": (
        "Values in [0, 1). Or in (0, 1]. End.",
        ["Values in [0, 1).", "Or in (0, 1].", "End."],
    ),
    "a bracket never closed": (
        "Press :( to go on. Then wait. Then (if so) go.",
        ["Press :( to go on.", "Then wait.", "Then (if so) go."],
    ),
    "initials": ("Written by J. R. Smith and D. Knuth. Ok.", ["Written by J. R. Smith and D. Knuth.", "Ok."]),
    "a variable ends": (
        "Solves for the matrix A. The result is B. It is new.",
        ["Solves for the matrix A.", "The result is B.", "It is new."],
    ),
    "country": ("The U.S. Government made it. Ok.", ["The U.S. Government made it.", "Ok."]),
    "list number": ("1. First we go. 2. Then we stop.", ["1. First we go.", "2. Then we stop."]),
    "accented capital": ("Fin. Été comme hiver.", ["Fin.", "Été comme hiver."]),
    "ideographic stops": ("今日は晴れ。明日は雨。", ["今日は晴れ。", "明日は雨。"]),
    "empty": ("", []),
    "blank": (" \n ", []),
    "only stops": ("...", ["..."]),
}


@pytest.mark.parametrize(("paragraph", "sentences"), ROWS.values(), ids=ROWS.keys())
def test_rows(paragraph, sentences):
    assert split_sentences(paragraph) == sentences


def test_nothing_is_lost():
    paragraph = " ".join(paragraph for paragraph, _ in ROWS.values() if "。" not in paragraph)
    assert " ".join(split_sentences(paragraph)) == " ".join(paragraph.split())
    assert len(split_sentences(paragraph)) > 60
