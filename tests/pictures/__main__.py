"""Takes the pictures in docs/images of a demo that runs for a while: the live page, an alert, a journey, and the dashboards.

The dashboards are drawn by panels.jsx, with the components that Grafana publishes and data of a Prometheus that scrapes the demo: no Grafana runs.
Needs node and npm, chromium and chromium-driver, and prometheus.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.monitoring import Prometheus
from integration.stack import ROOT
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent
IMAGES = ROOT / "docs" / "images"
BOARDS = {"parcours": 1270, "journeys": 950, "pipeline": 1000}
"""Dashboards, and how much of each is shown, in px of its 1 600 px width."""

WAIT = 180
NEEDED = {"npm": "npm", "chromium": "chromium", "chromedriver": "chromium-driver", "prometheus": "prometheus"}
"""Commands, and the Debian package of each."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="how long the demo runs before the dashboards are taken"
    )
    parser.add_argument("--into", type=Path, default=IMAGES, help="folder (default: docs/images)")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    if missing := [command for command in NEEDED if shutil.which(command) is None]:
        packages = " ".join(NEEDED[command] for command in missing)
        sys.exit(f"The pictures need {', '.join(missing)}; on Debian and Ubuntu install {packages}.")
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    subprocess.run(["npm", "run", "--silent", "build"], cwd=HERE, check=True)
    with tempfile.TemporaryDirectory() as folder, demo(given.minutes * 60 + WAIT) as url, browser() as chrome:
        worker = url.removeprefix("http://").rstrip("/")
        with Prometheus(Path(folder), [worker], "127.0.0.1:9", interval="5s") as prometheus:
            began = time.monotonic()
            page(chrome, url, given.into)
            while time.monotonic() - began < given.minutes * 60:
                time.sleep(1)
            with files(Path(folder) / "site") as site:
                for name, height in BOARDS.items():
                    dashboard(chrome, f"{site}/?board={name}.json", prometheus.url, given, height, name)


@contextmanager
def demo(seconds: float) -> Iterator[str]:
    """The address of a demo's page, which ends by itself after so long, or with this."""
    words = [sys.executable, "-m", "streams.cli", "demo", "--plain", "--port", "0", "--for", str(seconds)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                print(line, end="", flush=True)
                if found := re.match(r"page +(\S+)", line):
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    yield found[1]
                    return
            raise SystemExit("the demo did not start")
        finally:
            process.send_signal(signal.SIGINT)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--lang=en",
    ):
        options.add_argument(word)
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield found
    finally:
        found.quit()


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """Serves what draws the dashboards, the dashboards, and the icons."""
    shutil.copytree(HERE / "built", folder)
    shutil.copy(HERE / "index.html", folder)
    shutil.copytree(HERE / "node_modules/@grafana/ui/dist/public", folder / "public")
    for board in (ROOT / "grafana" / "dashboards").glob("*.json"):
        shutil.copy(board, folder)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def sized(chrome: webdriver.Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def shoot(chrome: webdriver.Chrome, file: Path, x: float, y: float, width: float, height: float) -> None:
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    taken: dict[str, Any] = chrome.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    file.write_bytes(base64.b64decode(taken["data"]))
    print(f"{file} {file.stat().st_size / 1000:.0f} kB", flush=True)


def part(chrome: webdriver.Chrome, file: Path, selector: str) -> None:
    """An element, with a little around it."""
    script = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.x + scrollX, r.y + scrollY, r.width, r.height]"
    x, y, width, height = chrome.execute_script(script, selector)
    shoot(chrome, file, max(0, x - 8), max(0, y - 8), width + 16, height + 16)


def until(chrome: webdriver.Chrome, script: str) -> None:
    WebDriverWait(chrome, WAIT, poll_frequency=0.2).until(lambda found: found.execute_script(script))


def page(chrome: webdriver.Chrome, url: str, into: Path) -> None:
    """The live page while an alert fires, on a large screen and on a phone; a journey."""
    sized(chrome, 1240, 1010)
    chrome.get(f"{url}?lang=en&theme=light")
    until(chrome, "return document.querySelector('#alerts .state.bad')")
    until(chrome, "return !document.querySelector('.moved:not(:hover)')?.getAnimations().length")
    shoot(chrome, into / "page.png", 0, 0, 1240, 1010)
    part(chrome, into / "alert.png", ".pair")
    part(chrome, into / "claims.png", "#claims-card")
    chrome.find_element(By.NAME, "token").send_keys("demo")
    for number in range(42, 200):
        person = chrome.find_element(By.NAME, "person")
        person.clear()
        person.send_keys(f"u{number}")
        chrome.find_element(By.CSS_SELECTOR, "#journey-form button").click()
        until(chrome, f"return /u{number}\\b/.test(document.querySelector('#journey').textContent)")
        if 5 < len(chrome.find_elements(By.CSS_SELECTOR, "#journey .step")) < 12 and chrome.find_elements(
            By.CSS_SELECTOR, "#journey .step.converted"
        ):
            break
    x, y, width, height = chrome.execute_script(
        "const r = document.querySelector('#journey-card').getBoundingClientRect(); return [r.x + scrollX, r.y + scrollY, r.width, r.height]"
    )
    shoot(chrome, into / "journey.png", x - 8, y - 8, width + 16, min(height + 16, 620))
    sized(chrome, 390, 1100)
    chrome.get(f"{url}?lang=fr&theme=dark")
    until(chrome, "return document.documentElement.dataset.version")
    shoot(chrome, into / "page-phone-fr.png", 0, 0, 390, 1100)


def dashboard(
    chrome: webdriver.Chrome, url: str, source: str, given: argparse.Namespace, height: int, name: str
) -> None:
    sized(chrome, 1600, 1200)
    chrome.get(f"{url}&prometheus={urllib.parse.quote(source, safe='')}&minutes={given.minutes:g}")
    until(chrome, "return document.body.dataset.done")
    if chrome.execute_script("return document.body.dataset.done") != "yes":
        raise SystemExit(f"{name}: {chrome.find_element(By.TAG_NAME, 'body').text}")
    sized(chrome, 1600, chrome.execute_script("return document.documentElement.scrollHeight"))
    time.sleep(1)  # panels take their new size
    shoot(chrome, given.into / f"dashboard-{name}.png", 0, 0, 1600, height)


if __name__ == "__main__":
    main()
