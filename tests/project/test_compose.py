"""docker-compose.yml, the Dockerfile and parcours.example.toml: what can be held against them without Docker."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import msgspec
import pytest
import yaml

from models.settings import Infrastructure, Marketing, load_marketing

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"topics"}
BUILT = "parcours:local"
# A tag with all its version numbers: `latest`, `7` or no tag at all would change under us.
PINNED = re.compile(r"^[\w./-]+:v?\d+\.\d+\.\d+(-[\w.-]+)?$")


def validator() -> jsonschema.Draft7Validator:
    # The schema names draft 7 by an address of its own, so the draft is chosen here.
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text("utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def dockerfile() -> list[list[str]]:
    """The instructions: words, continued lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.split() for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()]


def named_volumes(service: dict[str, Any]) -> list[str]:
    return [source for source, _ in mounts(service) if not source.startswith(".")]


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    return [tuple(volume.split(":")[:2]) for volume in service.get("volumes", [])]


def test_the_file_follows_the_compose_specification() -> None:
    assert [error.message for error in validator().iter_errors(COMPOSE)] == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [(("ports",), 6066), (("healthchek",), {}), (("depends_on", "kafka", "condition"), "healthy"), (("image",), 1)],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[str, ...], wrong: object) -> None:
    broken = json.loads(json.dumps(COMPOSE))
    place = broken["services"]["worker"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    assert not validator().is_valid(broken)


def test_all_services_are_there() -> None:
    assert {"kafka", "redis", "prometheus", "alertmanager", "grafana", "worker", "topics"} <= SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    service = SERVICES[name]
    image = service["image"]
    if "build" in service:
        assert image == BUILT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
    else:
        assert PINNED.match(image), image


@pytest.mark.parametrize(
    "image", ["redis", "redis:latest", "redis:7", "redis:7.4-alpine", "apache/kafka:latest", "grafana/grafana:main"]
)
def test_the_pin_refuses_moving_tags(image: str) -> None:
    assert not PINNED.match(image)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_that_stays_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})
        return
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_exist_and_wait_for_readiness(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES
        done = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how["condition"] == done, needed


def test_the_worker_waits_for_broker_redis_and_topics() -> None:
    assert SERVICES["worker"]["depends_on"].keys() == {"kafka", "redis", "topics"}
    assert SERVICES["topics"]["depends_on"].keys() == {"kafka"}


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port


def test_published_ports_differ() -> None:
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published)) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str) -> None:
    for source, target in mounts(SERVICES[name]):
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"], source


def test_each_named_volume_is_used_by_one_service() -> None:
    used = [volume for service in SERVICES.values() for volume in named_volumes(service)]
    assert sorted(used) == sorted(COMPOSE["volumes"])
    assert {"kafka", "redis", "prometheus", "alertmanager", "grafana"} <= set(used)


def test_kafka_loses_nothing_acknowledged_and_makes_no_topic_by_accident() -> None:
    kafka = SERVICES["kafka"]
    environment = kafka["environment"]
    assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert environment["KAFKA_LOG_DIRS"] in dict(map(reversed, mounts(kafka)))  # type: ignore[arg-type]


