"""Logins and certificates as settings, against servers that insist on them; and no secret in any text."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from integration.proxy import Proxy
from pydantic import SecretStr
from redis import exceptions

from models.errors import ConfigError
from models.settings import Infrastructure, Marketing
from streams.embedded import HOST, Broker, RedisServer, free_port
from streams.security import faust_credentials, kafka_options, redis_options
from streams.tables import Claimed, Tables, connect, is_away, journey_tag
from streams.topics import create
from streams.transport import app_settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cret/of:the#house"
QUOTED = "s3cret%2Fof%3Athe%23house"


class Certificates(NamedTuple):
    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate for 127.0.0.1, a client's, and another authority that signed neither."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed: TLS IS NOT TESTED")
    folder = tmp_path_factory.mktemp("certificates")

    def make(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        make("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}\n")
    for name in ("server", "client"):
        make("req", *key[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        make("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
             "-out", f"{name}.pem", "-extfile", "names")  # fmt: skip
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key", "stranger.pem")
    return Certificates(*(folder / name for name in names))


def infra(**given: Any) -> Infrastructure:
    return Infrastructure(**given)


class SecureRedis(RedisServer):
    """The machine's redis-server: password, TLS only, client certificates demanded. The embedded one is built without TLS."""

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(config={"requirepass": SECRET})
        self._files = certificates

    def _command(self, port: int, directory: Path) -> list[str]:
        command = super()._command(port, directory)
        files = self._files
        command[command.index("--port") + 1] = "0"
        tls = {"tls-port": str(port), "tls-cert-file": str(files.server), "tls-key-file": str(files.server_key),
               "tls-ca-cert-file": str(files.ca), "tls-auth-clients": "yes"}  # fmt: skip
        binary = shutil.which("redis-server")
        assert binary
        return [binary, *command[1:], *(word for name, value in tls.items() for word in (f"--{name}", value))]

    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        import redis

        client = redis.Redis(
            host=HOST, port=port, password=SECRET, ssl=True, ssl_ca_certs=str(self._files.ca),
            ssl_certfile=str(self._files.client), ssl_keyfile=str(self._files.client_key), socket_timeout=timeout,
        )  # fmt: skip
        try:
            return bool(client.info("server")["process_id"] == pid)
        except redis.RedisError as error:
            raise OSError(str(error)) from None
        finally:
            client.close()


@pytest.fixture(scope="module")
def secure_redis(certificates: Certificates) -> Iterator[SecureRedis]:
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed: REDIS WITH TLS IS NOT TESTED")
    with SecureRedis(certificates) as server:
        yield server


def secure_infra(server: RedisServer, files: Certificates, **more: Any) -> Infrastructure:
    given = {
        "redis_url": f"rediss://{server.address}/0", "redis_password": SECRET,
        "redis_ca_file": files.ca, "redis_cert_file": files.client, "redis_key_file": files.client_key,
    }  # fmt: skip
    return infra(**given | more)


async def claims(settings: Infrastructure) -> bool:
    """Whether a worker with these settings could work."""
    async with connect(settings.redis_url, **redis_options(settings)) as client:
        tables = Tables(client, journey_tag(0, 0))
        return isinstance(await tables.claim("w", 1, config=1, formats=(1,), force=True), Claimed)


