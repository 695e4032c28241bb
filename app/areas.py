"""Geometry of pictures made of areas: treemap, icicle, heat map; and texts cut to fit into boxes.

Coordinates are in units of the picture's viewBox, y downwards. Nothing here knows of HTML or of colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from app.views.common import TreeRow
from app.views.families import FamilyArea, FamilyMap

LETTER = 0.53  # mean width of a letter of a text face, as a share of its size
WIDE_LETTERS = frozenset("mwMWQOGDHNU@%—…")
NARROW_LETTERS = frozenset("iIljtfr.,;:'|!()[] ")
GAP = 1.5  # around each box of a treemap
LINE = 1.25  # height of a line, in letters
HEADER = 1.75  # height of the line that names a box with others in it, in letters
LEAST_HOLDER = (110.0, 80.0)  # width and height from which a box shows those inside it
LEAST_WIDTH = 2.6  # of a text, in letters
LEAST_CHILD = 6.0  # ... of the names of features
MAX_LINES = 4  # of a name
SMALL = 0.86  # letters of figures and of the names of features
_FIGURES = "00 · R 0.00"
MIN_COLUMN, MAX_COLUMN = 150.0, 340.0  # width of a block of an icicle
ELLIPSIS = "…"


@dataclass(frozen=True)
class Box:
    """A rectangle of a treemap; `index` is its place among the areas that were given."""

    index: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Leaf:
    """A box with its text; `depth` 1 lies inside one of depth 0."""

    box: Box
    depth: int
    lines: list[str]  # of the name, as many as fit
    has_figures: bool  # whether a line of figures fits below them
    children: list[str]  # ... and the features of the family below that


@dataclass(frozen=True)
class Block:
    """A rectangle of an icicle, one row of the tree: its column is its depth, its height its leaves."""

    x: float
    y: float
    width: float
    height: float
    line: str


@dataclass(frozen=True)
class Icicle:
    """A tree as blocks, laid out in a box of `width` x `height`."""

    width: float
    height: float
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A square of a heat map; `weight` is its value, 0..1."""

    x: float
    y: float
    weight: float


# --- texts in boxes -------------------------------------------------------------------------------


def text_width(text: str, size: float) -> float:
    """About how wide a text of this size is. Letters differ; half a letter more or less does no harm."""
    return sum(
        size * (0.85 if letter in WIDE_LETTERS else 0.32 if letter in NARROW_LETTERS else LETTER)
        if letter < "\u2e80"
        else size  # the scripts of East Asia, emoji
        for letter in text
    )


def cut(text: str, width: float, size: float) -> str:
    """As much of a text as is at most `width` wide, with an ellipsis where something is left out."""
    if text_width(text[: int(width) + 1], size) <= width and len(text) <= width:
        return text
    room = width - text_width(ELLIPSIS, size)
    kept = 0
    for letter in text:
        room -= text_width(letter, size)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip(" ,;:-") + ELLIPSIS if kept else ""


def wrap(text: str, width: float, size: float, most: int) -> list[str]:
    """A text in at most `most` lines, broken at spaces; the last one is cut if there is more."""
    words, lines = text[:1000].split(), list[str]()
    while words and len(lines) < most:
        line = [words.pop(0)]
        while words and text_width(" ".join([*line, words[0]]), size) <= width:
            line.append(words.pop(0))
        is_last = len(lines) == most - 1
        lines.append(cut(" ".join([*line, *words] if is_last else line), width, size))
    return [line for line in lines if line]


# --- treemap --------------------------------------------------------------------------------------


def treemap(
    families: FamilyMap, width: float, height: float, letter: float, most: int | None = None
) -> list[Leaf]:
    """The families that lie in no other side by side, and inside the larger ones those that lie in them.

    A box is as large, among its neighbours, as its area is; `letter` is the size of the letters. Only the
    first `most` are shown.
    """
    areas = families.areas
    tops = [top for top in families.tops if most is None or top < most]
    leaves: list[Leaf] = []
    for found in squarify([areas[i].area for i in tops], width, height):
        area = areas[tops[found.index]]
        inside = [place for place in area.inside if most is None or place < most]
        outer = _shrunk(Box(tops[found.index], found.x, found.y, found.width, found.height))
        is_holder = bool(inside) and outer.width >= LEAST_HOLDER[0] and outer.height >= LEAST_HOLDER[1]
        header = letter * HEADER
        if not is_holder:
            leaves.append(_leaf(area, outer, 0, letter))
            continue
        name = cut(area.label, outer.width - letter, letter)
        leaves.append(Leaf(outer, 0, [name], has_figures=False, children=[]))
        # What the area has besides those inside it keeps its share, as an empty place.
        sizes = [areas[i].area for i in inside]
        sizes.append(max(0.0, area.area - sum(sizes)))
        for box in squarify(sizes, outer.width - 2 * GAP, outer.height - header - GAP):
            if box.index < len(inside):
                index = inside[box.index]
                placed = Box(index, outer.x + GAP + box.x, outer.y + header + box.y, box.width, box.height)
                leaves.append(_leaf(areas[index], _shrunk(placed), 1, letter))
    return leaves


