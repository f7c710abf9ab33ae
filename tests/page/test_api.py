"""The API behind the live page: made off the loop, once per change, and shut where it shows a person."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page import shop
from page.site import TOKEN, Site

from attribution.families import Row
from models.errors import ConfigError
from streams import api, page
from streams.api import Api, Figures, Snapshot, States, Wanted


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site(shop.MARKETING, shop.rows(), shop.END)
    one.watch(shop.states())
    yield one
    one.close()


def get(site: Site, path: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(site.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if answer.headers["Content-Type"].startswith(
                "application/json"
            ) else answer
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body else None


async def test_figures_are_made_in_another_thread_and_once_per_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    class Counted(Figures):
        def __init__(self, snapshot: Snapshot, *rest: Any) -> None:
            made.append((snapshot.number, threading.get_ident()))
            super().__init__(snapshot, *rest)

        def overview(self, *rest: Any) -> Any:
            made.append((0, threading.get_ident()))
            return super().overview(*rest)

    monkeypatch.setattr(api, "Figures", Counted)
    latest = Snapshot(1, shop.END, [shop.rows()])
    one = Api(lambda: latest, lambda: States(0, []), shop.MARKETING)
    # Nobody asks: nothing is made.
    assert made == []
    await asyncio.gather(*(one.overview(Wanted(window=window)) for window in ("7d", "30d", "24h")))
    latest = Snapshot(2, shop.END, latest.blocks)
    await one.overview(Wanted())
    assert [number for number, _ in made if number] == [1, 2]
    assert threading.get_ident() not in {thread for _, thread in made}


def test_blocks_that_come_again_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    known = api._samples
    monkeypatch.setattr(api, "_samples", lambda block: (read.append(id(block)), known(block))[1])
    rows = shop.rows()
    blocks = [rows[i : i + 50] for i in range(0, len(rows), 50)]
    first = Figures(Snapshot(1, shop.END, blocks), shop.MARKETING)
    changed = [*blocks[:-1], list(blocks[-1])]
    second = Figures(Snapshot(2, shop.END, changed), shop.MARKETING, first)
    assert read == [*map(id, blocks), id(changed[-1])]
    assert second.overview(Wanted(), States(0, [])) == first.overview(Wanted(), States(0, [])) | {"version": 2}


def test_what_is_not_exported_gives_the_nearest_and_says_so() -> None:
    figures = Figures(Snapshot(1, shop.END, [shop.rows()]), shop.MARKETING)
    # Credit of an hour is filed by conversion only.
    assert figures.select(Wanted("1h", "touch", "linear")) == ("1h", "conversion", "linear", "purchase")
    assert figures.select(Wanted()) == ("7d", "conversion", "last_non_direct", "purchase")
    for wanted, words in (
        (Wanted("9d"), "window: '9d'"),
        (Wanted(model="magic"), "model: 'magic'"),
        (Wanted(basis="x"), "basis: 'x'"),
        (Wanted(conversion="lead"), "conversion: 'lead'"),
    ):
        with pytest.raises(ConfigError, match=words):
            figures.select(wanted)


def test_reasons_are_of_what_is_selected_and_in_no_other_figure() -> None:
    def nobodys(kind: str, reason: str, window: str, n: int) -> Row:
        labels = {"conversion": kind, "reason": reason, "window": window}
        return shop.row("parcours_total_unattributed_conversions", labels, n)

    rows = [
        nobodys("purchase", "filtered", "7d", 2), nobodys("purchase", "no_consent", "30d", 0),
        nobodys("lead", "filtered", "7d", 5), nobodys("purchase", "filtered", "30d", 8),
    ]  # fmt: skip
    figures = Figures(Snapshot(1, shop.END, [shop.rows(), rows]), shop.MARKETING)
    told = figures.overview(Wanted(window="30d"), States(1, []))
    assert told["unattributed"] == {"filtered": "8"}
    assert "unattributed_conversions" not in told["total"]


def test_days_come_oldest_first_and_a_missing_one_is_null() -> None:
    def day(ago: int, value: int) -> Row:
        return shop.row("parcours_day_total_orders", {"days_ago": str(ago)}, value)

    figures = Figures(Snapshot(1, shop.END, [[*shop.rows(), day(0, 7), day(2, 5)]]), shop.MARKETING)
    orders = figures.overview(Wanted(), States(0, []))["days"]["orders"]
    assert (len(orders), orders[-3:]) == (shop.DAYS, ["5", None, "7"])


def test_errors_name_the_parameter(site: Site) -> None:
    assert get(site, "/api/overview?window=soon") == (400, {"error": "window: 'soon' is none of 1h, 24h, 7d, 30d"})
    code, said = get(site, "/api/channel?channel=Email")
    assert (code, "channel and network" in said["error"]) == (400, True)
    site.leads = False
    site._snapshot = None
    assert get(site, "/api/overview") == (503, {"error": "no figures yet"})


def test_a_journey_needs_the_token(site: Site) -> None:
    site.journeys["c:42"] = b'{"person": "c:42"}'
    path = "/api/journey?person=c:42"
    assert get(site, path)[0] == 401
    assert get(site, path, Authorization="Bearer wrong")[0] == 401
    assert get(site, path, Authorization="Bearer ")[0] == 401
    assert get(site, path + f"&token={TOKEN.replace(' ', '+')}")[0] == 401
    assert get(site, path, Authorization=f"Bearer {TOKEN}") == (200, {"person": "c:42"})
    assert get(site, "/api/journey", Authorization=f"Bearer {TOKEN}")[0] == 400
    assert get(site, "/api/journey?person=c:1", Authorization=f"Bearer {TOKEN}")[0] == 404
    site.token = None
    code, said = get(site, path, Authorization="Bearer ")
    assert (code, "PARCOURS_WEB_TOKEN" in said["error"]) == (403, True)


def test_files_are_safe_to_serve_and_kept_by_the_browser(site: Site) -> None:
    code, answer = get(site, "/")
    policy = answer.headers["Content-Security-Policy"]
    assert code == 200
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert get(site, "/", **{"If-None-Match": answer.headers["ETag"]})[0] == 304
    assert get(site, "/page/main.js", **{"If-None-Match": answer.headers["ETag"]})[0] == 200


def test_nothing_comes_from_elsewhere() -> None:
    found = page.assets()
    assert {"/", "/page/main.js", "/page/page.css", "/page/uplot.js"} <= set(found)
    for path, asset in found.items():
        if path.startswith("/page/uplot"):
            continue  # names its home in a comment
        text = asset.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="):
            assert markup not in text, (path, markup)
    # The licence of what is shipped is shipped with it.
    assert "Permission is hereby granted" in (Path(page.__file__).parent / "uplot.LICENSE.txt").read_text("utf-8")


def test_open_pages_do_not_hold_a_stop_up_and_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.web.STREAMS_MAX", 2)
    streams = [urllib.request.urlopen(site.url + "/api/events", timeout=10) for _ in range(2)]
    for stream in streams:
        assert json.loads(stream.readline().removeprefix(b"data: "))["version"] == 1
    code, said = get(site, "/api/events")
    assert (code, said["error"]) == (503, "2 pages are open on this worker already")
    # A stop that waited for them would take longer than its bound of 30 s, and the streams would not end.
    site.stop()
    for stream in streams:
        assert b"data: " not in stream.read()
        stream.close()
