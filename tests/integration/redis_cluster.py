"""A Redis Cluster of three primaries on loopback, as child processes that die with this one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Self

import redis
from integration.stack import Stack, Timeout

from streams.embedded import HOST, EmbeddedServerError, RedisServer, free_port

SLOTS = 16_384
NODES = 3


class Node(RedisServer):
    """One node. Without replicas, a node that is killed takes the whole cluster down until it is back."""

    def __init__(self, binary: str | None) -> None:
        self.bus = free_port()
        self._binary = binary
        super().__init__(
            config={
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus),
                "cluster-node-timeout": "1000",
                "appendfsync": "always",
            }
        )

    def _command(self, port: int, directory: Path) -> list[str]:
        command = super()._command(port, directory)
        return [self._binary or command[0], *command[1:]]


class RedisCluster:
    """Has what `Stack` asks of its Redis: `start`, `stop`, `url`."""

    def __init__(self, program: str = "valkey") -> None:
        """`program`: `valkey`, as embedded, or `redis`, as installed. Raises EmbeddedServerError when that is not there."""
        binary = shutil.which("redis-server") if program == "redis" else None
        if program == "redis" and binary is None:
            raise EmbeddedServerError("redis-server is not installed")
        self.nodes = [Node(binary) for _ in range(NODES)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def start(self) -> Self:
        """Start the nodes, share the slots among them, introduce them to each other, and wait until all agree."""
        for node in self.nodes:
            node.start()
        clients = [redis.Redis(port=node.port, host=HOST) for node in self.nodes]
        for i, client in enumerate(clients):
            first, last = SLOTS * i // NODES, SLOTS * (i + 1) // NODES - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            # Each its own: two nodes of one epoch would have to settle their dispute first.
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            clients[0].execute_command("CLUSTER", "MEET", HOST, node.port, node.bus)
        for client in clients:
            client.close()
        self.wait()
        return self

    def wait(self, seconds: float = 30.0) -> None:
        """Until every node knows every other and says that the cluster is well."""
        deadline = time.monotonic() + seconds
        states = [self._state(node) for node in self.nodes]
        while any(state != ("ok", str(NODES), str(SLOTS)) for state in states):
            if time.monotonic() > deadline:
                raise Timeout(f"no cluster after {seconds} s: {states}\n{self.nodes[0].log_tail()}")
            time.sleep(0.05)
            states = [self._state(node) for node in self.nodes]

    def _state(self, node: Node) -> tuple[str, ...]:
        client = redis.Redis(port=node.port, host=HOST)
        try:
            found: Any = client.execute_command("CLUSTER", "INFO")
        except redis.RedisError:
            return ("away",)
        finally:
            client.close()
        info = found if isinstance(found, dict) else dict(line.split(":") for line in found.decode().split())
        return info["cluster_state"], info["cluster_known_nodes"], info["cluster_slots_ok"]

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class ClusterStack(Stack):
    """A stack whose Redis is a cluster."""

    def __init__(self, folder: Path, toml: str, program: str, **env: str) -> None:
        super().__init__(folder, toml, **env)
        self.cluster = RedisCluster(program)
        self.redis_server: Any = self.cluster

    def redis(self) -> Any:
        nodes = [redis.cluster.ClusterNode(HOST, node.port) for node in self.cluster.nodes]
        return redis.RedisCluster(startup_nodes=nodes)
