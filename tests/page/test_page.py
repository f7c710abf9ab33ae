"""The live page in a real headless browser, over rows that are known."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from page import shop
from page.site import TOKEN, Site
from prometheus_client.parser import text_string_to_metric_families

pytest.importorskip("selenium", reason="selenium is not installed: THE LIVE PAGE WAS NOT TESTED")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

Make = Callable[..., Site]
COLUMNS = ("attributed_conversions", "attributed_revenue", "cost", "cpa", "roas_ratio", "roi_on_revenue_ratio")
HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"
SECONDS = 20


def open_page(browser: WebDriver, site: Site, query: str = "?lang=en&theme=light") -> None:
    browser.get(f"{site.url}/{query}")
    until(browser, "return document.documentElement.dataset.version || !document.getElementById('empty').hidden")


def until(browser: WebDriver, script: str, *arguments: Any) -> Any:
    """Wait until a script gives something true."""
    return WebDriverWait(browser, SECONDS, poll_frequency=0.05).until(
        lambda found: found.execute_script(script, *arguments)
    )


def text(browser: WebDriver, selector: str) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, selector).text)


def table(browser: WebDriver) -> dict[str, list[str | None]]:
    """Each row's name to the values behind its cells, exactly as they came; None where a dash is shown."""
    return dict(
        browser.execute_script(
            """return [...document.querySelectorAll('#board > tbody > tr:not(.detail-row), #board > tfoot > tr')].map((row) => [
                 row.querySelector('.toggle')?.title ?? 'total', [...row.querySelectorAll('td.number')].map((cell) => cell.dataset.value ?? null)])"""
        )
    )


def metrics(site: Site) -> dict[tuple[str, tuple[str, ...]], str]:
    """What `/metrics` says: (metric, names of the level) to value, of 7 days unless told otherwise."""
    return exported(site, "7d", "conversion", "last_non_direct")


def exported(site: Site, window: str, basis: str, model: str) -> dict[tuple[str, tuple[str, ...]], str]:
    with urllib.request.urlopen(f"{site.url}/metrics", timeout=10) as answer:
        body = answer.read().decode()
    chosen = {"window": window, "basis": basis, "model": model, "conversion": "purchase"}
    found = {}
    for line in body.splitlines():
        if not re.match("parcours_(total|channel|campaign)_", line) or f'window="{window}"' not in line:
            continue
        (family,) = text_string_to_metric_families(line + "\n")
        (sample,) = family.samples
        match = re.fullmatch(r"parcours_(total|channel|campaign)_(\w+)", sample.name)
        if (
            match
            and "period" not in sample.labels
            and all(sample.labels.get(key, value) == value for key, value in chosen.items())
        ):
            names = tuple(sample.labels[key] for key in ("channel", "network", "campaign") if key in sample.labels)
            found[match[2], names] = line.rpartition(" ")[2]
    return found


def expected(
    site: Site, window: str = "7d", basis: str = "conversion", model: str = "last_non_direct"
) -> dict[str, list[str | None]]:
    known = exported(site, window, basis, model)
    names = {key for _, key in known if len(key) in {0, 2}}
    return {" · ".join(key) or "total": [known.get((column, key)) for column in COLUMNS] for key in names}


def rows_of(browser: WebDriver, name: str) -> Any:
    return browser.execute_script(
        "return [...document.querySelectorAll('#board .toggle')].find((b) => b.title === arguments[0])", name
    )


def test_every_number_is_that_of_metrics(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    assert table(browser) == expected(one)
    kpis = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('#kpis .figure')].map((p) => [p.dataset.metric, p.dataset.value ?? null]))"
    )
    assert kpis == dict(zip(COLUMNS, expected(one)["total"], strict=True))
    # Each has its last 35 days below it.
    assert len(browser.find_elements(By.CSS_SELECTOR, "#kpis .kpi svg.spark path")) == len(COLUMNS)
    # What is read is the value, rounded: €6,239 of 6239.43.
    row = rows_of(browser, "Paid Search · google").find_element(By.XPATH, "./ancestor::tr")
    assert [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "td.number")] == [
        "64",
        "€6,239",
        "€744.28",
        "€11.63",
        "8.38×",
        "738.3%",
    ]
    unattributed = Decimal(13) / (Decimal(13) + sum(Decimal(place.conversions) for place in shop.PLACES[:-1]))
    assert f"{unattributed:.1%}" in text(browser, "#asof")


