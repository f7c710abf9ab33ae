// Every word of the page, in English and French. `{name}` is filled in.

import { lang } from "./settings.js";

const EN = {
  skip: "Skip to channels", live: "Live", connecting: "Connecting…", lost: "Connection lost",
  lost_notice: "The connection to the worker is lost. The figures below are those of {time}. Trying again in {seconds} s.",
  lost_notice_empty: "The worker does not answer. Trying again in {seconds} s.",
  asof: "How current the figures are", as_of: "As of", cost_through: "Cost known through", lag: "Lag",
  records: "{n} records", record: "1 record", cost_unknown: "no cost known", now: "now", unattributed_share: "Unattributed",
  unattributed_why: "conversions that no touch is credited for, by the first reason that holds",
  "reason.no_touch_known": "no touch is known before it", "reason.outside_window": "every touch is older than its window",
  "reason.filtered": "its touches were filtered or excluded", "reason.no_consent": "its touches came without consent",
  "reason.touches_trimmed": "its touches were cut from a journey grown too long",
  behind: "Cost is known least far for:", problems: "The worker says:",
  controls: "What is shown", window: "Window", basis: "Basis", model: "Model", conversion: "Conversion",
  "basis.conversion": "Conversion date", "basis.touch": "Touch date",
  "basis.conversion.help": "What came in during the window, over what was spent in it",
  "basis.touch.help": "What the window's touches have brought so far, over what they cost",
  "window.1h": "1 h", "window.24h": "24 h", "window.7d": "7 days", "window.30d": "30 days", "window.today": "Today",
  "window.yesterday": "Yesterday", "window.month_to_date": "This month", "window.last_month": "Last month", "window.365d": "365 days",
  "window.campaign_to_date": "Campaign to date", purchase: "purchase",
  kpis: "Key figures", attributed_conversions: "Conversions", attributed_revenue: "Revenue", cost: "Cost", cpa: "CPA",
  roas_ratio: "ROAS", roi_on_revenue_ratio: "ROI on revenue",
  "help.attributed_conversions": "Conversions credited; fractions are shares", "help.attributed_revenue": "Net revenue credited, after refunds",
  "help.cost": "All cost: media, agency, tools, work", "help.cpa": "Media cost / conversions credited",
  "help.roas_ratio": "Revenue credited / media cost", "help.roi_on_revenue_ratio": "(Revenue credited − cost) / cost",
  "vs.previous": "vs period before", "vs.week_earlier": "vs week earlier", "vs.364_days_earlier": "vs year earlier",
  immature: "Young figures: {percent} of their credit has arrived so far. CPA will fall.",
  trend: "Day by day", trend_note: "Each day as known now; today is not over", no_days: "Daily figures come with the first day of data.",
  channels: "Channels and networks", channels_note: "{model}, {window}. A dash is undefined or not yet known, which is not zero.",
  channel: "Channel", network: "Network", trend_column: "35 days", total: "Total", unattributed: "(unattributed)",
  details: "Details of {name}", campaigns: "Campaigns", campaign: "Campaign", no_campaigns: "No campaign is known here.",
  campaigns_elsewhere: "Campaigns are counted for 24 h, 7 days and 30 days, by when conversions came in.",
  filter: "Find a campaign", shown_of: "{n} of {of}", more: "Show more", by_model: "The same under each model",
  goals: "Goals", no_goals: "No goals are configured.", on_track: "on track", off_track: "behind", before: "not started",
  reached: "{percent} of the way", expected_now: "expected by now: {percent}",
  alerts: "Alerts", no_alerts: "No alert rules are configured.", quiet: "All quiet: nothing crosses its threshold.", firing: "firing",
  alert_value: "{value}, threshold {threshold}", unknown: "undecided",
  undecided: "Alerts on cost are undecided: {why}.", "problem.source_silent": "a source is silent", "problem.lag": "the worker is catching up",
  "problem.stale_costs": "costs of some networks are late", "problem.redis_away": "Redis is away", "problem.gap": "records are missing",
  goal_value: "{value} of {target}", firing_n: "{n} alerts are firing", firing_1: "1 alert is firing",
  everywhere: "everywhere",
  journey: "A person's journey", journey_note: "Shows personal data: needs the token in PARCOURS_WEB_TOKEN", person: "Person",
  person_hint: "c:42, a:device-7 or the id alone", token: "Token", restated_by: "Restated:", show: "Show", looking: "Looking…",
  touches_n: "Touch events: {n} · conversions: {m}", no_credit: "no credit", earned: "earned", late_more: "and {n} more",
  "status.attributed": "attributed", "status.restated": "restated", "status.withdrawn": "withdrawn", "status.unattributed": "unattributed",
  empty_title: "Nothing has arrived yet", empty: "The worker is ready. As soon as events reach its topics, figures appear here by themselves.",
  empty_try: "To try it, publish a file of events:", not_leader_title: "Another worker has the figures",
  not_leader: "Figures are computed by one worker of the group, the leader. Open its page instead; this one shows them if it becomes the leader.",
  theme_auto: "Theme: auto", theme_light: "Theme: light", theme_dark: "Theme: dark", foot: "The same figures are at {metrics} for Prometheus and Grafana.",
};

