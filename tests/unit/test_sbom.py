"""The bill of materials: valid, complete, and without build or test dependencies."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from materials import bill
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent


def test_the_bill_of_materials_is_complete() -> None:
    text = bill()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told = json.loads(text)["components"]
    names = {(one["purl"].partition("/")[0].removeprefix("pkg:"), one["name"]) for one in told}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {("pypi", Requirement(one).name) for one in project["project"]["dependencies"]}
    for folder in ("engine", "history", "evidence", "python"):
        manifest = tomllib.loads((ROOT / "rust" / folder / "Cargo.toml").read_text())
        wanted |= {("cargo", name) for name in manifest["dependencies"] if not name.startswith("custodes-")}
    assert wanted <= names
    assert {("pypi", "starlette"), ("cargo", "zstd-sys")} <= names, "nor what those want"
    assert not {("pypi", "pytest"), ("pypi", "maturin"), ("cargo", "proptest"), ("cargo", "criterion")} & names
    assert all(one.get("hashes") for one in told if one["purl"].startswith("pkg:cargo"))
    without = [one["name"] for one in told if not one.get("licenses")]
    assert len(without) < len(told) / 20, without
