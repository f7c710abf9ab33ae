"""Whether events flow and state is sound: rate, errors, duration, lag, watermarks, restatements, Redis, leader."""

from __future__ import annotations

from grafana.performance import NEW_CONFIGURATION
from grafana.sheet import (
    AGE,
    ALARM,
    COUNT,
    FLAG,
    RATE,
    SECONDS,
    Query,
    Say,
    Sheet,
    colours,
    leader,
)

UID = "parcours-pipeline"
SPAN = "$__rate_interval"


def quantile(q: float, histogram: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[{SPAN}])))"


def build(say: Say, lang: str) -> Sheet:
    sheet = Sheet(
        say, lang, UID, say("Parcours: pipeline and state", "Parcours : chaîne et état"),
        say("Whether events flow, how long they take, and whether the state is sound. For those who run it.", "Si les événements passent, en combien de temps, et si l’état est sain. Pour l’exploitation."), refresh="15s",
    )  # fmt: skip
    sheet.annotate(
        say("Configuration changes", "Changements de configuration"),
        "{{number}} ({{hash}})",
        NEW_CONFIGURATION,
        "orange",
    )
    sheet.annotate(
        say("Leader changes", "Changements de meneur"),
        "{{instance}}",
        "changes(parcours_leader_epoch[1m]) > 0",
        "purple",
    )
    _now(sheet, say)
    _flow(sheet, say)
    _state(sheet, say)
    return sheet


