"""From docstrings as people write them to exact sentences; from installed packages to documents."""

import pytest

from albert_jax.data.pydocs import extract as pydocs
from albert_jax.data.pydocs.blocks import paragraphs
from albert_jax.data.pydocs.extract import english, read_modules
from albert_jax.data.pydocs.inline import is_english, remove_markup
from albert_jax.data.pydocs.paragraphs import Paragraph
from albert_jax.data.pydocs.sources import canonical, docstrings, resolve_packages, sources
from albert_jax.errors import AlbertError
from benchmarks import pydocs as counting

NUMPY_STYLE = """
    Solve the system for `x`, in which ``a`` is square.

    The factorisation is kept. Calling this twice is there-
    fore cheap::

        >>> solve(a, b)
        array([1., 2.])

    .. versionadded:: 1.2.0
       The axis can be given by its name.

    .. math:: x = a^{-1} b

    Parameters
    ----------
    a : (M, M) array_like
        The matrix of the system. It must not be singular
    b : {"lower", "upper"}, optional
        Which triangle is read.

        * ``"lower"`` : only the lower one is read.
        * ``"upper"``, the default.
    check_finite : bool

    Returns
    -------
    x : ndarray, shape (M,)
        Solution to the system, see [2]_ for the proof. Its
        shape is that of :math:`b`.
    info : int
        Zero if all went well.

    See Also
    --------
    lstsq : Return the least-squares solution to a linear system.

    Notes
    -----
    The cost is :math:`\\\\mathcal{O}(n^3)`. It is dominated by the first step [1]_.

    ====== =======
    driver meaning
    ====== =======
    gesv   This row is a part of the table.

    posv   So is this one, after a blank line.
    ====== =======

    References
    ----------
    .. [1] A. Author, "A book that everybody should read", 1999.

    Examples
    --------
    A system of two equations is solved as follows:

    >>> x = solve(a, b)
    The output of a prompt is not read.

    The solution is exact.
    """

GOOGLE_STYLE = """Builds the optimizer of the whole run.

    Works with :class:`~optax.GradientTransformation` and *any* schedule.
    For details see https://example.com/page.

    ```python
    tx = build(1e-3)  # This is a comment of the example.
    ```

    Args:
      learning_rate: A number or a schedule. If it is a schedule, it gets the
        count of steps.
      mask (Callable, optional): a tree of booleans that says where
        the decay applies
      **kwargs: Passed on to the inner function.

    Returns:
      A pair of functions, `(init, update)`.

    Raises:
      ValueError: If the rate is negative.

    Example usage:

      tx = build(1e-3)
      state = tx.init(params)
    """

REST_STYLE = """
    Open the file and return a stream, see :func:`io.open` and :ref:`the chapter on files <files>`.

    :param str path: the place of the file on the disk.
    :param mode: how the file is opened;
        the default is to read only.
    :type mode: a word that is one of the known ones.
    :returns: a stream that has to be closed.
    :rtype: IOBase

    .. note::
       The encoding is always `UTF-8 <https://example.com>`_ here.

    .. code-block:: python

       This is not read because it is in a block of code.

    Title of a Section With Words
    ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~

    1. The first item of the list is here.
    2. The second item is longer and goes
       on in the next line.

    term
        Definition of the term above it.

    | This is a line block that is skipped.

    +-------+--------------------+
    | Grids | are skipped too.   |
    +-------+--------------------+
    """

MARKDOWN = """# A title of the page

The [guide](https://example.com/guide) says **how** it is done. It
is **not** the `only_way()` to do it.

| a | table with a few words in it |
|---|---|
| b | is not a part of the text. |

* The `first` option of the list is the default.
"""


def test_numpy_style():
    assert english(NUMPY_STYLE) == [
        ("Solve the system for `x`, in which `a` is square.",),
        ("The factorisation is kept.", "Calling this twice is there-fore cheap:"),
        ("The axis can be given by its name.",),
        ("The matrix of the system.", "It must not be singular."),
        ("Which triangle is read.",),
        ("only the lower one is read.",),
        ("Its shape is that of b.",),
        ("Zero if all went well.",),
        ("It is dominated by the first step.",),
        ("A system of two equations is solved as follows:",),
        ("The solution is exact.",),
    ]


