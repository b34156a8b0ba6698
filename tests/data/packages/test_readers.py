"""From files as packages hold them to exact sentences."""

import gzip
import json
import struct
import zlib

import pytest

from albert_jax.data.packages import dictionaries, markup, plain, prose, rdata, strings, sword
from albert_jax.data.packages.archive import Member, Package
from albert_jax.data.packages.kinds import parts

PAGE = """<html><head><title>A title that is not text</title></head><body>
<div class="navheader"><p>Previous, next and home are links of the page and no text of it at all.</p></div>
<p>The first paragraph has a
<a href="x">link</a> in it, <em>and</em> it is two lines long. It ends here.</p>
<pre>for (i = 0; i &lt; n; i++) { the code of the page is not what it is about; }</pre>
<table><tr><td>-v</td><td>verbose</td></tr></table>
<ul><li>Home</li><li>The item of a list is kept if it is as long as a sentence is.</li></ul>
<script>var the = "of and to a in is that for with be this are as";</script>
<p>Der zweite Absatz ist auf Deutsch und soll deshalb nicht in den englischen Text kommen.</p>
</body></html>"""


def english(paragraphs, min_words=prose.MIN_WORDS) -> list[str]:
    return [" ".join(sentences) for sentences in prose.english(paragraphs, min_words)]


def test_html() -> None:
    assert english(markup.paragraphs(PAGE)) == [
        "The first paragraph has a link in it, and it is two lines long. It ends here.",
        "The item of a list is kept if it is as long as a sentence is.",
    ]


def test_docbook_and_mallard() -> None:
    docbook = """<sect1><title>Of the game</title><indexterm><primary>game</primary></indexterm>
    <para>The object of the <application>game</application> is to move all of the cards to the foundation.
    <footnote><para>It can not always be done, and nobody knows for which of the deals.</para></footnote></para>
    <programlisting>and this is the code that shows how it is done in a program.</programlisting></sect1>"""
    assert english(markup.paragraphs(docbook)) == [
        "The object of the game is to move all of the cards to the foundation.",
        "It can not always be done, and nobody knows for which of the deals.",
    ]
    page = """<page><info><desc>What the page is about, in a line for the list of them.</desc></info>
    <note><p>When the battery is low, the computer will put itself to sleep. See <link xref="power"/> for more.</p>
    </note></page>"""
    assert english(markup.paragraphs(page)) == ["When the battery is low, the computer will put itself to sleep."]


def test_plain_text() -> None:
    text = """CHAPTER I

  It was a dark night, and the wind came from the moun-
tains in the north. Nobody was on the road.

   -v      be verbose         -q      be quiet
   -h      show this help     -V      show the version

  1. The first of the two items is a sentence of its own.
  2. So is the second, which goes on over the end of
     the line.

int main(void) {
    return the_sum_of_all_that_is(in, the, list);
}
"""
    assert english(plain.paragraphs(text)) == [
        "It was a dark night, and the wind came from the mountains in the north. Nobody was on the road.",
        "The first of the two items is a sentence of its own.",
        "So is the second, which goes on over the end of the line.",
    ]


def test_markdown_and_pod() -> None:
    text = "# The *title*\n\nSee [the page](http://x.org) for **all** of the `things` that it can do to the text.\n"
    text += "\n    the code of the page is in a block that is indented.\n"
    assert english(plain.markdown_paragraphs(text)) == [
        "See the page for all of the things that it can do to the text."
    ]
    pod = """=head1 NAME

The B<first> paragraph is about L<perlfunc/open> and the C<< E<gt>file >> of it, for all I<of> us to read.

    my $the = "code that is of no use to the reader of it";

=cut

sub the { this is in the code and not to be read by it, as it is of no use. }
"""
    assert english(plain.pod_paragraphs(pod)) == [
        "The first paragraph is about perlfunc/open and the >file of it, for all of us to read."
    ]