def test_the_strip_says_why_conversions_are_unattributed(browser: WebDriver, site: Make) -> None:
    open_page(browser, site())
    browser.find_element(By.CSS_SELECTOR, "#asof summary[data-key='why']").click()
    told = browser.execute_script(
        "return [...document.querySelectorAll('#asof li[data-reason]')].map((item) => [item.dataset.reason, item.dataset.value, item.innerText])"
    )
    assert [line[:2] for line in told] == [["no_touch_known", "9"], ["outside_window", "3"], ["filtered", "1"]]
    assert told[0][2] == "9 no touch is known before it"


@pytest.mark.parametrize(
    "chosen",
    [("30d", "touch", "position_based"), ("24h", "conversion", "linear"), ("1h", "conversion", "first_touch")],
    ids="-".join,
)
def test_window_basis_and_model_switch(browser: WebDriver, site: Make, chosen: tuple[str, str, str]) -> None:
    window, basis, model = chosen
    one = site()
    open_page(browser, one)
    browser.find_element(By.CSS_SELECTOR, f"[data-key='window-{window}']").click()
    until(
        browser,
        "return document.querySelector(`[data-key='window-${arguments[0]}']`).getAttribute('aria-pressed') === 'true'",
        window,
    )
    browser.find_element(By.CSS_SELECTOR, f"[data-key='basis-{basis}']").click()
    until(
        browser,
        "return document.querySelector(`[data-key='basis-${arguments[0]}']`).getAttribute('aria-pressed') === 'true'",
        basis,
    )
    browser.find_element(By.CSS_SELECTOR, f"#controls option[value='{model}']").click()
    WebDriverWait(browser, SECONDS).until(lambda found: table(found) == expected(one, *chosen))
    # The choice is in the address: whoever it is sent to sees the same.
    address = browser.current_url
    assert all(f"{name}={value}" in address for name, value in zip(("window", "basis", "model"), chosen, strict=True))
    browser.get(address)
    WebDriverWait(browser, SECONDS).until(lambda found: table(found) == expected(one, *chosen))


def test_numbers_move_when_events_come(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    before = table(browser)
    number = one.show(shop.rows(scale="1.5"), shop.END + 60_000_000)
    until(browser, "return document.documentElement.dataset.version === String(arguments[0])", number)
    assert table(browser) == expected(one) != before
    assert "14:33:05" in text(browser, "#asof")


def test_a_row_opens_its_campaigns_and_models(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    rows_of(browser, "Paid Social · facebook").click()
    until(browser, "return document.querySelectorAll('.campaigns tbody tr').length === 2")
    known = metrics(one)
    shown = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('.campaigns tbody tr')].map((row) => [row.querySelector('th').textContent, [...row.querySelectorAll('td')].map((c) => c.dataset.value ?? null)]))"
    )
    for campaign in ("spring", "retargeting"):
        assert shown[campaign] == [known.get((column, ("Paid Social", "facebook", campaign))) for column in COLUMNS]
    assert len(browser.find_elements(By.CSS_SELECTOR, ".models .model")) == len(shop.MODELS)
    assert text(browser, ".model.chosen .model-name") == "Last non-direct"
    browser.find_element(By.CSS_SELECTOR, "[data-key='basis-touch']").click()
    until(
        browser,
        "return !document.querySelector('.campaigns') && document.querySelector('.detail').textContent.includes('Campaigns are counted for')",
    )


