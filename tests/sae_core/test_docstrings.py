"""The demo corpus, harvested from planted packages: what counts as public, what as prose."""

from __future__ import annotations

import random
import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from sae_core.corpus import Document, load_corpus, save_corpus
from sae_core.errors import CorpusError
from sae_core.sources import docstrings
from sae_core.sources.addresses import documentation_url
from sae_core.sources.docstrings import harvest
from sae_core.sources.prose import MAX_LENGTH, MIN_LENGTH, is_readable, prose

NOUNS = (
    *(
        "river",
        "mountain",
        "gardener",
        "tree",
        "rain",
        "clock",
        "tower",
        "winter",
        "letter",
        "office",
        "clerk",
    ),
    *("ship", "north", "mail", "painter", "colour", "glass", "stone", "well", "surface", "lamp", "bridge"),
)


def words(about: str) -> str:
    """Enough prose for a document, different for each `about`."""
    pick = random.Random(about)
    lines = ["the {} of the {} is in the {}".format(*pick.sample(NOUNS, 3)) for _ in range(6)]
    return f"Says what {about} is for.\n\nThis is about {about}, and {', and '.join(lines)}."


def function(name: str, about: str = "") -> str:
    return f'def {name}():\n    """{words(about or name)}"""\n\n'


def plant(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def ids(folder: Path) -> list[str]:
    return [document.id for document in harvest(folders=[folder])]


# --- what is public ----------------------------------------------------------------------------


def test_modules_classes_functions_and_methods_are_documents(tmp_path: Path) -> None:
    method = textwrap.indent(function("brew", "brewing"), "    ")
    plant(
        tmp_path,
        {
            "tea/__init__.py": f'"""{words("tea")}"""\n',
            "tea/pots.py": f'"""{words("pots")}"""\n'
            + function("pour")
            + f'class Pot:\n    """{words("a pot")}"""\n\n{method}'
            + function("_hidden")
            + 'def short():\n    """Too short."""\n',
        },
    )
    documents = {document.id: document for document in harvest(folders=[tmp_path])}
    assert list(documents) == ["tea", "tea.pots", "tea.pots.Pot", "tea.pots.Pot.brew", "tea.pots.pour"]
    pot = documents["tea.pots.Pot"]
    assert (pot.title, pot.venue, pot.categories, pot.year) == ("tea.pots.Pot", "tea", "tea tea.pots", None)
    assert pot.abstract.startswith("Says what a pot is for.\n\nThis is about a pot")
    assert documents["tea.pots.Pot.brew"].categories == "tea tea.pots"


def test_an_object_has_its_shortest_public_name(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "tea/__init__.py": "from .green import *\nfrom tea._black import strong as assam, weak as _w\n",
            "tea/green.py": function("sencha"),
            "tea/_black.py": function("strong") + function("weak") + function("secret"),
            "tea/herbs/__init__.py": "try:\n    from ._mint import *\nexcept ImportError:\n    pass\n",
            "tea/herbs/_mint/__init__.py": "from .leaves import *\n__all__ = ['peppermint']\n",
            "tea/herbs/_mint/leaves.py": function("peppermint") + function("spearmint"),
            "tea/loop.py": "from tea.loop import *\n" + function("round"),
        },
    )
    assert ids(tmp_path) == ["tea.assam", "tea.herbs.peppermint", "tea.loop.round", "tea.sencha"]
    documents = {document.id: document for document in harvest(folders=[tmp_path])}
    assert documents["tea.herbs.peppermint"].categories == "tea tea.herbs tea.herbs.leaves"