def test_kafka_advertises_each_listener_where_it_is_reached() -> None:
    kafka = SERVICES["kafka"]
    environment = kafka["environment"]
    advertised = dict(entry.split("://") for entry in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    protocols = dict(entry.split(":") for entry in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    listeners = dict(entry.split("://") for entry in environment["KAFKA_LISTENERS"].split(","))
    assert listeners.keys() == protocols.keys() == advertised.keys() | {environment["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert f"kafka://{advertised['INTERNAL']}" == SERVICES["worker"]["environment"]["PARCOURS_KAFKA_URL"]
    published = {":".join(port.split(":")[:2]): port.split(":")[2] for port in kafka["ports"]}
    assert f":{published[advertised['HOST']]}" == listeners["HOST"]


def test_redis_keeps_everything() -> None:
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }


def test_the_worker_finds_its_configuration() -> None:
    for name in ("worker", "topics"):
        service = SERVICES[name]
        environment = service["environment"]
        assert environment == {
            "PARCOURS_KAFKA_URL": "kafka://kafka:9092",
            "PARCOURS_REDIS_URL": "redis://redis:6379/0",
            "PARCOURS_CONFIG": "/etc/parcours/parcours.toml",
            "PARCOURS_WEB_HOST": "0.0.0.0",
            "PARCOURS_WEB_PORT": 6066,
            "PARCOURS_DASHBOARD_URL": "http://localhost:3000/d/parcours-overview",
        }
        assert ("./parcours.example.toml", environment["PARCOURS_CONFIG"]) in mounts(service)
        for variable in environment:
            assert variable.removeprefix("PARCOURS_").lower() in Infrastructure.model_fields, variable


def test_links_of_alerts_lead_to_a_dashboard_that_is_there() -> None:
    address = urlsplit(SERVICES["worker"]["environment"]["PARCOURS_DASHBOARD_URL"])
    published = {port.split(":")[1] for port in SERVICES["grafana"]["ports"]}
    uids = {json.loads(file.read_text("utf-8"))["uid"] for file in (ROOT / "grafana" / "dashboards").glob("*.json")}
    assert str(address.port) in published
    assert address.path.removeprefix("/d/") in uids


def test_prometheus_keeps_history_for_400_days() -> None:
    assert "--storage.tsdb.retention.time=400d" in SERVICES["prometheus"]["command"]


def test_the_image_runs_as_an_unprivileged_user() -> None:
    users = [words[1] for words in dockerfile() if words[0] == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    assert "user" not in SERVICES["worker"]


def test_the_image_is_pinned_and_checks_its_health() -> None:
    instructions = dockerfile()
    for words in instructions:
        if words[0] == "FROM":
            assert PINNED.match(words[1]), words
    last = max(index for index, words in enumerate(instructions) if words[0] == "FROM")
    checks = [words for words in instructions[last:] if words[0] == "HEALTHCHECK"]
    assert len(checks) == 1
    assert "/livez" in " ".join(checks[0])
    assert ["ENTRYPOINT", '["parcours"]'] in instructions[last:]


@pytest.mark.parametrize("where", ["image", "compose"])
def test_the_health_check_is_a_program_that_compiles(where: str) -> None:
    if where == "compose":
        command = SERVICES["worker"]["healthcheck"]["test"][1:]
    else:
        line = next(" ".join(words) for words in dockerfile() if words[0] == "HEALTHCHECK")
        command = json.loads(line[line.index("CMD") + 3 :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], where, "exec")


def test_the_image_copies_what_is_there() -> None:
    for words in dockerfile():
        if words[0] == "COPY" and not words[1].startswith("--"):
            for source in words[1:-1]:
                assert (ROOT / source).exists(), source


# parcours.example.toml

EXAMPLE = ROOT / "parcours.example.toml"


def uncommented() -> str:
    """The file with its examples (`#key`, no space) in force, and the defaults that they replace left out."""
    lines = EXAMPLE.read_text("utf-8").splitlines()
    keys = {line[1:].split(" = ")[0] for line in lines if re.match(r"#\w+ = ", line)}
    active = [line for line in lines if not re.match(r"\w+ = \[\]$", line) or line.split(" = ")[0] not in keys]
    return "\n".join(line[1:] if re.match(r'#[\w"\[]', line) else line for line in active)


def test_the_example_is_the_defaults() -> None:
    assert load_marketing(EXAMPLE) == Marketing()


def test_the_examples_in_it_are_accepted_and_mean_something(tmp_path: Path) -> None:
    file = tmp_path / "parcours.toml"
    file.write_text(uncommented(), "utf-8")
    found, default = load_marketing(file), Marketing()
    changed = {name for name in Marketing.__struct_fields__ if getattr(found, name) != getattr(default, name)}
    assert changed == {
        "alerts",
        "benchmarks",
        "campaign_aliases",
        "claim_history",
        "conversions",
        "ecb_rates_since",
        "filters",
        "goals",
        "history_since",
        "lookback",
        "margin_rate",
        "own_domains",
        "payment_domains",
        "rates",
        "rates_file",
        "spread",
    }
    assert len(found.lookback.rules) == len(found.rates) == 2


def keys_of(struct: type[msgspec.Struct]) -> set[str]:
    """Every key the file may hold under `struct`, as it is spelt in TOML, at any depth."""
    keys: set[str] = set()
    for item in msgspec.structs.fields(struct):
        keys.add(item.encode_name)
        for inner in re.findall(r"models\.settings\.(\w+)", str(item.type)):
            keys |= keys_of(getattr(__import__("models.settings", fromlist=[inner]), inner))
    return keys


def test_every_key_is_shown() -> None:
    text = EXAMPLE.read_text("utf-8")
    keys = keys_of(Marketing)
    assert {"reporting_currency", "window", "class", "journey-events", "rate", "value"} <= keys
    shown = set(re.findall(r"^#?\[*(?:\w+\.)?([\w-]+)(?: = |\])", text, re.MULTILINE)) | set(
        re.findall(r"\{ (\w+) = ", text)
    )
    assert keys - shown == set()


def test_every_key_at_the_top_is_explained() -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines()
    for name in Marketing.__struct_fields__:
        first = next(index for index, line in enumerate(lines) if re.match(rf"#?(\[*{name}[\].]|{name} = )", line))
        assert re.match(r'# [\w"]', lines[first - 1]), name


def test_no_word_of_the_command_needs_a_shell() -> None:
    for name in ("worker", "topics"):
        assert shlex.join(SERVICES[name]["command"]) == " ".join(SERVICES[name]["command"])
