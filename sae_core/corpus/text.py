"""Plain text: markup, entities, control characters and bytes that were no UTF-8 go, words stay."""

from __future__ import annotations

import html
import re
import unicodedata

MAX_ABSTRACT = 20_000  # characters; the encoder reads the first few hundred words, a page shows no more

# Bytes that were no UTF-8 arrive as the lone surrogates of "surrogateescape".
_BAD_BYTES = re.compile("[\udc80-\udcff]+")
# Control characters, lone surrogates, non-characters, and invisible ones: soft hyphen, zero-width space,
# bidi embeddings, overrides and isolates, byte order mark, tags. Joiners and RTL marks are part of words.
_RARE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
_ENTITY = re.compile(r"&(?:amp;)*(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.{0,2000}?-->|<!\[CDATA\[|\]\]>", re.DOTALL)
_HIDDEN = re.compile(r"<(script|style)\b[^<>]{0,1000}>.{0,2000}?</\1\s*>", re.DOTALL | re.IGNORECASE)
_ACTIVE = re.compile(
    r"</?(?:script|style|iframe|frameset|frame|object|embed|applet|base|meta|link|svg|form)\b(?:[^<>]{0,1000}>)?",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]{0,30})(\s[^<>]{0,2000})?/?>", re.IGNORECASE)
_VOID = frozenset(("br", "hr", "img", "col", "wbr", "input"))
_PARAGRAPH = frozenset(("p", "div", "sec"))
_BLOCK = _PARAGRAPH | frozenset(
    """br hr li ul ol dl dt dd table tbody thead tfoot tr td th caption h1 h2 h3 h4 h5 h6 title section
    article header footer main nav aside blockquote pre center body html head address figure figcaption
    """.split()  # noqa: SIM905  a list of words reads better as words
)
_INLINE = frozenset(
    """a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd label mark q s samp small span
    strike strong sub sup tt u var wbr img col input italic bold inline-formula tex-math math semantics
    annotation mi mo mn mrow mtext msub msup msubsup mfrac msqrt mroot mover munder munderover mspace
    mstyle mfenced mtable mtr mtd
    """.split()  # noqa: SIM905
)
_PASSES = 8
READ = 4 * MAX_ABSTRACT  # characters of a text that are looked at: bounds the work on hostile ones


def clean_line(text: str) -> str:
    """One line of plain text: as `clean_text`, with all white space made single spaces."""
    return " ".join(clean_text(text).split())


def clean_text(text: str) -> str:
    """Plain text: entities decoded, markup and control characters gone, white space single, blank lines kept.

    A "<" that is no tag stays ("p < 0.05", "<x>"), right-to-left text stays without its bidi overrides,
    bytes that were no UTF-8 become U+FFFD. Only the first READ characters count.
    """
    text = text[:READ]
    for _ in range(_PASSES):  # what is decoded or joined may itself be markup: until nothing changes
        before = text
        text = strip_rare(text)
        if "&" in text:
            text = _ENTITY.sub(lambda found: html.unescape(f"&{found.group(1)};"), text)
        if "<" in text:
            text = _strip_tags(text)
        if text == before:
            break
    else:
        text = strip_rare(re.sub(r"[<&]", " ", text))
    if "\n" not in text:
        return " ".join(text.split())
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n[^\S\n]*\n", text))
    return "\n\n".join(part for part in paragraphs if part)


def has_bad_bytes(text: str) -> bool:
    """Whether there were bytes that are no UTF-8."""
    return not text.isascii() and _BAD_BYTES.search(text) is not None


def strip_rare(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = _RARE.sub("", _BAD_BYTES.sub("\ufffd", text))
    return unicodedata.normalize("NFC", text)


def _strip_tags(text: str) -> str:
    text = _COMMENT.sub(" ", text)
    text = _ACTIVE.sub(" ", _HIDDEN.sub(" ", text))
    closed = {name.casefold() for name in re.findall(r"</([a-z][a-z0-9:-]{0,30})", text, re.IGNORECASE)}

    def replace(found: re.Match[str]) -> str:
        slash, name, attributes = found.group(1), found.group(2).casefold(), found.group(3) or ""
        plain = name.rpartition(":")[2]
        known = plain in _BLOCK or plain in _INLINE or ":" in name
        # "<p>" alone may be a mean momentum: it is markup where the text closes it or it has attributes
        if not known or not (slash or name in closed or plain in _VOID or "=" in attributes):
            return found.group()
        return "\n\n" if plain in _PARAGRAPH else " " if plain in _BLOCK else ""

    return _TAG.sub(replace, text)


def shorten(text: str, length: int) -> str:
    """At most `length` characters, cut between words where there are any."""
    if len(text) <= length:
        return text
    cut = text[:length]
    space = cut.rfind(" ")
    return (cut[:space] if space > length * 0.9 else cut).rstrip()