const FR = {
  skip: "Aller aux canaux", live: "En direct", connecting: "Connexion…", lost: "Connexion perdue",
  lost_notice: "La connexion au serveur est perdue. Les chiffres ci-dessous sont ceux de {time}. Nouvel essai dans {seconds} s.",
  lost_notice_empty: "Le serveur ne répond pas. Nouvel essai dans {seconds} s.",
  asof: "Fraîcheur des chiffres", as_of: "À jour à", cost_through: "Coûts connus jusqu’à", lag: "Retard",
  records: "{n} messages", record: "1 message", cost_unknown: "aucun coût connu", now: "maintenant", unattributed_share: "Non attribué",
  unattributed_why: "conversions qu’aucun contact ne crédite, selon la première raison qui vaut",
  "reason.no_touch_known": "aucun contact connu avant", "reason.outside_window": "contacts tous plus anciens que leur fenêtre",
  "reason.filtered": "contacts filtrés ou exclus", "reason.no_consent": "contacts sans consentement",
  "reason.touches_trimmed": "contacts retirés d’un parcours trop long",
  behind: "Coûts connus le moins loin pour :", problems: "Le serveur signale :",
  controls: "Ce qui est affiché", window: "Période", basis: "Base", model: "Modèle", conversion: "Conversion",
  "basis.conversion": "Date de conversion", "basis.touch": "Date du contact",
  "basis.conversion.help": "Ce qui est arrivé pendant la période, rapporté à ce qui y a été dépensé",
  "basis.touch.help": "Ce que les contacts de la période ont rapporté jusqu’ici, rapporté à leur coût",
  "window.1h": "1 h", "window.24h": "24 h", "window.7d": "7 jours", "window.30d": "30 jours", "window.today": "Aujourd’hui",
  "window.yesterday": "Hier", "window.month_to_date": "Ce mois-ci", "window.last_month": "Mois dernier", "window.365d": "365 jours",
  "window.campaign_to_date": "Depuis le début de la campagne", purchase: "achat",
  kpis: "Chiffres clés", attributed_conversions: "Conversions", attributed_revenue: "Chiffre d’affaires", cost: "Coût", cpa: "CPA",
  roas_ratio: "ROAS", roi_on_revenue_ratio: "ROI sur CA",
  "help.attributed_conversions": "Conversions créditées ; les fractions sont des parts", "help.attributed_revenue": "Chiffre d’affaires net crédité, après remboursements",
  "help.cost": "Tous les coûts : médias, agence, outils, travail", "help.cpa": "Coût média / conversions créditées",
  "help.roas_ratio": "Chiffre d’affaires crédité / coût média", "help.roi_on_revenue_ratio": "(Chiffre d’affaires crédité − coût) / coût",
  "vs.previous": "vs période préc.", "vs.week_earlier": "vs semaine préc.", "vs.364_days_earlier": "vs année préc.",
  immature: "Chiffres jeunes : {percent} de leur crédit est arrivé à ce jour. Le CPA va baisser.",
  trend: "Jour par jour", trend_note: "Chaque jour tel que connu maintenant ; aujourd’hui n’est pas terminé", no_days: "Les chiffres par jour arrivent avec le premier jour de données.",
  channels: "Canaux et réseaux", channels_note: "{model}, {window}. Un tiret veut dire indéfini ou pas encore connu, ce qui n’est pas zéro.",
  channel: "Canal", network: "Réseau", trend_column: "35 jours", total: "Total", unattributed: "(non attribué)",
  details: "Détails de {name}", campaigns: "Campagnes", campaign: "Campagne", no_campaigns: "Aucune campagne n’est connue ici.",
  campaigns_elsewhere: "Les campagnes sont comptées sur 24 h, 7 jours et 30 jours, à la date des conversions.",
  filter: "Chercher une campagne", shown_of: "{n} sur {of}", more: "En afficher plus", by_model: "Selon chaque modèle",
  goals: "Objectifs", no_goals: "Aucun objectif n’est configuré.", on_track: "dans les temps", off_track: "en retard", before: "pas commencé",
  reached: "{percent} du chemin", expected_now: "attendu à ce jour : {percent}",
  alerts: "Alertes", no_alerts: "Aucune règle d’alerte n’est configurée.", quiet: "Tout est calme : aucun seuil n’est franchi.", firing: "active",
  alert_value: "{value}, seuil {threshold}", unknown: "indécise",
  undecided: "Les alertes sur les coûts sont indécises : {why}.", "problem.source_silent": "une source est muette", "problem.lag": "le serveur rattrape son retard",
  "problem.stale_costs": "les coûts de certains réseaux tardent", "problem.redis_away": "Redis est absent", "problem.gap": "des messages manquent",
  goal_value: "{value} sur {target}", firing_n: "{n} alertes sont actives", firing_1: "1 alerte est active",
  everywhere: "partout",
  journey: "Le parcours d’une personne", journey_note: "Montre des données personnelles : demande le jeton PARCOURS_WEB_TOKEN", person: "Personne",
  person_hint: "c:42, a:device-7 ou l’identifiant seul", token: "Jeton", restated_by: "Révisé :", show: "Afficher", looking: "Recherche…",
  touches_n: "Contacts : {n} · conversions : {m}", no_credit: "sans crédit", earned: "crédité de", late_more: "et {n} autres",
  "status.attributed": "attribuée", "status.restated": "révisée", "status.withdrawn": "retirée", "status.unattributed": "non attribuée",
  empty_title: "Rien n’est encore arrivé", empty: "Le serveur est prêt. Dès que des événements arrivent dans ses topics, les chiffres apparaissent ici d’eux-mêmes.",
  empty_try: "Pour essayer, publiez un fichier d’événements :", not_leader_title: "Un autre serveur a les chiffres",
  not_leader: "Les chiffres sont calculés par un seul serveur du groupe, le meneur. Ouvrez plutôt sa page ; celle-ci les affichera s’il devient le meneur.",
  theme_auto: "Thème : auto", theme_light: "Thème : clair", theme_dark: "Thème : sombre", foot: "Les mêmes chiffres sont à {metrics} pour Prometheus et Grafana.",
};

export const MODELS = {
  en: {
    first_touch: "First touch", last_touch: "Last touch", last_non_direct: "Last non-direct", first_and_last: "First and last",
    linear: "Linear", time_decay: "Time decay", position_based: "Position-based", w_shaped: "W-shaped", full_path: "Full path",
    markov: "Markov", shapley: "Shapley",
  },
  fr: {
    first_touch: "Premier contact", last_touch: "Dernier contact", last_non_direct: "Dernier non direct", first_and_last: "Premier et dernier",
    linear: "Linéaire", time_decay: "Dépréciation", position_based: "Basé sur la position", w_shaped: "En W", full_path: "Parcours complet",
    markov: "Markov", shapley: "Shapley",
  },
};

export const WORDS = { en: EN, fr: FR };

/** A word in the reader's language; the key itself when there is none. */
export function t(key, values = {}) {
  const found = WORDS[lang][key] ?? key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

export const known = (key) => key in WORDS[lang];
