"""`parcours check`: what would become of events, without a broker."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from attribution.filters import BOTS_NAME, CONSENT_NAME, INTERNAL_NAME
from attribution.intake import Intake
from models.errors import CATALOGUE, Rejected
from models.events import DECODERS, TOPICS, Cancel, Click, Cost, Order, Refund, Touchpoint
from models.results import UNALLOCATED
from models.settings import Marketing
from models.wire import CLASS_NAMES, COUNTERS, AnyEntry, CostReport, Forget, OrderReport, Stage, Touch
from streams.cli.common import FAILED, ConfigFile, Json, Usage, console, infrastructure, marketing_of, row, say, table
from streams.files import InputError, enveloped, lines_of, numbered, topic_of_fields, topic_of_name

NAME = "check"
_KINDS: dict[str, tuple[type[Struct], ...]] = {
    "clicks": (Click,), "touchpoints": (Touchpoint,), "purchases": (Order, Refund, Cancel), "costs": (Cost,),
}  # fmt: skip
_FIELDS = {
    topic: frozenset(["type", *(name for kind in kinds for name in kind.__struct_fields__)])
    for topic, kinds in _KINDS.items()
}
_FILTERED = {
    CONSENT_NAME: "consent is false: it earns no credit (filter no_consent)",
    BOTS_NAME: "the user_agent is a program's: it earns no credit (filter bots)",
    INTERNAL_NAME: "it is your own traffic: it earns no credit (filter internal)",
}
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_id", "utm_content", "utm_term")


class Verdict(Struct, kw_only=True, omit_defaults=True):
    """What is said of one event; a line of `--json`. `code`, `path`, `message` and `fix` are those of a refusal."""

    where: str
    topic: str
    accepted: bool
    warnings: list[str]
    event_id: str | None = None
    code: str | None = None
    path: str | None = None
    message: str | None = None
    fix: str | None = None
    touch_class: str | None = msgspec.field(default=None, name="class")
    channel: str | None = None
    network: str | None = None
    campaign: str | None = None
    person: str | None = None


def command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file or folder of events; - reads standard input.")],
    topic: Annotated[
        str | None, typer.Option("--topic", help=f"The topic of bare events: {', '.join(TOPICS)}.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Say of each event: accepted, with its channel, network, campaign and person; or what is wrong, where, and the fix.

    A line is {"topic": ..., "value": ...} or a bare event, of the topic that --topic, the file's name or its fields tell.

    Exit code 1 when any event is refused.

    \b
    Examples:
      parcours check events.jsonl
      parcours check clicks.jsonl --config parcours.toml
      head -1 purchases.jsonl | parcours check - --topic purchases --json
    """
    if topic is not None and topic not in TOPICS:
        raise Usage(f"--topic: {topic!r} is none of {', '.join(TOPICS)}")
    marketing, rates = marketing_of(infrastructure(config=config).config)
    # Ids are shown as they were sent, as whoever checks knows them: no key is needed for it.
    shown = msgspec.structs.replace(marketing, privacy=msgspec.structs.replace(marketing.privacy, ids="as_sent"))
    checker = Checker(marketing, Intake(shown, rates))
    counts: Counter[bool] = Counter()
    codes: Counter[str] = Counter()
    encode = msgspec.json.Encoder().encode
    for name, given, line in _lines(file, topic):
        verdict = checker.check(name, given, line)
        counts[verdict.accepted] += 1
        codes.update([verdict.code] if verdict.code else [])
        say(encode(verdict).decode()) if json else _print(verdict)
    if not counts.total():
        raise Usage(f"{file}: there is no event in it")
    if not json:
        _summary(counts, codes)
    if counts[False]:
        raise typer.Exit(FAILED)


def _lines(file: str, topic: str | None) -> Iterator[tuple[str, str | None, bytes]]:
    """(where, topic as far as it is told, line) of all input."""
    if file == "-":
        yield from _named(numbered(sys.stdin.buffer, "-"), topic)
        return
    path = Path(file)
    if path.is_dir():
        found = [path / f"{name}.jsonl" for name in TOPICS if (path / f"{name}.jsonl").is_file()]
        if not found:
            raise InputError(f"{path}: no {', '.join(f'{name}.jsonl' for name in TOPICS)} in it")
        for each in found:
            yield from _named(lines_of(each), topic or topic_of_name(each))
        return
    yield from _named(lines_of(path), topic or topic_of_name(path))


def _named(lines: Iterable[tuple[str, bytes]], topic: str | None) -> Iterator[tuple[str, str | None, bytes]]:
    return ((where, topic, line) for where, line in lines)


