"""Addresses as objects: strict to read, canonical to print."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import urls
from app.query import (
    AREAS,
    COLOURS,
    CONTRAST_SORTS,
    FAMILY_SORTS,
    MAX_PAGE,
    MAX_STRENGTH,
    SORTS,
    TABS,
    VIEWS,
    BadParameter,
    EvidenceQuery,
    FamilyQuery,
    FeatureQuery,
    SearchQuery,
    SeparateQuery,
    Side,
    as_strength,
    base_config,
    clean,
    used_by,
)
from sae_core.families import FamilyConfig
from sae_core.families.model import ALGORITHMS, EDGES
from sae_core.lenses import MODES, VALUED, Lens, LensMove, unique

N_LATENTS = 1000

lines = st.text(max_size=40).map(clean)
pages = st.integers(1, MAX_PAGE)
years = st.none() | st.integers(0, 9999)
shares = st.none() | st.floats(0, 1)
strengths = st.dictionaries(
    st.integers(0, N_LATENTS - 1),
    st.floats(-MAX_STRENGTH, MAX_STRENGTH).map(as_strength),
    max_size=20,
).map(lambda found: tuple(found.items()))


def query_string(url: str) -> str:
    return urlsplit(url).query


latents = st.integers(0, N_LATENTS - 1)
latent_lists = st.lists(latents, max_size=5, unique=True).map(tuple)
names = st.lists(lines.filter(bool), max_size=4, unique=True).map(tuple)
amounts = st.floats(-MAX_STRENGTH, MAX_STRENGTH).map(as_strength)
lens_moves = st.one_of(
    st.builds(LensMove, st.sampled_from([mode for mode in MODES if mode not in VALUED]), latents),
    st.builds(LensMove, st.sampled_from(VALUED), latents, amounts),
)
lenses = st.builds(
    Lens,
    name=lines.filter(bool),
    sae=st.from_regex(r"k[0-9]{1,3}-n[0-9]{1,6}-[0-9a-f]{6}", fullmatch=True),
    moves=st.lists(lens_moves, min_size=1, max_size=6).map(unique),
)


@st.composite
def searches(draw: st.DrawFn) -> SearchQuery:
    why = draw(lines)
    return draw(
        st.builds(
            SearchQuery,
            collection=st.just("c"),
            sae=st.just("s"),
            q=lines,
            lenses=st.lists(lenses, max_size=3).map(tuple),
            families=strengths.map(lambda found: found[:8]),
            strengths=strengths,
            keep=st.none() | st.floats(0.01, 0.99).map(lambda value: round(value, 2)),
            refine=st.booleans(),
            keywords=st.floats(0, 1).map(lambda value: round(value, 2)),
            year_min=years,
            cited_min=st.none() | st.integers(0, 1000),
            diverse=st.booleans(),
            view=st.sampled_from(VIEWS),
            why=st.just(why),
            against=lines if why else st.just(""),
            find=lines,
            page=pages,
            **dict.fromkeys(("like", "unlike", "up", "down", "a", "b", "venues", "categories"), names),
            **dict.fromkeys(("ignored", "required", "excluded", "locked"), latent_lists),
        )
    )


@given(searches())
def test_a_search_is_read_back_as_it_was_printed(query: SearchQuery) -> None:
    assert SearchQuery.parse("c", "s", query_string(query.url()), N_LATENTS) == query


@given(
    st.builds(
        FeatureQuery,
        collection=st.just("c"),
        sae=st.just("s"),
        words=lines,
        sort=st.sampled_from(SORTS),
        min_density=shares,
        max_density=shares,
        labelled=st.booleans(),
        dead=st.booleans(),
        page=pages,
    )
)
def test_a_feature_list_is_read_back_as_it_was_printed(query: FeatureQuery) -> None:
    assert FeatureQuery.parse("c", "s", query_string(query.url())) == query


@given(st.sampled_from(TABS), st.booleans(), pages)
def test_the_page_of_a_feature_is_read_back_as_it_was_printed(tab: str, log: bool, page: int) -> None:
    evidence = EvidenceQuery("c", "s", latent=7, tab=tab, log=log, page=page)
    assert EvidenceQuery.parse("c", "s", 7, query_string(evidence.url())) == evidence


STORED = FamilyConfig(algorithm="paper", threshold=0.25, max_size=90)
sizes = st.integers(2, 500)


@st.composite
def family_queries(draw: st.DrawFn) -> FamilyQuery:
    algorithm = draw(st.sampled_from(ALGORITHMS))
    low, high = sorted((draw(sizes), draw(sizes)))
    values: dict[str, Any] = {
        "threshold": draw(st.floats(0, 1)),
        "min_size": low,
        "max_size": high,
        "max_density": draw(st.floats(0.001, 1)),
        "edge": draw(st.sampled_from(EDGES)),
        "n_iterations": draw(st.integers(1, 20)),
    }
    named = {name: value for name, value in values.items() if name in used_by(algorithm)}
    return FamilyQuery(
        "c",
        "s",
        stored=STORED,
        config=replace(base_config(STORED, algorithm), **named),
        family=draw(st.none() | st.integers(0, 99)),
        sort=draw(st.sampled_from(FAMILY_SORTS)),
        area=draw(st.sampled_from(AREAS)),
        colour=draw(st.sampled_from(COLOURS)),
        open=tuple(draw(st.lists(st.integers(0, 9999), max_size=5, unique=True))),
        page=draw(pages),
    )


def read_back(query: FamilyQuery) -> FamilyQuery:
    return FamilyQuery.parse("c", "s", query_string(query.url()), STORED, ALGORITHMS, query.family)


@given(family_queries())
def test_families_are_read_back_as_they_were_printed(query: FamilyQuery) -> None:
    assert read_back(query) == query


def test_families_as_they_were_built_need_no_parameters() -> None:
    assert FamilyQuery("c", "s", stored=STORED, config=STORED).url() == "/c/s/families"
    spelt_out = "algorithm=paper&threshold=0.25&min_size=4&max_size=90&edge=parent&sort=size&page=1"
    query = FamilyQuery.parse("c", "s", spelt_out, STORED, ALGORITHMS)
    assert query.url() == "/c/s/families"
    changed = query.url(config=replace(STORED, threshold=0.2, min_size=5, min_z=0.0))
    assert changed == "/c/s/families?threshold=0.2&min_size=5&min_z=0"


def test_the_page_of_a_family_keeps_the_parameters_it_was_found_with() -> None:
    query = FamilyQuery.parse("c", "s", "threshold=0.5&sort=hub&page=3&area=documents", STORED, ALGORITHMS)
    assert query.url_of(12) == "/c/s/families/12?threshold=0.5"
    assert FamilyQuery.parse("c", "s", "threshold=0.5", STORED, ALGORITHMS, 12).url_of(None) == (
        "/c/s/families?threshold=0.5"
    )


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("threshold=1.5", "threshold"),
        ("threshold=nan", "threshold"),
        ("min_size=0", "min_size"),
        ("min_size=4.5", "min_size"),
        ("min_size=100", "max_size"),  # of the 90 that the stored families have at most
        ("algorithm=magic", "algorithm"),
        ("algorithm=nesting", "algorithm"),  # which this SAE does not offer
        ("edge=sideways", "edge"),
        ("n_iterations=1000", "n_iterations"),
        ("open=1,x", "open"),
        ("open=" + ",".join(map(str, range(65))), "open"),
        ("colour=red", "colour"),
    ],
)
def test_what_no_forest_can_be_grown_from_is_refused_by_name(sent: str, name: str) -> None:
    offered = [algorithm for algorithm in ALGORITHMS if algorithm != "nesting"]
    with pytest.raises(BadParameter) as caught:
        FamilyQuery.parse("c", "s", sent, STORED, offered)
    assert caught.value.name == name
    assert "Allowed" in caught.value.remedy


def test_defaults_are_left_out() -> None:
    assert SearchQuery("c", "s").url() == "/c/s/search"
    assert SearchQuery("c", "s", q="a b", page=2).url(page=1) == "/c/s/search?q=a+b"
    assert FeatureQuery("c", "s").url() == "/c/s/features"


@pytest.mark.parametrize("written", ["812:+0.40", "812:%2B0.4", "812:0.40", "812: 0.400", "812%3A+.4"])
def test_a_strength_may_be_written_in_several_ways_and_is_printed_in_one(written: str) -> None:
    query = SearchQuery.parse("c", "s", f"f={written}", N_LATENTS)
    assert query.strengths == ((812, 0.4),)
    assert query.url() == "/c/s/search?f=812:+0.40"


@given(st.floats(-MAX_STRENGTH, MAX_STRENGTH))
def test_a_printed_strength_is_the_strength(value: float) -> None:
    printed = urls.decimals(value)
    assert printed[0] in "+-"
    assert len(printed.partition(".")[2]) in {2, 3}
    assert float(printed) == as_strength(value)


def test_a_whole_address_stays_readable() -> None:
    sent = (
        "q=dust&like=doc/1&unlike=2&lens=far+%26+faint;k4-n64-abc123;1:%2B0.40,!7,-9,~12,F37:%2B0.30"
        "&family=37:+0.40&f=812:+0.40&ignore=12&require=5&exclude=7&lock=9&keep=0.80&refine=1&keywords=0.30"
        "&year_min=2001&year_max=2005&venue=A&category=B&cited_min=3&diverse=1&view=ab&why=x&against=y"
        "&up=u&down=d&a=s&b=t&find=w&page=2"
    )
    query = SearchQuery.parse("c", "s", sent, N_LATENTS)
    assert query.url() == f"/c/s/search?{sent}"
    assert query.lenses[0].name == "far & faint"
    assert query.in_mode(5, "excluded").url() == query.url(required=(), excluded=(7, 5), page=1)
    assert query.url_with(12, 0.1) == query.url(strengths=((812, 0.4), (12, 0.1)), ignored=(), page=1)
    assert query.url_with(5, 0.1) == query.url(strengths=((812, 0.4), (5, 0.1)), page=1)
    assert query.url_free(5) == query.url(required=(), page=1)
    assert query.url_family(37, None) == query.url(families=(), page=1)
    assert query.url_family(4, -0.2) == query.url(families=((37, 0.4), (4, -0.2)), page=1)


def test_the_last_word_on_a_latent_counts() -> None:
    assert SearchQuery.parse("c", "s", "f=1:0.1&f=2:0.2&f=1:0.3", N_LATENTS).strengths == ((1, 0.3), (2, 0.2))


def test_nul_and_control_characters_never_reach_a_query() -> None:
    assert SearchQuery.parse("c", "s", "q=%00dust%0a%1blanes%00&venue=%00", N_LATENTS).q == "dust lanes"


def test_unknown_parameters_are_ignored() -> None:
    assert SearchQuery.parse("c", "s", "utm_source=mail&q=x&fbclid=1", N_LATENTS).url() == "/c/s/search?q=x"


@pytest.mark.parametrize(
    "query",
    [
        "q=" + "x" * 2001,
        "page=0",
        "page=-1",
        "page=1001",
        "page=99999999999999999999",
        "page=%D9%A1",
        "page=1.0",
        "page=nan",
        "f=812",
        "f=812:",
        "f=:0.4",
        "f=-1:0.4",
        "f=1000:0.4",
        "f=99999999999999999999:0.4",
        "f=1:nan",
        "f=1:inf",
        "f=1:-inf",
        "f=1:1e999",
        "f=1:10.5",
        "f=1:0x10",
        "f=1:1_0",
        "year_min=n/a",
        "year_min=-5",
        "year_max=10000",
        "year_min=2010&year_max=2000",
        "find=" + "x" * 201,
        "venue=" + "x" * 301,
        "&".join(f"f={i}:0.1" for i in range(65)),
        "&".join(f"venue={i}" for i in range(33)),
        "&".join(f"f={i}:0.1" for i in range(601)),
        "x=" + "y" * 50_000,
        "keep=0",
        "keep=1",
        "keep=nan",
        "keywords=1.01",
        "keywords=-0.1",
        "refine=yes",
        "diverse=2",
        "view=grid",
        "against=doc-1",
        "cited_min=-1",
        "like=" + "x" * 1001,
        "&".join(f"like={i}" for i in range(9)),
        "&".join(f"up={i}" for i in range(21)),
        "&".join(f"a={i}" for i in range(51)),
        "&".join(f"category={i}" for i in range(33)),
        "ignore=1000",
        "require=-1",
        "exclude=x",
        "lock=1.5",
        "&".join(f"ignore={i}" for i in range(65)),
        "family=1000:0.1",
        "family=3",
        "&".join(f"family={i}:0.1" for i in range(9)),
        "lens=mine",
        "lens=;s;1:0.1",
        "lens=mine;;1:0.1",
        "lens=mine;s;",
        "lens=mine;s t;1:0.1",
        "lens=mine;s;1:nan",
        "lens=mine;s;1:11",
        "lens=mine;s;!x",
        "lens=mine;s;%2B1",
        "lens=mine;s;F",
        "lens=" + "x" * 61 + ";s;1:0.1",
        "lens=mine;s;" + ",".join(f"!{i}" for i in range(129)),
        "&".join("lens=mine;s;!1" for _ in range(9)),
    ],
)
def test_bad_values_are_refused_in_a_sentence(query: str) -> None:
    with pytest.raises(BadParameter, match=r"^The parameter .* cannot be .* Allowed: .*\.$") as refused:
        SearchQuery.parse("c", "s", query, N_LATENTS)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "query", ["sort=best", "min_density=2", "max_density=nan", "min_density=-0.1", "labelled=yes", "dead=2"]
)
def test_bad_values_of_a_feature_list_are_refused(query: str) -> None:
    with pytest.raises(BadParameter, match=query.partition("=")[0]):
        FeatureQuery.parse("c", "s", query)


@given(st.text())
def test_any_text_as_a_value_is_read_or_refused(text: str) -> None:
    for name in ("q", "f", "page", "year_min", "venue", "find", "lens", "family", "keep", "like", "ignore"):
        try:
            query = SearchQuery.parse("c", "s", f"{name}={quote(text, errors='replace')}", N_LATENTS)
        except BadParameter:
            continue
        assert SearchQuery.parse("c", "s", query_string(query.url()), N_LATENTS) == query


@given(st.binary(max_size=200))
def test_any_bytes_as_a_query_string_are_read_or_refused(raw: bytes) -> None:
    try:
        query = SearchQuery.parse("c", "s", raw, N_LATENTS)
    except BadParameter:
        return
    assert SearchQuery.parse("c", "s", query_string(query.url()), N_LATENTS) == query


sides = st.one_of(
    st.builds(Side, documents=names),
    st.builds(Side, years=st.tuples(st.integers(0, 9999), st.integers(0, 9999)).map(sorted).map(tuple)),
    st.builds(Side, text=lines),
)


@given(sides, sides, lines, st.sampled_from(CONTRAST_SORTS), pages)
def test_a_contrast_is_read_as_it_was_printed(a: Side, b: Side, q: str, sort: str, page: int) -> None:
    query = SeparateQuery("some", "sae", a, b, q, sort, page)
    assert SeparateQuery.parse("some", "sae", query_string(query.url())) == query


@pytest.mark.parametrize(
    ("text", "years"),
    [("2019", (2019, 2019)), ("2019-2021", (2019, 2021)), ("2019 - 2021", (2019, 2021)), ("7–9", (7, 9))],
)
def test_years_are_read_as_people_write_them(text: str, years: tuple[int, int]) -> None:
    assert SeparateQuery.parse("some", "sae", f"a_years={quote(text)}").a == Side(years=years)


def test_addresses_of_sets_are_made_in_one_way() -> None:
    query = SeparateQuery("some", "sae", Side(documents=("x/1", "y")), Side(documents=("z",)))
    assert urls.separate("some", "sae", ("x/1", "y"), ("z",)) == query.url()
    assert urls.separate("some", "sae", ("x/1", "y"), ("z",), "dust & gas") == query.url(q="dust & gas")
