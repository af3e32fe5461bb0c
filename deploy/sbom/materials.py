"""Writes the CycloneDX bill of materials: the Python packages and Rust crates that Custodes uses at run time.

Versions, and the hashes of crates, come from the lock files. Build and test dependencies are excluded.

    make sbom    # writes custodes.cdx.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.exception.factory import LicenseFactoryException
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

ROOT = Path(__file__).parent.parent.parent
_PINNED = re.compile(r"^([a-zA-Z0-9._-]+)==([^\s;\\]+)(?: ;([^\\]*))?")
_VIA = re.compile(r"^    #(?: via)? +(\S.*)$")
_OURS = "custodes (pyproject.toml)"


def packages() -> Iterator[Component]:
    """Yields the Python packages that the program needs, directly or transitively."""
    versions: defaultdict[str, set[str]] = defaultdict(set)
    required_by: defaultdict[str, set[str]] = defaultdict(set)
    name = ""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if pinned := _PINNED.match(line):
            name = pinned[1]
            versions[name].add(pinned[2])
        elif (via := _VIA.match(line)) and via[1] != "via":
            required_by[name].add(via[1])
    for name in sorted(_with_dependencies({name for name, by in required_by.items() if _OURS in by}, required_by)):
        for version in sorted(versions[name]):
            yield _component(name, version, "pypi", _license_of(name), [])


def _with_dependencies(known: set[str], required_by: dict[str, set[str]]) -> set[str]:
    """Returns the given packages with all transitive dependencies."""
    while more := {name for name, by in required_by.items() if by & known} - known:
        known = known | more
    return known


def _license_of(name: str) -> str | None:
    try:
        about = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        # The package is for another platform.
        return None
    licence = about.get("license_expression") or about.get("license")
    if licence is None:
        prefix = "License :: OSI Approved :: "
        licence = next(
            (
                classifier.removeprefix(prefix)
                for classifier in about.get("classifier", [])
                if classifier.startswith(prefix)
            ),
            None,
        )
    return None if licence is None else str(licence)


def crates() -> Iterator[Component]:
    """Yields the Rust crates that the extension module is linked with."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - constant arguments
    cargo_metadata: dict[str, Any] = json.loads(ran.stdout)
    about = {package["id"]: package for package in cargo_metadata["packages"]}
    dependencies = {
        node["id"]: [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        for node in cargo_metadata["resolve"]["nodes"]
    }
    known = {id_ for id_, package in about.items() if package["name"] == "custodes-python"}
    while more := {dependency for id_ in known for dependency in dependencies[id_]} - known:
        known |= more
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock["package"]}
    for package in sorted((about[id_] for id_ in known), key=lambda package: (package["name"], package["version"])):
        if package["source"] is not None:
            checksum = checksums[package["name"], package["version"]]
            hashes = [HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else []
            yield _component(package["name"], package["version"], "cargo", package["license"], hashes)


def _component(name: str, version: str, kind: str, licence: str | None, hashes: Iterable[HashType]) -> Component:
    url = PackageURL(kind, None, name, version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=str(url), hashes=hashes,
        licenses=_licenses(licence),
    )  # fmt: skip


def _licenses(text: str | None) -> list[Any]:
    """Returns an SPDX expression if the text is one, otherwise a licence name. Longer texts are ignored: some packages
    put the complete licence there."""
    if not text or len(text) > 100:
        return []
    # Old crates separate alternatives with a slash.
    text = text.replace("/", " OR ")
    factory = LicenseFactory()
    try:
        return [factory.make_with_expression(text)]
    except LicenseFactoryException:
        return [factory.make_with_name(text)]


def bill() -> str:
    """Returns the bill of materials as CycloneDX 1.6 JSON."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    bom = Bom(components=[*packages(), *crates()])
    bom.metadata.component = Component(
        name="custodes", version=version, type=ComponentType.APPLICATION, bom_ref="custodes"
    )
    bom.register_dependency(bom.metadata.component, list(bom.components))
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def main() -> None:
    Path(sys.argv[1]).write_text(bill())


if __name__ == "__main__":
    main()
