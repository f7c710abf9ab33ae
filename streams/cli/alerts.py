"""`parcours alerts`: what fires, whether notices arrive, and what rules would have done over a history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from attribution import targets
from attribution.alerting import AlertState, Change, Reading, alert_id
from attribution.families import plain
from models.results import Alert
from models.settings import AlertRule, Infrastructure, Marketing, Rate, load_marketing, micros
from streams.cli.common import (
    FAILED,
    ConfigFile,
    Failure,
    Json,
    KafkaUrl,
    RedisUrl,
    Usage,
    console,
    infrastructure,
    marketing_of,
    note,
    progress,
    row,
    say,
    table,
    when,
)
from streams.cli.phrases import span as in_words
from streams.files import FIRST, InputRecord, by_time, occurred, read

if TYPE_CHECKING:
    from attribution.backtest import Backtest, Episode
    from streams.alert_state import Kept

app = typer.Typer(no_args_is_help=True, help="Alerts: what fires, a test notice, a backtest.", rich_markup_mode="rich")
_DAY = 86_400 * 1_000_000


@app.callback()
def alerts() -> None:
    """Alerts: what fires, a test notice, a backtest. Rules are those of the configuration; docs/alerts.md says what they mean."""


@app.command("list")
def list_(json: Json = False, config: ConfigFile = None, redis_url: RedisUrl = None) -> None:
    """List the rules, and where each fires, is pending, or resolved in the last day.

    \b
    Examples:
      parcours alerts list --config parcours.toml
      parcours alerts list --json
    """
    from streams.cli.reach import redis_reachable
    from streams.security import redis_options

    infra = infrastructure(config=config, redis_url=redis_url)
    marketing = load_marketing(infra.config)
    targets.check(marketing)
    redis_reachable(infra.redis_url, **redis_options(infra))
    kept = asyncio.run(_kept(infra))
    lines = list(_lines(marketing, kept))
    if json:
        for line in lines:
            say(msgspec.json.encode(line).decode())
        return
    if not lines:
        say("No alert rules: see [[alerts]] in parcours.example.toml.")
        return
    shown = table("rule", "state", "scope", "since (UTC)", "value", "threshold", "bound", "severity", "id")
    for line in lines:
        since = when(line["since"]) if line["since"] is not None else ""
        cells = [line[name] or "" for name in ("value", "threshold", "bound", "severity", "id")]
        shown.add_row(*row(line["rule"], line["state"], line["scope"], since, *cells))
    console().print(shown)
    waiting = len(kept.webhook)
    if kept.outbox or waiting:
        say()
        say(f"Waiting: {len(kept.outbox)} for Kafka, {waiting} for the webhook.")


async def _kept(infra: Infrastructure) -> Kept:
    from streams.alert_state import stored
    from streams.cli.dlq import redis_at
    from streams.generations import located

    async with redis_at(infra) as redis:
        return await stored(redis, (await located(redis, infra)).generation)


def _lines(marketing: Marketing, kept: Kept) -> Iterator[dict[str, Any]]:
    """One per rule and scope that is not simply inactive, one per rule without any; `since` in µs."""
    rules = {rule.name: rule for rule in marketing.alerts}
    for name in [*rules, *sorted({state.rule for state in kept.states} - rules.keys())]:
        rule = rules.get(name)
        states = [state for state in kept.states if state.rule == name]
        for state in states:
            last = kept.notices.get(state.id)
            where = "/".join(part for part in state.names if part) or "total"
            yield _line(rule, name, _word(state), where, state.since, last, state.id)
        if not states:
            yield _line(rule, name, "inactive", "", None, None, "")


def _line(
    rule: AlertRule | None, name: str, state: str, scope: str, since: int | None, last: Alert | None, known: str
) -> dict[str, Any]:
    return {
        "rule": name, "state": state, "scope": scope, "since": since, "value": last.value if last else None,
        "threshold": plain(rule.threshold) if rule else last.threshold if last else None,
        "bound": last.bound if last else None, "severity": rule.severity if rule else last.severity if last else None,
        "id": known or None,
    }  # fmt: skip


def _word(state: AlertState) -> str:
    word = {"firing": "firing", "pending": "pending", "inactive": "resolved"}[state.phase]
    return f"{word}, unknown" if state.unknown_since is not None else word


@app.command("test")
def send_test(
    name: Annotated[str, typer.Argument(metavar="RULE", help="The rule's name.")],
    config: ConfigFile = None,
    kafka_url: KafkaUrl = None,
) -> None:
    """Send a test alert by every configured way: one that fires and one that resolves, marked "test": true.

    The ways are the Kafka topic `alerts` and, when PARCOURS_WEBHOOK_URL is set, the webhook. Exit code 1 when one of them failed. What
    comes by Prometheus is tested with amtool: amtool alert add.

    \b
    Examples:
      parcours alerts test cpa-high --config parcours.toml
      PARCOURS_WEBHOOK_URL=https://hooks.example/x parcours alerts test cpa-high
    """
    from streams.cli.dlq import kafka_at
    from streams.webhook import check_url

    infra = infrastructure(config=config, kafka_url=kafka_url)
    marketing = load_marketing(infra.config)
    targets.check(marketing)
    rule = next((rule for rule in marketing.alerts if rule.name == name), None)
    if rule is None:
        names = ", ".join(rule.name for rule in marketing.alerts)
        raise Usage(f"RULE: {name!r} is none of {names}" if names else "there are no alert rules: see [[alerts]]")
    url = check_url(infra.webhook_url.get_secret_value()) if infra.webhook_url is not None else None
    kafka = kafka_at(infra)
    notices = _notices(rule, marketing, infra, int(time.time() * 1e6))
    failed = asyncio.run(_send(kafka, url, notices))
    if url is None:
        note("No webhook: PARCOURS_WEBHOOK_URL is not set.")
    if failed:
        raise typer.Exit(FAILED)


def _notices(rule: AlertRule, marketing: Marketing, infra: Infrastructure, now: int) -> list[Alert]:
    """A firing and a resolved one, with the rule's patterns for names and invented figures."""
    from streams.notices import Link, notice

    names = (rule.channel or "", rule.network or "", rule.campaign or "")
    link = Link(infra.dashboard_url, infra.runbook_url, marketing.headline_models[0])
    firing = AlertState(
        rule=rule.name, names=names, phase="firing", since=now, id=alert_id(rule.name, names, now), fired_at=now
    )  # fmt: skip
    made = []
    for state in (firing, msgspec.structs.replace(firing, phase="inactive")):
        change = Change(rule, state, Reading(known=True, value=rule.threshold, bound=rule.threshold))
        made.append(notice(change, None, marketing, now, None, link, test=True))
    return made