def test_manual_page() -> None:
    page = r""".\" A comment of the author to those who change the page.
.TH SAIL 6
.SH NAME
sail \- the name of the game and what it is about in a line of text
.SH DESCRIPTION
.B Sail
is a game for
.RI the\ 19th  " century" ,
in which a ship\(aqs speed depends on the wind \(em and on luck.
.PP
The second paragraph is \fIshorter\fP than the first one is, but not by much.
.TP
.B \-x
Turn the ship around, so that the wind is on the other side of it.
.nf
the code of it is { not } a part of the text;
.fi
.SH SEE ALSO
This is a list of all the other pages that are of use to the reader.
"""
    assert english(plain.manual_paragraphs(page)) == [
        "Sail is a game for the 19th century, in which a ship's speed depends on the wind -- and on luck.",
        "The second paragraph is shorter than the first one is, but not by much.",
        "Turn the ship around, so that the wind is on the other side of it.",
    ]
    assert not list(plain.manual_paragraphs(".Dd May 1\n.Dt X 1\n.Sh NAME\nThis one is in the macros of BSD.\n"))


def test_info() -> None:
    text = """This is go.info.
\x1f
File: go.info,  Node: Top,  Next: Rules,  Up: (dir)

1 The game
**********

The game is older than *note Chess: Other. and is played on a board of lines.

* Menu:

* Rules::    The rules of the game are in this part of the book.
\x1f
File: go.info,  Node: Rules,  Prev: Top

A stone that has no more free places beside it is taken from the board.

     and this is an example that is indented, so it is no text.
"""
    assert [english(node) for node in plain.info_nodes(text)] == [
        ["The game is older than Chess and is played on a board of lines."],
        ["A stone that has no more free places beside it is taken from the board."],
    ]


def test_sayings() -> None:
    text = "A cloud does not know why it moves.\n\t\t-- Messiah's Handbook\n%\nTwo.\n%%\nThree of\nthem.\n"
    assert list(plain.sayings(text)) == ["A cloud does not know why it moves.", "Two.", "Three of\nthem."]


GCIDE = r"""Coagulate \Co*ag"u*late\, v. t. [imp. & p. p. {Coagulated}; p.
   pr. & vb. n. {Coagulating}.]
   To cause (a liquid) to change into a {curdlike} state, not by
   evaporation but by a reaction. --Sir T. Browne (1646).
   [1913 Webster]

   2. (Med.) To curdle; as, the rennet coagulates milk in the
      stomach; -- called also to {clot}. [Obs.]
      [1913 Webster]

            The milk of it was coagulated by the cold. --Shak.
      [1913 Webster]

   Syn: To thicken; concrete; curdle; clot; congeal.
"""
WORDNET = """key
    adj 1: serving as an essential component; "a cardinal rule of the law"
           [syn: {cardinal}, {central}]
    n 2: pitch of the voice; "he spoke in a low key"- Joyce
"""


def test_dictionaries() -> None:
    assert list(dictionaries.gcide_paragraphs("coagulate", GCIDE)) == [
        "Coagulate: to cause (a liquid) to change into a curdlike state, not by evaporation but by a reaction.",
        "To curdle; as, the rennet coagulates milk in the stomach; -- called also to clot.",
        "The milk of it was coagulated by the cold.",
    ]
    assert list(dictionaries.wordnet_paragraphs("key", WORDNET)) == [
        "Key: serving as an essential component. A cardinal rule of the law.",
        "Key: pitch of the voice. He spoke in a low key.",
    ]
    jargon = "alpha geek\n n.\n\n    [from animals] The most skillful person in some\n    {context}.\n"
    assert (
        list(dictionaries.other_paragraphs("alpha geek", jargon))[-1]
        == "The most skillful person in some\n    context."
    )
    index = "00-database-info\tA\tC\nbee\tD\tE\nant\tH\tE\nemmet\tH\tE\n"
    assert list(dictionaries.entries(index, b"xx\nbee\nant\nend")) == [("bee", "bee\n"), ("ant", "ant\n")]


def test_sword() -> None:
    text = [
        '<div type="book"/><title>Ruth</title><w lemma="1">Now</w> it came to pass in the days <note>a</note>',
        " when.",
    ]
    whole = "".join(text).encode()
    packed = zlib.compress(whole)
    first, second = (len(part) for part in text)
    verses = [(0, 0, first), (0, first, second), (0, first, second), (0, 0, 0), (0, 2, first - 2)]
    for wide, layout in [(False, "<IIH"), (True, "<III")]:
        listed = b"".join(struct.pack(layout, *verse) for verse in verses)
        (block,) = sword.blocks(struct.pack("<III", 0, len(packed), len(whole)), listed, packed, wide)
        (paragraph,) = markup.osis_paragraphs(block)
        assert prose.clean(paragraph) == "Now it came to pass in the days when."