def _leaf(area: FamilyArea, box: Box, depth: int, letter: float) -> Leaf:
    """A box with as much of its name as has room, a line of figures, and what features it has."""
    width = box.width - letter
    if width < letter * LEAST_WIDTH or box.height < letter * LINE:
        return Leaf(box, depth, [], has_figures=False, children=[])
    n_lines = int((box.height - letter / 2) / (letter * LINE))
    lines = wrap(area.label, width, letter, max(1, min(MAX_LINES, n_lines - 1)))
    n_left = n_lines - len(lines) - 2  # after the figures, and a gap
    children = [cut(child, width, letter * SMALL) for child in area.children[: max(0, n_left)]]
    has_names = width >= letter * LEAST_CHILD
    has_figures = len(lines) < n_lines and width >= text_width(_FIGURES, letter * SMALL)
    return Leaf(box, depth, lines, has_figures, children if has_names else [])


def squarify(sizes: Sequence[float], width: float, height: float) -> list[Box]:
    """Rectangles with areas in proportion to `sizes`, as square as rows allow (squarified, Bruls 2000)."""
    order = sorted((i for i, size in enumerate(sizes) if size > 0), key=lambda i: -sizes[i])
    total = sum(sizes[i] for i in order)
    if total <= 0 or width <= 0 or height <= 0:
        return []
    areas = [(i, sizes[i] / total * width * height) for i in order]
    boxes: list[Box] = []
    x, y, free_width, free_height = 0.0, 0.0, width, height
    while areas:
        side = min(free_width, free_height)
        n = _row_length([area for _, area in areas], side)
        row, areas = areas[:n], areas[n:]
        thickness = sum(area for _, area in row) / side if side > 0 else 0.0
        offset = 0.0
        for index, area in row:
            length = area / thickness if thickness > 0 else 0.0
            if free_width >= free_height:
                boxes.append(_box(index, x, y + offset, thickness, length))
            else:
                boxes.append(_box(index, x + offset, y, length, thickness))
            offset += length
        if free_width >= free_height:
            x, free_width = x + thickness, free_width - thickness
        else:
            y, free_height = y + thickness, free_height - thickness
    return boxes


def _row_length(areas: Sequence[float], side: float) -> int:
    """How many areas to lay along `side` before the worst shape gets worse; they fall in size."""
    n, total, worst = 0, 0.0, float("inf")
    for area in areas:
        grown = total + area
        shape = max(side * side * areas[0] / grown**2, grown**2 / (side * side * area)) if side > 0 else 0.0
        if n and shape > worst:
            break
        n, total, worst = n + 1, grown, shape
    return n


def _box(index: int, x: float, y: float, width: float, height: float) -> Box:
    return Box(index, round(x, 2), round(y, 2), round(max(width, 0.0), 2), round(max(height, 0.0), 2))


def _shrunk(box: Box) -> Box:
    """The box with a gap around it, unless it is too small to have one."""
    gap = min(GAP, box.width / 4, box.height / 4)
    return _box(box.index, box.x + gap, box.y + gap, box.width - 2 * gap, box.height - 2 * gap)


# --- icicle ---------------------------------------------------------------------------------------


def icicle(rows: Sequence[TreeRow], width: float, height: float, letter: float) -> Icicle:
    """Each row of a tree as a block: children to the right of their parent, each leaf `height` high.

    The columns share the `width`; those of a deep tree go beyond it.
    """
    n_columns = max((row.depth for row in rows), default=0) + 1
    column = min(max(width / n_columns, MIN_COLUMN), MAX_COLUMN)
    depths = [row.depth for row in rows] + [0]
    firsts, n_leaves = list[int](), 0
    for depth, following in pairwise(depths):
        firsts.append(n_leaves)
        n_leaves += following <= depth
    blocks = []
    for at, row in enumerate(rows):
        after = next((other for other in range(at + 1, len(rows)) if depths[other] <= row.depth), len(rows))
        last = firsts[after] if after < len(rows) else n_leaves
        block = Block(
            x=round(row.depth * column, 2),
            y=round(firsts[at] * height, 2),
            width=round(column, 2),
            height=round((last - firsts[at]) * height, 2),
            line=cut(row.feature.label, column - (5 if row.n_hidden else 1.5) * letter, letter),
        )
        blocks.append(block)
    return Icicle(round(n_columns * column, 2), round(n_leaves * height, 2), blocks)


# --- heat map -------------------------------------------------------------------------------------


def heat_cells(values: Sequence[Sequence[float]], size: float, *, least: float = 0.005) -> list[Cell]:
    """The squares of a heat map of `size` x `size`, row by row; below `least`, none."""
    side = size / max(len(values), 1)
    return [
        Cell(round(j * side, 2), round(i * side, 2), round(min(value, 1.0), 2))
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value >= least
    ]
