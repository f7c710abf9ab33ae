"""`parcours config check`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from attribution import targets
from attribution.channels import Classifier
from attribution.families import FAMILIES, LEVEL_LABELS
from attribution.formulas import PURCHASE
from attribution.listing import BUDGET, fitting
from attribution.money import Rates, is_currency
from attribution.plan import Plan, most
from attribution.rules import Rules
from attribution.watermarks import topic_partitions
from models.settings import DAY, Marketing, Rate
from streams.cli.common import Usage, console, infrastructure, marketing_of, row, say, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def config() -> None:
    """The marketing configuration."""


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="The TOML file. [PARCOURS_CONFIG]", show_default=False)] = None,
    channels: Annotated[int, typer.Option(min=0, help="How many channels (times networks) to count series for.")] = 12,
    campaigns: Annotated[int, typer.Option(min=0, help="How many campaigns to count series for.")] = 100,
) -> None:
    """Check the marketing configuration, and show what it says, how many series it exports and what looks wrong in it.

    Exit code 2 when a key is unknown or a value wrong; the message names the key.

    \b
    Examples:
      parcours config check parcours.toml
      parcours config check parcours.toml --channels 20 --campaigns 300
      PARCOURS_CONFIG=parcours.toml parcours config check
    """
    path = infrastructure(config=file).config
    if path is None:
        raise Usage("no configuration file: name it, or set PARCOURS_CONFIG")
    marketing, rates = marketing_of(path)
    known = Rates(marketing, rates)
    # Compiling finds what parsing can't: durations of thousands of years, aliases that lead in a circle.
    Rules(marketing)
    Classifier(marketing)
    targets.check(marketing)
    _show(path, marketing, rates)
    _show_series(marketing, channels, campaigns)
    for warning in (*known.contradictions(), *warnings(marketing, rates), *_crowded(marketing, channels, campaigns)):
        say(f"warning: {warning}")
    say(f"digest {marketing.digest()}")


def _show(path: Path, marketing: Marketing, rates: list[Rate]) -> None:
    look = marketing.lookback
    rates_of = sorted({rate.currency for rate in (*marketing.rates, *rates)})
    shown = table("setting", "value", title=str(path))
    for name, value in (
        ("revision", marketing.revision),
        ("reporting_currency", marketing.reporting_currency),
        ("time_zone", f"{marketing.time_zone} (now {datetime.now(ZoneInfo(marketing.time_zone)):%Y-%m-%d %H:%M})"),
        ("models", ", ".join(marketing.models)),
        ("headline_models", ", ".join(marketing.headline_models)),
        ("lookback", f"click {look.click}, view {look.view}, engagement {look.engagement}, direct {look.direct}"),
        ("lookback.rules", len(look.rules)),
        ("lateness", marketing.lateness),
        ("conversions", ", ".join(("purchase", *marketing.conversions))),
        ("rates", ", ".join(rates_of) or "none: only events in " + marketing.reporting_currency),
        ("alerts", ", ".join(rule.name for rule in marketing.alerts) or "none"),
        ("goals", ", ".join(goal.name for goal in marketing.goals) or "none"),
        ("topics", ", ".join(f"{topic} {n}" for topic, n in topic_partitions(marketing).items())),
    ):
        shown.add_row(*row(name, value))
    console().print(shown)


def _show_series(marketing: Marketing, channels: int, campaigns: int) -> None:
    """The most series per metric, a column for each level, and what that is of the budget."""
    series = most(marketing, channels, campaigns)
    counts: dict[str, dict[str, int]] = {}
    for name, n in series.items():
        family = FAMILIES[name]
        start = "day_" if name.startswith("parcours_day_") else ""
        end = "_baseline" if name.endswith("_baseline") else ""
        counts.setdefault(f"{start}{family.metric}{end}", {})[family.level] = n
    levels = tuple(LEVEL_LABELS)
    title = f"Series of {channels} channels and {campaigns} campaigns, at most"
    shown = table("parcours_<level>_…", *levels, right=" ".join(levels), title=title)
    for metric, by_level in counts.items():
        shown.add_row(*row(metric, *(f"{by_level[level]:,}" if level in by_level else "" for level in levels)))
    total = sum(series.values())
    say()
    console().print(shown)
    say(f"{total:,} series; the budget is {BUDGET:,}")
    say()


def _crowded(marketing: Marketing, channels: int, campaigns: int) -> Iterator[str]:
    """What the budget of series has no room for."""
    fit = fitting(Plan(marketing, [PURCHASE, *sorted(marketing.conversions)]), channels, campaigns)
    for name, n, own in (("channels", channels, fit[0]), ("campaigns", campaigns, fit[1])):
        if own < n:
            yield (
                f"series: {n - own} of {n} {name} are shown together as (other), those that spend and convert least and that no alert or goal is about; "
                "fewer models, headline_models or conversions leave room for more"
            )


def warnings(marketing: Marketing, rates: list[Rate]) -> Iterator[str]:
    """What can be meant, and probably isn't."""
    for key, domains in (("own_domains", marketing.own_domains), ("payment_domains", marketing.payment_domains)):
        for domain in domains:
            if "/" in domain or ":" in domain or " " in domain.strip():
                yield f"{key}: {domain!r} looks like a URL; write the domain alone, as in 'shop.example'"
            elif "." not in domain:
                yield f"{key}: {domain!r} has no dot; is it a whole domain?"
    if not marketing.own_domains:
        yield "own_domains: it is empty, so a visit from one of your own sites to another counts as a referral"
    if not is_currency(marketing.reporting_currency):
        yield f"reporting_currency: {marketing.reporting_currency} is not a currency of ISO 4217"
    for rate in (*marketing.rates, *rates):
        if rate.currency == marketing.reporting_currency:
            yield f"rates: {rate.currency} is the reporting currency: this rate is not used"
        elif not is_currency(rate.currency):
            yield f"rates: {rate.currency} is not a currency of ISO 4217"
    rules = Rules(marketing)
    if rules.longest > 365 * DAY:
        yield "lookback: a window is over 365 days; conversions stay open, and journeys are kept, that long"
    for i, rule in enumerate(marketing.lookback.rules):
        if rule.conversion and rule.conversion not in ("purchase", *marketing.conversions):
            yield f"lookback.rules[{i}].conversion: {rule.conversion!r} is not in [conversions]; the rule never applies"
    if marketing.clock == "event":
        yield 'clock: "event" is for history and tests; live windows need "wall"'
    folded: dict[str, str] = {}
    for name, target in marketing.campaign_aliases.items():
        other = folded.setdefault(name.strip().casefold(), target)
        if other != target:
            yield f"campaign_aliases: {name!r} is there twice but for case, for {other!r} and {target!r}"