def test_tests_private_and_vendored_code_and_broken_files_are_passed_over(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "tea/__init__.py": "",
            "tea/good.py": function("good"),
            "tea/tests/test_a.py": function("a"),
            "tea/test_b.py": function("b"),
            "tea/_private.py": function("c"),
            "tea/_vendor/lib.py": function("d"),
            "tea/vendored/lib.py": function("e"),
            "tea/broken.py": function("f") + "def (:\n",
            "tea/odd-name.py": function("g"),
            "tea/deep.py": function("h") + "x = " + "(" * 5000 + ")" * 5000,
            "_hidden/__init__.py": function("i"),
            "tests/__init__.py": function("j"),
            "pip/__init__.py": function("k"),
            "sae_core/__init__.py": function("l"),
            "tea-1.0.dist-info/m.py": function("m"),
        },
    )
    (tmp_path / "tea" / "nul.py").write_bytes(function("n").encode() + b"\0")
    (tmp_path / "tea" / "latin.py").write_bytes(function("o").encode() + b"x = '\xe9'\n")
    (tmp_path / "tea" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    assert ids(tmp_path) == ["tea.good.good"]


def test_nothing_is_imported_or_run(tmp_path: Path) -> None:
    plant(
        tmp_path, {"tea.py": f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n" + function("pour")}
    )
    assert ids(tmp_path) == ["tea.pour"]
    assert not (tmp_path / "ran").exists()


def test_docstrings_given_by_calls_are_found(tmp_path: Path) -> None:
    def doc(about: str) -> str:
        return f'"""\n{about}(input) -> Tensor\n\n{words(about)}\n\nArgs:\n    {{input}}\n""" + r""" """'

    plant(
        tmp_path,
        {
            "torch/__init__.py": "",
            "torch/_torch_docs.py": f"add_docstr(torch.tilt, {doc('tilting')}.format(**common))\n"
            f"add_docstr(torch._C.hidden, {doc('hiding')})\n",
            "torch/_tensor_docs.py": f'add_docstr_all("lift", {doc("lifting")})\n',
            "torch/special.py": f"twist = _add_docstr(_special.special_twist, {doc('twisting')})\n",
            "numpy/__init__.py": "",
            "numpy/_core/_add_newdocs.py": f"add_newdoc('numpy._core', 'fold', {doc('folding')})\n"
            f"add_newdoc('numpy._core', 'ndarray', ('bend', {doc('bending')}))\n",
        },
    )
    expected = ["numpy.fold", "numpy.ndarray.bend", "torch.Tensor.lift", "torch.special.twist", "torch.tilt"]
    assert ids(tmp_path) == expected
    assert all("{" not in document.abstract for document in harvest(folders=[tmp_path]))


# --- which are taken ---------------------------------------------------------------------------


def test_of_copies_one_is_kept_under_the_shortest_name(tmp_path: Path) -> None:
    method = textwrap.indent(function("pour", "pouring"), "    ")
    classes = "".join(f"class {name}:\n{method}\n" for name in ("Can", "Jug", "Pot"))
    plant(tmp_path, {"tea/__init__.py": function("pour", "pouring"), "tea/pots.py": classes})
    assert ids(tmp_path) == ["tea.pour"]


def test_giants_do_not_drown_the_rest(tmp_path: Path) -> None:
    for name, n in (("large", 60), ("huge", 70), ("small", 5)):
        plant(tmp_path, {f"{name}.py": "".join(function(f"f{i}", f"{name} matter {i}") for i in range(n))})
    taken = Counter(document.venue for document in harvest(limit=35, folders=[tmp_path]))
    assert taken == {"huge": 15, "large": 15, "small": 5}


def test_the_harvest_is_the_same_each_time_and_sorted(tmp_path: Path) -> None:
    plant(
        tmp_path, {f"p{n}/__init__.py": function("one", f"p{n}") + function("two", f"q{n}") for n in range(5)}
    )
    first = harvest(limit=7, folders=[tmp_path])
    assert first == harvest(limit=7, folders=[tmp_path])
    assert [document.id for document in first] == sorted(document.id for document in first)
    assert len(first) == 7


def test_progress_counts_packages(tmp_path: Path) -> None:
    plant(tmp_path, {"a.py": function("x"), "b.py": function("y")})
    calls: list[tuple[int, int]] = []
    harvest(folders=[tmp_path], progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_only_packages_that_are_named_are_read(tmp_path: Path) -> None:
    plant(tmp_path, {"a.py": function("x"), "b.py": function("y")})
    calls: list[tuple[int, int]] = []
    found = harvest(folders=[tmp_path], only=["b"], progress=lambda *done: calls.append(done))
    assert ({document.venue for document in found}, calls) == ({"b"}, [(1, 1)])
    with pytest.raises(CorpusError, match="No installed package"):
        harvest(folders=[tmp_path], only=["c"])


def test_no_docstring_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No installed package"):
        harvest(folders=[tmp_path, tmp_path / "missing"])


def test_tools_that_are_installed_beside_do_not_change_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, {"numpy.py": function("x"), "hypothesis.py": function("y")})
    monkeypatch.setattr(docstrings, "_standard_library", list)
    monkeypatch.setattr(docstrings, "_site_packages", lambda: [tmp_path])
    assert {document.venue for document in harvest()} == {"numpy"}


@pytest.fixture(scope="module")
def standard_library() -> list[Document]:
    """What the standard library of this interpreter gives, without site-packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docstrings, "_site_packages", list)
        return harvest()


def test_the_standard_library_gives_hundreds_of_readable_documents(standard_library: list[Document]) -> None:
    assert len(standard_library) > 500
    found = {document.id: document for document in standard_library}
    assert found["subprocess.check_output"].url == (
        "https://docs.python.org/3/library/subprocess.html#subprocess.check_output"
    )
    assert {document.venue for document in standard_library} == {"python"}
    assert all(document.categories.startswith("python ") for document in standard_library)
    for document in standard_library:
        assert MIN_LENGTH <= len(document.abstract) <= MAX_LENGTH
        assert not re.search(r"^>>> |:\w+:`|``", document.abstract)
        assert not any(part.startswith("_") for part in document.id.split("."))


def test_the_harvest_survives_being_saved_and_loaded(
    standard_library: list[Document], tmp_path: Path
) -> None:
    save_corpus(standard_library, tmp_path / "docstrings.parquet")
    corpus = load_corpus(tmp_path / "docstrings.parquet")
    assert corpus.rejected == []
    assert corpus.documents == standard_library


# --- prose -------------------------------------------------------------------------------------

NUMPYDOC = """
    Fold an array along `axis`.

    The array is folded **in place**, as :func:`numpy.roll` does [1]_,
    and :math:`O(n)` steps are enough.

    .. versionadded:: 1.7

    Parameters
    ----------
    a : array_like
        The array.

        More about it.

    Returns
    -------
    out : ndarray

    See Also
    --------
    unfold : The inverse.

    Notes
    -----
    The fold is defined by

    .. math:: y = x + x^T

    where ``x`` is the array. There are three kinds::

        code = here

    - the first kind
    - the second
      kind

    ======  =====
    name    value
    ======  =====
    a       1
    ======  =====

    Last words.

    References
    ----------
    .. [1] Somebody, "Something".

    Examples
    --------
    >>> fold(1)
    1
"""


def test_numpydoc_becomes_prose() -> None:
    assert prose(NUMPYDOC) == (
        "Fold an array along axis.\n\n"
        "The array is folded in place, as numpy.roll does, and $O(n)$ steps are enough.\n\n"
        "The fold is defined by …\n\n"
        "where x is the array.\n\n"
        "the first kind; the second kind\n\n"
        "Last words."
    )


GOOGLE = """fold(input, axis) -> Tensor

    Folds :attr:`input` with :class:`~torch.nn.Fold`\\s.

    .. warning::
        It is slow.

    Args:
        input (Tensor): the tensor.

            With a blank line.
        axis (int, optional): the axis.

    Note:
        This is kept. See the `guide <https://example.org>`_ and [`~models.Fold`].

    Example::

        >>> fold(x)

    After the example, more words.

    :param x: a field
    :returns: another

    ```python
    fold(x)
    ```

    | a | b |
    |---|---|
    | 1 | 2 |
"""


def test_google_style_and_markdown_become_prose() -> None:
    assert prose(GOOGLE) == (
        "Folds input with Folds.\n\n"
        "It is slow.\n\n"
        "This is kept. See the guide and Fold.\n\n"
        "After the example, more words."
    )


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Adds two numbers. For example:\n\n>>> 1 + 1\n2", "Adds two numbers."),
        (
            "This is a rather long sentence that announces an example as follows:\n\n    x = f(y)\n",
            "This is a rather long sentence that announces an example as follows …",
        ),
        ("First.\n\nCopyright (c) 1999 Somebody.\n\nLast words.", "First.\n\nLast words."),
        ("Uses *args and **kwargs of the call.", "Uses *args and **kwargs of the call."),
        ("Multiplies a * b by c * d here.", "Multiplies a * b by c * d here."),
        ("Overview\n========\n\nIt has some words.", "It has some words."),
        ("Has a {placeholder} of %(kind)s here.", "Has a of here."),
        (
            "The sum $x_{max}$ and \\alpha_{i} stay as they are.",
            "The sum $x_{max}$ and \\alpha_{i} stay as they are.",
        ),
        ("", ""),
        (">>> only(code)", ""),
    ],
)
def test_small_cases_of_prose(doc: str, expected: str) -> None:
    assert prose(doc) == expected


def test_prose_is_cut_between_sentences() -> None:
    text = prose("A sentence of some words. " * 500)
    assert MAX_LENGTH - 100 < len(text) <= MAX_LENGTH
    assert text.endswith("words.")


def test_only_prose_is_readable() -> None:
    assert is_readable(prose(words("reading")))
    assert not is_readable("Too short to say anything.")
    assert not is_readable("alpha beta gamma delta epsilon zeta eta theta iota kappa " * 6)
    assert not is_readable("x = f(a, b); y[0] += {1: 2}; the a of to is in and for " * 6)


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "kind", "url"),
    [
        ("json", "python", "module", "https://docs.python.org/3/library/json.html"),
        (
            "json.decoder.JSONDecoder",
            "python",
            "class",
            "https://docs.python.org/3/library/json.html#json.decoder.JSONDecoder",
        ),
        (
            "xml.etree.ElementTree.parse",
            "python",
            "function",
            "https://docs.python.org/3/library/xml.etree.elementtree.html#xml.etree.ElementTree.parse",
        ),
        ("sre_compile.compile", "python", "function", "https://docs.python.org/3/library/"),
        (
            "numpy.linalg.svd",
            "numpy",
            "function",
            "https://numpy.org/doc/stable/reference/generated/numpy.linalg.svd.html",
        ),
        ("numpy.linalg", "numpy", "module", "https://numpy.org/doc/stable/reference/"),
        ("numpy.f2py.crackfortran.x", "numpy", "function", "https://numpy.org/doc/stable/reference/"),
        (
            "scipy.optimize.OptimizeResult.keys",
            "scipy",
            "method",
            "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.OptimizeResult.html",
        ),
        (
            "torch.Tensor.abs",
            "torch",
            "method",
            "https://docs.pytorch.org/docs/stable/generated/torch.Tensor.abs.html",
        ),
        (
            "sklearn.svm.SVC",
            "sklearn",
            "class",
            "https://scikit-learn.org/stable/modules/generated/sklearn.svm.SVC.html",
        ),
        ("unheard_of.thing", "unheard_of", "function", ""),
    ],
)
def test_addresses(name: str, package: str, kind: str, url: str) -> None:
    assert documentation_url(name, package, kind) == url
