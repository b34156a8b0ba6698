"""The rules of the original's data tool, written down a second time and plainly, for the tests.

The tool is google-research/albert `create_pretraining_data.py`; these are its rules as we read them, in our own words,
with Python's own generator, no index arithmetic and no shortcuts. Nothing here is shared with the package, so that only
the tool's own records (`test_examples_look_like_the_tools_records`) would tell a rule that was misread.
"""

import random
from collections.abc import Sequence

Sentence = Sequence[int]
Made = tuple[int, list[int], list[int], int]  # target, first half, second half, label


def pairs_of_document(
    documents: Sequence[Sequence[Sentence]], number: int, max_length: int, short_prob: float, rng: random.Random
) -> list[Made]:
    """One pass over one document."""
    room = max_length - 3
    target = rng.randint(2, room) if rng.random() < short_prob else room
    document, made, chunk = documents[number], [], []
    for place, sentence in enumerate(document):
        chunk.append(sentence)
        if sum(map(len, chunk)) < target and place + 1 < len(document):
            continue
        if len(chunk) == 1:
            first, label = list(chunk[0]), 1
            for _ in range(10):
                other = rng.randrange(len(documents))
                if other != number:
                    break
            second: list[int] = []
            for more in documents[other][rng.randrange(len(documents[other])) :]:
                second += more
                if len(second) >= target - len(first):
                    break
        else:
            split = rng.randint(1, len(chunk) - 1)
            first = [piece for part in chunk[:split] for piece in part]
            second = [piece for part in chunk[split:] for piece in part]
            label = int(rng.random() < 0.5)
            if label:
                first, second = second, first
        while len(first) + len(second) > room:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if rng.random() < 0.5 else -1)
        made.append((target, first, second, label))
        chunk = []
    return made


def words(pieces: Sequence[int], starts: Sequence[bool], cls_id: int, sep_id: int) -> list[list[int]]:
    """Places of the words; [CLS] and [SEP] are in none and end none."""
    found: list[list[int]] = []
    for place, piece in enumerate(pieces):
        if piece in (cls_id, sep_id):
            continue
        if found and not starts[piece]:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def covered(
    word_places: Sequence[Sequence[int]], order: Sequence[int], sizes: Sequence[int], budget: int
) -> list[list[int]]:
    """The walk: places of each span that is covered, for words visited in `order` with the span lengths `sizes`."""
    done: set[int] = set()
    spans: list[list[int]] = []
    for word, size in zip(order, sizes, strict=True):
        if len(done) >= budget:
            break
        for place in word_places[word]:
            if place in done:
                continue  # leaves this loop's turn and nothing else, as in the tool
        for count in range(size, 0, -1):
            span = [place for part in word_places[word : word + count] for place in part]
            if len(done) + len(span) <= budget:
                break
        else:
            continue
        if done.isdisjoint(span):
            done.update(span)
            spans.append(span)
    return spans
