"""HTML, and XML vocabularies with the same idea of a paragraph (DocBook, Mallard, OSIS, TEI), to paragraphs.

One table of tags serves them all: those whose content is no running text are left out with everything inside, those
that end a paragraph end it, and the rest (links, emphasis, names of keys) are part of the sentence around them.
"""

from html.parser import HTMLParser

from albert_jax.data.text.sentences import word_set

_SKIPPED = word_set(
    """
    script style head nav header footer aside pre form select button textarea svg math object iframe noscript title
    h1 h2 h3 h4 h5 h6 dt th sup
    programlisting screen synopsis cmdsynopsis funcsynopsis literallayout bookinfo articleinfo info refmeta refnamediv
    indexterm index toc titleabbrev subtitle remark term bibliography legalnotice media rdg
    """
)
_SKIPPED_IN_OSIS = _SKIPPED | {"note"}  # cross references; in DocBook and Mallard a note is a paragraph
_SKIPPED_CLASSES = word_set(
    """
    toc navheader navfooter navigation related sphinxsidebar headerlink highlight sidebar footer breadcrumbs menu
    index genindex literalblock code-block header titlepage revhistory legalnotice author copyright
    """
)
_BLOCKS = word_set(
    """
    p div td tr table li ul ol dl dd blockquote section article main body hr center
    para simpara formalpara listitem varlistentry itemizedlist orderedlist entry row sect1 sect2 sect3 sect4 chapter
    item steps terms list page l lg lb note warning tip caution important example
    """
)
_INLINE = word_set("sup")  # left out without ending the paragraph
_INLINE_IN_OSIS = word_set("sup note")
_VOID = word_set("br hr img input meta link area base col embed source track wbr xref milestone lb")


class _Reader(HTMLParser):
    def __init__(self, skipped: frozenset[str], inline: frozenset[str]):
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._skipped = skipped
        self._ends_paragraph = (_BLOCKS | skipped) - inline
        self._text: list[str] = []  # of the open paragraph
        self._skipping: list[str] = []  # open tags of the name of the one that is left out

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._ends_paragraph:
            self.end_paragraph()
        if tag in _VOID:
            if not self._skipping:
                self._text.append(" ")
            return
        if self._skipping:
            if tag == self._skipping[0]:
                self._skipping.append(tag)
        elif tag in self._skipped or _is_furniture(attrs):
            self._skipping.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._ends_paragraph:
            self.end_paragraph()
        elif not self._skipping:
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            if tag == self._skipping[0]:
                self._skipping.pop()
            elif tag in ("body", "html"):
                self._skipping.clear()
            return
        if tag in self._ends_paragraph:
            self.end_paragraph()

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data)

    def end_paragraph(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if text and not text.isspace():
            self.paragraphs.append(text)


def _is_furniture(attrs: list[tuple[str, str | None]]) -> bool:
    """Whether an element is part of the page around the text, by its class, id or role."""
    named = (value for name, value in attrs if name in ("class", "id", "role") and value)
    return any(not _SKIPPED_CLASSES.isdisjoint(value.lower().split()) for value in named)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of an HTML page or an XML document, tags and entities resolved."""
    return _read(text, _SKIPPED, _INLINE)


def osis_paragraphs(text: str) -> list[str]:
    """The paragraphs of a stretch of OSIS or ThML, the XML of Bible texts and commentaries."""
    return _read(text, _SKIPPED_IN_OSIS, _INLINE_IN_OSIS)


def _read(text: str, skipped: frozenset[str], inline: frozenset[str]) -> list[str]:
    reader = _Reader(skipped, inline)
    reader.feed(text)
    reader.close()
    reader.end_paragraph()
    return reader.paragraphs
