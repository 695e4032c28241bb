"""Laws of pictures made of areas: boxes fill their place without overlapping, texts fit into them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.areas import Box, cut, heat_cells, icicle, squarify, text_width, treemap, wrap
from app.views.common import FeatureChip, TreeRow, Trust
from app.views.families import FamilyArea, FamilyMap

NO_TRUST = Trust("none", "unlabelled", None, None, None, 0)
sizes = st.lists(st.floats(0.01, 1000), min_size=1, max_size=30)


def area(size: float, label: str = "a family", inside: tuple[int, ...] = ()) -> FamilyArea:
    return FamilyArea(
        0, label, "/f/0", NO_TRUST, int(size), int(size), None, size, 0, ["a child"] * 8, list(inside)
    )


def row(latent: int, depth: int, label: str = "feature") -> TreeRow:
    chip = FeatureChip(latent, label, NO_TRUST, f"/{latent}")
    return TreeRow(chip, depth, 10, 0.1, None, is_current=False)


def mapped(areas: list[FamilyArea], tops: list[int]) -> FamilyMap:
    return FamilyMap(areas, tops, [], "features", "score", 0)


def overlap(a: Box, b: Box) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height)


@given(sizes, st.floats(50, 1500), st.floats(50, 1500))
def test_boxes_fill_the_picture_in_proportion(found: list[float], width: float, height: float) -> None:
    boxes = squarify(found, width, height)
    assert sorted(box.index for box in boxes) == list(range(len(found)))
    for box in boxes:
        share = box.width * box.height / (width * height)
        assert share == pytest.approx(found[box.index] / sum(found), abs=0.002)
        assert box.x + box.width <= width + 0.1
        assert box.y + box.height <= height + 0.1
    for a, b in combinations(boxes, 2):
        assert overlap(a, b) < 0.03 * max(width, height)  # they are rounded to hundredths


def test_nothing_and_no_room_are_no_boxes() -> None:
    assert squarify([], 100, 100) == []
    assert squarify([0, 0], 100, 100) == []
    assert squarify([1, 2], 0, 100) == []


def test_families_lie_inside_the_one_that_holds_them() -> None:
    areas = [area(50, "outer", (1, 2)), area(20, "first"), area(10, "second"), area(30, "other")]
    leaves = {leaf.box.index: leaf for leaf in treemap(mapped(areas, [0, 3]), 800, 400, 13)}
    assert {index: leaf.depth for index, leaf in leaves.items()} == {0: 0, 1: 1, 2: 1, 3: 0}
    outer = leaves[0].box
    for inner in (leaves[1].box, leaves[2].box):
        assert outer.x <= inner.x
        assert inner.x + inner.width <= outer.x + outer.width + 0.1
        assert outer.y + 13 < inner.y  # below its name
        assert inner.y + inner.height <= outer.y + outer.height + 0.1
        assert overlap(inner, leaves[3].box) == 0
    assert overlap(leaves[1].box, leaves[2].box) == 0


def test_only_as_many_areas_are_shown_as_asked_for() -> None:
    areas = [area(50, "outer", (1, 2)), area(20, "first"), area(10, "second"), area(5, "other")]
    assert {leaf.box.index for leaf in treemap(mapped(areas, [0, 3]), 800, 400, 13, most=2)} == {0, 1}


def test_what_a_box_says_fits_into_it() -> None:
    areas = [area(size, "a family with a name of some length") for size in (900, 200, 80, 20, 5, 1, 0.2)]
    for leaf in treemap(mapped(areas, list(range(7))), 700, 400, 13):
        n_lines = len(leaf.lines) + leaf.has_figures + (len(leaf.children) + 1 if leaf.children else 0)
        assert 13 * 1.2 * n_lines <= leaf.box.height + 13 or not leaf.lines
        assert all(text_width(line, 13) <= leaf.box.width for line in leaf.lines)


def test_a_box_without_room_for_others_stands_alone() -> None:
    areas = [area(1, "outer", (1,)), area(0.9, "inner"), area(999, "large")]
    assert {leaf.box.index for leaf in treemap(mapped(areas, [0, 2]), 400, 300, 13)} == {0, 2}


@given(st.text(max_size=300), st.floats(5, 400), st.floats(8, 20))
def test_a_text_is_cut_to_its_box(text: str, width: float, size: float) -> None:
    shown = cut(text, width, size)
    assert text_width(shown, size) <= width
    assert shown in {text, ""} or shown.endswith("…")


@given(st.text(max_size=300), st.integers(1, 5))
def test_a_text_is_wrapped_into_its_box(text: str, most: int) -> None:
    lines = wrap(text, 90, 13, most)
    assert len(lines) <= most
    assert all(text_width(line, 13) <= 90 for line in lines)


def test_a_text_of_ten_thousand_letters_is_cut_at_once() -> None:
    assert len(cut("x" * 10_000, 200, 13)) < 40
    assert [len(line) < 40 for line in wrap("y " * 5_000, 200, 13, 3)] == [True] * 3


def test_an_icicle_has_children_beside_their_parent_in_order() -> None:
    #   0 -> 1 -> (2, 3), 0 -> 4
    picture = icicle([row(0, 0), row(1, 1), row(2, 2), row(3, 2), row(4, 1)], 600, 20, 13)
    assert [(b.x, b.y, b.width, b.height) for b in picture.blocks] == [
        (0, 0, 200, 60),
        (200, 0, 200, 40),
        (400, 0, 200, 20),
        (400, 20, 200, 20),
        (200, 40, 200, 20),
    ]
    assert (picture.width, picture.height) == (600, 60)


def test_a_deep_tree_goes_beyond_its_picture_and_one_feature_is_one_block() -> None:
    deep = icicle([row(i, i) for i in range(10)], 600, 20, 13)
    assert deep.width == 1500
    assert deep.height == 20
    assert len(icicle([row(0, 0)], 600, 20, 13).blocks) == 1
    assert icicle([], 600, 20, 13).height == 0


def test_a_heat_map_leaves_out_what_would_not_show() -> None:
    cells = heat_cells([[1, 0.001], [0.5, 1.2]], 100)
    assert [(cell.x, cell.y, cell.weight) for cell in cells] == [(0, 0, 1), (0, 50, 0.5), (50, 50, 1)]
