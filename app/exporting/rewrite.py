"""A page of the server as a file beside others: addresses become relative, and what needs a server goes.

The rules, for the templates' sake:
* An element with `data-needs-server` goes, with all that is in it; so do links to other formats
  (rel=alternate).
* A link to a page that is not copied becomes its text; one that looks like a button (`CONTROLS`) goes.
* Other forms stay to be read: their fields are disabled, their buttons go.

Pages are ours: what people wrote is escaped in them. So tags are found by a pattern, and only those that may
change are read by a parser, which takes half the time of parsing it all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from html.parser import HTMLParser

Attributes = Sequence[tuple[str, str | None]]
Target = Callable[[str], str | None]

CONTROLS = frozenset({"button", "tool", "option", "plain"})  # classes
FIELDS = frozenset({"input", "select", "textarea"})
VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "source", "wbr"})
GONE = frozenset({"rel", "data-address", "data-open", "action", "method", "novalidate", "form"})
NEEDS_SERVER = "data-needs-server"
LIVE = frozenset({"data-copy-link", "data-open-keys"})  # of buttons that static/app.js brings to life

_REST = r"""(?:[^>"']|"[^"]*"|'[^']*')*>"""
_TAG = re.compile(
    r"<(?:/?(?:a|svg)|form|link|script|img|input|button|select|textarea|main|footer)(?=[\s>])"
    rf"{_REST}|<[a-z][a-z0-9-]*(?=[^>]*\s{NEEDS_SERVER}){_REST}"
)


def rewrite(page: str, target: Target, notes: Mapping[str, str] | None = None) -> str:
    """The page with every address of ours replaced by `target(address)`; None says that it is not copied.

    Addresses begin with one slash and come without their fragment, which is kept. All others stay. `notes`
    are put at the beginning of the elements whose names they have: main, footer.
    """
    rewriter, parts, at = _Rewriter(target, notes or {}), [], 0
    while found := _TAG.search(page, at):
        parts += [page[at : found.start()], rewriter.tag(found.group())]
        at = found.end()
        if rewriter.dropped:
            at = _end_of(rewriter.dropped, page, at)
    return "".join([*parts, page[at:]])


def _end_of(tag: str, page: str, at: int) -> int:
    """Where an element ends whose start tag ends at `at`."""
    depth = 1
    for found in re.compile(rf"<(/?){tag}(?=[\s>]){_REST}").finditer(page, at):
        depth += -1 if found[1] else 1
        if depth == 0:
            return found.end()
    return len(page)


class _Tag(HTMLParser):
    """Reads one start tag."""

    name = ""
    attrs: Attributes = ()

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        self.name, self.attrs = tag, attrs


class _Rewriter:
    """What becomes of one tag after the other."""

    def __init__(self, target: Target, notes: Mapping[str, str]) -> None:
        self.dropped = ""  # the element that the last tag began, if it goes with all that is in it
        self._target, self._notes = target, notes
        self._links: list[str] = []  # what the end tags of open links are to say
        self._n_svg = 0

    def tag(self, text: str) -> str:
        """What to put in the place of a tag."""
        self.dropped = ""
        if text.startswith("</"):
            is_link = text.startswith("</a")
            self._n_svg -= not is_link
            return self._links.pop() if is_link and self._links else text
        read = _Tag()
        read.feed(text)
        if self._goes(read.name, dict(read.attrs)):
            self.dropped = "" if read.name in VOID else read.name
            return ""
        self._n_svg += read.name == "svg"
        return self._changed(read.name, read.attrs, text) + self._notes.get(read.name, "")

    def _goes(self, tag: str, attributes: dict[str, str | None]) -> bool:
        """Whether an element is left out with all that is in it."""
        rel = (attributes.get("rel") or "").split()
        if NEEDS_SERVER in attributes or (tag in {"a", "link"} and "alternate" in rel):
            return True
        kind = attributes.get("type")
        if tag == "input":
            return kind in {"hidden", "submit"}
        if tag == "button":  # without a type it closes a dialog
            return not LIVE.intersection(attributes) and ("type" in attributes or "form" in attributes)
        href = attributes.get("href") or ""
        if tag not in {"a", "link"} or self._placed(href) is not None:
            return False
        return tag == "link" or bool(CONTROLS.intersection((attributes.get("class") or "").split()))

    def _placed(self, address: str) -> str | None:
        if not address.startswith("/") or address.startswith("//"):
            return address
        page, mark, fragment = address.partition("#")
        found = self._target(page)
        return None if found is None else f"{found}{mark}{fragment}"

    def _changed(self, tag: str, attrs: Attributes, text: str) -> str:
        if tag == "a":
            return self._link(attrs)
        if tag in FIELDS:
            return _printed(tag, [*_kept(attrs), ("disabled", None)])
        if tag == "form" and dict(attrs).get("method") != "dialog":
            return _printed(tag, _kept(attrs))
        for name in ("src", "href"):
            if (address := dict(attrs).get(name)) and tag in {"script", "link", "img"}:
                placed = self._placed(address) or address
                return _printed(tag, [(key, placed if key == name else value) for key, value in attrs])
        return text

    def _link(self, attrs: Attributes) -> str:
        href = dict(attrs).get("href")
        placed = None if href is None else self._placed(href)
        if placed is None:
            name = "g" if self._n_svg else "span"
            self._links.append(f"</{name}>")
            return _printed(name, [(key, value) for key, value in attrs if key == "class"])
        self._links.append("</a>")
        if placed == href:
            return _printed("a", attrs)
        return _printed("a", [(key, placed if key == "href" else value) for key, value in _kept(attrs)])


def _kept(attrs: Attributes) -> list[tuple[str, str | None]]:
    """Without what only a server or htmx has a use for; `rel` of links that lead on serves the keyboard."""
    return [
        (name, value)
        for name, value in attrs
        if not name.startswith("hx-") and (name not in GONE or (name == "rel" and value in {"prev", "next"}))
    ]


def _printed(tag: str, attrs: Attributes) -> str:
    printed = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in attrs)
    return f"<{tag}{printed}>"