class Checker:
    """Judges lines as ingest would, were they published now."""

    def __init__(self, marketing: Marketing, intake: Intake) -> None:
        self._marketing = marketing
        self._intake = intake

    def check(self, where: str, topic: str | None, line: bytes) -> Verdict:
        """The verdict on one line. Raises InputError when its topic can't be told."""
        value = line
        try:
            envelope = enveloped(line)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if envelope is not None:
            topic, value = envelope
        topic = topic or topic_of_fields(line)
        raw = _object(value)
        if topic is None:
            if raw is not None:
                raise InputError(f"{where}: its topic can't be told by its fields; give --topic")
            topic = "clicks"  # not JSON: refused alike in every topic
        event_id = raw.get("event_id", raw.get("cost_id")) if raw else None
        verdict = Verdict(
            where=where,
            topic=topic,
            accepted=True,
            warnings=_unknown(topic, raw) if raw else [],
            event_id=event_id if isinstance(event_id, str) else None,
        )
        try:
            taken = self._intake.take(topic, value, time.time_ns() // 1000, 0)
        except Rejected as error:
            verdict.accepted = False
            verdict.code, verdict.path, verdict.message = error.code, error.path, error.message
            verdict.fix = CATALOGUE[error.code].fix
            return verdict
        event: Any = DECODERS[topic].decode(value)
        _describe(verdict, taken.entry)
        if verdict.person is None and not isinstance(event, Cost | Refund | Cancel):
            verdict.person = self._intake.person(event)
        verdict.warnings += self._warnings(event, taken.entry, taken.filtered)
        return verdict

    def _warnings(self, event: Any, entry: AnyEntry | None, filtered: Sequence[str]) -> list[str]:
        found = []
        if not event.source:
            found.append("no source: it is counted under (none); name the tracker that sends it")
        for name in ("customer_id", "anonymous_id"):
            raw = getattr(event, name, None)
            if raw is not None and self._intake.person(_only(event, name)) is None:
                found.append(f"{name}: {raw!r} is on junk_ids and counts as absent")
        if isinstance(entry, Touch):
            found += self._source_warnings(event, entry)
        if isinstance(entry, Stage) and entry.stage not in self._marketing.conversions:
            found.append(f"stage: {entry.stage!r} is not in [conversions], so it is no conversion")
        if isinstance(entry, CostReport) and entry.channel == UNALLOCATED:
            found.append("the cost names no channel, network or campaign: it is in the total only")
        if isinstance(entry, CostReport) and entry.kind == COUNTERS:
            found.append("counters only: it says what the network counted, and is no cost")
        if isinstance(entry, Forget):
            found.append(
                f"whatever is known of {' and '.join(entry.persons)} is removed for good, and of every device that was linked"
            )
        found += [_FILTERED[name] for name in filtered]
        return found

    def _source_warnings(self, event: Any, entry: Touch) -> list[str]:
        found = []
        utm = [name for name in _UTM if getattr(event, name)]
        if utm and entry.network == "(none)":
            found.append(f"{', '.join(utm)} without a network: give utm_source or network")
        if entry.channel == "Unassigned":
            medium = f"utm_medium {event.utm_medium!r} " if event.utm_medium else "what it says of its source "
            found.append(f"the channel is Unassigned: {medium}fits no rule")
        if isinstance(event, Click) and event.cost is not None and event.currency is None:
            found.append(f"cost without currency: taken as {self._marketing.reporting_currency}")
        return found


def _only(event: Any, name: str) -> Any:
    """The event with no other id than this one."""
    return msgspec.structs.replace(event, **{n: None for n in ("customer_id", "anonymous_id") if n != name})


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else {}


def _unknown(topic: str, raw: dict[str, Any]) -> list[str]:
    """Fields that are ignored and look like a known one that was mistyped."""
    known = _FIELDS[topic]
    found = []
    for name in sorted(raw.keys() - known):
        near = get_close_matches(name, known - raw.keys(), 1, 0.8)
        if near:
            found.append(f"{name}: no such field; it is ignored. Did you mean {near[0]}?")
    return found


def _describe(verdict: Verdict, entry: AnyEntry | None) -> None:
    if isinstance(entry, Touch):
        verdict.touch_class = CLASS_NAMES[entry.cls]
        verdict.person = None if entry.key.startswith("e:") else entry.key
        if entry.flags:
            verdict.touch_class = None
    elif isinstance(entry, OrderReport):
        verdict.person = entry.person
    elif isinstance(entry, Stage):
        verdict.person = entry.key
    if isinstance(entry, Touch | CostReport):
        verdict.channel, verdict.network, verdict.campaign = entry.channel, entry.network, entry.campaign


def _print(verdict: Verdict) -> None:
    head = f"{verdict.where} {verdict.topic} {verdict.event_id or ''}".rstrip()
    if not verdict.accepted:
        say(f"{head}: REFUSED {verdict.code} at {verdict.path}: {verdict.message}")
        say(f"    fix: {verdict.fix}")
    else:
        said = [f"{verdict.touch_class}" if verdict.touch_class else ""]
        if verdict.channel is not None:
            said.append(f"{verdict.channel} / {verdict.network} / {verdict.campaign}")
        said.append(f"person {verdict.person}" if verdict.person else "")
        say(f"{head}: accepted" + "".join(f", {part}" for part in said if part))
    for warning in verdict.warnings:
        say(f"    warning: {warning}")


def _summary(counts: Counter[bool], codes: Counter[str]) -> None:
    say()
    say(f"{counts[True]} accepted, {counts[False]} refused")
    if codes:
        shown = table("code", "events", "fix", right="events")
        for code, n in codes.most_common():
            shown.add_row(*row(code, n, CATALOGUE[code].fix))
        console().print(shown)
