"""Completes a release in a folder that has the wheel and the sdist: SBOM, changelog section, checksums.

python deploy/release/write.py dist
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def version() -> str:
    """Returns the version that Cargo.toml gives the workspace."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return str(manifest["workspace"]["package"]["version"])


def changelog_section(changelog: str, released: str) -> str:
    """Returns the section of one version. Raises ``ValueError`` if it is missing or has no date."""
    found = re.search(
        rf"^## \[?{re.escape(released)}\]? - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ValueError(f"CHANGELOG.md has no section '## [{released}] - YYYY-MM-DD'; add it before the release")
    return found.group(0).strip() + "\n"


def main() -> int:
    """Writes the files; returns the exit status."""
    folder = Path(sys.argv[1])
    released = version()
    artifacts = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    strangers = [path.name for path in artifacts if f"-{released}" not in path.name]
    if len(artifacts) < 2 or strangers:
        print(
            f"{folder} must hold a wheel and an sdist of {released}, and has {[p.name for p in artifacts]}",
            file=sys.stderr,
        )
        return 1
    try:
        section = changelog_section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), released)
    except ValueError as fault:
        print(fault, file=sys.stderr)
        return 1
    (folder / "CHANGES.md").write_text(section, encoding="utf-8")
    sbom = folder / f"custodes-{released}.cdx.json"
    subprocess.run([sys.executable, ROOT / "deploy" / "sbom" / "materials.py", sbom], check=True, cwd=ROOT)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (*artifacts, sbom)]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(f"custodes {released} in {folder}: " + ", ".join(sorted(path.name for path in folder.iterdir())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
