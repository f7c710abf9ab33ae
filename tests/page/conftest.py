"""A headless browser for the page's tests: Debian's chromium and chromium-driver."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator

import pytest
from page import shop
from page.site import Site

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed (Debian packages chromium, chromium-driver): THE LIVE PAGE WAS NOT TESTED"
BENIGN = (
    "net::ERR_CONNECTION_REFUSED",
    "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
    "net::ERR_EMPTY_RESPONSE",
    "net::ERR_CONNECTION_RESET",
)
"""What the browser says of a worker that is away, or was."""


@pytest.fixture(scope="session")
def driver() -> Iterator[object]:
    if CHROMIUM is None or DRIVER is None:
        warnings.warn(MISSING, stacklevel=1)
        pytest.skip(MISSING)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1240,1000",
        "--lang=en",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture
def browser(driver: object) -> Iterator[object]:
    """The browser with nothing left of the test before; afterwards it must have complained of nothing: no script error, no CSP violation."""
    from selenium.webdriver.remote.webdriver import WebDriver

    assert isinstance(driver, WebDriver)
    driver.get("about:blank")
    driver.get_log("browser")  # type: ignore[no-untyped-call]
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    yield driver
    said = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]  # type: ignore[no-untyped-call]
    assert [message for message in said if not any(text in message for text in BENIGN)] == []


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    """Makes sites, and closes them. Without arguments: the shop."""
    made: list[Site] = []

    def make(places: tuple[shop.Place, ...] | None = shop.PLACES) -> Site:
        one = Site(shop.MARKETING) if places is None else Site(shop.MARKETING, shop.rows(places), shop.END)
        if places is not None:
            one.watch(shop.states())
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
