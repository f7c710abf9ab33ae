"""The sentences of a journey, in English and in French."""

from __future__ import annotations

from attribution.nodes.state import JourneyEvent
from models.wire import kind_and_sentiment

LANGUAGES = ("en", "fr")
_UNITS = {
    "en": (("day", "days"), ("hour", "hours"), ("minute", "minutes"), ("second", "seconds")),
    "fr": (("jour", "jours"), ("heure", "heures"), ("minute", "minutes"), ("seconde", "secondes")),
}
_KINDS = {
    "click": "le clic", "visit": "la visite", "impression": "l’impression", "view": "la vue",
    "email_open": "l’ouverture d’e-mail",
}  # fmt: skip
_TEXTS: dict[str, tuple[str, str]] = {
    # Why nothing is credited
    "no_touch_known": (
        "no touch of this person is known before it",
        "aucun contact de cette personne n’est connu avant",
    ),
    "touches_trimmed": (
        "the touches that could have earned it were cut from a journey grown too long",
        "les contacts qui auraient pu être crédités ont été retirés d’un parcours trop long",
    ),
    "no_consent": ("the touches before it came without consent", "les contacts d’avant sont sans consentement"),
    "filtered": (
        "the touches before it were filtered out or excluded",
        "les contacts d’avant ont été filtrés ou exclus",
    ),
    "outside_window": (
        "every touch before it is older than its lookback window",
        "tous les contacts d’avant sont plus anciens que leur fenêtre",
    ),
    "unattributed": (
        "{subject} is (unattributed): {reason}{passed}.",
        "{subject} est (unattributed) : {reason}{passed}.",
    ),
    "gone": (
        "{subject} counts no more ({gone}), so no touch is credited.",
        "{subject} ne compte plus ({gone}) : aucun contact n’est crédité.",
    ),
    "cancelled": ("cancelled", "annulation"),
    "refunded": ("refunded", "remboursement"),
    # Who is credited
    "first_touch": ("it is the first of {n} eligible touches", "c’est le premier de {n} contacts éligibles"),
    "last_touch": ("it is the last of {n} eligible touches", "c’est le dernier de {n} contacts éligibles"),
    "last_non_direct": (
        "it is the last eligible touch that is not direct",
        "c’est le dernier contact éligible qui n’est pas direct",
    ),
    "only": ("it is the only eligible touch", "c’est le seul contact éligible"),
    "before": ("{age} before", "{age} avant"),
    "same_time": ("at the same time", "au même moment"),
    "credits": (
        "{model} credits {name} for {subject} because {why}, {age}{passed}.",
        "{model} crédite {name} pour {subject} : {why}, {age}{passed}.",
    ),
    "shares": (
        "{model} shares {subject} among {n} touches ({split}){passed}.",
        "{model} partage {subject} entre {n} contacts ({split}){passed}.",
    ),
    # What was passed over
    "older": ("{whose} was {age} old and its window is {window}", "{whose} avait {age} et sa fenêtre est de {window}"),
    "fast": ("{whose} is filtered by {name}: it was {age} old", "{whose} est filtré par {name} : {age} avant"),
    "direct": ("the direct visit {age} before is excluded", "la visite directe {age} avant est exclue"),
    "view": ("{whose} earns nothing beside a click", "{whose} ne rapporte rien à côté d’un clic"),
    "previous": ("{whose} came before the previous conversion", "{whose} précède la conversion précédente"),
    "not_then": (
        "{whose} was not eligible when the credit was filed",
        "{whose} n’était pas éligible quand le crédit a été établi",
    ),
    # Why it was restated
    "restated:touch": ("{whose} came after the credit was filed", "{whose} est arrivé après l’établissement du crédit"),
    "restated:given": (
        "{whose} came with a device that turned out to be this customer's",
        "{whose} est venu avec un appareil qui s’est révélé être celui de ce client",
    ),
    "restated:taken_back": (
        "a touch went to another person with its device",
        "un contact est passé à une autre personne avec son appareil",
    ),
    "restated:order": ("the order changed: net {was} → {net}", "la commande a changé : net {was} → {net}"),
    "restated:again": ("the order was reported again", "la commande a été signalée de nouveau"),
    "restated:stage": ("a stage event came", "un événement d’étape est arrivé"),
    "restated:link": ("logins changed whose its touches are", "des connexions ont changé à qui sont ses contacts"),
    "restated:other": ("something before it changed", "quelque chose d’avant a changé"),
    "gone_touch": ("a touch that is no longer in the journey", "un contact qui n’est plus dans le parcours"),
}


def text(language: str, name: str, /, **fields: object) -> str:
    """The phrase of this name, filled in."""
    return _TEXTS[name][LANGUAGES.index(language)].format(**fields)


def known(name: str) -> bool:
    """Whether there is a phrase of this name."""
    return name in _TEXTS


def span(language: str, microseconds: int) -> str:
    """A span of time: `3 days`, `2,4 jours`."""
    *units, (second, seconds) = _UNITS[language]
    for size, (one, many) in zip((86_400, 3_600, 60), units, strict=True):
        count = microseconds / 1e6 / size
        if count >= 1:
            number = f"{count:.1f}".removesuffix(".0") if count < 10 else f"{count:.0f}"
            plural = count >= 2 if language == "fr" else number != "1"
            return f"{number.replace('.', ',') if language == 'fr' else number} {many if plural else one}"
    whole = microseconds // 1_000_000
    return f"{whole} {second if whole == 1 else seconds}"


def subject(language: str, kind: str, name: str) -> str:
    """A conversion: `purchase 7`, `l’achat 7`."""
    if language == "fr":
        return f"l’achat {name}" if kind == "purchase" else f"« {kind} » {name}"
    return f"{kind} {name}"


def whose(language: str, touch: JourneyEvent) -> str:
    """A touch by its source: `google's click`, `le clic de google`."""
    channel, network, _ = touch.dims
    name, kind = channel if network == "(none)" else network, kind_and_sentiment(touch.kind)[0]
    if language == "fr":
        return f"{_KINDS.get(kind, f'l’événement « {kind} »')} de {name}"
    return f"{name}'s {kind}"