def _now(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Now", "Maintenant"))
    late = colours((None, "green"), (1, "orange"), (10, "red"))
    behind = colours((None, "green"), (1_000, "orange"), (100_000, "red"))
    sheet.stat(
        say("Workers", "Serveurs"),
        say("Workers that serve.", "Serveurs en service."),
        COUNT,
        Query("sum(parcours_up)", say("Workers", "Serveurs")),
        size=(3, 5),
        steps=colours((None, "red"), (1, "green")),
    )
    sheet.stat(
        say("Events", "Événements"),
        say("Events read per second.", "Événements lus par seconde."),
        RATE,
        Query(f"sum(rate(parcours_events_total[{SPAN}]))", say("Events/s", "Événements/s")),
        graph=True,
        size=(4, 5),
    )
    sheet.stat(
        say("Lag", "Retard"),
        say("Records not yet applied.", "Messages pas encore traités."),
        COUNT,
        Query("sum(max by (topic, partition) (parcours_lag_records))", say("Records", "Messages")),
        graph=True,
        size=(4, 5),
        steps=behind,
    )
    sheet.stat(
        say("Latency, p99", "Latence, p99"),
        say(
            "From Kafka's timestamp to the commit: 99 % of events stay under it.",
            "Du message Kafka à l’enregistrement : 99 % des événements restent dessous.",
        ),
        SECONDS,
        Query(quantile(0.99, "parcours_latency_seconds"), "p99"),
        graph=True,
        size=(4, 5),
        steps=late,
    )
    sheet.stat(
        say("Dead letters", "Rebuts"),
        say("Events refused over the visible range.", "Événements refusés sur l’intervalle visible."),
        COUNT,
        Query("sum(increase(parcours_dead_letters_total[$__range]))", say("Refused", "Refusés")),
        size=(3, 5),
        steps=ALARM,
    )
    sheet.stat(
        say("Gaps", "Trous"),
        say(
            "Partitions that lack the records they must read next. Each needs a person.",
            "Partitions à qui manquent les prochains messages. Chacune demande une intervention.",
        ),
        COUNT,
        Query("sum(parcours_gap) or vector(0)", say("Gaps", "Trous")),
        size=(3, 5),
        steps=ALARM,
    )
    sheet.stat(
        say("Configurations", "Configurations"),
        say(
            "Different configurations among workers; more than one is a rollout or a mistake.",
            "Configurations différentes entre serveurs ; plus d’une est un déploiement ou une erreur.",
        ),
        COUNT,
        Query("count(count by (hash) (parcours_config_info))", say("Different", "Différentes")),
        size=(3, 5),
        steps=colours((None, "green"), (2, "orange")),
    )


def _flow(sheet: Sheet, say: Say) -> None:
    sheet.row(say("Rate, errors, duration", "Débit, erreurs, durée"))
    sheet.lines(
        say("Events by topic", "Événements par topic"),
        say("Read per second, over all workers.", "Lus par seconde, tous serveurs confondus."),
        RATE,
        Query(f"sum by (topic) (rate(parcours_events_total[{SPAN}]))", "{{topic}}"),
        stacked=True,
    )
    sheet.lines(
        say("Refused events by reason", "Événements refusés par raison"),
        say(
            "Written to the dead letters per second, by topic and reason. What each reason means: docs/errors.md.",
            "Mis au rebut par seconde, par topic et raison. Le sens de chaque raison : docs/errors.md.",
        ),
        RATE,
        Query(f"sum by (topic, reason) (rate(parcours_dead_letters_total[{SPAN}]))", "{{topic}} · {{reason}}"),
    )
    sheet.lines(
        say("Latency", "Latence"),
        say("From Kafka's timestamp to the commit in Redis.", "Du message Kafka à l’enregistrement dans Redis."),
        SECONDS,
        *(
            Query(quantile(q, "parcours_latency_seconds"), name)
            for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
        ),
    )
    sheet.lines(
        say("Entries without effect by reason", "Entrées sans effet par raison"),
        say(
            "Not applied per second: refused, or known already (duplicate, redelivered).",
            "Non appliquées par seconde : refusées, ou déjà connues (doublon, nouvel envoi).",
        ),
        RATE,
        Query(f"sum by (reason) (rate(parcours_dropped_total[{SPAN}]))", "{{reason}}"),
    )
    sheet.lines(
        say("Lag by topic", "Retard par topic"),
        say("Records between the stored position and the end.", "Messages entre la position enregistrée et la fin."),
        COUNT,
        Query("sum by (topic) (max by (topic, partition) (parcours_lag_records))", "{{topic}}"),
    )
    sheet.lines(
        say("How far event time is behind", "Retard du temps des événements"),
        say(
            "Age of the watermark by partition, and of the last event by topic. A silent topic ages.",
            "Âge du watermark par partition, et du dernier événement par topic. Un topic muet vieillit.",
        ),
        AGE,
        Query(
            "time() - max by (partition) (parcours_watermark_timestamp_seconds)",
            say("watermark {{partition}}", "watermark {{partition}}"),
        ),
        Query("time() - max by (topic) (parcours_last_event_timestamp_seconds)", "{{topic}}", dashed=True),
    )


def _state(sheet: Sheet, say: Say) -> None:
    sheet.row(say("State, Redis and the leader", "État, Redis et meneur"))
    sheet.lines(
        say("Attributions published", "Attributions publiées"),
        say(
            "Per second by status; restated ones had other credits before.",
            "Par seconde et par statut ; les « restated » avaient d’autres crédits.",
        ),
        RATE,
        Query(f"sum by (status) (rate(parcours_attributions_total[{SPAN}]))", "{{status}}"),
        Query(f"sum(rate(parcours_restatements_total[{SPAN}]))", say("restatements", "révisions"), dashed=True),
    )
    sheet.lines(
        say("Commits to Redis", "Enregistrements dans Redis"),
        say("How long one commit takes.", "Durée d’un enregistrement."),
        SECONDS,
        *(Query(quantile(q, "parcours_commit_seconds"), name) for q, name in ((0.5, "p50"), (0.99, "p99"))),
    )
    sheet.lines(
        say("Applied by partition", "Appliqué par partition"),
        say(
            "Entries applied per second, each once. One far above the others is a hot key.",
            "Entrées appliquées par seconde, chacune une fois. Une très au-dessus est une clé chaude.",
        ),
        RATE,
        Query(f"sum by (partition) (rate(parcours_applied_total[{SPAN}]))", "{{partition}}"),
        stacked=True,
    )
    sheet.lines(
        say("Recoveries", "Reprises"), say("Over the visible range so far: partitions claimed, read again from their stored position, commits refused, calls repeated because Redis was away.", "Sur l’intervalle : partitions prises, relues depuis leur position, enregistrements refusés, appels répétés car Redis était absent."), COUNT,
        *(Query(f"sum(increase(parcours_{name}_total[$__range]))", title) for name, title in (("claims", say("claims", "prises")), ("rewinds", say("rewinds", "relectures")), ("fenced", say("fenced", "refus")), ("redis_retries", say("Redis retries", "essais Redis")))),
    )  # fmt: skip
    sheet.lines(
        say("Leader", "Meneur"),
        say(
            "1 for each worker that leads. Two lines at 1 overlap only while the leader moves; then the highest epoch counts.",
            "1 pour chaque travailleur qui mène. Deux lignes à 1 ne se chevauchent que pendant un changement ; la plus haute époque compte alors.",
        ),
        COUNT,
        Query("parcours_leader_epoch > bool 0", "{{instance}}"),
    )
    sheet.lines(
        say("Business series exported", "Séries métier exportées"),
        say(
            "The budget is 40 000: above it the smallest campaigns become (other).",
            "Le budget est de 40 000 : au-delà, les plus petites campagnes deviennent (other).",
        ),
        COUNT,
        Query(leader("series"), say("Series", "Séries")),
        Query(f"0 * {leader('series')} + 40000", "budget", dashed=True),
    )
    sheet.stat(
        say("Alerts undecided", "Alertes indécises"),
        say(
            "What keeps alerts on cost from being judged: 1 while it does.",
            "Ce qui empêche de juger les alertes de coût : 1 pendant ce temps.",
        ),
        FLAG,
        Query(leader("pipeline_problem"), "{{problem}}"),
        size=(12, 5),
        steps=ALARM,
    )
    sheet.stat(
        say("Alert notices", "Envois d’alertes"),
        say(
            "Notices by way and outcome over the visible range.",
            "Envois par voie et résultat sur l’intervalle visible.",
        ),
        COUNT,
        Query(
            "sum by (way, outcome) (increase(parcours_alert_notices_total[$__range]))",
            "{{way}} {{outcome}}",
        ),
        size=(12, 5),
    )
