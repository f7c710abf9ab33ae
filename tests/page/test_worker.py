"""The page of a real worker: Kafka, Redis, Faust's web server, and a browser."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from integration import conftest
from integration.conftest import TOML, World
from integration.stack import Stack
from page.test_page import expected, open_page, rows_of, table, text, until
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.integration
small, stack = conftest.small, conftest.stack


def test_the_page_of_a_worker(browser: WebDriver, stack: Callable[..., Stack], small: World) -> None:
    one = stack('clock = "event"\n' + TOML, PARCOURS_IDLE_AFTER="0.5", PARCOURS_WEB_TOKEN="open sesame")
    one.publish(small.items, small.timestamps())
    worker = one.worker()
    one.settle()
    open_page(browser, worker, "?lang=en&window=30d")  # type: ignore[arg-type]
    WebDriverWait(browser, 60).until(lambda found: table(found) and table(found) == expected(worker, "30d"))  # type: ignore[arg-type]
    shown = table(browser)
    assert len(shown) > 8
    assert shown["total"][0] is not None
    assert browser.find_elements(By.CSS_SELECTOR, "#board .spark path"), "no day of a channel is drawn"
    assert browser.find_elements(By.CSS_SELECTOR, "#trend canvas")

    # A campaign below a row, and its journey.
    rows_of(browser, "Paid Social · facebook").click()
    until(browser, "return document.querySelectorAll('.campaigns tbody tr').length > 0")
    person = next(a["person"] for a in small.expected.values() if a["credits"])
    browser.find_element(By.NAME, "person").send_keys(person)
    browser.find_element(By.NAME, "token").send_keys("open sesame")
    browser.find_element(By.CSS_SELECTOR, "#journey-form button").click()
    until(browser, "return document.querySelector('#journey .step.converted')")
    assert person in text(browser, "#journey")
    assert refused(worker.url, person) == 401

    # An open page does not hold up a stop.
    assert worker.stop() == 0
    until(browser, "return document.getElementById('live').textContent === 'Connection lost'")
    assert table(browser) == shown


def refused(url: str, person: str) -> Any:
    try:
        with urllib.request.urlopen(f"{url}/api/journey?person={person}", timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code
