"""The demo corpus: docstrings of the packages installed beside us, real technical prose on every machine.

Everything is read with `ast`; nothing is imported or run. One document per public function, class, method
or module whose docstring leaves at least MIN_LENGTH characters of prose once code, tables and parameter
lists are cut. An object is public by its shortest public name: what a package's `__init__` re-exports from
a private module counts, under the name it has there.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import re
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sae_core.corpus import Document, normalise_title
from sae_core.errors import CorpusError
from sae_core.sources.addresses import STANDARD_LIBRARY, documentation_url
from sae_core.sources.prose import MIN_LENGTH, is_readable, prose

LIMIT = 6_000
# Of what is installed; tools beside us shall not change the demo, nor the addresses of its pages.
LIBRARIES = frozenset(
    """anyio click faiss fastapi filelock fsspec h11 httpx2 huggingface_hub jinja2 joblib markdown_it mpmath
    narwhals networkx numpy packaging pyarrow pydantic pydantic_settings pygments rich scipy
    sentence_transformers sklearn sqlalchemy starlette sympy tokenizers torch tqdm transformers typer uvicorn
    watchfiles websockets
    """.split()  # noqa: SIM905  a list of words reads better as words
)
SOURCE_BUDGET = 5_000_000  # bytes read of a package's public source, and as many of its private source
MAX_PER_PACKAGE = 400  # more is not looked at

Progress = Callable[[int, int], None]


def harvest(
    limit: int = LIMIT,
    progress: Progress | None = None,
    *,
    folders: Sequence[Path] | None = None,
    only: Sequence[str] = (),
) -> list[Document]:
    """At most `limit` documents, sorted by id, the same for the same installed versions.

    Read are the standard library and `LIBRARIES` of this interpreter, or all of `folders`; with `only`, the
    packages of these names.
    Balanced: no package has more than a common cap, set so that the limit is just met; the modules of the
    standard library count as packages of their own. `progress` gets (packages read, packages).

    Raises CorpusError if there is no usable docstring.
    """
    packages = _standard_library() if folders is None else []
    for folder in _site_packages() if folders is None else folders:
        packages += _packages(folder)
    wanted = only or ({STANDARD_LIBRARY, *LIBRARIES} if folders is None else ())
    packages = [package for package in packages if not wanted or package.name in wanted]
    candidates: list[_Candidate] = []
    with _parsing():
        for done, package in enumerate(packages, start=1):
            candidates += _Reader(package).candidates()
            if progress:
                progress(done, len(packages))
    chosen = _balance(_without_copies(candidates), limit)
    if not chosen:
        raise CorpusError(
            "No installed package has docstrings that could be read.",
            remedy="Install the sources of some packages, or build from a file.",
        )
    return sorted((candidate.document() for candidate in chosen), key=lambda document: document.id)


@contextmanager
def _parsing() -> Iterator[None]:
    """No warnings about other people's sources, and no cycle search among millions of syntax nodes."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if was_collecting:
            gc.enable()


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str  # public, qualified
    package: str
    module: str  # where it is defined
    kind: str  # module, class, function or method
    text: str  # the docstring, then its prose

    @property
    def group(self) -> str:
        """What is balanced: packages, and modules of the standard library."""
        return self.name.split(".")[0] if self.package == STANDARD_LIBRARY else self.package

    @property
    def order(self) -> tuple[bool, int, bytes]:
        """Best known first: methods last, short names first, then evenly over the package."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return self.kind == "method", self.name.count("."), digest

    def document(self) -> Document:
        parts = [part for part in self.module.split(".") if not part.startswith("_")]
        paths = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        if self.package == STANDARD_LIBRARY:
            paths = [STANDARD_LIBRARY, *paths]
        return Document(
            id=self.name,
            title=self.name,
            abstract=self.text,
            venue=self.package,
            categories=" ".join(paths),
            url=documentation_url(self.name, self.package, self.kind),
        )


def _without_copies(candidates: list[_Candidate]) -> list[_Candidate]:
    """One candidate for each text, also where copies differ only in the names they mention."""
    kept: dict[tuple[str, ...], _Candidate] = {}
    names: set[str] = set()
    for candidate in sorted(candidates, key=lambda c: (c.order[:2], c.name)):
        own = set(re.findall(r"[a-z]+", candidate.name.lower()))
        words = [word for word in re.findall(r"\b[a-z]{3,}\b", candidate.text) if word not in own]
        key = normalise_title(candidate.name)
        signature = tuple(words[:_SIGNATURE_WORDS])
        if key not in names and signature not in kept:
            kept[signature] = candidate
            names.add(key)
    return list(kept.values())


_SIGNATURE_WORDS = 30


def _balance(candidates: list[_Candidate], limit: int) -> list[_Candidate]:
    """At most `limit`: every group up to the same cap, the cap as high as the limit allows."""
    groups: dict[str, list[_Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: c.order):
        groups.setdefault(candidate.group, []).append(candidate)
    ranked = sorted(
        (rank, candidate.order, candidate.name, candidate)
        for group in groups.values()
        for rank, candidate in enumerate(group)
    )
    return [candidate for *_, candidate in ranked[:limit]]


# --- which files -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Package:
    name: str
    modules: dict[str, Path]  # dotted name -> file


_SKIPPED_FOLDERS = re.compile(
    r"_?tests?|_?vendor(ed)?|_vendored_.*|externals?|extern|third_?party|benchmarks?|examples?"
    r"|__pycache__|site-packages|dist-packages|lib-dynload"
)
_SKIPPED_FILES = re.compile(r"__main__|setup|conftest|_?tests?|test_.*|.*_tests?")
# tools that have no documented library inside, and ourselves
_SKIPPED_PACKAGES = frozenset(
    ("pip", "setuptools", "pkg_resources", "wheel", "mypy", "mypyc", "torchgen", "sae_core", "app")
)
_SKIPPED_STANDARD = frozenset(
    (
        "antigravity",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "test",
        "this",
        "turtledemo",
    )
)


def _standard_library() -> list[_Package]:
    """The standard library as one package: its modules import from each other."""
    folder = Path(sysconfig.get_path("stdlib"))
    known = sys.stdlib_module_names - _SKIPPED_STANDARD
    modules = {name: path for top in sorted(known) for name, path in _modules(folder, top)}
    return [_Package(STANDARD_LIBRARY, modules)] if modules else []


def _site_packages() -> list[Path]:
    paths = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return [Path(path) for path in dict.fromkeys(paths)]


def _packages(folder: Path) -> list[_Package]:
    if not folder.is_dir():
        return []
    tops = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    packages = (
        _Package(top, dict(_modules(folder, top)))
        for top in sorted(tops)
        if top.isidentifier() and not top.startswith("_")
        if top not in _SKIPPED_PACKAGES and not _SKIPPED_FILES.fullmatch(top)
    )
    return [package for package in packages if package.modules]


def _modules(folder: Path, top: str) -> Iterator[tuple[str, Path]]:
    """Dotted names and files below `folder / top`, without tests and vendored copies."""
    single, root = folder / f"{top}.py", folder / top
    if single.is_file():
        yield top, single
    pending = [(top, root)] if root.is_dir() else []
    while pending:
        name, path = pending.pop()
        for entry in sorted(path.iterdir()):
            stem = entry.stem
            if not stem.isidentifier() or not entry.exists():  # a dangling link
                continue
            if entry.suffix == ".py" and stem == "__init__":
                yield name, entry
            elif entry.suffix == ".py" and not _SKIPPED_FILES.fullmatch(stem):
                yield f"{name}.{stem}", entry
            elif not entry.suffix and not _SKIPPED_FOLDERS.fullmatch(stem) and entry.is_dir():
                pending.append((f"{name}.{stem}", entry))


# --- what is in a module -----------------------------------------------------------------------


@dataclass
class _Module:
    doc: str = ""
    objects: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> kind, docstring
    imports: list[tuple[str, str, str]] = field(default_factory=list)  # module, name or "*", name here
    exported: frozenset[str] | None = None  # __all__, where it is spelled out


# Files that document compiled objects by calls: add_docstr(torch.abs, "...")
_DOCUMENTING = {
    "numpy": ("numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars"),
    "torch": ("torch._torch_docs", "torch._tensor_docs", "torch._storage_docs"),
}


class _Reader:
    """Reads the modules of one package as they are needed, and finds the public name of each object."""

    def __init__(self, package: _Package) -> None:
        self.package = package
        self._read: dict[str, _Module] = {}
        self._allowed: dict[str, bool] = {}
        self._left = {False: SOURCE_BUDGET, True: SOURCE_BUDGET}  # by whether a module is private
        self._exported: dict[tuple[str, bool], frozenset[str]] = {}
        self._resolved: dict[tuple[str, str], tuple[str, str] | None] = {}

    def candidates(self) -> list[_Candidate]:
        """The public objects that have enough prose, the best known MAX_PER_PACKAGE of them."""
        n_of_group: Counter[str] = Counter()
        candidates = []
        for candidate in sorted(self._documented(), key=lambda c: c.order):
            if n_of_group[candidate.group] < MAX_PER_PACKAGE:
                text = prose(candidate.text)
                if is_readable(text):
                    n_of_group[candidate.group] += 1
                    candidates.append(replace(candidate, text=text))
        return candidates

    def _documented(self) -> Iterator[_Candidate]:
        """Every public module and object with a docstring of some length, not yet cleaned."""
        public = self._public_modules()
        found = [(name, name, "module", self._module(name).doc) for name in public]
        for (module_name, top), public_name in self._names(public).items():
            objects = self._module(module_name).objects
            found.append((public_name, module_name, *objects[top]))
            found += [
                (f"{public_name}.{inner.rpartition('.')[2]}", module_name, *objects[inner])
                for inner in objects
                if inner.startswith(f"{top}.")
            ]
        for name in _DOCUMENTING.get(self.package.name, ()):
            documented = self._module(name).objects.items()
            found += [(full, full.rpartition(".")[0], *rest) for full, rest in documented if "." in full]
        for name, module, kind, doc in found:
            if len(doc) >= MIN_LENGTH:
                yield _Candidate(name, self.package.name, module, kind, doc)

    def _public_modules(self) -> list[str]:
        """Public modules as they are read: packages, then evenly spread, until the budget is spent."""
        files = self.package.modules
        names = [name for name in files if not any(part.startswith("_") for part in name.split("."))]
        names.sort(key=lambda n: (not self._is_package(n), hashlib.sha256(n.encode()).digest()))
        return [name for name in names if self._may_read(name)]

    def _may_read(self, name: str) -> bool:
        """Whether a module is a package or within the budget of its kind, which its size is taken from."""
        if self._is_package(name) or self.package.name == STANDARD_LIBRARY:
            return True
        if name not in self._allowed:
            is_private = any(part.startswith("_") for part in name.split("."))
            size = self.package.modules[name].stat().st_size
            self._allowed[name] = self._left[is_private] >= size
            self._left[is_private] -= size
        return self._allowed[name]

    def _names(self, public: Sequence[str]) -> dict[tuple[str, str], str]:
        """(defining module, name there) -> the shortest public name."""
        names: dict[tuple[str, str], list[str]] = {}
        for name in public:
            module = self._module(name)
            for top in module.objects:
                if "." not in top:
                    names.setdefault((name, top), []).append(f"{name}.{top}")
            for alias in sorted(self._exports(name)):
                if alias not in module.objects and (origin := self._resolve(name, alias)):
                    names.setdefault(origin, []).append(f"{name}.{alias}")
        return {
            origin: min(choices, key=lambda n: (n.count("."), len(n), n)) for origin, choices in names.items()
        }

    def _exports(self, name: str, *, by_star: bool = False) -> frozenset[str]:
        """Public names of a module: `__all__`, else what it defines and, for a package, what it imports.

        `by_star`: what `from name import *` would bring, so imports count in every module.
        """
        key = (name, by_star)
        if key not in self._exported:
            self._exported[key] = frozenset()  # a cycle adds nothing
            module = self._module(name)
            names = set(module.exported or module.objects)
            if module.exported is None and (by_star or self._is_package(name)):
                for source, original, alias in module.imports:
                    names |= self._exports(source, by_star=True) if original == "*" else {alias}
            self._exported[key] = frozenset(n for n in names if not n.startswith("_") and "." not in n)
        return self._exported[key]

    def _is_package(self, name: str) -> bool:
        return name in self.package.modules and self.package.modules[name].name == "__init__.py"

    def _resolve(self, name: str, wanted: str) -> tuple[str, str] | None:
        """The module of this package that defines what `name` calls `wanted`, and its name there."""
        key = (name, wanted)
        if key not in self._resolved:
            self._resolved[key] = None  # a cycle leads nowhere
            module = self._module(name)
            if wanted in module.objects:
                self._resolved[key] = key
            for source, original, alias in module.imports if wanted not in module.objects else ():
                is_star = original == "*" and wanted in self._exports(source, by_star=True)
                if is_star or alias == wanted:
                    origin = self._resolve(source, wanted if is_star else original)
                    self._resolved[key] = self._resolved[key] or origin
        return self._resolved[key]

    def _module(self, name: str) -> _Module:
        if name not in self._read:
            path = self.package.modules.get(name)
            self._read[name] = _parse(path, name) if path and self._may_read(name) else _Module()
        return self._read[name]


def _parse(path: Path, name: str) -> _Module:
    """What `path` defines and imports; empty where it cannot be read or is no Python."""
    try:
        source = path.read_bytes()
        if path.name != "__init__.py" and b'"""' not in source and b"'''" not in source:
            return _Module()
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return _Module()
    module = _Module(doc=ast.get_docstring(tree, clean=False) or "")
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _add_definition(module, node)
        elif isinstance(node, ast.ImportFrom):
            up = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*up, node.module] if node.module else up)
            module.imports += [(origin, alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Expr):
            _add_value(module, node)
    return module


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those under `if` and `try` too."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)
            for handler in getattr(node, "handlers", ()):
                yield from _statements(handler.body)
            yield from _statements(node.orelse)
        else:
            yield node


def _add_definition(module: _Module, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if node.name.startswith("_") or node.name in module.objects:
        return
    is_class = isinstance(node, ast.ClassDef)
    doc = ast.get_docstring(node, clean=False) or ""
    module.objects[node.name] = ("class" if is_class else "function", doc)
    for inner in node.body if is_class else ():
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
            doc = ast.get_docstring(inner, clean=False) or ""
            module.objects.setdefault(f"{node.name}.{inner.name}", ("method", doc))


def _add_value(module: _Module, node: ast.Assign | ast.AugAssign | ast.Expr) -> None:
    """`__all__`, and docstrings given to compiled objects by a call."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    name = target.id if isinstance(target, ast.Name) else ""
    if name == "__all__" and isinstance(node, ast.Assign | ast.AugAssign):
        literals = [
            n
            for n in ast.walk(node.value)
            if isinstance(n, ast.Constant | ast.Name | ast.Attribute | ast.Call)
        ]
        if all(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in literals):
            more = {n.value for n in literals if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            module.exported = frozenset(more | set(module.exported or ()))
    elif isinstance(node.value, ast.Call) and len(node.value.args) > 1:
        function = (
            ast.unparse(node.value.func) if isinstance(node.value.func, ast.Name | ast.Attribute) else ""
        )
        if function in _CALLS:
            _add_call(module, _CALLS[function], name, node.value.args)


_CALLS = {"add_docstr": "", "_add_docstr": "", "add_docstr_all": "torch.Tensor.", "add_newdoc": "numpy."}


def _add_call(module: _Module, prefix: str, name: str, args: Sequence[ast.expr]) -> None:
    """add_docstr(torch.abs, doc); add_docstr_all("abs", doc); add_newdoc("numpy", "dot" [, ("T", doc)])."""
    first = _literal(args[0]) or ast.unparse(args[0])
    doc = args[-1]
    if prefix == "numpy.":
        first = _literal(args[1])
        if isinstance(doc, ast.Tuple) and len(doc.elts) > 1:
            first, doc = f"{first}.{_literal(doc.elts[0])}", doc.elts[1]
    full = name or f"{prefix}{first}"
    kind = "method" if prefix == "torch.Tensor." or (full.count(".") > 1 and prefix) else "function"
    if not any(part.startswith("_") for part in full.split(".")):
        module.objects.setdefault(full, (kind, _literal(doc)))


def _literal(node: ast.expr) -> str:
    """The text of a string, of strings added up, or of the template in "...".format(...)."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _literal(node.func.value)
    return ""
