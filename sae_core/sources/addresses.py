"""Where the objects of well-known packages are documented on the web."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urljoin

STANDARD_LIBRARY = "python"  # what we call the package of all its modules

_PYTHON_PAGES = frozenset(
    """abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 calendar cmath cmd code
    codecs codeop collections collections.abc colorsys compileall concurrent.futures configparser contextlib
    contextvars copy copyreg csv ctypes curses dataclasses datetime dbm decimal difflib dis doctest email
    email.charset email.errors email.generator email.header email.headerregistry email.message email.mime
    email.parser email.policy email.utils enum errno faulthandler fcntl filecmp fileinput fnmatch fractions
    ftplib functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac html html.entities
    html.parser http http.client http.cookiejar http.cookies http.server imaplib importlib importlib.metadata
    importlib.resources importlib.resources.abc inspect io ipaddress itertools json keyword linecache locale
    logging logging.config logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder
    multiprocessing multiprocessing.shared_memory netrc numbers operator optparse os os.path pathlib pdb
    pickle pickletools pkgutil platform plistlib poplib pprint profile py_compile pyclbr pydoc queue quopri
    random re readline reprlib resource rlcompleter runpy sched secrets select selectors shelve shlex shutil
    signal site smtplib socket socketserver sqlite3 ssl stat statistics string stringprep struct subprocess
    symtable sys sysconfig tabnanny tarfile tempfile textwrap threading time timeit tkinter
    tkinter.colorchooser tkinter.dnd tkinter.font tkinter.messagebox tkinter.scrolledtext tkinter.ttk token
    tokenize tomllib trace traceback tracemalloc turtle types typing unicodedata unittest unittest.mock
    urllib urllib.error urllib.parse urllib.request urllib.robotparser uuid venv warnings wave weakref
    webbrowser wsgiref xml xml.dom xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree xml.sax
    xml.sax.handler xml.sax.saxutils xmlrpc xmlrpc.client xmlrpc.server zipapp zipfile zipimport zoneinfo
    """.split()  # noqa: SIM905  a list of words reads better as words
)

_HOMES: Mapping[str, str] = {
    STANDARD_LIBRARY: "https://docs.python.org/3/library/",
    "anyio": "https://anyio.readthedocs.io/",
    "click": "https://click.palletsprojects.com/",
    "faiss": "https://faiss.ai/",
    "fastapi": "https://fastapi.tiangolo.com/",
    "filelock": "https://py-filelock.readthedocs.io/",
    "fsspec": "https://filesystem-spec.readthedocs.io/",
    "greenlet": "https://greenlet.readthedocs.io/",
    "h11": "https://h11.readthedocs.io/",
    "huggingface_hub": "https://huggingface.co/docs/huggingface_hub",
    "hypothesis": "https://hypothesis.readthedocs.io/",
    "jinja2": "https://jinja.palletsprojects.com/",
    "joblib": "https://joblib.readthedocs.io/",
    "markdown_it": "https://markdown-it-py.readthedocs.io/",
    "markupsafe": "https://markupsafe.palletsprojects.com/",
    "mpmath": "https://mpmath.org/doc/current/",
    "narwhals": "https://narwhals-dev.github.io/narwhals/",
    "networkx": "https://networkx.org/documentation/stable/",
    "numpy": "https://numpy.org/doc/stable/reference/",
    "opentelemetry": "https://opentelemetry-python.readthedocs.io/",
    "packaging": "https://packaging.pypa.io/",
    "playwright": "https://playwright.dev/python/",
    "pluggy": "https://pluggy.readthedocs.io/",
    "pyarrow": "https://arrow.apache.org/docs/python/",
    "pydantic": "https://docs.pydantic.dev/",
    "pydantic_settings": "https://docs.pydantic.dev/",
    "pygments": "https://pygments.org/docs/",
    "pytest": "https://docs.pytest.org/",
    "rich": "https://rich.readthedocs.io/",
    "safetensors": "https://huggingface.co/docs/safetensors",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/",
    "sentence_transformers": "https://sbert.net/",
    "sklearn": "https://scikit-learn.org/stable/api/",
    "sortedcontainers": "https://grantjenks.com/docs/sortedcontainers/",
    "sqlalchemy": "https://docs.sqlalchemy.org/",
    "starlette": "https://starlette.dev/",
    "sympy": "https://docs.sympy.org/latest/",
    "tokenizers": "https://huggingface.co/docs/tokenizers",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "tqdm": "https://tqdm.github.io/",
    "transformers": "https://huggingface.co/docs/transformers",
    "typer": "https://typer.tiangolo.com/",
    "uvicorn": "https://www.uvicorn.org/",
    "websockets": "https://websockets.readthedocs.io/",
    "yaml": "https://pyyaml.org/",
}

# Packages that give each object a page of its own: the modules whose members have one, and its address
# below the home of the package.
_OBJECT_PAGES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "numpy": (re.compile(r"numpy(\.(linalg|fft|ma|char|testing|polynomial(\.\w+)?))?"), "generated/{}.html"),
    "scipy": (
        re.compile(
            r"scipy\.(cluster\.(hierarchy|vq)|constants|datasets|differentiate|fft|fftpack|integrate|interpolate|io"
            r"|linalg|ndimage|odr|optimize|signal(\.windows)?|sparse(\.linalg|\.csgraph)?"
            r"|spatial(\.distance|\.transform)?|special|stats(\.qmc|\.mstats|\.contingency|\.sampling)?)"
        ),
        "generated/{}.html",
    ),
    "sklearn": (re.compile(r"sklearn\.\w+"), "../modules/generated/{}.html"),
    "torch": (
        re.compile(
            r"torch(\.(nn(\.functional|\.utils)?|optim(\.lr_scheduler)?|linalg|fft|Tensor|cuda|func|sparse))?"
        ),
        "generated/{}.html",
    ),
}


def documentation_url(name: str, package: str, kind: str) -> str:
    """Where `name` is documented: its own page where the address is known, else its package's, else ""."""
    home = _HOMES.get(package, "")
    if package == STANDARD_LIBRARY:
        parts = name.split(".")
        prefixes = (".".join(parts[:depth]) for depth in range(len(parts), 0, -1))
        page = next((prefix for prefix in prefixes if prefix in _PYTHON_PAGES), "")
        anchor = f"#{name}" if name != page else ""
        return f"{home}{page.lower()}.html{anchor}" if page else home
    if package in _OBJECT_PAGES and kind != "module":
        modules, template = _OBJECT_PAGES[package]
        documented = name if modules.fullmatch(name.rpartition(".")[0]) else name.rpartition(".")[0]
        if modules.fullmatch(documented.rpartition(".")[0]):
            return urljoin(home, template.format(documented))
    return home
