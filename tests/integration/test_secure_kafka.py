"""Workers and commands on an Apache Kafka that asks for logins and certificates: SASL PLAIN, SASL SCRAM over TLS, client certificates."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.apache_kafka import ApacheKafka, unavailable
from integration.conftest import TOML, World
from integration.stack import ROOT, Stack
from integration.test_pipeline import differences
from stream.test_security import SECRET, Certificates, certificates

from streams.embedded import HOST, free_port

__all__ = ["certificates"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(unavailable()), reason=f"SASL AND TLS OF KAFKA ARE NOT TESTED AGAINST A SERVER: {unavailable()}"
    ),
]
USER = "parcours"
PROTOCOLS = {"LOGIN": "SASL_PLAINTEXT", "SECURE": "SASL_SSL", "CERTIFIED": "SSL"}


class SecureKafka(ApacheKafka):
    """Beside its plain listener one with a login, one with a login over TLS, and one that wants the client's certificate."""

    def __init__(self, files: Certificates) -> None:
        self.ports = {name: free_port() for name in PROTOCOLS}
        listeners = {name: (protocol, self.ports[name]) for name, protocol in PROTOCOLS.items()}
        chain = files.server.parent / "server-and-key.pem"
        chain.write_text(files.server_key.read_text() + files.server.read_text())
        modules = "org.apache.kafka.common.security"
        settings = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f'{modules}.plain.PlainLoginModule required user_{USER}="{SECRET}";',
            "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            "listener.name.certified.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(chain),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(files.ca),
        }
        super().__init__(listeners=listeners, settings=settings)


@pytest.fixture(scope="module")
def kafka(certificates: Certificates) -> Iterator[SecureKafka]:
    with SecureKafka(certificates) as broker:
        broker.set_password(USER, SECRET, "SCRAM-SHA-512")
        yield broker


@pytest.fixture
def stack(kafka: SecureKafka, tmp_path: Path) -> Iterator[Stack]:
    one = Stack(tmp_path, TOML)
    one.broker = kafka
    one.redis_server.start()
    try:
        yield one
    finally:
        for worker in one.workers:
            if worker.process.poll() is None:
                worker.kill()
        one.redis_server.stop()


def access(kafka: SecureKafka, files: Certificates, listener: str, password: str = SECRET) -> dict[str, str]:
    """What a worker is told of a listener."""
    env = {
        "PARCOURS_KAFKA_URL": f"kafka://{HOST}:{kafka.ports[listener]}",
        "PARCOURS_KAFKA_SECURITY_PROTOCOL": PROTOCOLS[listener],
        "PARCOURS_APP_ID": f"parcours-{listener.lower()}",
    }
    if listener != "CERTIFIED":
        env |= {"PARCOURS_KAFKA_SASL_USERNAME": USER, "PARCOURS_KAFKA_SASL_PASSWORD": password}
    if listener == "SECURE":
        env["PARCOURS_KAFKA_SASL_MECHANISM"] = "SCRAM-SHA-512"
    if listener != "LOGIN":
        env["PARCOURS_KAFKA_CA_FILE"] = str(files.ca)
    if listener == "CERTIFIED":
        env |= {"PARCOURS_KAFKA_CERT_FILE": str(files.client), "PARCOURS_KAFKA_KEY_FILE": str(files.client_key)}
    return env


def parcours(stack: Stack, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *words],
        cwd=ROOT, env={**os.environ, **stack.env, **env}, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("listener", list(PROTOCOLS))
def test_a_worker_and_commands(
    stack: Stack, kafka: SecureKafka, certificates: Certificates, small: World, listener: str
) -> None:
    """Topics are created, events published and attributed through it. The log goes on where the last listener's test left it."""
    env = access(kafka, certificates, listener)
    made = parcours(stack, env, "topics", "create")
    assert made.returncode == 0, made.stderr
    worker = stack.worker(**env)
    # Published through the plain listener: what a tracker does is not what is tried here.
    stack.publish(small.items, small.timestamps())
    stack.settle(120)
    assert differences(stack.attributions(), small.expected) == []
    shown = parcours(stack, env, "sources")
    assert (shown.returncode, "clicks" in shown.stdout) == (0, True), shown.stderr
    assert worker.stop() == 0
    assert SECRET not in worker.log.read_text("utf-8", "replace")


@pytest.mark.parametrize("listener", ["LOGIN", "SECURE"])
def test_a_wrong_password_is_refused(
    stack: Stack, kafka: SecureKafka, certificates: Certificates, listener: str
) -> None:
    """Of command and worker alike: they end, and say what was refused, never the password."""
    env = access(kafka, certificates, listener, password="guessed-wrong")
    tried = parcours(stack, env, "topics", "create")
    assert tried.returncode != 0
    assert f"does not let us in by {PROTOCOLS[listener]}" in tried.stderr
    assert "PARCOURS_KAFKA_SASL_USERNAME, _PASSWORD and _MECHANISM" in tried.stderr
    assert "guessed-wrong" not in tried.stderr + tried.stdout
    worker = stack.worker(**env)
    assert worker.process.wait(60) != 0
    assert "guessed-wrong" not in worker.log.read_text("utf-8", "replace")


def test_without_a_certificate_nothing_is_told(stack: Stack, kafka: SecureKafka, certificates: Certificates) -> None:
    env = access(kafka, certificates, "CERTIFIED")
    del env["PARCOURS_KAFKA_CERT_FILE"], env["PARCOURS_KAFKA_KEY_FILE"]
    tried = parcours(stack, env, "topics", "create")
    assert tried.returncode != 0
    assert "PARCOURS_KAFKA_CA_FILE, _CERT_FILE and _KEY_FILE" in tried.stderr