def test_google_style():
    assert english(GOOGLE_STYLE) == [
        ("Builds the optimizer of the whole run.",),
        ("Works with `GradientTransformation` and any schedule.",),
        ("A number or a schedule.", "If it is a schedule, it gets the count of steps."),
        ("a tree of booleans that says where the decay applies.",),
        ("Passed on to the inner function.",),
        ("A pair of functions, `(init, update)`.",),
        ("If the rate is negative.",),
    ]


def test_rest_style():
    assert english(REST_STYLE) == [
        ("Open the file and return a stream, see `io.open` and the chapter on files.",),
        ("the place of the file on the disk.",),
        ("how the file is opened; the default is to read only.",),
        ("a stream that has to be closed.",),
        ("The encoding is always UTF-8 here.",),
        ("The first item of the list is here.",),
        ("The second item is longer and goes on in the next line.",),
        ("Definition of the term above it.",),
    ]


def test_markdown():
    assert english(MARKDOWN) == [
        ("The guide says how it is done.", "It is not the `only_way()` to do it."),
        ("The `first` option of the list is the default.",),
    ]


def test_an_indented_block_is_read_if_it_is_no_code():
    code = "We do it this way:\n\n    x = f(1)\n    print(x)\n    this is the rest of it\n\nThe end."
    assert paragraphs(code) == ["We do it this way:", "The end."]
    quotation = "As people often say:\n\n    It is never too late\n    to read the docs.\n\nThe end."
    assert paragraphs(quotation) == [
        "As people often say:",
        "It is never too late to read the docs.",
        "The end.",
    ]


@pytest.mark.parametrize(
    ("paragraph", "text"),
    [
        ("Use ``x`` or `y`.", "Use `x` or `y`."),
        ("Many `.Artist`\\s and ``Path``\\ s here.", "Many `Artist`s and `Path`s here."),
        ("See :meth:`~a.B.run` and :class:`a.B`.", "See `run` and `a.B`."),
        ("A `phrase of words` is no code.", "A phrase of words is no code."),
        ("A ``quoted'' and a `single' word.", 'A "quoted" and a "single" word.'),
        ("Give *args and **kwargs to it.", "Give *args and **kwargs to it."),
        ("This is *very* **bold**.", "This is very bold."),
        ("Text (https://example.com) goes on.", "Text goes on."),
        ("Read https://example.com/page now.", "Read \x00 now."),
        ("Shown by Doe [1]_, [Roe20]_.", "Shown by Doe,."),
        ("Shown in [1]_.", "Shown in\x00."),
        ("`array`, the input.", "the input."),
        ("Note: it is slow.", "it is slow."),
        ("limit The number of steps.", "The number of steps."),
        ("The value is %(value)s here.", "The value is \x00 here."),
    ],
)
def test_inline_markup(paragraph, text):
    assert remove_markup(paragraph) == text


@pytest.mark.parametrize(
    "sentence",
    [
        "Returns the sum.",
        "If `x` is None, the default of the class is used.",
        "Is it (or is it not) 3.5 times the size of `a.b`?",
    ],
)
def test_english(sentence):
    assert is_english(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "Too short.",
        "no stop at the end of it",
        "x = y + z ** 2 - 1 is.",
        "float, int, str, bool, optional.",
        "THE WARRANTY IS NOT GIVEN TO THE USER.",
        "This is the set {a, b}.",
        "It is a -> b here.",
        "An odd ` quote is in the way.",
        "This is the end of the.",
        "Copyright of the first author and others.",
    ],
)
def test_no_english(sentence):
    assert not is_english(sentence)


LONG = "A text that is longer than eighty characters, because shorter docstrings say next to nothing {}."
SOURCE = f'''"""{LONG.format(1)}"""
LIMIT = 3
"""{LONG.format(2)}"""
class A:
    """{LONG.format(3)}"""
    x: int = 0
    """{LONG.format(4)}"""
    async def f(self):
        """{LONG.format(5)}"""
        """{"a string inside a function is not its documentation, whatever it is " * 2}"""
        def g():
            """{LONG.format(6)}"""
if LIMIT:
    def h():
        """{LONG.format(7)}"""
h.__doc__ = """{LONG.format(8)}"""
add_newdoc("m", "f", ("attribute", """{LONG.format(9)}"""))
short = lambda: 0
def i():
    """Short."""
'''


def test_docstrings_in_source_order():
    assert docstrings(SOURCE.encode()) == [LONG.format(number) for number in range(1, 10)]