@pytest.mark.parametrize("version", [2, 3])
def test_rdata(version: int) -> None:
    lines = ["EMMA", "", "Emma Woodhouse, handsome."]
    encoding = struct.pack(">i", 5) + b"UTF-8" if version == 3 else b""
    value = b"X\n" + struct.pack(">iii", version, 0, 0) + encoding + struct.pack(">ii", 16, len(lines))
    value += b"".join(struct.pack(">ii", 9, len(line)) + line.encode() for line in lines)
    number = b"X\n" + struct.pack(">iii", version, 0, 0) + encoding + struct.pack(">iii", 13, 1, 7)
    database = b"".join(struct.pack(">I", len(part)) + zlib.compress(part) for part in (number, value))
    assert list(rdata.texts(database)) == ["\n".join(lines)]


def test_strings_in_game_data() -> None:
    data = {
        "id": "coyote",
        "description": "This wolf has grown to the size of a small car. It is not friendly.",
        "//": "This is a comment of the author, and is not to be seen by the player.",
        "message": "You land on <planet> and drop off the cargo that was given to you.",
        "color": "light_gray and some more of the same sort of thing",
    }
    assert english(strings.paragraphs(json.dumps(data))) == [data["description"]]
    assert english(strings.paragraphs('conversation\n\t`You have a feeling that someone is here."`\n')) == [
        'You have a feeling that someone is here."'
    ]
    told = "arch sign\nmsg\n@match *\nThe door to the north is locked.\nendmsg\nname The end of it is here.\nend\n"
    assert [text.strip() for text in strings.map_messages(told) if text.strip()] == ["The door to the north is locked."]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The wind came from the north, and it was cold for all of us.", True),
        ("The wind came from the north, and it was cold for all of us", False),  # a heading, or cut off
        ("Der Wind kam aus dem Norden, und es war uns allen an diesem Tag sehr kalt.", False),
        ("apples, oranges, lemons, cherries, plums, grapes, pears, figs, dates, nuts.", False),
        ("Copyright (C) 1996 of the author, and this is all that he has to say about it.", False),
        ("Set a = b | c and x = {y} in the $file of the <user> to get the value of it.", False),
        ("It is short.", False),
    ],
)
def test_what_is_prose(text: str, kept: bool) -> None:
    assert bool(prose.english([text])) == kept


def test_repeats() -> None:
    repeats = prose.Repeats()
    long, short = "This sentence is long enough to be noticed the third time.", "It is short."
    assert repeats.new((long, short)) == (long, short)
    assert repeats.new((long.upper(), short)) == ()
    assert repeats.new((long, "And more.")) == (long, "And more.")
    assert repeats.new((long, short, "And even more.")) == (short, "And even more.")


def test_which_files_are_text() -> None:
    page = "<p>The wind came from the north, and it was cold for all of us.</p>"
    paths = {
        "usr/share/doc/p/html/intro.html": page,
        "usr/share/doc/p/intro.txt.gz": gzip.compress(b"The text of the page once more."),  # the same text
        "usr/share/doc/p/more.txt": "More text.",
        "usr/share/doc/p/html/intro.de.html": page,
        "usr/share/doc/p/fr/intro.html": page,
        "usr/share/help/C/p/a.page": page,
        "usr/share/help/cs/p/a.page": page,
        "usr/share/doc/p/copyright": "The licence.",
        "usr/share/doc/p/changelog.gz": gzip.compress(b"The changes."),
        "usr/share/doc/p/examples/a.txt": "An example.",
        "usr/share/doc/p/index.html": page,
        "usr/share/man/man1/p.1.gz": gzip.compress(b".SH A\nThe text of the page."),
        "usr/share/man/de/man1/p.1.gz": gzip.compress(b".SH A\nDer Text der Seite."),
        "usr/bin/p": b"\x7fELF",
        "usr/share/games/fortunes/wise": "One.\n%\nTwo.\n",
        "usr/share/games/fortunes/wise.dat": b"\0\0",
    }
    files = tuple(
        Member(path, body.encode() if isinstance(body, str) else body) for path, body in sorted(paths.items())
    )
    assert [part.file for part in parts(Package("p", "1", files, {}))] == [
        "usr/share/doc/p/html/intro.html",
        "usr/share/doc/p/more.txt",
        "usr/share/games/fortunes/wise",
        "usr/share/help/C/p/a.page",
        "usr/share/man/man1/p.1.gz",
    ]
