"""Views to answers: one dataclass, printed as a whole page, as one block of it, or as JSON.

The only module that knows of Jinja. A route calls `page(request, "feature", view)`; what the browser gets
depends on the format (`app/formats/`: `.json` is the twin for programs) and on the block that htmx says it
wants to replace.
`render_file` prints a view as a file that needs no server.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError
from markupsafe import Markup
from pydantic import TypeAdapter

from app import areas, charts, formats, urls
from app.authored.store import printed
from app.caching import VARY
from app.deps import origin
from app.mathematics import plain, typeset
from app.settings import asset_folder
from app.views.common import TreeRow
from app.views.editing import VISITOR, Visitor
from app.views.search import Notch

log = logging.getLogger("saefari")

ERROR_BLOCK = "error"  # what a fragment request gets instead of its block when it fails

NARROW_SPACE = "\u202f"
MINUS = "\u2212"
MAX_DIGITS = 8  # of a percentage: one document in a hundred million

_adapters: dict[type, TypeAdapter[Any]] = {}  # building one takes milliseconds


def page(
    request: Request, name: str, view: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`view` as the answer to `request`: as JSON, or the page `name` or the block htmx asked for.

    Raises jinja2.UndefinedError if a template names something that the view does not have.
    """
    answer_headers = {"Vary": VARY, **(headers or {})}
    if formats.page_format(request) == formats.JSON:
        if next_url := getattr(getattr(view, "page", None), "next_url", None):
            formats.add_next(answer_headers, urls.json(next_url))
        return Response(_adapter(type(view)).dump_json(view), status, answer_headers, "application/json")
    template = _template(name)
    block = _wanted_block(request, template)
    files, visitor = request.scope.get(formats.FILES), request.scope.get(VISITOR)
    if block is None:
        printed = template.render(view=view, files=files, origin=origin(request), visitor=visitor)
        return HTMLResponse(printed, status, answer_headers)
    address = getattr(view, "url", None)
    if address and status < 400:  # noqa: PLR2004
        # The address bar follows in its canonical form, with defaults left out.
        answer_headers.setdefault("HX-Replace-Url", address)
    return HTMLResponse(render_block(template, block, view, files, visitor), status, answer_headers)


def render_block(
    template: Template,
    block: str,
    view: Any,
    files: formats.Files | None = None,
    visitor: Visitor | None = None,
) -> str:
    """One named block of a page, without what surrounds it."""
    context = template.new_context({"view": view, "files": files, "visitor": visitor})
    return "".join(template.blocks[block](context))


def render_page(name: str, view: Any) -> str:
    """The page `name` that answers no request: it lies in a folder beside copies of others."""
    return _template(name).render(view=view, files=None)


def render_file(name: str, view: Any) -> str:
    """`view` as a file that needs no other: the template `files/{name}`, with the stylesheet inside."""
    return _environment().get_template(f"files/{name}").render(view=view)


def set_up(*, auto_reload: bool = False) -> list[str]:
    """Compile every template now, so that no visitor waits; `auto_reload` is for working on templates.

    The names of those that cannot be used; why is in the log.
    """
    failed: list[str] = []
    for name in sorted(_loader().list_templates()):
        try:
            environment = _environment()  # which needs a template itself
            environment.auto_reload = auto_reload
            environment.get_template(name)
        except (TemplateError, OSError, UnicodeError):
            log.exception("The template %s cannot be used, and no page that needs it", name)
            failed.append(name)
    return failed


def _wanted_block(request: Request, template: Template) -> str | None:
    """The block named by `HX-Target: section#results` in a partial request; None for the whole page."""
    if request.headers.get("hx-request-type") != "partial":
        return None
    target = request.headers.get("hx-target", "").rpartition("#")[2]
    for block in (target, ERROR_BLOCK):
        if block in template.blocks:
            return block
    return None


def _adapter(view_type: type) -> TypeAdapter[Any]:
    if view_type not in _adapters:
        _adapters[view_type] = TypeAdapter(view_type)
    return _adapters[view_type]


@lru_cache(maxsize=8192)
def _remembered(macro: str, *parts: Hashable) -> str:
    """A component that says the same for the same parts: while a slider moves, most of a page does."""
    printed: str = getattr(_environment().globals["ui"], macro)(*parts)
    return printed


def _stylesheet() -> Markup:
    """The whole stylesheet, for a file that is to need no other."""
    text = (asset_folder("static") / "app.css").read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 (our own file)


def _template(name: str) -> Template:
    environment = _environment()
    if environment.auto_reload:
        environment.globals["ui"] = environment.get_template("ui.html").module
        _remembered.cache_clear()
    return environment.get_template(f"pages/{name}.html")