def test_alerts_fire_and_resolve_and_goals_stand(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    assert "1 alert is firing" in text(browser, "#firing")
    assert "Paid Social · linkedin — €178.60, threshold €60.00" in text(browser, "#alerts .state.bad")
    assert "costs of some networks are late" in text(browser, "#alerts")
    goals = text(browser, "#goals")
    assert "spring_orders on track" in goals
    assert "496 of 800" in goals
    assert "linkedin_cpa behind" in goals
    one.watch(shop.states(firing=0))
    until(browser, "return !document.getElementById('firing').textContent")
    assert not browser.find_elements(By.CSS_SELECTOR, "#alerts .state.bad")


def test_what_networks_claim_stands_beside_what_is_credited(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    assert not browser.find_element(By.ID, "claims-card").is_displayed()
    number = one.show([*shop.rows(), *shop.claims()], shop.END)
    until(browser, "return document.documentElement.dataset.version === String(arguments[0])", number)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#claims tbody tr')].map((row) => [row.querySelector('th').title, [...row.querySelectorAll('td')].map((c) => [c.dataset.value, c.textContent])])"
    )
    assert shown == [
        ["Paid Search · google", [["80", "80"], ["64", "64"], ["16", "+16"], ["7500.5", "€7,501"], ["6239.43", "€6,239"], ["1261.07", "+€1,261"]]],
        ["Paid Social · facebook", [["40", "40"], ["45.5", "45.5"], ["-5.5", "-5.5"], ["3000", "€3,000"], ["3797.2", "€3,797"], ["-797.2", "-€797.20"]]],
    ]  # fmt: skip
    assert "Last non-direct" in text(browser, "#claims-note")
    browser.find_element(By.CSS_SELECTOR, "[data-key='window-1h']").click()
    until(browser, "return document.getElementById('claims-card').hidden")


def test_by_keyboard_alone(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    keys = browser.switch_to.active_element

    def tab_to(selector: str) -> Any:
        for _ in range(80):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            if browser.execute_script("return document.activeElement.matches(arguments[0])", selector):
                return browser.switch_to.active_element
        raise AssertionError(f"the Tab key does not reach {selector}")

    assert keys is not None
    tab_to("[data-key='window-30d']").send_keys(Keys.ENTER)
    until(browser, "return document.querySelector(\"[data-key='window-30d']\").getAttribute('aria-pressed') === 'true'")
    # The focus is not lost to what was drawn anew.
    assert browser.switch_to.active_element.get_attribute("data-key") == "window-30d"
    tab_to("[data-key='sort-cpa']").send_keys(Keys.SPACE)
    assert browser.execute_script(
        "return document.querySelector('#board th[aria-sort=descending]').textContent"
    ).startswith("CPA")
    first = tab_to("#board .toggle")
    assert first.get_attribute("title") == "Paid Social · tiktok"
    first.send_keys(Keys.ENTER)
    until(browser, "return document.querySelector('.campaigns')")
    assert browser.switch_to.active_element.get_attribute("aria-expanded") == "true"
    number = one.show(shop.rows(scale="2"), shop.END)
    until(browser, "return document.documentElement.dataset.version === String(arguments[0])", number)
    assert browser.switch_to.active_element.get_attribute("title") == "Paid Social · tiktok"


def test_in_french(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    browser.find_element(By.CSS_SELECTOR, "[data-lang='fr']").click()
    assert browser.execute_script("return document.documentElement.lang") == "fr"
    body = text(browser, "body").replace("\u202f", " ").replace("\xa0", " ")
    for words in (
        "En direct",
        "Canaux et réseaux",
        "Chiffre d’affaires",
        "Dernier non direct",
        "1 alerte est active",
        "6 239 €",
        "738,3 %",
        "Objectifs",
    ):
        assert words in body, words
    assert table(browser) == expected(one)
    browser.get(f"{one.url}/")
    until(browser, "return document.documentElement.lang === 'fr'")


def test_every_word_is_in_both_languages(browser: WebDriver, site: Make) -> None:
    open_page(browser, site())
    words = browser.execute_async_script(
        "const done = arguments[0]; import('/page/words.js').then((m) => done({ words: m.WORDS, models: m.MODELS }))"
    )
    for kind in ("words", "models"):
        en, fr = words[kind]["en"], words[kind]["fr"]
        assert en.keys() == fr.keys()
        for key in en:
            assert set(re.findall(r"\{\w+\}", en[key])) == set(re.findall(r"\{\w+\}", fr[key])), key
            assert fr[key].strip()


def test_a_thousand_campaigns(browser: WebDriver, site: Make) -> None:
    names = tuple(f"campaign_{i:04}" for i in range(1000))
    open_page(browser, site((*shop.PLACES, shop.Place("Paid Shopping", "bing", "18", "1500", "800", names))))
    rows_of(browser, "Paid Shopping · bing").click()
    until(browser, "return document.querySelectorAll('.campaigns tbody tr').length === 25")
    assert "25 of 1,000" in text(browser, ".campaigns-head")
    search = browser.find_element(By.CSS_SELECTOR, ".campaigns-head input")
    search.send_keys("_0742")
    assert browser.execute_script(
        "return [...document.querySelectorAll('.campaigns tbody th')].map((e) => e.textContent)"
    ) == ["campaign_0742"]
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.BACKSPACE)
    for _ in range(3):
        browser.find_element(By.CSS_SELECTOR, ".more").click()
    until(browser, "return document.querySelectorAll('.campaigns tbody tr').length === 1000")


def test_hostile_names_are_text(browser: WebDriver, site: Make) -> None:
    campaigns = (HOSTILE, "javascript:alert(1)", "'\"&amp;</td><script>document.title='pwned'</script>", "x" * 100)
    places = (
        *shop.PLACES,
        shop.Place(HOSTILE, "</script><script>document.title='pwned'</script>", "3", "120", "500", campaigns),
    )
    one = site(places)
    who = {"channel": HOSTILE, "network": HOSTILE, "window": "7d"}
    of = "parcours_channel_platform_conversions"
    one.show([*shop.rows(places), shop.row(of, who, 3), shop.row(f"{of}_difference", who, 1)], shop.END)
    one.watch(
        [
            *shop.states(),
            shop.row(
                "parcours_alert_active",
                {"rule": HOSTILE, "severity": "x", "team": "", "channel": HOSTILE, "network": "", "campaign": ""},
                1,
            ),
        ]
    )
    open_page(browser, one)
    rows_of(browser, f"{HOSTILE} · </script><script>document.title='pwned'</script>").click()
    until(browser, "return document.querySelectorAll('.campaigns tbody tr').length === 4")
    assert set(
        browser.execute_script("return [...document.querySelectorAll('.campaigns tbody th')].map((e) => e.textContent)")
    ) == set(campaigns)
    assert browser.title == "Parcours"
    assert HOSTILE in text(browser, "#alerts")
    assert HOSTILE in text(browser, "#claims")
    assert browser.execute_script("return [...document.querySelectorAll('#main img, #main script')].length") == 0
    for width in (390, 1240):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        assert until(browser, "return innerWidth === arguments[0]", width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_nothing_has_arrived_yet(browser: WebDriver, site: Make) -> None:
    one = site(None)
    open_page(browser, one)
    assert "Nothing has arrived yet" in text(browser, "#empty")
    assert not browser.find_element(By.ID, "figures").is_displayed()
    one.show(shop.rows(), shop.END)
    until(browser, "return document.getElementById('empty').hidden")
    assert table(browser) == expected(one)


def test_another_worker_leads(browser: WebDriver, site: Make) -> None:
    one = site(None)
    one.leads = False
    open_page(browser, one)
    assert "Another worker has the figures" in text(browser, "#empty")


def test_a_lost_connection_says_so_and_comes_back(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    one.stop()
    until(browser, "return document.getElementById('live').textContent === 'Connection lost'")
    assert "those of 14:32:05" in text(browser, "#notice")
    assert table(browser)  # what was known stays, and is greyed
    assert browser.execute_script("return document.body.classList.contains('stale')")
    one.show(shop.rows(scale="1.1"), shop.END + 60_000_000)
    one.start()
    until(browser, "return document.getElementById('live').textContent === 'Live'")
    WebDriverWait(browser, SECONDS).until(lambda found: table(found) == expected(one))
    assert not browser.find_element(By.ID, "notice").is_displayed()


def test_what_the_worker_complains_of_is_shown(browser: WebDriver, site: Make) -> None:
    one = site()
    open_page(browser, one)
    one.says = ["Redis is away: refused"]
    until(browser, "return document.getElementById('notice').textContent.includes('Redis is away: refused')")


def test_a_journey_needs_the_token(browser: WebDriver, site: Make) -> None:
    one = site()
    one.journeys["c:42"] = json.dumps(JOURNEY).encode()
    open_page(browser, one)

    def ask(person: str, token: str) -> None:
        for name, value in (("person", person), ("token", token)):
            entry = browser.find_element(By.NAME, name)
            entry.clear()
            entry.send_keys(value)
        browser.find_element(By.CSS_SELECTOR, "#journey-form button").click()

    ask("c:42", "wrong")
    until(browser, "return document.getElementById('journey').textContent.includes('the token is not the one')")
    ask("c:42", TOKEN)
    until(browser, "return document.querySelectorAll('#journey .step').length === 3")
    shown = text(browser, "#journey")
    for words in (
        "Touch events: 2 · conversions: 1",
        "earned 100 %",
        "last_non_direct credits google",
        HOSTILE,
        "Restated: instagram's impression",
    ):
        assert words in shown
    assert TOKEN not in browser.current_url
    browser.find_element(By.CSS_SELECTOR, "[data-lang='fr']").click()
    shown = text(browser, "#journey")
    for words in ("last_non_direct crédite google pour l’achat 7", "Révisé : l’impression de instagram"):
        assert words in shown
    browser.find_element(By.CSS_SELECTOR, "[data-lang='en']").click()
    ask("c:43", TOKEN)
    until(
        browser,
        "return document.getElementById('journey').textContent.includes('no touch and no conversion of c:43 is known')",
    )
    # Said by the browser of answers that refuse; nothing else may be.
    said = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    assert all("/api/journey" in message and re.search(r"status of 40[14]", message) for message in said)
    assert len(said) == 2


def test_the_page_is_one_of_light_and_dark(browser: WebDriver, site: Make) -> None:
    one = site()
    colours = set()
    for theme in ("light", "dark"):
        open_page(browser, one, f"?lang=en&theme={theme}")
        colours.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert browser.execute_script(CONTRAST) >= 4.5
    assert len(colours) == 2


CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => { v = v / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
const light = (colour) => { const [r, g, b] = parts(colour); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const card = getComputedStyle(document.querySelector('.card')).backgroundColor;
return Math.min(...[...document.querySelectorAll('.figure, .note, #board td.number:not(.none), .change, #board thead button')].map((e) => ratio(getComputedStyle(e).color, card)));
"""

JOURNEY = {
    "person": "c:42", "currency": "EUR",
    "touches": [
        {"event_id": "t1", "occurred_at": "2026-02-01T10:00:00Z", "t": 1, "class": "view", "kind": "impression", "channel": "Paid Social", "network": "instagram", "campaign": HOSTILE, "taken_as": "touch"},
        {"event_id": "t2", "occurred_at": "2026-02-02T10:00:00Z", "t": 2, "class": "click", "kind": "click", "channel": "Paid Search", "network": "google", "campaign": "brand", "taken_as": "touch"},
    ],
    "conversions": [
        {"conversion_id": "o:7", "type": "purchase", "name": "7", "occurred_at": "2026-02-03T10:00:00Z", "t": 3, "status": "attributed", "reason": None, "gross": "80", "net": "80",
         "credits": {"last_non_direct": [{"touch_id": "t2", "channel": "Paid Search", "network": "google", "campaign": "brand", "conversions": "1", "revenue": "80", "percent": "100 %"}]},
         "restatements": [{"why": "instagram's impression came after the credit was filed", "why_fr": "l’impression de instagram est arrivé après l’établissement du crédit"}],
         "sentence": "last_non_direct credits google for purchase 7 because it is the last eligible touch that is not direct, 1 day before.",
         "sentence_fr": "last_non_direct crédite google pour l’achat 7 : c’est le dernier contact éligible qui n’est pas direct, 1 jour avant."},
    ],
}  # fmt: skip