async def _send(kafka: Any, url: str | None, notices: list[Alert]) -> bool:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    from streams.webhook import post

    failed = False
    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, acks="all", request_timeout_ms=10_000, **kafka.options)
    await producer.start()
    try:
        for one in notices:
            sent = await producer.send_and_wait("alerts", msgspec.json.encode(one), key=one.id.encode())
            say(f"kafka    {one.status:9}{one.id}  alerts-{sent.partition} offset {sent.offset}")
    except KafkaError as error:
        failed = True
        note(f"kafka    failed: {error or type(error).__name__}; make the topic with: parcours topics create")
    finally:
        await producer.stop()
    for one in notices if url is not None else ():
        outcome = await post(url or "", one)
        say(f"webhook  {one.status:9}{one.id}  {'taken' if outcome == 'sent' else 'not taken'}")
        failed |= outcome != "sent"
    return failed


@app.command("backtest")
def backtest(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A folder of <topic>.jsonl files, or one file.")],
    days: Annotated[float, typer.Option("--days", min=0.01, max=400, help="How many days, up to the last event.")] = 30,
    every: Annotated[str, typer.Option("--every", help="How often the rules are judged, as 15m or 1h.")] = "1h",
    json: Json = False,
    config: ConfigFile = None,
) -> None:
    """Say how often each rule would have fired over a history, and for how long. No Kafka, no Redis.

    All events of INPUT are read; the rules are judged in its last days. Late events count as if they had been in time.

    \b
    Examples:
      parcours alerts backtest shop --config shop/parcours.toml
      parcours alerts backtest shop --days 7 --every 15m --json
    """
    from attribution.backtest import Backtest

    marketing, rates = marketing_of(infrastructure(config=config).config)
    targets.check(marketing)
    if not marketing.alerts:
        raise Usage("there are no alert rules: name a configuration with [[alerts]] by --config")
    step = _step(every)
    began, now, found = _judged(Backtest, marketing, rates, by_time(read(source)), int(days * _DAY), step, str(source))
    if json:
        for one in found.episodes:
            say(msgspec.json.encode(_episode(one)).decode())
        return
    say(f"{when(began)} to {when(now)} UTC, judged every {every}")
    say()
    shown = table("rule", "fired", "scopes", "firing in all", "longest", "at the end", right="fired scopes")
    for rule in marketing.alerts:
        own = [one for one in found.episodes if one.rule == rule.name]
        spans = [(one.resolved_at or now) - one.fired_at for one in own]
        still = sum(one.resolved_at is None for one in own)
        shown.add_row(*row(
            rule.name, len(own), len({one.names for one in own}), in_words("en", sum(spans)) if own else "-",
            in_words("en", max(spans)) if own else "-", f"{still} firing" if still else "-",
        ))  # fmt: skip
    console().print(shown)
    if found.episodes:
        say()
        listed = table("fired (UTC)", "resolved (UTC)", "rule", "scope", "value", "bound", right="value bound")
        for one in found.episodes:
            line = _episode(one)
            ended = when(one.resolved_at) if one.resolved_at is not None else "-"
            cells = [f"{line[name]:,.2f}" if line[name] is not None else "-" for name in ("value", "bound")]
            listed.add_row(*row(when(one.fired_at), ended, one.rule, line["scope"], *cells))
        console().print(listed)


