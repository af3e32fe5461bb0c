"""The Compose file: valid by the specification, reachable from this machine only, consistent with the mounted files."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import jsonschema
import pytest
import yaml

from custodes.config.load import load_config
from servers import ROOT, SERVICES, missing, program

pytestmark = pytest.mark.services

FOLDER = ROOT / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SCHEMA = SERVICES / "debian/usr/lib/python3/dist-packages/compose/config/compose_spec.json"


def test_valid_by_the_specification() -> None:
    if not SCHEMA.is_file():
        missing("the schema of compose files")
    schema = json.loads(SCHEMA.read_text())
    # Newer specifications have a top-level name; Debian's version is older.
    schema["properties"]["name"] = {"type": "string"}
    jsonschema.Draft7Validator(schema).validate(COMPOSE)


def test_ports_are_bound_to_loopback() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_mounted_files_exist() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    assert {one["source"] for one in mounts if one["type"] == "volume"} == set(COMPOSE["volumes"])
    for mount in mounts:
        if mount["type"] == "bind":
            assert (FOLDER / mount["source"]).exists(), mount["source"]
            assert mount["read_only"]
    build = COMPOSE["services"]["custodes"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_the_configuration_uses_existing_services_and_writable_paths() -> None:
    config = load_config(FOLDER / "custodes.yaml")
    assert config.source.kafka is not None
    services = set(COMPOSE["services"])
    assert {server.partition(":")[0] for server in config.source.kafka.bootstrap_servers} <= services
    written = [config.state.folder, config.dead_letter.file]
    written += [one.folder for one in (config.history, config.evidence) if one is not None]
    assert len(written) == 4
    assert all(str(path).startswith("/var/lib/custodes/") for path in written)
    (topic,) = config.source.kafka.topics
    assert topic in COMPOSE["services"]["kafka"]["healthcheck"]["test"], "it is made before anybody reads it"


def test_prometheus_reads_its_configuration() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    asked = [
        target for job in prometheus["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    ]
    assert {target.partition(":")[0] for target in asked} <= set(COMPOSE["services"])
    done = subprocess.run(
        [program("promtool"), "check", "config", "--syntax-only", FOLDER / "prometheus.yml"], check=False
    )  # fmt: skip
    assert done.returncode == 0
