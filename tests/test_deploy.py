"""The files for a public server: what they name exists, and a real Caddy runs with ours."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from app import observing
from app.settings import Settings

ROOT = Path(__file__).parent.parent
SETTING = re.compile(r"SAEFARI_[A-Z_]+")
CADDY = shutil.which("caddy")
needs_caddy = pytest.mark.skipif(CADDY is None, reason="caddy is not installed (apt-get install caddy)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def settings() -> set[str]:
    return {f"SAEFARI_{name.upper()}" for name in Settings.model_fields}


@cache
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(text_of("compose.yaml"))
    return read


def unit() -> configparser.ConfigParser:
    [found] = re.findall(r"^```ini\n(.*?)^```", text_of("docs/deploy.md"), re.MULTILINE | re.DOTALL)
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(found)
    return parsed


@pytest.mark.parametrize(
    "name", ["Dockerfile", "compose.yaml", "Caddyfile", "README.md", "docs/security.md", "docs/deploy.md"]
)
def test_settings_that_are_named_exist(name: str) -> None:
    assert set(SETTING.findall(text_of(name))) <= settings()


def test_all_that_the_wheel_is_built_from_goes_to_the_builder_of_the_image() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    packed = {f"{name}/" for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]}
    named = {project["project"]["readme"], *project["project"]["license-files"]}
    sent = {line.removeprefix("!") for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    assert sent == packed | named | {"pyproject.toml", "constraints.txt"}


def test_every_setting_is_described() -> None:
    described = {
        name for page in (ROOT / "docs").glob("*.md") for name in SETTING.findall(page.read_text("utf-8"))
    }
    assert settings() - described == set()


def test_every_number_is_in_the_table_and_no_other() -> None:
    described = re.findall(r"^\| `(saefari_\w+)` \|", text_of("docs/deploy.md"), re.MULTILINE)
    shown = {
        family.name
        for value in vars(observing).values()
        if isinstance(value, prometheus_client.metrics.MetricWrapperBase)
        for family in value.describe()
    }
    assert shown == set(described)
    assert len(shown) > 3


def test_values_of_the_container_s_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {
        **compose()["services"]["app"]["environment"],
        "SAEFARI_PUBLIC_URL": "https://explorer.example.org",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    assert Settings().workers == 2
    [front] = compose()["networks"]["front"]["ipam"]["config"]
    assert Settings().trusted_proxies == (front["subnet"],)


def test_the_app_s_container_has_no_rights_and_no_place_to_write() -> None:
    for name in ("app", "tables"):
        service = compose()["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in service
    assert compose()["networks"]["back"] == {"internal": True}
    assert set(compose()["services"]["db"]["networks"]) == {"back"}


def test_what_services_mention_is_declared() -> None:
    top = compose()
    for service in top["services"].values():
        named = (
            {volume.split(":")[0] for volume in service["volumes"] if volume[0] not in "./"}
            if "volumes" in service
            else set()
        )
        assert named <= top["volumes"].keys()
        assert set(service.get("networks", ())) <= top["networks"].keys()
        assert set(service.get("depends_on", ())) <= top["services"].keys()


def test_the_image_runs_as_nobody_in_particular_and_asks_ready() -> None:
    last = text_of("Dockerfile").rpartition("\nFROM ")[2]
    assert re.search(r"^USER saefari$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n.*127\.0\.0\.1:8000/ready", last, re.MULTILINE)
    assert "pip" not in last.partition("ENTRYPOINT")[0]  # tools for building stay behind


def test_no_index_is_named() -> None:
    for name in ("Dockerfile", "compose.yaml"):
        given = re.findall(r"PIP_EXTRA_INDEX_URL(?:=|: )(.*)", text_of(name))
        assert set(given) <= {"", "${PIP_EXTRA_INDEX_URL:-}"}
        assert given


def test_the_unit_starts_what_exists_without_rights() -> None:
    service = unit()["Service"]
    assert service["ExecStart"].split()[:2] == ["/opt/saefari/bin/saefari", "serve"]
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""


def test_every_defence_has_its_test() -> None:
    named = set(re.findall(r"`((?:test)?_\w+)`", text_of("docs/security.md")))
    written = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= written
    assert len(named) > 15


@needs_caddy
@pytest.mark.parametrize("site", ["", "explorer.example.org", "http://127.0.0.1:8080"])
def test_the_caddyfile_is_valid(site: str) -> None:
    assert CADDY is not None
    command = [CADDY, "validate", "--adapter", "caddyfile", "--config", str(ROOT / "Caddyfile")]
    environment = {"SITE": site, "HOME": "/nonexistent"} if site else {"HOME": "/nonexistent"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
