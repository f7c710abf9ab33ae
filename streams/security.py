"""Passwords and certificates: from settings to the options of the clients of Kafka and Redis.

Nothing here puts a secret into a message: errors name the variable, never its value.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from models.errors import ConfigError
from models.settings import Infrastructure

_PREFIX = "PARCOURS_"


def kafka_options(infra: Infrastructure) -> dict[str, Any]:
    """The arguments by which every aiokafka client logs in. Raises ConfigError naming the variable.

    Empty for a plain connection. `ssl_context` verifies the broker's certificate and name, against the authorities of
    `kafka_ca_file` or else those of the system.
    """
    if "@" in infra.kafka_url:
        # It would be taken for a part of the host's name, and written into every log.
        raise ConfigError(
            "PARCOURS_KAFKA_URL: it holds a login; give that as PARCOURS_KAFKA_SASL_USERNAME and _PASSWORD"
        )
    protocol = infra.kafka_security_protocol
    tls, sasl = protocol in ("SSL", "SASL_SSL"), protocol.startswith("SASL_")
    _only("kafka_security_protocol", f"{protocol} uses no certificates; set SSL or SASL_SSL", tls, infra, _KAFKA_FILES)
    _only(
        "kafka_security_protocol",
        f"{protocol} has no login; set SASL_SSL or SASL_PLAINTEXT",
        sasl,
        infra,
        ("kafka_sasl_username", "kafka_sasl_password"),
    )
    options: dict[str, Any] = {} if protocol == "PLAINTEXT" else {"security_protocol": protocol}
    if tls:
        options["ssl_context"] = _context(infra, *_KAFKA_FILES)
    if sasl:
        if not infra.kafka_sasl_username:
            raise ConfigError(f"{_variable('kafka_sasl_username')}: {protocol} needs it")
        if infra.kafka_sasl_password is None:
            raise ConfigError(f"{_variable('kafka_sasl_password')}: {protocol} needs it")
        options |= {
            "sasl_mechanism": infra.kafka_sasl_mechanism,
            "sasl_plain_username": infra.kafka_sasl_username,
            "sasl_plain_password": infra.kafka_sasl_password.get_secret_value(),
        }
    return options


def faust_credentials(infra: Infrastructure) -> Any:
    """The same as Faust's `broker_credentials`; None for a plain connection. Raises ConfigError."""
    from faust.auth import SASLCredentials, SSLCredentials

    options = kafka_options(infra)
    if not options:
        return None
    context = options.get("ssl_context")
    if "sasl_mechanism" not in options:
        return SSLCredentials(context)
    return SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        mechanism=options["sasl_mechanism"],
        ssl_context=context,
    )


def redis_options(infra: Infrastructure) -> dict[str, Any]:
    """The keyword arguments of `streams.tables.connect` beside the URL. Raises ConfigError naming the variable.

    A password in the URL wins over `redis_password`.
    """
    tls = urlsplit(infra.redis_url).scheme.startswith("rediss")
    _only("redis_url", "it is not rediss://, so there are no certificates", tls, infra, _REDIS_FILES)
    options: dict[str, Any] = {}
    if infra.redis_cluster:
        options["cluster"] = True
    if infra.redis_password is not None:
        options["password"] = infra.redis_password.get_secret_value()
    if tls:
        _context(infra, *_REDIS_FILES)  # what is wrong with the files is said now, and by name
        names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
        for name, setting in zip(names, _REDIS_FILES, strict=True):
            file: Path | None = getattr(infra, setting)
            if file is not None:
                options[name] = str(file)
    return options


_KAFKA_FILES = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")
_REDIS_FILES = ("redis_ca_file", "redis_cert_file", "redis_key_file")


def _variable(setting: str) -> str:
    return _PREFIX + setting.upper()


def _only(cause: str, why: str, used: bool, infra: Infrastructure, settings: tuple[str, ...]) -> None:
    """Raises ConfigError for a setting that would be ignored: a login or certificate believed to be in force and not."""
    for setting in settings:
        if not used and getattr(infra, setting) is not None:
            raise ConfigError(f"{_variable(setting)} is given, but {_variable(cause)}: {why}")


def _context(infra: Infrastructure, ca: str, cert: str, key: str) -> ssl.SSLContext:
    """A context that verifies the server, with the client's certificate if there is one."""
    files = {setting: getattr(infra, setting) for setting in (ca, cert, key)}
    for setting, file in files.items():
        if file is not None and not file.is_file():
            raise ConfigError(f"{_variable(setting)}: no such file: {file}")
    if files[key] is not None and files[cert] is None:
        raise ConfigError(f"{_variable(key)} is given without {_variable(cert)}")
    try:
        context = ssl.create_default_context(cafile=files[ca])
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{_variable(ca)}: {files[ca]} holds no certificates ({error})") from None
    if files[cert] is not None:
        try:
            # An encrypted key must fail, not ask at the terminal.
            context.load_cert_chain(files[cert], files[key], password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            names = " and ".join(_variable(setting) for setting in (cert, key) if files[setting] is not None)
            raise ConfigError(f"{names}: not a certificate with its key, unencrypted ({error})") from None
    return context
