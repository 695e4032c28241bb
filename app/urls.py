"""Every address of the explorer, made here and nowhere else.

Arguments are plain text; what comes back is percent-encoded and begins with a slash.
A page at `P` has a twin for programs at `json(P)`, and its lists are files at `twin(P, "csv")`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

from app.settings import asset_folder

# First path segments that are never names of collections.
RESERVED_COLLECTIONS = frozenset(
    {"static", "live", "ready", "index", "docs", "openapi", "sign-in", "sign-out", "edit", "s", "audit"}
)

# What addresses may end in: formats of pages and of lists.
SUFFIXES = ("json", "csv", "parquet", "bib", "ris", "atom")

Parameter = tuple[str, str]

_DOT_SEGMENT = re.compile(r"(^|/)\.{0,2}(/|$)")
_NAMED = re.compile(r"{(\w+)(:path)?}")
_STRENGTH = re.compile(r"[0-9]+:[+-][0-9.]+")


@lru_cache(maxsize=4096)
def _segment(text: str) -> str:
    return quote(text, safe="")


@lru_cache(maxsize=4096)
def _value(text: str) -> str:
    # The plus of a strength stays readable: the parser takes the space it is decoded to for a plus.
    return text if _STRENGTH.fullmatch(text) else quote_plus(text, safe="/:,;!")


def with_parameters(path: str, parameters: Iterable[Parameter]) -> str:
    """`path` followed by a query string, in the order given; without one when there are none."""
    printed = "&".join([f"{name}={_value(value)}" for name, value in parameters])
    return f"{path}?{printed}" if printed else path


def without_each(path: str, parameters: Iterable[Parameter], name: str) -> list[str]:
    """`with_parameters` as often as a parameter of that name is there, each time without one of them."""
    named = [(key, f"{key}={_value(value)}") for key, value in parameters]
    printed = [each for _, each in named]
    places = [at for at, (key, _) in enumerate(named) if key == name]
    rests = ["&".join(printed[:at] + printed[at + 1 :]) for at in places]
    return [f"{path}?{rest}" if rest else path for rest in rests]


def twin(url: str, suffix: str, parameters: Iterable[Parameter] = ()) -> str:
    """The address of a page in another format, with more parameters."""
    path, _, query = url.partition("?")
    printed = "&".join(part for part in (query, with_parameters("", parameters).lstrip("?")) if part)
    return f"{'/index' if path == '/' else path}.{suffix}{'?' if printed else ''}{printed}"


def json(url: str) -> str:
    """The address of the JSON twin of a page."""
    return twin(url, "json")


def suffix(path: str) -> str | None:
    """The format that a path ends in."""
    _, dot, found = path.rpartition(".")
    return found if dot and found in SUFFIXES else None


def doi(doi: str) -> str:
    """Where a DOI leads: the resolver that its registration agencies keep."""
    return f"https://doi.org/{quote(doi, safe='/:;()')}"


@lru_cache(maxsize=256)
def static(path: str) -> str:
    """A file of static/, with a version from its content, so that browsers may keep it for ever."""
    file = asset_folder("static") / path
    if not file.is_file():
        return f"/static/{quote(path)}"
    version = hashlib.sha256(file.read_bytes()).hexdigest()[:10]
    return f"/static/{quote(path)}?v={version}"


def home() -> str:
    return "/"


def docs() -> str:
    return "/docs"


def openapi() -> str:
    return "/openapi.json"


def sign_in(back: str = "") -> str:
    """`back` is the page to come back to."""
    return with_parameters("/sign-in", [("next", back)] if back else [])


def edit(what: str) -> str:
    """Where a form is sent that stores something."""
    return f"/edit/{what}"


def short(slug: str) -> str:
    """A short link."""
    return f"/s/{slug}"


def links(collection: str) -> str:
    return f"/{_segment(collection)}/links"


def lenses(collection: str) -> str:
    return f"/{_segment(collection)}/lenses"


def lens(collection: str, slug: str) -> str:
    return f"/{_segment(collection)}/lenses/{slug}"


def lens_file(collection: str, slug: str) -> str:
    """A stored lens as it is pasted."""
    return f"{lens(collection, slug)}/lens.json"


def link(collection: str, slug: str) -> str:
    """What is known of a short link."""
    return f"/{_segment(collection)}/links/{slug}"


def sign_out() -> str:
    return "/sign-out"


def lists(collection: str) -> str:
    """What people put together of its features."""
    return f"/{_segment(collection)}/lists"


def feature_list(collection: str, slug: str) -> str:
    return f"{lists(collection)}/{_segment(slug)}"


def audit() -> str:
    """Who changed what, for admins."""
    return "/audit"


def filled(path: str, values: Mapping[str, str]) -> str:
    """A path of our routes, such as `/{collection}/documents/{document:path}`, with values for its names."""

    def fill(found: re.Match[str]) -> str:
        return quote(values[found[1]], safe="/" if found[2] else "")

    return _NAMED.sub(fill, path)


def collection(collection: str) -> str:
    return f"/{_segment(collection)}"


overview = collection


def documents(collection: str) -> str:
    return f"/{_segment(collection)}/documents"


@lru_cache(maxsize=8192)
def document(collection: str, document: str, sae: str = "") -> str:
    """The page of a document. Slashes stay readable.

    Browsers fold dot segments and empty ones, proxies decode percent signs once too often, and a format at
    the end means the twin, so ids that have these travel as a parameter.
    """
    chosen = [("sae", sae)] if sae else []
    if _DOT_SEGMENT.search(document) or "%" in document or suffix(document):
        return with_parameters(documents(collection), [("id", document), *chosen])
    return with_parameters(f"{documents(collection)}/{quote(document, safe='/')}", chosen)


def sae(collection: str, sae: str) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}"


def compare(collection: str) -> str:
    return f"/{_segment(collection)}/compare"


def search(collection: str, sae: str, q: str = "", strengths: Iterable[tuple[int, float]] = ()) -> str:
    """Steered search; `app.query.SearchQuery.url` prints the other parameters too."""
    parameters = [("q", q)] if q else []
    parameters += [("f", strength(latent, value)) for latent, value in strengths]
    return with_parameters(f"/{_segment(collection)}/{_segment(sae)}/search", parameters)


@lru_cache(maxsize=8192)
def strength(latent: int, value: float) -> str:
    """A slider in an address: `812:+0.40`. Always signed, two or three decimals."""
    return f"{latent}:{decimals(value)}"


def decimals(value: float) -> str:
    """A strength with its sign and two or three decimals; negative zero is zero."""
    printed = f"{value:+.3f}"
    if printed == "-0.000":
        printed = "+0.000"
    return printed.removesuffix("0")


def separate(collection: str, sae: str, a: Iterable[str] = (), b: Iterable[str] = (), q: str = "") -> str:
    """What separates the documents `a` from `b`; `app.query.SeparateQuery.url` prints other sets too."""
    parameters = [("a", each) for each in a] + [("b", each) for each in b] + ([("q", q)] if q else [])
    return with_parameters(f"/{_segment(collection)}/{_segment(sae)}/separate", parameters)


def features(collection: str, sae: str) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}/features"


def random_feature(collection: str, sae: str) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}/features/random"


def feature(collection: str, sae: str, latent: int) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}/features/{latent}"


def embed(collection: str, sae: str, latent: int | str) -> str:
    """The feature in a frame of another site."""
    return f"/{_segment(collection)}/{_segment(sae)}/features/{latent}/embed"


def families(collection: str, sae: str) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}/families"


def family(collection: str, sae: str, family: int) -> str:
    return f"/{_segment(collection)}/{_segment(sae)}/families/{family}"