class TestRedis:
    async def test_password_and_both_certificates(self, secure_redis: SecureRedis, certificates: Certificates) -> None:
        assert await claims(secure_infra(secure_redis, certificates))

    async def test_a_password_in_the_url_wins(self, secure_redis: SecureRedis, certificates: Certificates) -> None:
        url = f"rediss://:{QUOTED}@{secure_redis.address}/0"
        assert await claims(secure_infra(secure_redis, certificates, redis_url=url, redis_password="another"))

    async def test_a_wrong_password_is_said_and_not_waited_for(
        self, secure_redis: SecureRedis, certificates: Certificates
    ) -> None:
        with pytest.raises(exceptions.AuthenticationError) as caught:
            await claims(secure_infra(secure_redis, certificates, redis_password="wr0ng"))
        assert not is_away(caught.value)
        assert "wr0ng" not in str(caught.value)

    async def test_another_authority_is_refused(self, secure_redis: SecureRedis, certificates: Certificates) -> None:
        with pytest.raises(exceptions.ConnectionError, match="certificate verify failed"):
            await claims(secure_infra(secure_redis, certificates, redis_ca_file=certificates.stranger))

    async def test_without_a_certificate_of_ones_own(
        self, secure_redis: SecureRedis, certificates: Certificates
    ) -> None:
        with pytest.raises((exceptions.ConnectionError, OSError)):
            await claims(secure_infra(secure_redis, certificates, redis_cert_file=None, redis_key_file=None))

    async def test_without_tls(self, secure_redis: SecureRedis) -> None:
        with pytest.raises((exceptions.ConnectionError, OSError)):
            await claims(infra(redis_url=f"redis://{secure_redis.address}/0", redis_password=SECRET))

    async def test_a_password_without_tls(self) -> None:
        with PasswordRedis(config={"requirepass": SECRET}) as server:
            assert await claims(infra(redis_url=server.url, redis_password=SECRET))
            assert await claims(infra(redis_url=f"redis://:{QUOTED}@{server.address}/0"))
            with pytest.raises(exceptions.AuthenticationError):
                await claims(infra(redis_url=server.url))

    def test_certificates_without_tls_are_an_error(self, certificates: Certificates) -> None:
        with pytest.raises(ConfigError, match=r"PARCOURS_REDIS_CA_FILE.*PARCOURS_REDIS_URL"):
            redis_options(infra(redis_ca_file=certificates.ca))

    def test_a_cluster_s_options(self, certificates: Certificates) -> None:
        url = f"rediss+cluster://user:{QUOTED}@a:7000,b:7001"
        client = connect(url, **redis_options(infra(redis_url=url, redis_ca_file=certificates.ca)))
        assert [(node.host, node.port) for node in client.startup_nodes] == [("b", 7001), ("a", 7000)]
        kwargs = client.get_connection_kwargs()
        assert (kwargs["username"], kwargs["password"]) == ("user", SECRET)
        assert kwargs["ssl_ca_certs"] == str(certificates.ca)
        assert issubclass(kwargs["connection_class"], connect("rediss://a").connection_pool.connection_class)


class PasswordRedis(RedisServer):
    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        import redis

        client = redis.Redis(host=HOST, port=port, password=SECRET, socket_timeout=timeout)
        try:
            return bool(client.info("server")["process_id"] == pid)
        except redis.RedisError as error:
            raise OSError(str(error)) from None
        finally:
            client.close()


SASL = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_username": "parcours", "kafka_sasl_password": SECRET}


