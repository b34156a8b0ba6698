"""Awkward text for tokenizers: 500 and more strings, the same on every machine. Runs under Python 3.7 too.

Nothing newer than Unicode 11, which Python 3.7 knows.
"""

import random

_BY_HAND = [
    "", " ", "   ", "\t", "\n", "a", "A", " a", "a ", "  two  spaces  ", "tab\tseparated\twords", "line\nbreak",
    "carriage\r\nreturn", "trailing space ", "trailing spaces   ", "trailing tab\t", "trailing newline\n", "\u00a0",
    "non\u00a0breaking\u00a0space", "em\u2003space thin\u2009space", "wide\u3000space", "zero\u200bwidth\u200bspace",
    "word\u2060joiner", "byte\ufefforder\ufeffmark", "\ufeffat the start", "soft\u00adhyphen",
    "zero\u200cwidth\u200dnon", "line\u2028separator", "paragraph\u2029separator", "next\u0085line", "form\x0cfeed",
    "vertical\x0btab", "null\x00byte", "bell\x07 escape\x1b unit\x1fseparator", "delete\x7f",
    "replacement\ufffdcharacter", "private\ue000use",
    # quotes, dashes, brackets
    '"quoted"', '"quoted" text', "'single'", "''two single''", "``back ticks''", "`tick`", "“curly”", "‘curly’",
    "«guillemets»", "„low“", '(the)', '(the) value', "[brackets]", "{braces}", "<angle>", "a-b", "a – b", "a — b",
    "a--b", "e-mail", "...", "a.b.c", "U.S.A.", "Mr. Smith", "end.", "end...", "what?!", "no!!!", "a/b", "a\\b",
    "a_b", "a|b", "a&b", "a@b.com", "#tag", "50%", "$5", "£5", "€5", "5€", "¥500", "±1", "x*y", "x^y", "~x", "x=y",
    "x==y", "a,b", "a, b", "a ,b", ",", ",,", ", ,", "(", "()", "((the))", '"(the)"', '("the")', "-", "–", "- –",
    '""', '"', '.', "..", ". .", "£", "€", "£€", '(")-.–£€', "don't", "DON'T", "o’clock", "rock'n'roll", "it's", "'s",
    "s'",
    # numbers and commas, cut once more by the original
    "12,345", "12,345,678", "1,000", "10,", "10, 20, 30", "(10, 20)", "(10,20)", "10,20,30", "x10,", "x10,y", "10,x",
    "10 ,", "1,2,3", "7, 8", "-10,", "–10,", "£10,", "£10,000", "€1,5", "1.5,", "1.5", "1.000,00", "3,14", "00,",
    "٣,", "１２,３４５", "²,", "x²,", "½,", "a1,", "a 1,", "1,a", "20,(", "20,\"", '"20,"', "10,10,10,", "2019, 2020,",
    "In 2019, 10,000 people", "10,\u00a020,",
    # special pieces in the text
    "[MASK]", "[CLS]", "[SEP]", "a [MASK] b", "a[MASK]b", "[mask]", "[MASK][MASK]", "[MASK] [MASK]", "[ MASK ]",
    "[CLS] a [SEP]", "<pad>", "<unk>", "a <unk> b", "[PAD]", "[UNK]", "[unused1]", "▁", "▁the", "the▁value", "a ▁ b",
    "##the", "the ##value", "<s>", "</s>",
    # accents and what NFKD takes apart
    "Café au lait", "NAÏVE", "résumé", "Über", "e\u0301te\u0301", "\u0301leading", "a\u0301\u0323b", "x\u0323\u0307y",
    "ﬁne ﬂow", "½ ¼ ¾", "Ⅷ ⅳ", "™ ℠ ®", "①②③", "㎏ ㎞", "ＡＢＣ　１２", "ﾊﾟｿｺﾝ", "İstanbul", "ıstanbul", "ß Straße ẞ",
    "Ǆ ǆ ǅ", "ŉ", "ΟΔΥΣΣΕΥΣ", "Σ ΑΣ ΑΣ.", "ὈΔΥΣΣΕΎΣ", "ᾳ ᾼ", "ΐ", "Å Å", "K K", "Ω Ω", "…", "‼ ⁇", "a\u00a8b", "¨",
    "´", "¸x", "ª º", "x² x₂", "ǈ", "ﬀ ﬃ", "ſ", "Ð đ", "Ł ł", "ø Ø", "æ Æ",
    # scripts
    "Привет, мир", "ПРИВЕТ Й ё", "Ελληνικά", "日本語のテキスト", "今天天气很好", "中文12,345字", "中文 English 混合",
    "你好，世界。", "「引用」",
    "《書》", "ひらがな", "カタカナ", "ガ ｶﾞ", "한국어 텍스트", "한국", "각", "ไทยภาษา",
    "हिन्दी पाठ", "தமிழ்", "עברית", "שָׁלוֹם",
    "العربية", "مُحَمَّد", "١٢٣", "\u202bright to left\u202c", "\u200frtl mark", "abc\u200eltr", "ქართული", "ᏣᎳᎩ",
    "አማርኛ", "𝒜𝓁𝒷", "𝟏𝟐,", "𐍈", "𠀀𠀁", "㐀", "豈", "〇", "々",
    # emoji
    "\U0001f600", "ok \U0001f600 ok", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f",
    "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "☺", "★", "→",
    # long
    "a" * 99, "a" * 100, "a" * 101, "a" * 199, "a" * 200, "a" * 201, "ab" * 300, "the" * 150, "中" * 60, "1" * 120,
    "(" * 40, "e\u0301" * 110, "http://www.example.com/a/b?c=d&e=f#g", "C:\\dir\\file.txt", "f(x) = 2*x + 1;",
    "if (a && b) { return; }", "<a href=\"x\">y</a>", "&amp; &lt;", "%20", "\\n", "\\u00e9", "0x1F", "1e-5", "v1.2.3",
    "10:30", "3/4", "A4", "covid19", "B2B", "iPhone", "eBay", "McDonald",
]  # fmt: skip
_PARTS = [
    "the", "value", "Café", "12,345", "10,", "(the)", '"quoted"', "[MASK]", "don't", "日本", "мир", "\u00a0", "\u200b",
    "\U0001f600", "e\u0301", "…", "£5", "–", "naïve", "ﬁ", "שלום", "한국", "X", "#", "''", "``", "?!", "\t", "7", "½",
    "The", "Values", "words",
]  # fmt: skip


def strings():
    """The list: those by hand, then runs of awkward parts with and without spaces between them."""
    rng = random.Random(5)
    made = list(_BY_HAND)
    while len(made) < 560:
        parts = [rng.choice(_PARTS) for _ in range(rng.randint(2, 6))]
        made.append("".join(part + rng.choice(["", " ", " ", "  "]) for part in parts))
    return made
