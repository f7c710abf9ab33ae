"""How persons come and what becomes of them: paths, time to convert, assists, reach, customers, and what they say themselves."""

from __future__ import annotations

from grafana.performance import NEW_CONFIGURATION
from grafana.sheet import (
    ATTRIBUTED,
    COUNT,
    CREDIT,
    FACTOR,
    POINTS,
    PRICE,
    SECONDS,
    SHARE,
    SOMEBODY,
    WINDOW,
    Query,
    Say,
    Sheet,
    leader,
)

UID = "parcours-journeys"
OF = 'conversion="$conversion",window="$window"'


def build(say: Say, lang: str) -> Sheet:
    sheet = Sheet(
        say, lang, UID, say("Parcours: journeys", "Parcours : parcours clients"),
        say("How persons come to convert, who they are, and what they say.", "Comment les personnes arrivent à convertir, qui elles sont, et ce qu’elles disent."),
    )  # fmt: skip
    sheet.choose("model", "window", "basis", "conversion")
    sheet.annotate(
        say("Configuration changes", "Changements de configuration"),
        "{{number}} ({{hash}})",
        NEW_CONFIGURATION,
        "orange",
    )
    _paths(sheet, say)
    _channels(sheet, say)
    _customers(sheet, say)
    _answers(sheet, say)
    return sheet


def _paths(sheet: Sheet, say: Say) -> None:
    sheet.row(say("The way to a conversion", "Le chemin vers la conversion"))
    # Recorded buckets are those of a window already, as gauges: no rate.
    for name, title, text, kind in (
        ("touches_to_convert", say("Touches before a conversion, median", "Contacts avant conversion, médiane"), say("Half of the conversions had at most so many touches.", "La moitié des conversions ont eu au plus autant de contacts."), CREDIT),
        ("time_to_convert_seconds", say("Time to convert, median", "Délai de conversion, médiane"), say("Half of the conversions came within this time of the first touch.", "La moitié des conversions sont venues dans ce délai après le premier contact."), SECONDS),
    ):  # fmt: skip
        sheet.stat(
            title,
            text,
            kind,
            Query(f"histogram_quantile(0.5, {leader(f'total_{name}_bucket', OF)})", say("Median", "Médiane")),
            size=(6, 5),
        )
    sheet.stat(
        say("Visitors who converted", "Visiteurs convertis"), say("Distinct persons visiting in the window who converted at or after a visit, by now / distinct persons visiting.", "Personnes distinctes venues dans la période et converties depuis / personnes distinctes venues."),
        SHARE, Query(leader("total_conversion_rate_ratio", OF), say("Share", "Part")), size=(6, 5),
    )  # fmt: skip
    sheet.stat(
        say("Reach and frequency", "Couverture et répétition"), say("Distinct devices reached by any touch, ±1 %, and impressions counted here per device reached: below 1 where most devices came by a click or a visit and no impression of theirs is counted.", "Appareils distincts touchés, ±1 %, et impressions comptées ici par appareil touché : moins de 1 si la plupart sont venus par un clic ou une visite, sans impression comptée."),
        COUNT, Query(leader("total_reach", WINDOW), say("Reach", "Couverture")), Query(leader("total_frequency", WINDOW), say("Impr. per device", "Impr. par appareil"), FACTOR), size=(6, 5),
    )  # fmt: skip
    # The last bucket, of all, has no end that a bar could stand at.
    finite = f'{OF},le!="+Inf"'
    for name, title, text, heading, unit in (
        ("touches_to_convert", say("Path length", "Longueur des parcours"), say("Conversions with at most so many touches.", "Conversions avec au plus autant de contacts."), say("Touches, at most", "Contacts, au plus"), "none"),
        ("time_to_convert_seconds", say("Time to convert", "Délai de conversion"), say("Conversions within so long of the first touch.", "Conversions dans ce délai après le premier contact."), say("Time, at most", "Délai, au plus"), "s"),
    ):  # fmt: skip
        sheet.bars(
            title,
            text,
            COUNT,
            ("le", heading),
            Query(leader(f"total_{name}_bucket", finite), say("Conversions up to here", "Conversions jusqu’ici")),
            size=(12, 8),
            unit=unit,
        )


def _channels(sheet: Sheet, say: Say) -> None:
    sheet.row(say("What channels do on the way", "Ce que font les canaux en chemin"))
    keys = {"channel": say("Channel", "Canal"), "network": say("Network", "Réseau")}
    sheet.table(
        say("Assists, reach and conversion rate", "Assistances, couverture et taux de conversion"),
        say("Assisted: distinct conversions with an eligible touch of the channel to which last touch gives it nothing. Impressions per device: those counted here / reach. An empty cell is undefined, which is not zero.", "Assistées : conversions distinctes avec un contact éligible du canal, à qui le dernier contact n’en crédite rien. Impressions par appareil : celles comptées ici / couverture. Une case vide est indéfinie, ce qui n’est pas zéro."),
        keys, Query(leader("channel_attributed_conversions", ATTRIBUTED), "Conversions", CREDIT),
        Query(leader("channel_assisted_conversions", OF), say("Assisted", "Assistées"), COUNT), Query(leader("channel_visitors", WINDOW), say("Visitors", "Visiteurs"), COUNT),
        Query(leader("channel_conversion_rate_ratio", OF), say("Conversion rate", "Taux de conversion"), SHARE), Query(leader("channel_traffic_share_ratio", WINDOW), say("Share of traffic", "Part du trafic"), SHARE),
        Query(leader("channel_reach", WINDOW), say("Reach", "Couverture"), COUNT), Query(leader("channel_frequency", WINDOW), say("Impr. per device", "Impr. par appareil"), FACTOR),
        sort=say("Assisted", "Assistées"),
    )  # fmt: skip
    sheet.gauges(
        say("Link rate by source", "Taux de liaison par source"), say("Purchases whose person has an earlier touch / purchases, by tracker: the first sign of a broken tag.", "Achats dont la personne a un contact antérieur / achats, par traceur : le premier signe d’une balise cassée."),
        SHARE, Query(leader("source_link_ratio", WINDOW), "{{source}}"), size=(12, 7),
    )  # fmt: skip
    sheet.gauges(
        say("Engagement points by network", "Points d’engagement par réseau"), say("Configured points of engagements: gains less losses.", "Points d’engagement configurés : gains moins pertes."),
        COUNT, Query(f"sort_desc({leader('channel_engagement_points', f'{WINDOW},{SOMEBODY}')} != 0)", "{{network}} · {{channel}}"), size=(12, 7),
    )  # fmt: skip