class TestKafkaOptions:
    def test_plain_is_nothing(self) -> None:
        assert kafka_options(infra()) == {}
        assert faust_credentials(infra()) is None
        assert app_settings(infra())["broker_credentials"] is None

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    def test_login(self, mechanism: str) -> None:
        options = kafka_options(infra(**SASL, kafka_sasl_mechanism=mechanism))
        assert options == {
            "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, "sasl_plain_username": "parcours",
            "sasl_plain_password": SECRET,
        }  # fmt: skip

    def test_login_and_tls(self, certificates: Certificates) -> None:
        given = SASL | {"kafka_security_protocol": "SASL_SSL", "kafka_ca_file": certificates.ca}
        options = kafka_options(infra(**given, kafka_sasl_mechanism="SCRAM-SHA-512"))
        context = options["ssl_context"]
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert [dict(x[0] for x in ca["subject"]) for ca in context.get_ca_certs()] == [{"commonName": "ca"}]

    @pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
    def test_faust_s_own_clients_get_the_same(self, protocol: str, certificates: Certificates) -> None:
        given: dict[str, Any] = dict(SASL) if protocol.startswith("SASL") else {}
        if protocol.endswith("SSL"):
            given["kafka_ca_file"] = certificates.ca
        settings = infra(**given | {"kafka_security_protocol": protocol})
        theirs = dict(credentials_to_aiokafka_auth(app_settings(settings)["broker_credentials"], None))
        ours = kafka_options(settings) or {"security_protocol": "PLAINTEXT"}
        assert bool(theirs.pop("ssl_context", None)) == bool(ours.pop("ssl_context", None)) == protocol.endswith("SSL")
        assert theirs == ours

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"kafka_security_protocol": "SASL_SSL"}, "PARCOURS_KAFKA_SASL_USERNAME"),
            ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "u"}, "PARCOURS_KAFKA_SASL_PASSWORD"),
            ({"kafka_sasl_password": SECRET}, "PARCOURS_KAFKA_SASL_PASSWORD.*PARCOURS_KAFKA_SECURITY_PROTOCOL"),
            ({"kafka_ca_file": "/ca.pem"}, "PARCOURS_KAFKA_CA_FILE.*PARCOURS_KAFKA_SECURITY_PROTOCOL"),
            ({"kafka_security_protocol": "SSL", "kafka_ca_file": "/none.pem"}, "PARCOURS_KAFKA_CA_FILE: no such file"),
            ({"kafka_security_protocol": "SSL", "kafka_key_file": __file__}, "KEY_FILE is given without.*CERT_FILE"),
            ({"kafka_security_protocol": "SSL", "kafka_ca_file": __file__}, "PARCOURS_KAFKA_CA_FILE.*no certificates"),
            ({"kafka_security_protocol": "SSL", "kafka_cert_file": __file__}, "PARCOURS_KAFKA_CERT_FILE: not a cert"),
        ],
    )
    def test_what_is_missing_or_would_be_ignored_is_named(self, given: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigError, match=named) as caught:
            kafka_options(infra(**given))
        assert SECRET not in str(caught.value)


class TlsBroker(Broker):
    """The embedded broker, telling clients to come through a proxy that speaks TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self.proxy: Proxy | None = None

    def _command(self, port: int, directory: Path) -> list[str]:
        if self.proxy is None:
            self.proxy = Proxy(port, context=self._context).start()
        command = super()._command(port, directory)
        command[command.index("--advertised-listener-url") + 1] = f"tcp://{self.proxy.address}"
        return command

    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        # It names the proxy, not itself: that it answers is enough.
        super()._answers(port, pid, timeout)
        return True

    @property
    def address(self) -> str:
        assert self.proxy is not None
        return self.proxy.address

    def stop(self) -> None:
        super().stop()
        if self.proxy is not None:
            self.proxy.stop()


@pytest.fixture(scope="module")
def tls_broker(certificates: Certificates) -> Iterator[TlsBroker]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    with TlsBroker(context) as broker:
        yield broker


@pytest.fixture
def tls(tls_broker: TlsBroker, certificates: Certificates) -> dict[str, Any]:
    return {
        "kafka_url": tls_broker.url, "kafka_security_protocol": "SSL", "kafka_ca_file": certificates.ca,
        "kafka_cert_file": certificates.client, "kafka_key_file": certificates.client_key,
    }  # fmt: skip


@contextlib.asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


class TestKafkaOverTls:
    async def test_topics_producer_and_consumer(self, tls: dict[str, Any], tls_broker: TlsBroker) -> None:
        options = kafka_options(infra(**tls))
        found = await create([tls_broker.address], Marketing(), options=options)
        assert {topic.state for topic in found} == {"created"}
        async with started(AIOKafkaProducer(bootstrap_servers=tls_broker.address, **options)) as producer:
            await producer.send_and_wait("clicks", b"hello", partition=0)
        consumer = AIOKafkaConsumer(
            "clicks", bootstrap_servers=tls_broker.address, auto_offset_reset="earliest", **options
        )
        async with started(consumer), asyncio.timeout(30):
            assert (await consumer.getone()).value == b"hello"

    def test_another_authority_is_refused(self, tls: dict[str, Any], certificates: Certificates) -> None:
        done = parcours("topics", "create", "--dry-run", **tls | {"kafka_ca_file": certificates.stranger})
        assert done.returncode == 1
        assert "Kafka does not answer" in done.stderr

    def test_the_command_line(self, tls: dict[str, Any]) -> None:
        assert parcours("topics", "create", "--dry-run", **tls).returncode == 0


@pytest.mark.integration
def test_a_worker_over_tls_on_both_sides(
    tls: dict[str, Any], tls_broker: TlsBroker, secure_redis: SecureRedis, certificates: Certificates, tmp_path: Path
) -> None:
    """Faust's consumer, our producer and Redis: it is ready once it has claimed all partitions; and its log keeps the secret."""
    asyncio.run(create([tls_broker.address], Marketing(), options=kafka_options(infra(**tls))))
    port = free_port()
    given = tls | {
        "redis_url": f"rediss://{secure_redis.address}/0", "redis_password": SECRET, "redis_ca_file": certificates.ca,
        "redis_cert_file": certificates.client, "redis_key_file": certificates.client_key, "web_port": port,
        "data_dir": tmp_path / "data", "log_level": "DEBUG",
    }  # fmt: skip
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "worker"], cwd=ROOT, env=environment(given), stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 90
            while not ready(port):
                assert worker.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                time.sleep(0.05)
        finally:
            worker.kill()
            worker.wait()
    assert "s3cret" not in log.read_text("utf-8", "replace")


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def environment(settings: dict[str, Any]) -> dict[str, str]:
    return {**os.environ, **{f"PARCOURS_{name.upper()}": str(value) for name, value in settings.items()}}


