"""Stock Faust: decode each event into a Record, count per campaign in memory. Prints `RESULT seconds cpu_seconds`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from typing import Any

import faust

EVENTS = int(os.environ["BENCH_EVENTS"])


class Event(faust.Record, serializer="json"):
    """The fields that counting needs."""

    event_id: str
    occurred_at: str
    customer_id: str = None
    utm_campaign: str = None
    campaign: str = None
    type: str = None


app = faust.App(
    f"stock-{os.getpid()}", broker=os.environ["BENCH_BROKER"], web_enabled=False, datadir="stock-data",
    topic_disable_leader=True, topic_allow_declare=False, broker_session_timeout=6.0, broker_heartbeat_interval=1.0,
    broker_max_poll_records=4000, stream_buffer_maxsize=4096,
)  # fmt: skip
topic = app.topic("clicks", "touchpoints", "purchases", value_type=Event)
counts: Counter[str] = Counter()
state: dict[str, Any] = {"n": 0, "begun": 0.0, "cpu": 0.0}


@app.agent(topic)
async def count(stream: Any) -> None:
    """One event at a time, as Faust delivers them."""
    async for event in stream:
        if not state["n"]:
            state["begun"], state["cpu"] = time.perf_counter(), time.process_time()
        counts[event.utm_campaign or event.campaign or "(none)"] += 1
        state["n"] += 1
        if state["n"] >= EVENTS:
            print(
                "RESULT",
                time.perf_counter() - state["begun"],
                time.process_time() - state["cpu"],
                file=sys.__stdout__,
                flush=True,
            )
            os._exit(0)


@app.task
async def give_up() -> None:
    """End in any case."""
    await asyncio.sleep(300)
    print("only", state["n"], "of", EVENTS, file=sys.__stdout__, flush=True)
    os._exit(1)


sys.argv = ["faust", "worker", "-l", "error", "--without-web"]
app.main()
