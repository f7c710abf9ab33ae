"""Which device has seen something of which source: what reach counts, once per device (meaning §11).

Devices are counted at their own node, so that those of different partitions are disjoint: an event with both ids counts there, by the
link it makes, and not at its customer.
"""

from __future__ import annotations

from attribution.rollups import Calendar
from attribution.visitors import ALL, Source
from models.settings import DAY, HOUR
from models.wire import AnyEntry, Link, Touch

KEPT = {"h": 9 * DAY, "d": 33 * DAY}
"""How long devices are known by hour and by day: as long as a window may ask."""
SEEN = (None, "duplicate")
"""What `Folded.dropped` says of entries whose device has been there: a second link in an hour says nothing new, but of other sources."""
WINDOWS = {"24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}


def sighting(entry: AnyEntry) -> tuple[int, Source, str] | None:
    """Time, source and device of an entry that shows somebody something; None for all others."""
    if isinstance(entry, Touch):
        if entry.flags or entry.linked or entry.key[0] == "e":
            return None
        return entry.t, (entry.channel, entry.network), entry.key
    if isinstance(entry, Link) and entry.channel:
        return entry.t, (entry.channel, entry.network), entry.key
    return None


def buckets(window: str, end: int, calendar: Calendar) -> list[tuple[str, int]]:
    """The hours and days that make up a window that ends at `end`: hours up to the first whole day in it, then days; of 24h hours alone."""
    start = end - WINDOWS[window]
    if window == "30d":
        start = day = calendar.day(start)
    else:
        start -= start % HOUR
        day = calendar.day(start)
        day = day if day == start else calendar.shift(day, 1)
    if window == "24h":
        day = end + 1
    found = [("h", hour) for hour in range(start, min(day, end + 1), HOUR)]
    while day <= end:
        found.append(("d", day))
        day = calendar.shift(day, 1)
    return found


class Devices:
    """All devices of a whole by their latest sighting: how many saw something since a time, exactly."""

    def __init__(self) -> None:
        self._latest: dict[Source, dict[str, int]] = {}

    def see(self, entry: AnyEntry) -> None:
        """Count an entry that had an effect."""
        found = sighting(entry)
        if found is not None:
            t, source, device = found
            for one in (source, ALL):
                known = self._latest.setdefault(one, {})
                known[device] = max(t, known.get(device, t))

    def reach(self, end: int, calendar: Calendar) -> dict[str, dict[Source, int]]:
        """Distinct devices by window and source."""
        starts = {window: buckets(window, end, calendar)[0][1] for window in WINDOWS}
        return {
            window: {
                source: n
                for source, devices in self._latest.items()
                if (n := sum(start <= t <= end for t in devices.values()))
            }
            for window, start in starts.items()
        }
