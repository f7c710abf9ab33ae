"""Channels agree with GA4's published groups: vectors and source categories of a peer project.

The files are in `../shared/data` beside the project; without them these tests are skipped and say so.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from attribution.channels import ga4_channel
from attribution.data import SOURCES, find

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dbt_ga4"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"GA4 VECTORS NOT CHECKED: {DATA} is absent; put the conformance data there"
)


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value or "" for key, value in row.items()} for row in csv.DictReader(file)]


def vectors() -> list[tuple[str, str, str, str]]:
    every = [
        (row["source"], row["medium"], row["campaign"], row["expected_channel"])
        for row in rows("expected_default_channel_grouping.csv")
    ]
    # Its own rule asks for a paid medium, and this row has none.
    return [row for row in every if row[:2] != ("alibaba", "")]


@pytest.fixture(scope="module")
def categories() -> dict[str, str]:
    listed = {
        row["source"].lower(): row["source_category"].removeprefix("SOURCE_CATEGORY_").lower()
        for row in rows("ga4_source_categories.csv")
    }
    assert len(listed) > 800
    return listed


def test_the_vectors_are_all_there() -> None:
    assert len(vectors()) == 29


@pytest.mark.parametrize(("source", "medium", "campaign", "expected"), vectors())
def test_vector(source: str, medium: str, campaign: str, expected: str) -> None:
    assert ga4_channel(source, medium, campaign) == expected
    assert ga4_channel(f" {source.upper()} ", medium.upper(), campaign.upper()) == expected


def test_every_source_of_ours_is_listed_under_the_same_category_or_marked_as_our_own(
    categories: dict[str, str],
) -> None:
    theirs = {**SOURCES.exact, **SOURCES.under}
    ours = {source: known.category for source, known in theirs.items() if source not in SOURCES.own}
    assert len(ours) > 350
    assert ours == {source: categories.get(source) for source in ours}
    assert not {source for source in SOURCES.own if source in categories}


def test_no_listed_source_is_taken_for_another_category(categories: dict[str, str]) -> None:
    """Subdomains and country endings reach further than the names written down; never into another category."""
    reached = {source: known.category for source in categories if (known := find(source))}
    assert len(reached) > 500
    assert reached == {source: categories[source] for source in reached}
