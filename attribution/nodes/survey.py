"""A survey answer's node: the answer itself, known by its event (meaning §2, §11)."""

from __future__ import annotations

from attribution.facts import MICRO, TOTAL, Fact, Measure, counter, negated
from attribution.nodes.base import Context, Folded
from attribution.nodes.state import Answer
from models.wire import Survey

SELF_REPORTED = "self_reported"
"""Answers to "where did you hear of us?" that named a channel."""
NPS_ANSWERS = counter("nps_answers")
NPS_PROMOTERS = counter("nps_promoters")
NPS_DETRACTORS = counter("nps_detractors")
CSAT_ANSWERS = counter("csat_answers")
CSAT_SATISFIED = counter("csat_satisfied")
SCORES = (NPS_ANSWERS, NPS_PROMOTERS, NPS_DETRACTORS, CSAT_ANSWERS, CSAT_SATISFIED)
PROMOTER = 9 * MICRO
"""Scores of 0 to 10, in micros: 9 and more promote (Reichheld, "The One Number You Need to Grow", 2003)."""
DETRACTOR = 6 * MICRO
"""Scores up to 6 detract."""
SATISFIED = 4 * MICRO
"""Of 1 to 5, the two best scores are satisfied."""


def self_reported(source: tuple[str, str]) -> Measure:
    """The measure of answers that named this channel and network."""
    return (SELF_REPORTED, source[0], "", source[1])


def fold_survey(node: Answer | None, entry: Survey, context: Context) -> Folded:
    """Answers are never late; of one event's contents, the smallest `(t, digest)` holds."""
    answer = Answer(
        entry.t, entry.question, (entry.channel, entry.network, ""), entry.score, entry.digest, entry.person
    )
    if node is not None and (node.t, node.digest) <= (answer.t, answer.digest):
        return Folded(node, dropped="duplicate")
    before = [] if node is None else negated(_facts(node))
    return Folded(answer, before + _facts(answer))


def _facts(answer: Answer) -> list[Fact]:
    t, score = answer.t, answer.score
    if answer.question == "source":
        return [(t, TOTAL, self_reported(answer.dims[:2]), 1)]
    if answer.question == "nps":
        facts: list[Fact] = [(t, TOTAL, NPS_ANSWERS, 1)]
        if score >= PROMOTER:
            facts.append((t, TOTAL, NPS_PROMOTERS, 1))
        if score <= DETRACTOR:
            facts.append((t, TOTAL, NPS_DETRACTORS, 1))
        return facts
    satisfied: list[Fact] = [(t, TOTAL, CSAT_SATISFIED, 1)] if score >= SATISFIED else []
    return [(t, TOTAL, CSAT_ANSWERS, 1), *satisfied]
