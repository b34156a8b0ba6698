"""How a WordPiece vocabulary is learned from text: its characters, then the most frequent pairs of pieces merged.

    learn({"low": 5, "lower": 3}, 12)    ['e', 'l', 'o', 'r', 'w', '##e', '##l', '##o', '##r', '##w', 'lo', 'low']

The merges are those of byte-pair encoding (Sennrich et al. 2016) on the characters of words: by count, not by the
likelihood that Schuster and Nakajima (2012) scored them by, whose code was never released. Text is cut with what is
learned by longest match, so that only the pieces matter and not the order of merges.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

INSIDE = "##"  # before a piece that goes on with a word
_WORDS = 2**18  # distinct words that are learned from, the most frequent: 2 GB of text has no more that matter
_LEAST = 2  # what occurs once is no pattern


def learn(
    words: Mapping[str, int],
    size: int,
    coverage: float = 1.0,
    stands_alone: Callable[[str], bool] = lambda character: False,
) -> list[str]:
    """About `size` pieces: the characters of `words` (word -> count), then merges, the most frequent first.

    Args:
      coverage: share of the characters of the text that get pieces; words with any other are left out
      stands_alone: whether a character is always a word by itself, so that it needs no "##" piece

    The same counts give the same pieces; fewer than `size` where no further pair occurs twice, and more where the
    characters alone need more.
    """
    characters = _characters(words, coverage)
    # Both forms of every other character, whichever the text shows: a known character must be known in any place.
    inside = [INSIDE + character for character in characters if not stands_alone(character)]
    pieces = [*characters, *inside]
    number = {piece: index for index, piece in enumerate(pieces)}
    known = [word for word in words if len(word) > 1 and all(character in number for character in word)]
    known.sort(key=lambda word: (-words[word], word))
    known = known[:_WORDS]
    cut = [[number[word[0]], *(number[INSIDE + character] for character in word[1:])] for word in known]
    pairs = _Pairs(cut, [words[word] for word in known])
    while len(pieces) < size and (pair := pairs.most_frequent()) is not None:
        merged = pieces[pair[0]] + pieces[pair[1]].removeprefix(INSIDE)
        # No text was found (60,000 random ones) in which two merges make one piece; a vocabulary must have it once.
        if merged not in number:
            number[merged] = len(pieces)
            pieces.append(merged)
        pairs.merge(pair, number[merged])
    return pieces


class _Pairs:
    """Words as numbers of pieces, and how often each two pieces stand side by side in them."""

    def __init__(self, words: list[list[int]], counts: list[int]):
        self._words, self._word_counts = words, counts
        self._counts: Counter[tuple[int, int]] = Counter()
        # Words that a pair occurs in, or has occurred in: taking those out would cost more than looking once in vain.
        self._places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for index, (word, count) in enumerate(zip(words, counts, strict=True)):
            for pair in pairwise(word):
                self._counts[pair] += count
                self._places[pair].append(index)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def most_frequent(self) -> tuple[int, int] | None:
        """The pair that occurs most, of several the one with the lowest numbers; None where none occurs twice."""
        # What changes its count leaves a stale entry in the heap, so what comes up is compared with the count of now.
        # An entry is never too low: only pairs with a merged piece gain, and those are pushed again.
        while self._heap:
            negative, pair = heapq.heappop(self._heap)
            count = self._counts[pair]
            if count == -negative and count >= _LEAST:
                return pair
            if count >= _LEAST:
                heapq.heappush(self._heap, (-count, pair))
        return None

    def merge(self, pair: tuple[int, int], merged: int) -> None:
        """Puts the piece `merged` in the place of every `pair`."""
        changed: set[tuple[int, int]] = set()
        for index in self._places.pop(pair):
            before, count = self._words[index], self._word_counts[index]
            after = _merged(before, pair, merged)
            if len(after) == len(before):
                continue
            for each in pairwise(before):
                self._counts[each] -= count
            for each in pairwise(after):
                self._counts[each] += count
                if merged in each:
                    self._places[each].append(index)
                    changed.add(each)
            self._words[index] = after
        for each in changed:
            heapq.heappush(self._heap, (-self._counts[each], each))


def _merged(word: list[int], pair: tuple[int, int], merged: int) -> list[int]:
    found: list[int] = []
    position = 0
    while position < len(word):
        hit = word[position] == pair[0] and position + 1 < len(word) and word[position + 1] == pair[1]
        found.append(merged if hit else word[position])
        position += 2 if hit else 1
    return found


def _characters(words: Mapping[str, int], coverage: float) -> list[str]:
    """The most frequent characters, as many as `coverage` of the text needs, by code point."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    kept, seen, wanted = [], 0, coverage * counts.total()
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if seen >= wanted:
            break
        kept.append(character)
        seen += count
    return sorted(kept)


def count_words(texts: Iterable[str], normalize: Callable[[str], str]) -> Counter[str]:
    """How often each word of `normalize(text)` occurs."""
    # Normalising is slow, and most of what stands between two spaces comes again.
    tokens: Counter[str] = Counter()
    for text in texts:
        tokens.update(text.split(" "))
    words: Counter[str] = Counter()
    for token, count in tokens.items():
        for word in normalize(token).split(" "):
            words[word] += count
    del words[""]
    return words