def _loader() -> FileSystemLoader:
    return FileSystemLoader(asset_folder("templates"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=_loader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters |= {
        "activation": activation,
        "signed": signed,
        "cosine": cosine,
        "percent": percent,
        "count": count,
        "number": number,
        "minus": _minus,
        "excerpt": excerpt,
        "typeset": lambda text: Markup(typeset(text)),  # noqa: S704 (escaped, and formulas cleaned, there)
        "plain": plain,
        "parameters": parameters,
        "path": lambda address: urlsplit(address).path,
        "printed": printed,
        "twins": formats.twins,
        "tone": lambda share: min(3, int(4 * share)),
        "nested": nested,
        "notch": notch,
        "places": places,
    }
    environment.globals |= {"url": urls, "charts": charts, "areas": areas, "remembered": _remembered}
    environment.globals["stylesheet"] = _stylesheet
    environment.globals["origin"] = ""  # what is no answer to a request has no address of its own
    environment.globals["visitor"] = None  # and nobody asks for it
    # Macros as a global: a block that is rendered alone does not see its page's imports.
    environment.globals["ui"] = environment.get_template("ui.html").module
    return environment


# --- numbers and texts as people read them --------------------------------------------------------


def activation(value: float) -> str:
    """Three decimals; four below 0.1, where the third alone says little."""
    digits = 4 if 0 < abs(value) < 0.1 else 3  # noqa: PLR2004
    return _minus(f"{value:.{digits}f}")


def signed(value: float, digits: int = 2) -> str:
    """Always with a sign; zero has none."""
    printed = f"{value:+.{digits}f}"
    return _minus(printed) if float(printed) else printed[1:]


def cosine(value: float) -> str:
    return _minus(f"{value:.2f}")


def percent(share: float) -> str:
    """A share 0..1 as a percentage with two or three significant digits: 0.0025 %, 0.42 %, 12.3 %."""
    value = share * 100
    if value == 0 or value >= 99.95:  # noqa: PLR2004
        return f"{value:.0f}{NARROW_SPACE}%"
    digits = 1 if abs(value) >= 10 else 2  # noqa: PLR2004
    while digits < MAX_DIGITS and float(f"{abs(value):.{digits}f}") < 10 ** (1 - digits):
        digits += 1
    return _minus(f"{value:.{digits}f}") + f"{NARROW_SPACE}%"


def count(value: int) -> str:
    """With thousands separators."""
    return _minus(f"{value:,}")


def number(value: float) -> str:
    """A number of unknown size, as on an axis: at most four significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:  # noqa: PLR2004
        return _minus(f"{value:,.0f}")
    return _minus(f"{value:.4g}")


def _minus(printed: str) -> str:
    return printed.replace("-", MINUS)


def excerpt(text: str, length: int = 320) -> str:
    """The beginning of a text, cut at a space, with an ellipsis where something is left out."""
    if len(text) <= length:
        return text
    head = text[:length]
    if head.count("$") % 2:
        head = head[: head.rindex("$")]  # not inside a formula
    return (head.rpartition(" ")[0] or head).rstrip(" ,;:.") + "…"


def notch(foretold: Notch | None) -> str:
    """What a notch of a slider would do. One text, as every answer has two of these for each slider."""
    if foretold is None:
        return "at its end"
    words = f"{foretold.n_rise} rise, {foretold.n_fall} fall"
    if foretold.most is None:
        return words
    return f"{words}; most: {excerpt(foretold.most.title, 56)} ▲ {foretold.places}"


def places(foretold: Notch | None) -> str:
    """How far each shown result would rise or fall, for static/results.js."""
    return "" if foretold is None else " ".join(map(str, foretold.shown))


def parameters(address: str) -> list[tuple[str, str]]:
    """The query parameters of one of our addresses, for the hidden fields of a form."""
    pairs = parse_qsl(urlsplit(address).query)
    # A strength 812:+0.40 keeps its plus, which a query string reads as a space.
    return [(name, value.replace(": ", ":+") if name in {"f", "family"} else value) for name, value in pairs]


def nested(rows: list[TreeRow]) -> list[tuple[TreeRow, list[Any]]]:
    """Rows in depth-first order as a tree of (row, children)."""
    roots: list[tuple[TreeRow, list[Any]]] = []
    open_lists: list[tuple[int, list[tuple[TreeRow, list[Any]]]]] = [(-1, roots)]
    for row in rows:
        while len(open_lists) > 1 and open_lists[-1][0] >= row.depth:
            open_lists.pop()
        children: list[tuple[TreeRow, list[Any]]] = []
        open_lists[-1][1].append((row, children))
        open_lists.append((row.depth, children))
    return roots
