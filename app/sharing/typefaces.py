"""Text in any script, measured, broken into lines and drawn with the fonts that came along.

A line may need several: each run of characters takes the first font that has them. Characters that no font
has are left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

from PIL import ImageFont
from PIL.ImageDraw import ImageDraw

from app.settings import asset_folder

SERIF, SANS = "texgyrepagella-regular.otf", "DejaVuSans.ttf"
# Where the system has one of these, it serves the scripts that the two have not.
ELSEWHERE = (
    "NotoSansCJK-Regular.ttc",
    "NotoSerifCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf",
    "unifont.otf",
)
LONGEST = 400  # characters of a text that is looked at
ELLIPSIS = "…"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+")
_MISSING = "\uffff"  # no character: a font shows what it has not


@lru_cache(maxsize=256)
def typeface(size: int) -> Typeface:
    return Typeface(size)


@dataclass(frozen=True)
class Typeface:
    """The fonts at one size, in pixels. Not to be used by two threads at once."""

    size: int

    @cached_property
    def fonts(self) -> list[ImageFont.FreeTypeFont]:
        folder = asset_folder("static") / "vendor"
        fonts = [ImageFont.truetype(folder / name, self.size) for name in (SERIF, SANS)]
        return [*fonts, *(font.font_variant(size=self.size) for font in _elsewhere())]

    def width(self, text: str) -> float:
        return sum(self.fonts[which].getlength(part) for which, part in self._runs(text))

    def draw(
        self, on: ImageDraw, at: tuple[float, float], text: str, fill: str, *, anchor: str = "l"
    ) -> None:
        """Draw a line whose baseline goes through `at`; the anchor is l(eft), m(iddle) or r(ight)."""
        x = at[0] - self.width(text) * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor]
        for which, part in self._runs(text):
            font = self.fonts[which]
            on.text((x, at[1]), part, fill=fill, font=font, anchor="ls")
            x += font.getlength(part)

    def lines(self, text: str, width: float, most: int) -> list[str]:
        """The text in at most so many lines, with an ellipsis where it goes on."""
        lines: list[str] = []
        rest = tidy(text)
        while rest and len(lines) < most:
            line, rest = self._broken(rest, width)
            lines.append(line)
        if rest and lines:
            lines[-1] = self.fitted(f"{lines[-1]} {rest}", width)
        return lines

    def fitted(self, text: str, width: float) -> str:
        """The text if it fits, else its beginning and an ellipsis."""
        text = tidy(text)
        if self.width(text) <= width:
            return text
        head, _ = self._broken(text, width - self.width(ELLIPSIS))
        return head.rstrip(" ,;:.-–") + ELLIPSIS

    def _broken(self, text: str, width: float) -> tuple[str, str]:
        """As much as fits on a line, to the last space in it if there is one, and the rest."""
        if self.width(text) <= width:
            return text, ""
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle]) <= width else (low, middle - 1)
        at = text.rfind(" ", 1, low + 1)
        at = at if at > 0 else low
        return text[:at].rstrip(), text[at:].lstrip()

    def _runs(self, text: str) -> Iterable[tuple[int, str]]:
        chosen = [(_font_of(character), character) for character in text]
        for at, (_, character) in enumerate(chosen):
            if at and (character == " " or unicodedata.combining(character)):
                chosen[at] = (chosen[at - 1][0], character)  # with what it follows
        for which, run in groupby(chosen, key=lambda pair: pair[0]):
            yield which, "".join(character for _, character in run)


def tidy(text: str) -> str:
    """The text on one line, without what no font has; the beginning of a very long one."""
    line = unicodedata.normalize("NFC", " ".join(_CONTROL.sub(" ", text[: 4 * LONGEST]).split()))[:LONGEST]
    return " ".join("".join(c for c in line if c == " " or _font_of(c) >= 0).split())


@lru_cache(maxsize=8192)
def _font_of(character: str) -> int:
    """The first font that has a character; -1 where none has."""
    for which, font in enumerate(typeface(16).fonts):
        if _shape(font, character) != _shape(font, _MISSING):
            return which
    return -1


def _shape(font: ImageFont.FreeTypeFont, character: str) -> tuple[object, ...]:
    mask, offset = font.getmask2(character, mode="L")
    return mask.size, offset, font.getlength(character), bytes(mask)


@lru_cache(maxsize=1)
def _elsewhere() -> list[ImageFont.FreeTypeFont]:
    found = []
    for name in ELSEWHERE:
        try:
            found.append(ImageFont.truetype(name, 16))
        except OSError:
            continue
    return found[:1]