def parcours(*args: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *args], cwd=ROOT, env=environment(settings), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


class TestSecretsStaySecret:
    def test_in_settings(self) -> None:
        settings = infra(**SASL, redis_password=SECRET, redis_url=f"redis://:{QUOTED}@a/0")
        assert isinstance(settings.redis_password, SecretStr)
        for text in (repr(settings), str(settings), repr(faust_credentials(settings))):
            assert SECRET not in text
            assert QUOTED not in text

    @pytest.mark.parametrize(
        "url", [f"redis://:{SECRET}@{HOST}:1/0", f"http://:{SECRET}@a", f"redis+cluster://:{SECRET}@a"]
    )
    def test_in_the_error_of_a_wrong_url(self, url: str) -> None:
        """A password that is not percent-encoded makes a part of itself the port or the path."""
        with pytest.raises(ValueError, match="percent-encoded") as caught:
            connect(url)
        assert not any(part in str(caught.value) for part in ("s3cret", "house"))
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize(
        "args", [("config", "check", "parcours.example.toml"), ("worker", "--web-port", "0"), ("journey", "c:1"),
                 ("topics", "create")],
    )  # fmt: skip
    def test_on_the_command_line(self, args: tuple[str, ...]) -> None:
        """With everything wrong that can be: nothing answers, and one setting has a wrong value."""
        away = {"redis_url": f"redis://:{QUOTED}@{HOST}:1/0", "kafka_url": f"kafka://u:{SECRET}@{HOST}:1"}
        for settings in (away, away | {"redis_password": SECRET, "web_port": "x"}, SASL | {"redis_password": SECRET}):
            done = parcours(*args, **settings)
            for text in (done.stdout, done.stderr):
                assert not any(word in text for word in (SECRET, QUOTED, "s3cret"))

    async def test_in_logs_and_errors_of_the_clients(
        self, caplog: pytest.LogCaptureFixture, tls: dict[str, Any], tls_broker: TlsBroker
    ) -> None:
        caplog.set_level(logging.DEBUG)
        settings = infra(**tls | SASL | {"kafka_security_protocol": "SASL_SSL"})
        producer = AIOKafkaProducer(
            bootstrap_servers=tls_broker.address, request_timeout_ms=2000, **kafka_options(settings)
        )
        # The embedded broker knows no logins.
        with pytest.raises(Exception) as caught:
            async with asyncio.timeout(10):
                await producer.start()
        await producer.stop()
        assert SECRET not in caplog.text + repr(caught.value)
