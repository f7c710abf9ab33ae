"""Apache Kafka as a child process: one node that is broker and controller (KRaft), from the jars `make kafka` fetches.

`PARCOURS_TEST_BROKER` says which broker the integration tests run on: `embedded` (the default), `apache`, or `auto`,
which is Apache Kafka where it has been fetched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from streams.embedded import HOST, Broker, EmbeddedServer, EmbeddedServerError, free_port

JARS = Path(__file__).resolve().parents[2] / ".parcours" / "kafka"
CLUSTER = "cGFyY291cnMtdGVzdGluZw"  # 16 bytes in base64, as `format` wants it
# One processor is often all there is: no second compiler, no collector of many threads.
JVM = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]

_PROTOCOLS = "listener.security.protocol.map"
CONFIG = {
    "process.roles": "broker,controller",
    "node.id": "1",
    _PROTOCOLS: "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # Only the project's own command makes topics.
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "4",
    # A single node can hold one replica.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    # After a kill the controller holds the node's old registration for so long.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # Groups form at once, and tests may ask for short sessions.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Compaction soon after there is something to compact.
    "log.cleaner.backoff.ms": "100",
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.cleaner.dedupe.buffer.size": "8388608",
    # Histories carry the times of their events: neither so old that they are deleted nor refused as in the future.
    "log.retention.ms": "-1",
    "log.message.timestamp.after.max.ms": str(2**63 - 1),
}


def unavailable() -> str | None:
    """Why Apache Kafka can't be run here; None when it can."""
    if shutil.which("java") is None:
        return "java is not installed (Debian package openjdk-17-jre-headless)"
    if version() is None:
        return "its jars are not here: make kafka (needs mvn and Maven Central)"
    return None


def version() -> str | None:
    """The version that was fetched."""
    found = sorted(JARS.glob("kafka_2.13-*.jar"))
    return found[-1].stem.removeprefix("kafka_2.13-") if found else None


def chosen() -> str:
    """`apache` or `embedded`. Raises EmbeddedServerError when Apache Kafka is asked for and not there."""
    wanted = os.environ.get("PARCOURS_TEST_BROKER", "embedded")
    if wanted not in {"apache", "embedded", "auto"}:
        raise EmbeddedServerError(f"PARCOURS_TEST_BROKER is {wanted!r}; it can be apache, embedded or auto")
    why = unavailable() if wanted != "embedded" else "not wanted"
    if wanted == "apache" and why is not None:
        raise EmbeddedServerError(f"PARCOURS_TEST_BROKER=apache, but {why}")
    return "apache" if why is None else "embedded"


def make_broker() -> EmbeddedServer:
    """The broker that tests run on, not started."""
    return ApacheKafka() if chosen() == "apache" else Broker()


class ApacheKafka(EmbeddedServer):
    """As `streams.embedded.Broker`, but its topics outlive `kill()` and `restart()`."""

    name = "kafka"
    scheme = "kafka"

    def __init__(
        self, *, port: int | None = None, deadline: float = 60.0, listeners: Mapping[str, tuple[str, int]] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`listeners`: by name their protocol and port, beside the plain one; `settings`: of the broker, over `CONFIG`."""
        super().__init__(port=port, deadline=deadline)
        self._listeners = dict(listeners or {})
        self._settings = dict(settings or {})

    def _command(self, port: int, directory: Path) -> list[str]:
        if (why := unavailable()) is not None:
            raise EmbeddedServerError(why)
        data, config = directory / "data", directory / "server.properties"
        # Storage knows the node's number only: another controller port at each start is no other quorum.
        _write(config, data, port, free_port(), self._listeners, self._settings)
        if not data.exists():
            shutil.copytree(Path(_formatted().name) / "data", data)
        return [*_java(), "kafka.Kafka", str(config)]

    def set_password(self, user: str, password: str, mechanism: str) -> None:
        """Give a user a password for SCRAM, which the broker keeps itself."""
        change = ["--alter", "--add-config", f"{mechanism}=[iterations=4096,password={password}]"]
        subprocess.run(
            [*_java(), "kafka.admin.ConfigCommand", "--bootstrap-server", self.address, *change,
             "--entity-type", "users", "--entity-name", user],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def stop(self) -> None:
        """End the server and remove its directory. Not gently: what it would tidy up is removed."""
        self.kill()
        super().stop()

    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        """Ready when Metadata names a broker, as for the embedded one: the node has registered with its controller."""
        return Broker._answers(self, port, pid, timeout)  # type: ignore[arg-type]


def _java() -> list[str]:
    java = shutil.which("java")
    assert java is not None
    return [java, *JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*"]


def _write(
    config: Path, data: Path, port: int, controller: int, listeners: Mapping[str, tuple[str, int]] = MappingProxyType({}),
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:  # fmt: skip
    here = ",".join([f"BROKER://{HOST}:{port}", *(f"{name}://{HOST}:{at}" for name, (_, at) in listeners.items())])
    protocols = [CONFIG[_PROTOCOLS], *(f"{name}:{protocol}" for name, (protocol, _) in listeners.items())]
    settings = {
        **CONFIG,
        _PROTOCOLS: ",".join(protocols),
        "log.dirs": str(data),
        "listeners": f"{here},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": here,
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        **more,
    }
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


@cache
def _formatted() -> tempfile.TemporaryDirectory[str]:
    """Formatted storage, made once and copied: a run of its own of the JVM takes a second or two."""
    made = tempfile.TemporaryDirectory(prefix="parcours-kafka-format-")
    config = Path(made.name) / "server.properties"
    _write(config, Path(made.name) / "data", port=9, controller=10)
    done = subprocess.run(
        [*_java(), "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config", str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise EmbeddedServerError(f"kafka storage could not be formatted\n{done.stdout}{done.stderr}")
    return made