def _customers(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Customers", "Clients"))
    sheet.lines(
        say("New and returning", "Nouveaux et fidèles"), say("Orders of the window, and those that are a new customer's first. The rest are of returning customers or of nobody known.", "Commandes de la période, et premières commandes de nouveaux clients. Le reste vient de clients fidèles ou d’inconnus."),
        COUNT, Query(leader("total_orders", WINDOW), say("All orders", "Toutes les commandes")), Query(leader("total_new_customers", WINDOW), say("New customers", "Nouveaux clients")),
    )  # fmt: skip
    # The cohorts' customers are there at once, what came of them month by month.
    ages = [
        Query(leader("total_cohort_retention_ratio", f'age_months="{age}"'), say(f"After {age}", f"Après {age}"), SHARE)
        for age in (1, 2, 3, 6, 11)
    ]
    sheet.table(
        say("Retention by cohort", "Rétention par cohorte"), say("Customers by the month of their first order, and the share of them that ordered so many months later, once all have come so far.", "Clients selon le mois de leur première commande, et part de ceux qui ont commandé tant de mois après, une fois que tous en sont là."),
        {"cohort": say("Cohort", "Cohorte")}, Query(leader("total_cohort_customers"), say("Customers", "Clients"), COUNT), *ages, size=(12, 9), sort=say("Cohort", "Cohorte"),
    )  # fmt: skip
    keys = {"channel": say("Channel", "Canal"), "network": say("Network", "Réseau")}
    sheet.table(
        say("Customers by the channel that acquired them", "Clients selon le canal d’acquisition"), say("The first eligible touch of a customer's first order. Expected value is over 365 days, from older cohorts; absent until one is old enough.", "Le premier contact éligible de la première commande. La valeur attendue est sur 365 jours, d’après les cohortes anciennes ; absente avant."),
        keys, Query(leader("channel_customers"), say("Customers", "Clients"), COUNT), Query(leader("channel_customer_revenue_to_date"), say("Revenue per customer", "CA par client"), PRICE),
        Query(leader("channel_clv_expected"), say("Expected value", "Valeur attendue"), PRICE), Query(leader("channel_repeat_ratio"), say("Ordered again", "Ont recommandé"), SHARE),
        Query(leader("channel_ambassador_ratio"), say("Ambassadors", "Ambassadeurs"), SHARE), size=(18, 9), sort=say("Customers", "Clients"),
    )  # fmt: skip
    sheet.stat(
        say("Customers who came back", "Clients revenus"), say("Customers with a second order / customers; ambassadors have shared, mentioned or referred after an order.", "Clients avec une deuxième commande / clients ; les ambassadeurs ont partagé, mentionné ou recommandé après une commande."), SHARE,
        Query(leader("total_repeat_ratio"), say("Ordered again", "Ont recommandé")), Query(leader("total_ambassador_ratio"), say("Ambassadors", "Ambassadeurs")), size=(6, 9),
    )  # fmt: skip


def _answers(sheet: Sheet, say: Say) -> None:
    sheet.row(say("What they say themselves", "Ce qu’ils disent eux-mêmes"))
    keys = {"channel": say("Channel", "Canal"), "network": say("Network", "Réseau")}
    sheet.table(
        say("Self-reported beside attributed", "Déclaré et attribué"), say("The share of answers that named a channel, beside the share of conversions that the first headline model gives it.", "La part des réponses nommant un canal, à côté de la part des conversions que le premier modèle lui donne."),
        keys, Query(leader("channel_self_reported_share_ratio", WINDOW), say("They say", "Déclaré"), SHARE), Query(leader("channel_attributed_share_ratio", WINDOW), say("Attributed", "Attribué"), SHARE),
        Query(leader("channel_self_reported_answers", WINDOW), say("Answers", "Réponses"), COUNT), size=(14, 8),
    )  # fmt: skip
    sheet.stat(
        "NPS", say("Promoters less detractors, in points from −100 to 100.", "Promoteurs moins détracteurs, en points de −100 à 100."), POINTS,
        Query(leader("total_nps_points", WINDOW), "NPS"), Query(leader("total_nps_answers", WINDOW), say("Answers", "Réponses"), COUNT), size=(5, 8),
    )  # fmt: skip
    sheet.stat(
        "CSAT", say("Satisfied / all who answered.", "Satisfaits / toutes les réponses."), SHARE,
        Query(leader("total_csat_ratio", WINDOW), "CSAT"), Query(leader("total_csat_answers", WINDOW), say("Answers", "Réponses"), COUNT), size=(5, 8),
    )  # fmt: skip
