"""Checks the lock files: every direct requirement is pinned within its bounds, every pin has hashes, no line names an
index or a host, every crate comes from crates.io. Exits 1 with a line per fault."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LOCKS = {
    "requirements.lock": ("project", "dev"),
    "deploy/container/requirements.lock": ("project",),
    "tests/bench/requirements.lock": ("bench",),
    "tests/bench/detection.lock": ("detection",),
}
"""Sources of each lock file: the project's dependencies, or a dependency group."""
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def requirements(groups: tuple[str, ...]) -> list[Requirement]:
    """Returns the direct requirements of some groups of pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = [
        text
        for group in groups
        for text in (
            pyproject["project"]["dependencies"] if group == "project" else pyproject["dependency-groups"][group]
        )
    ]
    return [Requirement(text) for text in listed]


def faults_in_pins(lock: str, groups: tuple[str, ...]) -> list[str]:
    """Returns the faults of a hash-locked requirements file."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    faults = [
        f"{lock}: '{line}' names an index"
        for line in text.splitlines()
        if re.match(r"\s*-(-index|-extra|-find|i |f )", line)
    ]
    faults += [f"{lock}: '{url}' is an address; pin a version instead" for url in re.findall(r"https?://\S+", text)]
    entries = re.findall(
        r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(\S+)((?:.*\\\n)?(?:\s+--hash=.*\n?)*)", text, re.MULTILINE
    )
    pins = {canonicalize_name(name): Version(version) for name, version, _ in entries}
    faults += [f"{lock}: {name} has no hash" for name, _, hashes in entries if "--hash=sha256:" not in hashes]
    for wanted in requirements(groups):
        pin = pins.get(canonicalize_name(wanted.name))
        if pin is None:
            faults.append(f"{lock}: {wanted.name} is not pinned; run `make lock`")
        elif not wanted.specifier.contains(pin, prereleases=True):
            faults.append(
                f"{lock}: {wanted.name} is pinned to {pin}, pyproject.toml asks for {wanted}; run `make lock`"
            )
    return faults


def faults_in_crates(lock: str) -> list[str]:
    """Returns crates that come from elsewhere than crates.io."""
    packages = tomllib.loads((ROOT / lock).read_text(encoding="utf-8"))["package"]
    return [
        f"{lock}: {package['name']} comes from {source}"
        for package in packages
        if (source := package.get("source")) not in (None, CRATES_IO)
    ]


def main() -> int:
    """Prints every fault; returns the exit status."""
    faults = [fault for lock, groups in LOCKS.items() for fault in faults_in_pins(lock, groups)]
    faults += [fault for lock in ("Cargo.lock", "rust/fuzz/Cargo.lock") for fault in faults_in_crates(lock)]
    print("\n".join(faults) or f"{len(LOCKS)} requirement locks and 2 crate locks satisfy the requirements")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
