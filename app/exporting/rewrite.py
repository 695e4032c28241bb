"""A page of the server as a file beside others: addresses become relative, and what needs a server goes.

The rules, for the templates' sake:
* An element with `data-needs-server` goes, with all that is in it; so do links to other formats
  (rel=alternate).
* A link to a page that is not copied becomes its text; one that looks like a button (`CONTROLS`) goes.
* Other forms stay to be read: their fields are disabled, their buttons go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from html.parser import HTMLParser

Attributes = Sequence[tuple[str, str | None]]
Target = Callable[[str], str | None]

CONTROLS = frozenset({"button", "tool", "option", "plain"})  # classes
FIELDS = frozenset({"input", "select", "textarea"})
VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)
GONE = frozenset({"rel", "data-address", "data-open", "action", "method", "novalidate", "form"})
NEEDS_SERVER = "data-needs-server"
LIVE = frozenset({"data-copy-link", "data-open-keys"})  # of buttons that static/app.js brings to life


def rewrite(page: str, target: Target, notes: Mapping[str, str] | None = None) -> str:
    """The page with every address of ours replaced by `target(address)`; None says that it is not copied.

    Addresses begin with one slash and come without their fragment, which is kept. All others stay. `notes`
    are put at the beginning of the elements whose names they have: main, footer.
    """
    rewriter = _Rewriter(target, notes or {})
    rewriter.feed(page)
    rewriter.close()
    return "".join(rewriter.parts)


class _Rewriter(HTMLParser):
    """Copies what it reads but for the tags that change, so that nothing else can."""

    def __init__(self, target: Target, notes: Mapping[str, str]) -> None:
        super().__init__(convert_charrefs=False)
        self._notes = notes
        self.parts: list[str] = []
        self._target = target
        self._dropped: tuple[str, int] | None = None  # the tag that everything is left out until the end of
        self._links: list[str] = []  # what the end tags of open links are to say
        self._n_svg = 0

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._dropped is not None:
            name, depth = self._dropped
            self._dropped = (name, depth + (tag == name and tag not in VOID))
        elif self._goes(tag, dict(attrs)):
            if tag not in VOID:
                self._dropped = (tag, 1)
        else:
            self._n_svg += tag == "svg"
            self.parts += [self._changed(tag, attrs), self._notes.get(tag, "")]

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:  # noqa: ARG002
        """`<rect/>`: these are drawn, and lead nowhere."""
        if self._dropped is None:
            self.parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if self._dropped is not None:
            name, depth = self._dropped
            depth -= tag == name
            self._dropped = (name, depth) if depth else None
            return
        self._n_svg -= tag == "svg"
        self.parts.append(self._links.pop() if tag == "a" and self._links else f"</{tag}>")

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

    def _changed(self, tag: str, attrs: Attributes) -> str:
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
        return self.get_starttag_text() or ""

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

    def handle_data(self, data: str) -> None:
        self._copy(data)

    def handle_entityref(self, name: str) -> None:
        self._copy(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._copy(f"&#{name};")

    def handle_comment(self, data: str) -> None:
        self._copy(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self._copy(f"<!{decl}>")

    def _copy(self, text: str) -> None:
        if self._dropped is None:
            self.parts.append(text)


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
