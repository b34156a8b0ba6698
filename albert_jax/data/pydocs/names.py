"""Package names out of a text, so that telling which package it documents takes reading and not a keyword search.

   blank_names("Like `jnp.sum` in JAX; see to_numpy.", ["jax", "jnp", "numpy"])
-> "Like `it.sum` in it; see to_it."
"""

import functools
import re
from collections.abc import Sequence

from albert_jax.data.pydocs.sources import canonical, import_names
from albert_jax.data.text.sentences import word_set

BLANK = "it"

# What people write for a package beside the names under which it is installed and imported. A name with an
# underscored or dotted tail needs no row: matching a part blanks the part.
_ALIASES = {
    "absl-py": ("absl", "abseil"),
    "etils": ("epath", "ecolab", "enp"),
    "flax": ("nnx", "linen", "nn"),
    "fonttools": ("ttlib",),
    "grain": ("pygrain",),
    "jax": ("jnp", "lax", "jax2tf", "jaxpr", "jaxprs"),
    "matplotlib": ("plt", "mpl", "pyplot", "pylab"),
    "mypy": ("mypyc",),
    "narwhals": ("nw",),
    "numpy": ("np",),
    "orbax-checkpoint": ("orbax", "ocp"),
    "pandas": ("pd",),
    "pillow": ("pil",),
    "pip": ("pypi",),
    "protobuf": ("protobufs", "protocol buffer", "protocol buffers", "google"),
    "pyarrow": ("arrow", "pa"),
    "python": ("cpython", "stdlib", "py3k"),
    "python-dateutil": ("dateutil",),
    "scikit-learn": ("sklearn", "scikit"),
    "scipy": ("sp",),
    "tensorboardx": ("tensorboard",),
    "tensorflow": ("tf", "tnp"),
    "tensorflow-datasets": ("tfds", "tensorflow", "tf", "tnp"),
    "torch": ("pytorch",),
    "xarray": ("xr",),
}
# Top-level modules that name nothing: "py" of pytest would blank every "setup.py".
_NO_NAMES = word_set("py tests test docs doc examples example benchmarks scripts tools setup conftest main")
# Names that are English words, or parts of them, are blanked where they stand alone, not inside "fine-grained".
_WORDS = word_set("""
    requests packaging promise cycler pillow pluggy humanize markdown coverage execnet linen scikit google distributed
    polars seaborn
""")
# Import names too common for that: only before a dot, as in `tree.map_structure`.
_BEFORE_DOT = word_set("tree attr arrow")
# Names of fewer than six letters that are blanked inside any word.
_PROJECTS = word_set("jax numpy scipy flax optax orbax mypy absl tfds")
_SUBSTRING_LENGTH = 6  # letters from which a name that is no word is blanked inside any word too


@functools.cache
def package_names(package: str) -> tuple[str, ...]:
    """All names of one package, lower case, sorted: as installed, as imported, as people abbreviate it."""
    names = {package, *import_names(canonical(package)), *_ALIASES.get(canonical(package), ())}
    return tuple(sorted({name.lower() for name in names} - _NO_NAMES))


def blank_names(text: str, names: Sequence[str]) -> str:
    """`text` with every occurrence of a name replaced by "it", in any case; runs of names by one.

    A name is found as a word, as a part of a dotted, underscored or CamelCase identifier, and, when it is no English
    word, inside longer words, whose tail goes with it ("jaxlib"). Hyphens, underscores, dots and spaces in a name are
    alike.
    """
    return blank_spans(text, (), names)[0]


def blank_spans(
    text: str, spans: Sequence[tuple[int, int]], names: Sequence[str]
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """`blank_names` that moves [start, end) spans of `text` along; spans that a replacement joins become one."""
    # The spans are moved by where the names were, and not searched for again: a word may stand twice in a text.
    found = _find(text, tuple(names)) if names else []
    parts: list[str] = []
    starts: list[int] = []  # of each "it" in the result
    at = length = 0
    for start, end in found:
        parts += (text[at:start], BLANK)
        starts.append(length + start - at)
        length = starts[-1] + len(BLANK)
        at = end
    parts.append(text[at:])

    def moved(position: int, is_end: bool) -> int:
        shift = 0
        for (start, end), new_start in zip(found, starts, strict=True):
            if position <= start:
                break
            if position < end:  # inside a name: to that side of "it" which keeps all of it in the span
                return new_start + len(BLANK) if is_end else new_start
            shift = new_start + len(BLANK) - end
        return position + shift

    joined: list[tuple[int, int]] = []
    for start, end in spans:
        start, end = moved(start, False), moved(end, True)
        if joined and start < joined[-1][1]:
            start = joined.pop()[0]
        joined.append((start, end))
    return "".join(parts), tuple(joined)


def _find(text: str, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """[start, end) of the names in `text`, in order; those that one separator joins are one."""
    pattern = _pattern(names)
    # Beyond ASCII, lower case may be longer than what it lowers.
    lower = text.lower() if text.isascii() else "".join(c.lower() if c.isascii() else c for c in text)
    found: list[tuple[int, int]] = []
    match = pattern.search(lower)
    while match:
        end = _end_of_name(text, match.start(), match.end(), match[0])
        if end and found and match.start() == found[-1][1] + 1 and text[found[-1][1]] in "-._/ ":
            found[-1] = (found[-1][0], end)
        elif end:
            found.append((match.start(), end))
        match = pattern.search(lower, end or match.start() + 1)
    return found


def _end_of_name(text: str, start: int, end: int, name: str) -> int:
    """Where the name at text[start:end] ends, with what goes with it; 0 if it is only part of another word."""
    letters = re.sub("[-_. ]", "", name)
    following = text[end : end + 1]
    if letters in _PROJECTS or (len(letters) >= _SUBSTRING_LENGTH and letters not in _WORDS):
        while text[end : end + 1].islower():
            end += 1
        return end
    # Any other name must stand alone, or be a part of an identifier: "to_np", "useNp".
    before = text[start - 1 : start] if start else ""
    camel_start = before.islower() and text[start].isupper() and text[end - 1].islower()
    if before.isalnum() and not camel_start:
        return 0
    if letters in _BEFORE_DOT:
        return end if re.match(r"\.[A-Za-z_]", text[end : end + 2]) else 0
    camel_end = following.isupper() and (text[end - 1].islower() or text[end + 1 : end + 2].islower())
    return 0 if following.isalpha() and not camel_end else end


@functools.lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """All names in lower case, the longest first."""
    # Alternatives are tried in order, and the first that fits wins: "tensorflow-datasets" before "tensorflow".
    ordered = sorted({name.lower() for name in names}, key=lambda name: (-len(name), name))
    return re.compile("|".join("[-_. ]?".join(map(re.escape, re.split("[-_. ]+", name))) for name in ordered))
