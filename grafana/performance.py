"""What marketing earned and cost: as it is now, day by day, by channel and campaign, against goals and alerts."""

from __future__ import annotations

from grafana.sheet import (
    AGE,
    ATTRIBUTED,
    BAD,
    COUNT,
    CREDIT,
    FACTOR,
    FIGURE,
    GOOD,
    MOMENT,
    MONEY,
    NOBODY,
    PRICE,
    ROI,
    SHARE,
    SOMEBODY,
    UNSURE,
    WINDOW,
    Kind,
    Query,
    Say,
    Sheet,
    leader,
)

UID = "parcours-overview"
FIRST = 'conversion="$conversion"'
ALERT = "rule, channel, network, campaign"


def build(say: Say, lang: str) -> Sheet:
    sheet = Sheet(
        say, lang, UID, say("Parcours: performance", "Parcours : performance"),
        say("What marketing earned and cost, and whether the figures are current.", "Ce que le marketing a rapporté et coûté, et la fraîcheur des chiffres."),
    )  # fmt: skip
    sheet.choose("model", "window", "basis", "conversion")
    sheet.annotate(
        say("Alerts", "Alertes"),
        "{{rule}}: {{channel}} {{network}} {{campaign}} ({{severity}})",
        f"max by ({ALERT}, severity) ({leader('alert_active')}) == 1",
        "red",
    )
    # All clicks of 30 days came in the last 24 hours.
    began = f"{leader('campaign_clicks', WINDOW.replace('$window', '30d'))} == ignoring (window) {leader('campaign_clicks', WINDOW.replace('$window', '24h'))}"
    sheet.annotate(say("Campaign starts", "Débuts de campagne"), "{{campaign}} ({{network}})", f"({began}) > 0", "blue")
    sheet.annotate(
        say("Configuration changes", "Changements de configuration"),
        "{{number}} ({{hash}})",
        NEW_CONFIGURATION,
        "orange",
    )
    _freshness(sheet, say)
    _headline(sheet, say)
    _days(sheet, say)
    _channels(sheet, say)
    _platforms(sheet, say)
    _models(sheet, say)
    _targets(sheet, say)
    return sheet


NEW_CONFIGURATION = "max by (number, hash) (count_over_time(parcours_config_info[10m])) < 5"
"""Of a configuration that a worker has had for a few scrapes only."""


def _freshness(sheet: Sheet, say: Say) -> None:
    sheet.row(say("How current the figures are", "Fraîcheur des chiffres"))
    sheet.stat(
        say("As of", "À jour à"), say("Where the windows end.", "Là où les périodes se terminent."), MOMENT,
        Query(f"1000 * max({leader('as_of_timestamp_seconds')})", say("As of", "À jour à")), size=(4, 5),
    )  # fmt: skip
    sheet.stat(
        say("Cost known through", "Coûts connus jusqu’à"),
        say("The earliest end of known media cost: ratios of cost take both sides up to it. The pipeline's lag is beside it.", "La première fin des coûts média connus : les ratios de coût s’arrêtent là des deux côtés."),
        MOMENT, Query(f"1000 * min({leader('cost_through_timestamp_seconds')})", say("Cost through", "Coûts jusqu’à")), size=(4, 5),
    )  # fmt: skip
    sheet.stat(
        say("Lag", "Retard"), say("Records not yet applied, over all workers.", "Messages pas encore traités, tous serveurs confondus."), COUNT,
        Query("sum(max by (topic, partition) (parcours_lag_records))", say("Records", "Messages")), size=(4, 5),
    )  # fmt: skip
    credit = "channel_attributed_conversions"
    labels = ATTRIBUTED.replace("$basis", "conversion")
    nobody = leader(credit, f"{labels},{NOBODY}")
    sheet.stat(
        say("Unattributed", "Non attribué"),
        say("Conversions that no touch is credited for, among all. Beside it why; a person's own reason is told by parcours journey.", "Conversions qu’aucun contact ne crédite, parmi toutes. À côté, pourquoi ; la raison de chacune : parcours journey."),
        SHARE, Query(f"sum({nobody}) / (sum({leader(credit, labels)}) > 0)", say("Share", "Part")), size=(4, 5),
    )  # fmt: skip
    why = 'conversion="$conversion",window="$window"'
    reasons = {
        "no_touch_known": say("no touch known", "aucun contact connu"), "outside_window": say("too old", "trop anciens"),
        "filtered": say("filtered", "filtrés"), "no_consent": say("no consent", "sans consentement"),
        "touches_trimmed": say("trimmed", "écartés"),
    }  # fmt: skip
    sheet.gauges(
        say("Why unattributed", "Pourquoi non attribué"),
        say("Conversions that no touch is credited for, by the first reason that holds: no touch is known, all are older than their windows, filtered or excluded, without consent, or cut from a journey grown too long.", "Conversions qu’aucun contact ne crédite, selon la première raison qui vaut : aucun contact connu, tous trop anciens, filtrés ou exclus, sans consentement, ou écartés d’un parcours trop long."),
        COUNT, *(Query(leader("total_unattributed_conversions", f'{why},reason="{reason}"'), name) for reason, name in reasons.items()), size=(8, 5),
    )  # fmt: skip


