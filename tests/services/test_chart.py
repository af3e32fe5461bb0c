"""The Helm chart: its output is valid by Kubernetes' schemas, consistent with the program, and hardened."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from starlette.testclient import TestClient

from custodes.config.load import load_config
from harness import MonitorHarness
from servers import ROOT, program

pytestmark = pytest.mark.services

CHART = ROOT / "deploy" / "kubernetes"
OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that are not part of Kubernetes."""
EVERYTHING = {
    "replicas": 3,
    "config": {
        "workers": {"keyed_by": ["actor"]}, "rules": ["rules"], "http": {"listen": "0.0.0.0:9000"},
        "findings": {"database": "postgresql+psycopg://custodes@db/custodes"},
    },
    "rules": {"ours.yml": "title: Ours\nlogsource: {product: custodes}\n"},
    "env": [{"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
    "imagePullSecrets": [{"name": "registry"}],
    "storage": {"size": "1Ti", "className": "encrypted"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "networkPolicy": {"toPorts": [443, 5432]},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"x": "z"}},
    "serviceMonitor": {"labels": {"release": "prometheus"}},
    "prometheusRule": {"labels": {"release": "prometheus"}, "runbookPrefix": "https://git.example/custodes/"},
}  # fmt: skip


def helm(*arguments: str | Path, values: Any = None) -> subprocess.CompletedProcess[str]:
    """Runs Helm with values on standard input."""
    command = [str(program("helm")), *map(str, arguments), *(["--values", "-"] if values else [])]
    text = yaml.safe_dump(values) if values else None
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def rendered(values: Any = None) -> dict[str, dict[str, Any]]:
    """Returns the rendered resources by kind and name."""
    done = helm("template", "watch", CHART, "--namespace", "privacy", values=values)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    named = {f"{one['kind']}/{one['metadata']['name']}": one for one in found}
    assert len(named) == len(found)
    return named


@pytest.fixture(scope="module", params=[None, EVERYTHING], ids=["as it is", "everything"])
def resources(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return rendered(request.param)


def pod_of(resources: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = resources["StatefulSet/watch"]["spec"]["template"]["spec"]
    return spec


def test_helm_lint_passes() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


def test_valid_by_the_schemas_of_kubernetes(resources: dict[str, dict[str, Any]]) -> None:
    for one in resources.values():
        if one["kind"] not in OPERATORS:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_selectors_match_labels(resources: dict[str, dict[str, Any]]) -> None:
    labels = resources["StatefulSet/watch"]["spec"]["template"]["metadata"]["labels"]
    assert resources["StatefulSet/watch"]["spec"]["selector"]["matchLabels"] == labels
    assert resources["Service/watch"]["spec"]["selector"] == labels
    assert labels.items() <= resources["Service/watch"]["metadata"]["labels"].items()
    for kind in ("ServiceMonitor", "PodDisruptionBudget"):
        assert resources[f"{kind}/watch"]["spec"]["selector"]["matchLabels"] == labels
    assert resources["NetworkPolicy/watch"]["spec"]["podSelector"]["matchLabels"] == labels
    (container,) = pod_of(resources)["containers"]
    (port,) = container["ports"]
    (served,) = resources["Service/watch"]["spec"]["ports"]
    (scraped,) = resources["ServiceMonitor/watch"]["spec"]["endpoints"]
    assert (served["targetPort"], scraped["port"]) == (port["name"], served["name"])
    (comes_in,) = resources["NetworkPolicy/watch"]["spec"]["ingress"]
    assert comes_in["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    volumes = {one["name"] for one in pod_of(resources)["volumes"]} | {"state"}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    for volume in pod_of(resources)["volumes"]:
        if "configMap" in volume:
            assert f"ConfigMap/{volume['configMap']['name']}" in resources


def test_the_pod_has_minimal_permissions(resources: dict[str, dict[str, Any]]) -> None:
    pod = pod_of(resources)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    guarded = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert container["securityContext"] == guarded
    assert not pod["automountServiceAccountToken"]
    assert not resources["ServiceAccount/watch"]["automountServiceAccountToken"]
    assert "memory" in container["resources"]["limits"]


def test_the_configuration_is_valid_and_uses_writable_paths(tmp_path: Path) -> None:
    resources = rendered()
    (container,) = pod_of(resources)["containers"]
    where = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert container["args"] == ["run", "-c", f"{where['config']}/custodes.yaml"]
    (tmp_path / "custodes.yaml").write_text(resources["ConfigMap/watch"]["data"]["custodes.yaml"])
    config = load_config(tmp_path / "custodes.yaml")
    assert config.history is not None
    assert config.evidence is not None
    assert config.evidence.key is not None
    assert config.http.oidc is not None, "beyond a machine itself it starts only where people sign in"
    written = (config.state.folder, config.history.folder, config.evidence.folder, config.dead_letter.file)
    assert all(str(path).startswith(f"{where['state']}/") for path in written)
    assert config.findings.database.startswith(f"sqlite:///{where['state']}/")
    secrets = (config.evidence.key, config.http.oidc.client_secret_file)
    assert {str(path.parent) for path in secrets} == {where["secrets"]}


def test_the_probes_need_no_account(bench: MonitorHarness) -> None:
    resources = rendered()
    (container,) = pod_of(resources)["containers"]
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    client = TestClient(bench.app, base_url="http://custodes")
    assert {client.get(path).status_code for path in paths} <= {200, 503}
    assert client.get(resources["ServiceMonitor/watch"]["spec"]["endpoints"][0]["path"]).status_code == 200


def test_the_chart_has_the_tested_alerts(tmp_path: Path) -> None:
    rules = rendered({"prometheusRule": {"runbookPrefix": "https://git.example/"}})["PrometheusRule/watch"]["spec"]
    tested = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules" / "custodes.yml").read_text())
    for group in tested["groups"]:
        for rule in group["rules"]:
            rule["annotations"]["runbook_url"] = f"https://git.example/{rule['annotations']['runbook_url']}"
    assert rules == tested
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    checked = subprocess.run([program("promtool"), "check", "rules", tmp_path / "rules.yml"], check=False)
    assert checked.returncode == 0


def test_a_changed_configuration_restarts_the_pods() -> None:
    checksums = {
        rendered(values)["StatefulSet/watch"]["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for values in (None, {"config": {"log": {"level": "debug"}}}, {"rules": {"a.yml": "title: A"}})
    }
    assert len(checksums) == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 2}, "set config.workers"),
        ({"replica": 2}, "replica"),
        ({"storage": {"size": 5}}, "size"),
        ({"rules": {"a": "title: A"}}, "rules"),
        ({"networkPolicy": {"to": [{"namespace": "kafka"}]}}, "port"),
    ],
)
def test_invalid_values_are_refused(values: dict[str, Any], said: str) -> None:
    done = helm("template", "watch", CHART, values=values)
    assert done.returncode != 0
    assert said in done.stderr
