"""What ``deploy/`` says is well formed, belongs together, and names things that exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml
from typer.main import get_command

import lodestone
from bench.sizing import Assumptions, Figures, page_of, size_of
from market.deployment import Deployment

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS = [
    each
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for each in yaml.safe_load_all(path.read_text())
]
FIGURES = msgspec.json.decode((DEPLOY / "figures.json").read_bytes(), type=Figures)


def schema(name):
    found = json.loads((DEPLOY / "schemas" / name).read_text())
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def errors_of(validator, each):
    return [error.message for error in validator.iter_errors(each)]


def test_the_compose_file_keeps_its_schema_and_a_typing_error_does_not():
    validator = schema("compose.schema.json")
    assert errors_of(validator, COMPOSE) == []
    for change in (
        lambda each: each["services"]["engine"].update(imagee="x:1"),
        lambda each: each["services"]["engine"].update(image="lodestone:latest"),
        lambda each: each["services"]["kafka"]["healthcheck"].pop("test"),
        lambda each: each["services"]["engine"].update(ports=["8080"]),
    ):
        broken = json.loads(json.dumps(COMPOSE))
        change(broken)
        assert errors_of(validator, broken) != []


@pytest.mark.parametrize("each", OBJECTS, ids=lambda e: f"{e['kind']}-{e['metadata']['name']}")
def test_every_kubernetes_object_keeps_its_schema(each):
    assert errors_of(schema("kubernetes.schema.json"), each) == []


def test_a_kubernetes_object_with_a_typing_error_does_not():
    validator = schema("kubernetes.schema.json")
    engine = next(each for each in OBJECTS if each["kind"] == "StatefulSet")
    for path, value in (
        (("spec", "replica"), 2),
        (("spec", "template", "spec", "securityContext", "runAsNonRoot"), False),
        (("spec", "template", "spec", "containers", 0, "image"), "lodestone"),
        (("spec", "template", "spec", "containers", 0, "resources"), {}),
    ):
        broken = json.loads(json.dumps(engine))
        at = broken
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        assert errors_of(validator, broken) != []


def test_what_the_compose_file_names_is_in_it():
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(
            COMPOSE["volumes"]
        )
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        for name, needed in service.get("depends_on", {}).items():
            if needed["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def pods():
    for each in OBJECTS:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield each, spec["template"]


def test_what_kubernetes_objects_name_exists():
    labels = [pod["metadata"]["labels"] for _, pod in pods()]
    services = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "Service"}
    for each in OBJECTS:
        spec = each.get("spec", {})
        selector = spec.get("selector", {})
        chosen = selector.get("matchLabels", selector)
        if chosen:
            assert chosen in labels, each["metadata"]["name"]
        if each["kind"] == "StatefulSet":
            assert spec["serviceName"] in services
        if each["kind"] == "Service":
            pod = next(pod for _, pod in pods() if pod["metadata"]["labels"] == chosen)
            ports = {
                port["name"]: port["containerPort"]
                for container in pod["spec"]["containers"]
                for port in container.get("ports", [])
            }
            assert {port["targetPort"]: port["port"] for port in spec["ports"]} == ports
    for each, pod in pods():
        claims = each["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= volumes, container["name"]


def commands():
    """Every command line of ours: (entry point or module, its words)."""
    for service in COMPOSE["services"].values():
        if service["image"].startswith("lodestone:"):
            yield service.get("entrypoint", ["lodestone"]), service.get("command", [])
    for _, pod in pods():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            if container["image"].startswith("lodestone:"):
                yield container.get("command", ["lodestone"]), container.get("args", [])


def test_every_command_of_ours_exists_and_takes_its_options():
    seen = set()
    for entry, words in commands():
        if entry[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(entry[2]) is not None
            seen.add(entry[2])
        elif entry == ["python", "-c"]:
            imported = [
                node for node in ast.walk(ast.parse(words[0])) if isinstance(node, ast.ImportFrom)
            ]
            for node in imported:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
        elif entry == ["lodestone"]:
            command = get_command(lodestone.app)
            left = list(words)
            while left and hasattr(command, "commands"):
                command = command.commands[left.pop(0)]
            options = {name for parameter in command.params for name in parameter.opts}
            assert {word for word in left if word.startswith("--")} <= options
            seen.add(" ".join(words[:2]))
    assert seen >= {"ledger.shipper", "ledger.kafka_loader", "store retain"}


def test_the_template_is_a_deployment_once_its_keys_are_filled_in():
    text = (DEPLOY / "deployment.json").read_text()
    assert text.count("replace") == 3
    filled = re.sub(r"replace with: openssl rand -hex (\d+)", lambda m: "ab" * int(m[1]), text)
    found = msgspec.json.decode(filled, type=Deployment)
    assert len(bytes.fromhex(found.notice_key_hex)) == 32
    engine = COMPOSE["services"]["engine"]
    ports = {int(port.split(":")[-1]) for port in engine["ports"]}
    assert ports == {found.bid_port, found.notice_port, found.control_port}
    assert f"{found.kafka_servers.split(':')[0]}" in COMPOSE["services"]
    topics = [*COMPOSE["services"]["topic"]["command"]]
    assert found.kafka_topic in topics


def test_no_secret_stands_in_what_is_deployed():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"\b[0-9a-f]{32,}\b", text), path
            assert "secrets/" not in str(path.relative_to(DEPLOY))


# Sizing.


def test_the_page_is_what_the_figures_say():
    done = subprocess.run(
        [sys.executable, "-m", "bench.sizing", "deploy/figures.json"], cwd=ROOT, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == page_of(FIGURES, Assumptions())
    assert (ROOT / "docs" / "sizing.md").read_text() == done.stdout


def test_a_million_requests_a_second_are_added_up_right():
    figures = Figures(
        request_cpu_us=60.0, recorder_cpu_us_per_event=6.0, log_bytes_per_event=320.0,
        load_cpu_us_per_event=2.0, merge_cpu_us_per_event=1.0, rollup_cpu_us_per_event=1.0,
        table_bytes_per_event=100.0, rollup_rows_per_day=1_000, rollup_bytes_per_row=10.0,
        postgres_statements_per_s=11_200.0, machine="made up",
    )  # fmt: skip
    assumed = Assumptions(
        bid_share=0.5, win_rate=0.2, loss_share=0.5, click_rate=0.0, no_bid_sample_rate=0.01,
        core_use=0.5, cores_per_machine=10, log_days=1, kafka_copies=2, event_days=10,
        hour_days=100, budgets_per_machine=1_000,
    )  # fmt: skip
    size = size_of(1_000_000, figures, assumed)
    # 500,000 bids, 100,000 wins with two notices, 200,000 losses told, 5,000 sampled no-bids.
    assert size.events_per_s == pytest.approx(905_000)
    assert size.worker_cores == 120
    assert size.recorder_cores == 11  # 5.43 cores of work at half use
    assert size.machines == 14
    assert size.loader_cores == 8
    assert size.log_mb_per_s == pytest.approx(289.6)
    assert size.kafka_tb == pytest.approx(289.6e6 * 86_400 * 2 / 1e12)
    assert size.events_tb == pytest.approx(905_000 * 100 * 864_000 / 1e12)
    assert size.hours_gb == pytest.approx(0.001)
    assert size.settlements_per_s == pytest.approx(100_000)
    # 14 machines say something of 1,000 budgets every 5 seconds.
    assert size.statements_per_s == pytest.approx(2_800)
    assert size.postgres_use == pytest.approx(0.25)
