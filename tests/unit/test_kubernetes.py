"""What deploy/kubernetes ships: valid by Kubernetes' own schemas, in step with itself and the program, and guarded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from custodes.config.load import load_config
from scripted import Bench

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES: dict[str, dict[str, Any]] = {
    one["kind"]: one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())
}
POD: dict[str, Any] = RESOURCES["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("kind", sorted(RESOURCES.keys() - {"ServiceMonitor"}))
def test_valid_by_the_schemas_of_kubernetes(kind: str) -> None:
    kubernetes_validate.validate(RESOURCES[kind], kubernetes_validate.latest_version(), strict=True)


def test_all_files_are_applied() -> None:
    others = {"kustomization.yaml", *KUSTOMIZATION["configMapGenerator"][0]["files"]}
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], *others}


def test_what_is_selected_is_there() -> None:
    labels = RESOURCES["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert RESOURCES["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["Service"]["spec"]["selector"] == labels
    assert RESOURCES["Service"]["metadata"]["labels"] == labels
    assert RESOURCES["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    (port,) = CONTAINER["ports"]
    (served,) = RESOURCES["Service"]["spec"]["ports"]
    (scraped,) = RESOURCES["ServiceMonitor"]["spec"]["endpoints"]
    assert (served["targetPort"], scraped["port"]) == (port["name"], served["name"])
    assert RESOURCES["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [
        {"protocol": "TCP", "port": port["containerPort"]}
    ]


def test_it_has_no_more_than_it_needs() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    guarded = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert CONTAINER["securityContext"] == guarded
    assert not POD["automountServiceAccountToken"]
    assert "memory" in CONTAINER["resources"]["limits"]


def test_the_configuration_is_one_and_writes_where_it_may() -> None:
    config = load_config(FOLDER / "custodes.yaml")
    mounts = {one["mountPath"]: not one.get("readOnly", False) for one in CONTAINER["volumeMounts"]}
    assert CONTAINER["args"] == ["run", "-c", f"{_mounted('config')}/custodes.yaml"]
    state = _mounted("state")
    assert mounts[state]
    assert config.history is not None
    assert config.evidence is not None
    assert config.evidence.key is not None
    assert config.http.oidc is not None, "beyond a machine itself it starts only where people sign in"
    written = (config.state.folder, config.history.folder, config.evidence.folder, config.dead_letter.file)
    assert all(str(path).startswith(f"{state}/") for path in written)
    assert config.findings.database.startswith(f"sqlite:///{state}/")
    secrets = (config.evidence.key, config.http.oidc.client_secret_file)
    assert {str(path.parent) for path in secrets} == {_mounted("secrets")}
    assert config.http.listen == f"0.0.0.0:{CONTAINER['ports'][0]['containerPort']}"


def _mounted(name: str) -> str:
    return next(str(one["mountPath"]) for one in CONTAINER["volumeMounts"] if one["name"] == name)


def test_the_probes_ask_what_is_answered_without_an_account(bench: Bench) -> None:
    paths = {CONTAINER[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    client = TestClient(bench.app, base_url="http://custodes")
    assert {client.get(path).status_code for path in paths} <= {200, 503}
    assert client.get(RESOURCES["ServiceMonitor"]["spec"]["endpoints"][0]["path"]).status_code == 200