def _step(every: str) -> int:
    from models.errors import ConfigError

    try:
        step = micros(every)
    except ConfigError as error:
        raise Usage(f"--every: {error}") from None
    if step < 60 * 1_000_000:
        raise Usage(f"--every: {every} is shorter than a minute")
    return step


def _judged(
    make: Callable[[Marketing, list[Rate]], Backtest], marketing: Marketing, rates: list[Rate], records: list[InputRecord],
    span: int, step: int, name: str,
) -> tuple[int, int, Backtest]:  # fmt: skip
    """(first step, last step, what came of it), in µs."""
    timed: list[tuple[int, InputRecord]] = []
    last = FIRST
    for record in records:
        last = occurred(record.value) or last
        timed.append((_micros(last), record))
    found = make(marketing, rates)
    end = timed[-1][0] if timed else 0
    began = now = max(end - span, timed[0][0] if timed else 0)
    with progress("judging", len(timed)) as bar:
        for done, (t, record) in enumerate(timed):
            while t > now:
                found.judge(now)
                now += step
            found.take(record.topic, record.value)
            if done % 500 == 0:
                bar(done)
        found.judge(now)
    if not found.replay.accepted:
        raise Failure(f"{name}: none of {len(timed)} events was accepted; parcours check says why")
    return began, now, found


def _micros(at: datetime) -> int:
    return 0 if at == FIRST else int((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


def _episode(one: Episode) -> dict[str, Any]:
    return {
        "rule": one.rule, "scope": "/".join(part for part in one.names if part) or "total", "fired_at": one.fired_at / 1e6,
        "resolved_at": None if one.resolved_at is None else one.resolved_at / 1e6,
        "value": None if one.value is None else float(one.value), "bound": None if one.bound is None else float(one.bound),
    }  # fmt: skip
