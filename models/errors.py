"""The error catalogue: every reason for which an event is refused or dropped, as data.

`docs/errors.md` is made from it. A code is stable: it is a label of `parcours_dropped_total` and a header of
each dead letter.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """One row of the catalogue."""

    code: str
    meaning: str
    fix: str


CATALOGUE: dict[str, Reason] = {
    row.code: row
    for row in (
        Reason("malformed_json", "The message is not JSON.", "Send one JSON object per message, in UTF-8."),
        Reason("empty", "The message has no value.", "Do not send tombstones to source topics."),
        Reason("too_large", "The message is over 1 MiB.", "Send only the documented fields."),
        Reason("missing_field", "A required field is absent.", "Add the field that the path names."),
        Reason("invalid_field", "A field has the wrong type, form or range.", "Correct the field that the path names."),
        Reason(
            "no_person", "Neither anonymous_id nor customer_id is usable.", "Send the id of the device or customer."
        ),
        Reason("future", "occurred_at is over 5 minutes after the record's Kafka timestamp.", "Correct the clock."),
        Reason("missing_rate", "No exchange rate is known for this currency and day.", "Add the rate, publish again."),
        Reason("unknown_currency", "The currency is not an ISO 4217 code.", "Send a code such as EUR."),
        Reason("empty_interval", "end is not after start.", "Send [start, end) with end after start."),
        Reason("long_interval", "The interval is over 400 days.", "Split the row."),
        Reason(
            "out_of_range", "A date or amount is outside what can be stored.", "Correct the field that the path names."
        ),
        Reason(
            "late", "The event is further behind the watermark than the configured lateness.", "Rebuild from history."
        ),
        Reason(
            "forgotten", "The event's person, device or order was forgotten.", "Nothing: it must not be known again."
        ),
        Reason(
            "no_forget_key",
            "Somebody is to be forgotten, and PARCOURS_FORGET_KEY is not set.",
            "Set it for all workers, then: parcours dlq retry --code no_forget_key.",
        ),
        Reason(
            "fold_failed", "The event broke the computation; the node is as it was before it.", "Report it as a bug."
        ),
    )
}


class Rejected(Exception):
    """An event is refused. `path` is its JSON path, as in `$.revenue`."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(f"{code} at {path}: {message}")
        self.code = code
        self.path = path
        self.message = message


class ConfigError(Exception):
    """The configuration is wrong; the message names the key and the fix."""