def _headline(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Key figures", "Chiffres clés"))
    now, before = say("now", "maintenant"), say("period before", "période précédente")
    figures: tuple[tuple[str, str, Kind, str, str], ...] = (
        ("attributed_revenue", ATTRIBUTED, MONEY, say("Revenue", "Chiffre d’affaires"), say("Net revenue credited, after refunds.", "Chiffre d’affaires net crédité, après remboursements.")),
        ("cost", WINDOW, MONEY, say("Cost", "Coût"), say("All cost: media, agency, tools, work.", "Tous les coûts : médias, agence, outils, travail.")),
        ("attributed_conversions", ATTRIBUTED, CREDIT, "Conversions", say("Conversions credited; fractions are shares.", "Conversions créditées ; les fractions sont des parts.")),
        ("cpa", ATTRIBUTED, PRICE, "CPA", say("Media cost / conversions credited.", "Coût média / conversions créditées.")),
        ("roas_ratio", ATTRIBUTED, FACTOR, "ROAS", say("Revenue credited / media cost.", "Chiffre d’affaires crédité / coût média.")),
        ("roi_on_revenue_ratio", ATTRIBUTED, ROI, say("ROI on revenue", "ROI sur CA"), say("(Revenue credited − cost) / cost.", "(Chiffre d’affaires crédité − coût) / coût.")),
        ("orders", WINDOW, COUNT, say("Orders", "Commandes"), say("All orders, credited or not.", "Toutes les commandes, créditées ou non.")),
        ("mer_ratio", WINDOW, FACTOR, "MER", say("All revenue / all media cost.", "Tout le chiffre d’affaires / tout le coût média.")),
    )  # fmt: skip
    for metric, labels, kind, title, text in figures:
        compared = labels.replace("$basis", "conversion") + ',period="previous"'
        sheet.stat(
            title, f"{text} {say('Beside it the same of the period before (24h, 7d, 30d).', 'À côté, la période précédente (24h, 7d, 30d).')}",
            kind, Query(leader(f"total_{metric}", labels), now), Query(leader(f"total_{metric}_baseline", compared), before), size=(6, 4),
        )  # fmt: skip


def _days(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Day by day, as known now", "Jour par jour, tel que connu maintenant"))
    key = ("days_ago", say("Days ago", "Il y a (jours)"))
    sheet.bars(
        say("Revenue and cost by day", "Chiffre d’affaires et coût par jour"),
        say("Each day as known now, under the first headline model; 0 is today, which is not over.", "Chaque jour tel que connu maintenant, selon le premier modèle ; 0 est aujourd’hui, qui n’est pas terminé."),
        MONEY, key, Query(leader("day_total_attributed_revenue", FIRST), say("Revenue", "Chiffre d’affaires")), Query(leader("day_total_cost"), say("Cost", "Coût")), newest_last=True,
    )  # fmt: skip
    sheet.bars(
        say("CPA by day", "CPA par jour"), say("Media cost / conversions credited, each day as known now. A day whose cost is not yet known has none.", "Coût média / conversions créditées, chaque jour tel que connu maintenant. Un jour dont le coût n’est pas connu n’en a pas."),
        PRICE, key, Query(leader("day_total_cpa", FIRST), "CPA"), newest_last=True,
    )  # fmt: skip


def _columns(level: str, say: Say) -> list[Query]:
    return [
        Query(leader(f"{level}_attributed_conversions", ATTRIBUTED), "Conversions", CREDIT),
        Query(leader(f"{level}_attributed_revenue", ATTRIBUTED), say("Revenue", "Chiffre d’affaires"), MONEY),
        Query(leader(f"{level}_cost", WINDOW), say("Cost", "Coût"), MONEY),
        Query(leader(f"{level}_cpa", ATTRIBUTED), "CPA", PRICE),
        Query(leader(f"{level}_roas_ratio", ATTRIBUTED), "ROAS", FACTOR),
        Query(leader(f"{level}_roi_on_revenue_ratio", ATTRIBUTED), say("ROI on revenue", "ROI sur CA"), ROI),
    ]


def _channels(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Channels and campaigns", "Canaux et campagnes"))
    keys = {"channel": say("Channel", "Canal"), "network": say("Network", "Réseau")}
    revenue = say("Revenue", "Chiffre d’affaires")
    undefined = say(
        "An empty cell is undefined or not yet known, which is not zero.",
        "Une case vide est indéfinie ou pas encore connue, ce qui n’est pas zéro.",
    )
    sheet.table(
        say("Channels and networks", "Canaux et réseaux"),
        say("What each channel and network earned and cost in the window. (unattributed) holds conversions without an eligible touch. ", "Ce que chaque canal et réseau a rapporté et coûté. (unattributed) : conversions sans contact éligible. ") + undefined,
        keys, *_columns("channel", say), sort=revenue,
    )  # fmt: skip
    sheet.table(
        say("Campaigns", "Campagnes"),
        say("For headline models on the conversion basis, windows of 24 hours and longer. ", "Pour les modèles principaux, à la date de conversion, à partir de 24 heures. ") + undefined,
        keys | {"campaign": say("Campaign", "Campagne")}, *_columns("campaign", say), sort=revenue,
    )  # fmt: skip


def _platforms(sheet: Sheet, say: Say) -> None:
    sheet.row(say("What networks say of themselves", "Ce que les réseaux disent d’eux-mêmes"))
    keys = {"channel": say("Channel", "Canal"), "network": say("Network", "Réseau")}
    claims, value = (leader(f"channel_platform_{name}", WINDOW) for name in ("conversions", "value"))
    more, worth = (leader(f"channel_platform_{name}_difference", WINDOW) for name in ("conversions", "value"))
    claimed = say("Conversions claimed", "Conv. revendiquées")
    sheet.table(
        say("Platform claims beside ours", "Revendications des plateformes et les nôtres"),
        say("What each network claims of purchases, what the first headline model credits it with on the conversion basis, and the difference. For windows of 24 hours to 30 days.", "Ce que chaque réseau revendique comme achats, ce que le premier modèle lui crédite à la date de conversion, et l’écart. Pour les périodes de 24 heures à 30 jours."),
        keys, Query(claims, claimed, COUNT), Query(f"{claims} - {more}", "Parcours", CREDIT), Query(more, say("Difference", "Écart"), CREDIT),
        Query(value, say("Value claimed", "Valeur revendiquée"), MONEY), Query(f"{value} - {worth}", say("Parcours, value", "Parcours, valeur"), MONEY),
        Query(worth, say("Difference of value", "Écart de valeur"), MONEY), size=(24, 8), sort=claimed,
    )  # fmt: skip
    followers = say("Followers", "Abonnés")
    sheet.table(
        say("Audience and traffic by network", "Audience et trafic par réseau"),
        say("Followers, reach and video views are the networks'. Clicks and impressions are the networks' where they report them, beside those counted here and the clicks that filters removed. For windows of 24 hours to 30 days.", "Abonnés, portée et vues de vidéos : selon les réseaux. Clics et impressions : selon les réseaux s’ils les rapportent, à côté de ceux comptés ici et des clics filtrés. Pour les périodes de 24 heures à 30 jours."),
        keys, Query(leader("channel_followers", WINDOW), followers, COUNT), Query(leader("channel_follower_growth", WINDOW), say("Growth", "Croissance"), COUNT),
        Query(leader("channel_platform_reach", WINDOW), say("Reach reported", "Portée rapportée"), COUNT), Query(leader("channel_video_views", WINDOW), say("Video views", "Vues de vidéos"), COUNT),
        Query(leader("channel_clicks", WINDOW), say("Clicks", "Clics"), COUNT), Query(leader("channel_counted_clicks", WINDOW), say("Clicks counted", "Clics comptés"), COUNT),
        Query(leader("channel_filtered_clicks", WINDOW), say("Clicks filtered", "Clics filtrés"), COUNT),
        Query(leader("channel_impressions", WINDOW), "Impressions", COUNT), Query(leader("channel_counted_impressions", WINDOW), say("Impr. counted", "Impr. comptées"), COUNT),
        size=(24, 8), sort=followers,
    )  # fmt: skip


def _models(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Models side by side, and CPA", "Modèles côte à côte, et CPA"))
    side = ATTRIBUTED.replace('model="$model",', "")
    credited = leader("channel_attributed_conversions", f"{ATTRIBUTED},{SOMEBODY}")
    rest = leader("channel_attributed_conversions", f"{ATTRIBUTED},{NOBODY}")
    revenue = leader("channel_attributed_revenue", f'{side},{SOMEBODY},network!="(none)"')
    sheet.lines(
        say("Conversions by network", "Conversions par réseau"),
        say("Credited to each network, as known at each moment; with (unattributed) they are all conversions.", "Créditées à chaque réseau, telles que connues à chaque instant ; avec (unattributed), toutes les conversions."),
        CREDIT, Query(f"sum by (network) ({credited})", "{{network}}"), Query(f"sum by (channel) ({rest})", "{{channel}}"), stacked=True,
    )  # fmt: skip
    sheet.matrix(
        say("Revenue by network under each model", "Chiffre d’affaires par réseau selon chaque modèle"),
        say("How far the choice of a model moves credit between networks.", "Combien le choix du modèle déplace le crédit entre réseaux."), MONEY,
        ("network", say("Network", "Réseau")), "model", Query(f"sum by (network, model) ({revenue})", say("Revenue", "Chiffre d’affaires")),
    )  # fmt: skip
    sheet.lines(
        say("CPA by network", "CPA par réseau"),
        say("Media cost / conversions credited over the window ending at each moment, as known then. Dashed: the configured benchmarks. A gap is undefined.", "Coût média / conversions créditées sur la période finissant à chaque instant. Tirets : les références configurées. Un vide est indéfini."),
        PRICE, Query(leader("channel_cpa", ATTRIBUTED), "{{network}} · {{channel}} ({{currency}})"),
        Query(leader("benchmark", 'metric="cpa"'), "{{benchmark}} {{network}}", dashed=True),
    )  # fmt: skip
    sheet.lines(
        say("ROI on revenue by network", "ROI sur CA par réseau"),
        say("(Revenue credited − cost) / cost over the window ending at each moment, as known then. A gap is undefined.", "(Chiffre d’affaires crédité − coût) / coût sur la période finissant à chaque instant. Un vide est indéfini."),
        ROI, Query(leader("channel_roi_on_revenue_ratio", ATTRIBUTED), "{{network}} · {{channel}}"),
    )  # fmt: skip


def _targets(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Alerts and goals", "Alertes et objectifs"))
    keys = {
        "rule": say("Rule", "Règle"), "channel": say("Channel", "Canal"), "network": say("Network", "Réseau"), "campaign": say("Campaign", "Campagne"),
    }  # fmt: skip
    sheet.table(
        say("Alerts against thresholds", "Alertes et seuils"),
        say("Each rule where it applies. Of a cost per conversion, the bound is what the true value is above with 95 % confidence: the alert fires when it is above the threshold.", "Chaque règle là où elle s’applique. Pour un coût par conversion, la borne est la valeur dépassée avec 95 % de confiance : l’alerte part quand elle dépasse le seuil."),
        keys, Query(f"max by ({ALERT}) ({leader('alert_active')})", say("Fires", "Active"), BAD),
        Query(f"max by ({ALERT}) ({leader('alert_value')})", say("Value", "Valeur"), FIGURE),
        Query(f"max by ({ALERT}) ({leader('alert_bound')})", say("Bound", "Borne"), FIGURE),
        Query(f"max by ({ALERT}) ({leader('alert_threshold')})", say("Threshold", "Seuil"), FIGURE),
        Query(f"max by ({ALERT}) ({leader('alert_unknown')})", say("Undecided", "Indécise"), UNSURE), size=(20, 6), sort=say("Fires", "Active"),
    )  # fmt: skip
    sheet.stat(
        say("Rules evaluated", "Règles évaluées"), say("How long ago the alert rules were last evaluated.", "Depuis quand les règles ont été évaluées."), AGE,
        Query(f"time() - max({leader('alerts_evaluated_timestamp_seconds')})", say("Ago", "Il y a")), size=(4, 6),
    )  # fmt: skip
    sheet.gauges(
        say("Goals: the way made, and expected by now", "Objectifs : chemin fait, et attendu à ce jour"),
        say("Shares of the way to the target; 100 % is reached.", "Parts du chemin vers la cible ; 100 % est atteint."), SHARE,
        Query(leader("goal_progress_ratio"), "{{goal}}"), Query(leader("goal_expected_ratio"), say("{{goal}}, expected", "{{goal}}, attendu")),
    )  # fmt: skip
    sheet.table(
        say("Goals in figures", "Objectifs en chiffres"), say("The metric now, its target, where it is heading, and whether it is where it should be.", "La mesure, sa cible, où elle va, et si elle est dans les temps."),
        {"goal": say("Goal", "Objectif")}, Query(leader("goal_value"), say("Now", "Maintenant"), FIGURE), Query(leader("goal_target"), say("Target", "Cible"), FIGURE),
        Query(leader("goal_projected"), say("Heading for", "Projection"), FIGURE), Query(leader("goal_on_track"), say("On track", "Dans les temps"), GOOD), size=(12, 8),
    )  # fmt: skip