def test_docstrings_of_what_is_no_python():
    assert docstrings(b'def broken(:\n    """' + LONG.encode() + b'"""') == []
    assert docstrings(b'"""' + LONG.encode() + b'\x00"""') == []
    assert docstrings(b"x = 1") == []


def test_sources_of_a_package():
    files = sources(["numpy"])
    names = [file.name for file in files]
    assert names == sorted(names)
    assert "numpy/linalg/_linalg.py" in names
    assert {file.package for file in files} == {"numpy"}
    assert not [name for name in names if "/tests/" in name]


def test_standard_library_is_the_package_python():
    names = {file.name for file in sources(["python"])}
    assert {"python/json/decoder.py", "python/asyncio/tasks.py"} <= names
    assert not [name for name in names if "site-packages" in name or "/test/" in name]


def test_package_names():
    assert canonical("Scikit_Learn") == "scikit-learn"
    assert resolve_packages(["sklearn", "NumPy", "orbax"]) == ["numpy", "orbax-checkpoint", "scikit-learn"]
    with pytest.raises(AlbertError, match="'numpi' is not installed here; nearest: numpy"):
        resolve_packages(["numpi"])


def test_everything_installed_leaves_this_project_out():
    packages = resolve_packages(None)
    assert {"jax", "numpy", "python"} <= set(packages)
    assert "albert-jax" not in packages
    assert not [file for file in sources(None) if file.name.startswith("albert_jax/")]


@pytest.fixture(scope="module")
def modules():
    return list(read_modules(["optax", "absl-py"]))


def test_modules_are_sorted_and_labelled(modules):
    keys = [(module.package, module.name) for module in modules]
    assert keys == sorted(keys)
    assert {module.package for module in modules} == {"absl-py", "optax"}
    assert sum(module.words for module in modules) > 20_000


def test_same_text_with_two_workers(modules):
    assert list(read_modules(["absl", "optax"], workers=2)) == modules


def test_documents_are_the_modules_without_quotes(modules):
    documents = [module.document() for module in read_modules(["optax", "absl-py"])]
    assert [(document.name, document.label) for document in documents] == [
        (module.name, module.package) for module in modules
    ]
    assert not [text for document in documents for text in document.sentences if "`" in text]
    assert sum(len(document.sentences) for document in documents) == sum(
        len(paragraph) for module in modules for paragraph in module.paragraphs
    )


def test_no_sentence_twice(modules):
    text = [sentence for module in modules for paragraph in module.paragraphs for sentence in paragraph]
    assert len(text) > 1_000
    assert len(set(text)) == len(text)


def test_first_occurrence_wins_whatever_the_code_and_the_digits():
    seen: set[bytes] = set()
    first = [("The `a` is 1.", "It ends."), ("Unlike others.",)]
    assert pydocs._first_occurrences(first, seen) == (("The `a` is 1.", "It ends."), ("Unlike others.",))
    later = [("The `b` is 22.", "This is new."), ("UNLIKE, others",)]
    assert pydocs._first_occurrences(later, seen) == (("This is new.",),)


def test_paragraphs_carry_their_mentions(modules):
    labelled = [p for module in read_modules(["optax", "absl-py"]) for p in module.labelled_paragraphs(12)]
    assert labelled == [found for module in modules for found in module.labelled_paragraphs(12)]
    assert min(len(paragraph.text.split()) for paragraph in labelled) == 12
    mentioned = [text.text[start:end] for text in labelled for start, end in text.mentions]
    assert len(mentioned) > 200
    assert all(mention == mention.strip() and mention for mention in mentioned)


def test_mention_spans_are_exact():
    module = pydocs.Module("m.py", "p", (("Give `x` to `np.sum(x)`.", "`y` is like `x`s."),))
    assert list(module.labelled_paragraphs(1)) == [
        Paragraph("Give x to np.sum(x). y is like x's.".replace("'", ""), "p", "m.py",
                  ((5, 6), (10, 19), (21, 22), (31, 32)))
    ]  # fmt: skip
    assert list(module.labelled_paragraphs(9)) == []


def test_counts(modules):
    totals = counting.count(modules)
    assert list(totals) == ["optax", "absl-py"]  # most words first
    assert totals["optax"].documents == sum(module.package == "optax" for module in modules)
    assert totals["optax"].words == sum(module.words for module in modules if module.package == "optax")
    table = counting.count_table(totals).splitlines()
    assert table[0].split() == ["package", "documents", "paragraphs", "sentences", "words", "mentions"]
    assert table[-1].split()[:2] == ["2", "packages"]
