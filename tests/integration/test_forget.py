"""A person is forgotten by the commands a user would type, with a real worker, broker and Redis."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from integration.stack import Stack
from typer.testing import CliRunner

from models.wire import decode_block
from streams.cli import root

pytestmark = pytest.mark.integration

KEY = "a key for this test"
ANNA = {"customer_id": "anna", "occurred_at": "2026-03-01T10:00:00Z"}
ORDER = {**ANNA, "type": "order", "revenue": "10", "currency": "EUR"}
EVENTS = [
    ("clicks", {**ANNA, "event_id": "k1", "anonymous_id": "laptop", "network": "google"}),
    ("purchases", {**ORDER, "event_id": "p1", "order_id": "A1"}),
    ("purchases", {**ORDER, "event_id": "p2", "order_id": "A2", "currency": "USD"}),  # no rate: a dead letter
    ("purchases", {**ORDER, "event_id": "p3", "order_id": "B1", "customer_id": "bert", "currency": "USD"}),
]


def parcours(one: Stack, *arguments: str, key: str | None = KEY) -> tuple[int, str]:
    """Exit code and output of a command, run in this process: to start one takes longer than what it does."""
    env: dict[str, str | None] = {**one.env, "PARCOURS_FORGET_KEY": key}
    ran = CliRunner().invoke(root.app, list(arguments), prog_name="parcours", env=env)
    return ran.exit_code, ran.output


def test_forget_from_the_command_line(stack: Callable[..., Stack]) -> None:
    one = stack("[topics]\njourney-events = 2\nclicks = 1\ntouchpoints = 1\npurchases = 1\n", PARCOURS_FORGET_KEY=KEY)
    assert parcours(one, "forget", "--customer-id", "anna") == (
        1,
        "Error: no worker has had PARCOURS_FORGET_KEY: set it for all workers, then nobody who is forgotten comes back\n",
    )
    one.publish([(topic, json.dumps(event).encode()) for topic, event in EVENTS])
    worker = one.worker()
    one.settle(120)
    assert parcours(one, "journey", "c:anna")[0] == 0

    code, said = parcours(one, "forget", "--customer-id", "anna", "--sweep", "--wait", "100")
    assert (code, said) == (
        0,
        "The forget event is published.\nForgotten in all 2 partitions.\n"
        "0 attributions of forgotten persons are taken back; Kafka removes them when it compacts the topic.\n",
    )
    assert parcours(one, "journey", "c:anna") == (1, "Error: no touch and no conversion of c:anna is known\n")
    one.settle(120)  # the device, which is told to all by the partition that knew of it
    assert parcours(one, "journey", "laptop")[0] == 1

    # What was published of her before, of a node that had expired when she was forgotten.
    one.publish([("attributions", b'{"person": "c:anna", "order_id": "old"}')], key=b"o:old|c:anna")
    assert parcours(one, "forget", "--sweep")[1].startswith("1 attributions of forgotten persons are taken back")
    newest = {record.key: record.value for record in one.read("attributions", one.partitions["attributions"])}
    assert newest[b"o:old|c:anna"] is None
    assert newest[b"o:A1|c:anna"] is None
    (left,) = [json.loads(value) for value in newest.values() if value is not None]
    assert (left["person"], left["order_id"], left["revenue_net"]) == ("(forgotten)", None, "10")

    code, said = parcours(one, "dlq", "retry", "--all", key=None)
    assert (code, "PARCOURS_FORGET_KEY: set it" in said) == (1, True), said
    assert parcours(one, "dlq", "retry", "--all", key="not the same key at all")[0] == 2
    assert parcours(one, "dlq", "retry", "--all")[1] == "1 published again\n1 of forgotten persons: not published\n"

    assert worker.stop() == 0
    code, said = parcours(one, "rebuild", "--yes")
    assert code == 0, said
    assert "The forget list (4 hashes) is carried over." in said, (
        "anna, her device, her order, and that a customer had it"
    )
    begins = {record.partition: decode_block(record.value) for record in reversed(one.read("journey-events.1", 2))}
    assert [len(entry.hashes) for block in begins.values() for entry in block.entries] == [4, 4]
