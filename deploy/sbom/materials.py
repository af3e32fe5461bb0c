"""What Custodes is made of, as a CycloneDX bill of materials: the packages of Python and the crates that it runs with.

Versions, and of crates the hashes, are those of the lock files. What it is only built or tested with is not among them.

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
    """Of Python: those that the program needs, directly or not."""
    versions: defaultdict[str, set[str]] = defaultdict(set)
    wanted_by: defaultdict[str, set[str]] = defaultdict(set)
    name = ""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if pinned := _PINNED.match(line):
            name = pinned[1]
            versions[name].add(pinned[2])
        elif (via := _VIA.match(line)) and via[1] != "via":
            wanted_by[name].add(via[1])
    for name in sorted(_reached({name for name, by in wanted_by.items() if _OURS in by}, wanted_by)):
        for version in sorted(versions[name]):
            yield _component(name, version, "pypi", _license_of(name), [])


def _reached(known: set[str], wanted_by: dict[str, set[str]]) -> set[str]:
    """Those, and all that they want."""
    while more := {name for name, by in wanted_by.items() if by & known} - known:
        known = known | more
    return known


def _license_of(name: str) -> str | None:
    try:
        about = metadata.metadata(name).json
    except metadata.PackageNotFoundError:
        # It is for another system than this.
        return None
    told = about.get("license_expression") or about.get("license")
    if told is None:
        prefix = "License :: OSI Approved :: "
        told = next((one.removeprefix(prefix) for one in about.get("classifier", []) if one.startswith(prefix)), None)
    return None if told is None else str(told)


def crates() -> Iterator[Component]:
    """Of Rust: those that the extension is linked with."""
    asked = ["cargo", "metadata", "--locked", "--format-version", "1"]
    ran = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True)  # noqa: S603 - it is all written above
    told: dict[str, Any] = json.loads(ran.stdout)
    about = {package["id"]: package for package in told["packages"]}
    wants = {
        node["id"]: [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        for node in told["resolve"]["nodes"]
    }
    known = {id_ for id_, package in about.items() if package["name"] == "custodes-python"}
    while more := {want for id_ in known for want in wants[id_]} - known:
        known |= more
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    for package in sorted((about[id_] for id_ in known), key=lambda one: (one["name"], one["version"])):
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
    """As SPDX has it where the text is such, else by the name that it goes by; some put all of it there."""
    if not text or len(text) > 100:
        return []
    # Crates of old separate alternatives by a slash.
    text = text.replace("/", " OR ")
    factory = LicenseFactory()
    try:
        return [factory.make_with_expression(text)]
    except LicenseFactoryException:
        return [factory.make_with_name(text)]


def bill() -> str:
    """The bill of materials, as JSON by CycloneDX 1.6."""
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
