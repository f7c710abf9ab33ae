"""Prometheus, Alertmanager and a webhook as real processes, with the shipped files at short intervals."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from integration.stack import ROOT, Timeout

from streams.embedded import free_port

SHIPPED = ROOT / "prometheus"
PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
T = TypeVar("T")


def until(what: str, found: Callable[[], T], seconds: float, tail: Callable[[], str] = str) -> T:
    """The first true result of `found`, which is asked again and again; Timeout with `what` and the tail of a log after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise Timeout(f"not within {seconds} s: {what}\n{tail()}")
        time.sleep(0.05)
    return result


class Webhook:
    """Answers each POST with 200 and keeps what came, by path."""

    def __init__(self) -> None:
        received: list[tuple[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append((self.path, json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def at(self, path: str) -> list[Any]:
        """What came to a path, in order."""
        return [body for where, body in list(self._received) if where == path]

    def notified(self) -> list[tuple[str, dict[str, Any]]]:
        """From Alertmanager: each alert of each message, with the receiver that it was sent by."""
        bodies = [body for _, body in list(self._received) if "groupKey" in body]
        return [(body["receiver"], alert) for body in bodies for alert in body["alerts"]]


class Server:
    """A process with a readiness page."""

    def __init__(self, folder: Path, name: str, command: list[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{name}.log"
        self._name, self._command = name, command
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until(f"{self._name} is ready", self._ready, 60, self.tail)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise Timeout(f"{self._name} ended\n{self.tail()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def get(self, path: str, **query: str) -> Any:
        """A page of its API."""
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as response:
            return json.load(response)

    def post(self, path: str, body: Any) -> None:
        """Send JSON to its API."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]


class Prometheus(Server):
    """The shipped configuration and rules, evaluated each `interval`, on given workers and a given Alertmanager.

    How long a sample counts (90 s) and each alert's `for` are as shipped.
    """

    def __init__(self, folder: Path, workers: Iterable[str], alertmanager: str, interval: str = "1s") -> None:
        assert PROMETHEUS
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
        [job] = [job for job in config["scrape_configs"] if job["job_name"] == "parcours"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": list(workers)}]
        config["scrape_configs"] = [job]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        rules = folder / "rules"
        rules.mkdir()
        for file in (SHIPPED / "rules").glob("*.yml"):
            shipped = yaml.safe_load(file.read_text("utf-8"))
            for group in shipped["groups"]:
                group.pop("interval", None)
            (rules / file.name).write_text(yaml.safe_dump(shipped), "utf-8")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        port = free_port()
        words = [
            PROMETHEUS,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(folder, "prometheus", words, port)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series of an instant vector, now."""
        result = self.get("/api/v1/query", query=expression)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]


class Alertmanager(Server):
    """The shipped routes, inhibition and receivers, without waiting; receivers post to the webhook."""

    def __init__(self, folder: Path, webhook: str) -> None:
        assert ALERTMANAGER
        config = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text("utf-8"))
        config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
        for receiver in config["receivers"]:
            for hook in receiver["webhook_configs"]:
                hook["url"] = webhook + urllib.parse.urlsplit(hook["url"]).path
        (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), "utf-8")
        port = free_port()
        words = [
            ALERTMANAGER,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        super().__init__(folder, "alertmanager", words, port)
