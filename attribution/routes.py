"""In which granularities the measures of persons are filed (see `attribution.rollups`); all others go by what they are of.

What windows read is in `w` and `v`, in one cell, with channel and network in the measure: a person who comes again, or a
conversion that is restated, changes few cells. Customers are in `o`, by channel and network.
"""

from __future__ import annotations

from attribution import cohorts, paths, visitors
from attribution.nodes import survey

ROUTES: dict[str, str] = {
    **dict.fromkeys((visitors.VISITORS, visitors.CONVERTED), "wv"),
    **dict.fromkeys(
        (paths.TIME, paths.TOUCHES, paths.TIME_SUM, paths.TOUCHES_SUM, paths.PURCHASES, paths.LINKED), "wv"
    ),
    **dict.fromkeys((survey.SELF_REPORTED, *(measure[0] for measure in survey.SCORES)), "wv"),
    **dict.fromkeys((cohorts.CUSTOMERS[0], cohorts.REPEAT_CUSTOMERS[0], cohorts.AMBASSADORS[0]), "o"),
    **dict.fromkeys((cohorts.COHORT_REVENUE, cohorts.COHORT_ACTIVE), "o"),
}
