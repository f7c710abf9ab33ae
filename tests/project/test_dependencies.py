"""What the project stands on: each dependency is explained, pinned by hash, and allowed where it is imported."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-lint.lock")
RUNTIME = PROJECT["project"]["dependencies"]
DEMO = PROJECT["project"]["optional-dependencies"]["demo"]
GROUPS = PROJECT["dependency-groups"]

# What the two inner packages may import beside the standard library and one another.
ALLOWED = {
    "models": {"models", "msgspec", "pydantic", "pydantic_settings"},
    "attribution": {"attribution", "iso4217", "models", "msgspec"},
}
# Parts of the standard library that bring in a clock, chance or the outside.
IMPURE = {"asyncio", "logging", "multiprocessing", "random", "secrets", "socket", "subprocess", "threading", "time"}


def name(requirement: str) -> str:
    """The normalised project name that a requirement starts with."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def locked(lock: str) -> dict[str, str]:
    """Project name to version, for each requirement of a lock."""
    found = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE)
    return dict(found)


def explained() -> dict[str, list[str]]:
    """The rows of docs/dependencies.md: project name to its other cells."""
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_every_dependency_is_explained_and_nothing_else() -> None:
    wanted = RUNTIME + DEMO + [requirement for group in GROUPS.values() for requirement in group]
    assert set(explained()) == {name(requirement) for requirement in wanted}


def test_explanations_are_whole_and_name_the_locked_version() -> None:
    versions = {**locked("requirements-lint.lock"), **locked("requirements-dev.lock")}
    for project, cells in explained().items():
        version, licence, reason = cells
        assert version == versions[project], f"{project}: docs/dependencies.md says {version}"
        assert licence
        assert reason


def test_what_draws_the_pictures_is_named_with_its_version() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    told = dict(re.findall(r"`([@/\w-]+)` (\d[\d.]*\d)", page.partition("## To take the pictures")[2]))
    assert told == json.loads((ROOT / "tests" / "pictures" / "package.json").read_text("utf-8"))["dependencies"]


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", RUNTIME + GROUPS["build"]),
        ("requirements-dev.lock", RUNTIME + DEMO + GROUPS["build"] + GROUPS["test"]),
        ("requirements-lint.lock", GROUPS["lint"]),
    ],
)
def test_lock_holds_what_is_declared(lock: str, wanted: list[str]) -> None:
    assert {name(requirement) for requirement in wanted} <= locked(lock).keys(), "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(lock)), "each entry is an exact version"
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index|--find-links", text)


def test_locks_agree() -> None:
    runtime, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert runtime.items() <= dev.items()


def test_the_build_uses_the_locked_setuptools_alone() -> None:
    assert PROJECT["build-system"]["requires"] == GROUPS["build"]
    assert GROUPS["build"] == [f"setuptools=={locked('requirements.lock')['setuptools']}"]


def imports(package: str) -> Iterator[tuple[str, str]]:
    """(where, top-level module) for every import in a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""] if not node.level else [package]
            else:
                continue
            for module in modules:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", module.split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_inner_packages_import_only_what_is_allowed(package: str) -> None:
    found = list(imports(package))
    assert found
    allowed = ALLOWED[package] | (sys.stdlib_module_names - IMPURE)
    assert [(where, module) for where, module in found if module not in allowed] == []
