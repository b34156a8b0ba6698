"""Words of texts without spaces: CJK characters, phrases with and without a segmenter, offsets into the text."""

import sys
import types
import unicodedata

import pytest

from albert_jax.data.labelled.requests import Request, cut_words, read_request, word_spans
from albert_jax.data.text import scripts


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


def test_a_chinese_or_japanese_character_is_a_word() -> None:
    assert words("张伟在iPhone发布会上。") == [*"张伟在", "iPhone", *"发布会上。"]
    assert words("東京タワーへ、3月に") == [*"東京タワーへ、", "3", *"月に"]
    assert words("人々〆𠮷野家") == [*"人々〆𠮷野家"]
    assert words("ｶﾞｰﾙ") == ["ｶﾞ", "ｰ", "ﾙ"]  # the voicing belongs to its letter
    assert words("葛\U000e0100城 コ\u3099") == ["葛\U000e0100", "城", "コ\u3099"]  # and so do marks
    assert words("x_1字y 2字") == ["x_1", "字", "y", "2", "字"]


def test_other_scripts_are_cut_as_before() -> None:
    spaced = [
        "서울에서",
        "cafe\u0301s",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u0645\u06cc\u200c\u062e",
        "②x",
        "x_1",
    ]
    assert words(" ".join(spaced)) == spaced
    assert words("It's,") == ["It", "'", "s", ","]


@pytest.mark.parametrize("name", ["HIRAGANA LETTER", "KATAKANA LETTER", "CJK UNIFIED", "HALFWIDTH KATAKANA LETTER"])
def test_the_ranges_hold_what_the_names_say(name: str) -> None:
    ranges = scripts.CHARACTER_IS_WORD
    inside = [chr(point) for first, last in ranges for point in range(first, last + 1)]
    named = [chr(p) for p in range(0x110000) if unicodedata.name(chr(p), "").startswith(name)]
    assert named and not set(named) - set(inside)
    assert not any("HANGUL" in unicodedata.name(character, "") for character in inside)


# ---- phrases


THAI = "ฉันกินข้าว ok ที่บ้าน"


@pytest.fixture
def package(monkeypatch):
    """`pythainlp` as a module of ours; no other segmenter is there."""
    for script in scripts.PHRASES:
        for each in script.packages:
            monkeypatch.setitem(sys.modules, each.module, None)
    scripts.segmenter.cache_clear()
    module = types.ModuleType("pythainlp")
    module.word_tokenize = lambda text: {"ฉันกินข้าว": ["ฉัน", "กิน", "ข้าว"], "ที่บ้าน": ["ที่", " ", "บ้าน"]}.get(text, [text])
    yield lambda: monkeypatch.setitem(sys.modules, "pythainlp", module)
    scripts.segmenter.cache_clear()


def test_thai_is_cut_by_a_package(package) -> None:
    package()
    request = cut_words(Request((THAI,)))
    assert [THAI[start:end] for start, end in request.words] == ["ฉัน", "กิน", "ข้าว", "ok", "ที่", "บ้าน"]
    assert request.warning == ""
    # Words that are not the text's would have offsets of another one.
    sys.modules["pythainlp"].word_tokenize = lambda text: ["กิน", "ฉัน"]
    assert [THAI[start:end] for start, end in cut_words(Request((THAI,))).words] == ["ฉันกินข้าว", "ok", "ที่บ้าน"]


def test_without_a_package_one_line_says_so(package) -> None:
    request = cut_words(read_request(THAI, ("text",)))
    assert [THAI[start:end] for start, end in request.words] == ["ฉันกินข้าว", "ok", "ที่บ้าน"]
    assert request.warning == (
        "Thai has no spaces between words, so whole phrases were read as words: pip install pythainlp (or pyicu), or "
        'give the words as {"words": [...]}'
    )
    assert cut_words(read_request(["ฉันกิน"], ("text",), tags=True)).warning == ""  # the user's own words
    assert "Burmese has no spaces" in cut_words(Request(("မြန်မာစာ",))).warning
    assert "pip install khmer-nltk (or pyicu)," in cut_words(Request(("ភាសាខ្មែរ",))).warning
    assert "Lao has no spaces" in cut_words(Request(("ພາສາລາວ",))).warning
    assert cut_words(Request(("今天 and plain",))).warning == ""
