"""A digest as a picture of 1200 x 630 pixels, as those who show links want it."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageDraw

from app.sharing.typefaces import tidy, typeface
from app.views.sharing import Digest, DigestBar

WIDTH, HEIGHT = 1200, 630
MARGIN, GUTTER = 64, 56
PAPER, INK, FAINT, RULE = "#faf7ef", "#1d1b16", "#5a5446", "#ddd5c3"
ACCENT, LIT, TRACK = "#14524c", "#b7690b", "#efe7d6"
MORE, LESS = "#25599e", "#ab3228"
TITLE_SIZES = (84, 72, 62, 54, 46)
LEFT = 640  # width of the documents; the figure has the rest
FIGURE_X = MARGIN + LEFT + GUTTER
FIGURE_WIDTH = WIDTH - MARGIN - FIGURE_X
LOWER = 344  # where the two begin
FOOT = HEIGHT - 40
COLOURS = 64

# The mark of static/favicon.svg, in a box of 34.
_LIT = ((5, 21, 2.6), (13, 13, 3.2), (21, 5, 2.6), (29, 29, 2.6))
_FAINT = (
    (5, 5), (13, 5), (29, 5), (5, 13), (21, 13), (29, 13),
    (13, 21), (21, 21), (29, 21), (5, 29), (13, 29), (21, 29),
)  # fmt: skip
_LINES = ((5, 21, 13, 13), (13, 13, 21, 5), (13, 13, 29, 29))
_FINER = 4  # circles are drawn so many times larger: Pillow does not smooth them


def draw(digest: Digest) -> bytes:
    """The picture as PNG. Not to be called by two threads at once."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    on = ImageDraw.Draw(image)
    _masthead(image, on, digest)
    _title(on, digest)
    on.line((MARGIN, LOWER - 36, WIDTH - MARGIN, LOWER - 36), fill=RULE, width=2)
    _documents(on, digest)
    if digest.counts:
        _histogram(on, digest)
    elif digest.bars:
        _bars(on, digest)
    file = io.BytesIO()
    image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


def _masthead(image: Image.Image, on: ImageDraw.ImageDraw, digest: Digest) -> None:
    image.paste(_mark(), (MARGIN - 6, 34))
    typeface(32).draw(on, (MARGIN + 48, 66), "Saefari", INK)
    small = typeface(24)
    small.draw(on, (WIDTH - MARGIN, 66), small.fitted(digest.place, 700), FAINT, anchor="r")
    on.line((MARGIN, 96, WIDTH - MARGIN, 96), fill=INK, width=2)


@lru_cache(maxsize=1)
def _mark() -> Image.Image:
    side = 44
    scale = side * _FINER / 34
    image = Image.new("RGB", (side * _FINER, side * _FINER), PAPER)
    on = ImageDraw.Draw(image)

    def dot(x: float, y: float, radius: float, fill: str) -> None:
        on.ellipse([scale * edge for edge in (x - radius, y - radius, x + radius, y + radius)], fill=fill)

    for x, y in _FAINT:
        dot(x, y, 1.6, "#c9c0ab")
    for line in _LINES:
        on.line([scale * end for end in line], fill=LIT, width=round(1.3 * scale))
    for x, y, radius in _LIT:
        dot(x, y, radius, LIT)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _title(on: ImageDraw.ImageDraw, digest: Digest) -> None:
    typeface(24).draw(on, (MARGIN, 140), digest.eyebrow, LIT)
    width = WIDTH - 2 * MARGIN
    text = tidy(digest.title) or digest.eyebrow  # of a title in a script that no font has nothing is left
    size = next((size for size in TITLE_SIZES if typeface(size).width(text) <= width), TITLE_SIZES[-1])
    lines = typeface(size).lines(text, width, 1 if size > TITLE_SIZES[-1] else 2)
    y = 216 if len(lines) < 2 else 190  # noqa: PLR2004
    for line in lines:
        typeface(size).draw(on, (MARGIN, y), line, INK)
        y += round(1.15 * size)
    facts = typeface(26)
    told = "   ·   ".join(tidy(fact) for fact in digest.facts)
    facts.draw(on, (MARGIN, LOWER - 58), facts.fitted(told, width), FAINT)


def _documents(on: ImageDraw.ImageDraw, digest: Digest) -> None:
    heading, text, note = typeface(22), typeface(26), typeface(22)
    heading.draw(on, (MARGIN, LOWER), digest.heading, FAINT)
    y = LOWER + 40
    for row in digest.documents:
        x = MARGIN
        if row.note:
            note.draw(on, (x, y), row.note, LIT)
            x += 92
        for line in text.lines(row.text, MARGIN + LEFT - x, 1):
            text.draw(on, (x, y), line, INK)
        y += 43


def _heading(on: ImageDraw.ImageDraw, digest: Digest) -> None:
    small = typeface(22)
    small.draw(on, (FIGURE_X, LOWER), small.fitted(digest.figure, FIGURE_WIDTH), FAINT)


def _histogram(on: ImageDraw.ImageDraw, digest: Digest) -> None:
    _heading(on, digest)
    bottom, height = FOOT - 26, FOOT - 26 - (LOWER + 26)
    tallest, step = max(digest.counts), FIGURE_WIDTH / len(digest.counts)
    for at, count in enumerate(digest.counts):
        if count:
            tall = max(2.0, height * count / tallest)
            left = FIGURE_X + at * step
            on.rectangle((round(left), round(bottom - tall), round(left + step) - 2, bottom - 1), fill=LIT)
    on.line((FIGURE_X, bottom, FIGURE_X + FIGURE_WIDTH, bottom), fill=INK, width=2)
    small = typeface(20)
    small.draw(on, (FIGURE_X, bottom + 26), "0", FAINT)
    small.draw(on, (FIGURE_X + FIGURE_WIDTH, bottom + 26), digest.maximum, FAINT, anchor="r")


def _bars(on: ImageDraw.ImageDraw, digest: Digest) -> None:
    _heading(on, digest)
    is_signed = any(bar.share < 0 for bar in digest.bars)
    y = LOWER + 38
    for bar in digest.bars:
        _bar(on, bar, y, is_signed=is_signed)
        y += 52


def _bar(on: ImageDraw.ImageDraw, bar: DigestBar, y: float, *, is_signed: bool) -> None:
    """The name, the number at its right, and below both the bar, from the middle where some are negative."""
    text, number = typeface(23), typeface(20)
    room = number.width(bar.note) + 16
    text.draw(on, (FIGURE_X, y), text.fitted(bar.text, FIGURE_WIDTH - room), INK)
    number.draw(on, (FIGURE_X + FIGURE_WIDTH, y), bar.note, FAINT, anchor="r")
    top, zero = y + 10, FIGURE_X + (FIGURE_WIDTH / 2 if is_signed else 0)
    on.rectangle((FIGURE_X, top, FIGURE_X + FIGURE_WIDTH, top + 7), fill=TRACK)
    end = zero + bar.share * FIGURE_WIDTH / (2 if is_signed else 1)
    fill = (LESS if bar.share < 0 else MORE) if is_signed else LIT
    on.rectangle((min(zero, end), top, max(zero, end), top + 7), fill=fill)
    if is_signed:
        on.rectangle((zero - 1, top - 2, zero, top + 9), fill=FAINT)
