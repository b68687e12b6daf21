"""What stands in `deploy/`, as far as it can be told without Docker."""

import json
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from attest_web.settings import Settings, load_settings
from deploy.pin_compose import COMPOSE, PINNED, SECRETS, PinError, pinned

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IMAGE = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
DIGEST = "registry.example/image@sha256:" + "0" * 64
GIVEN = {name: DIGEST for name in PINNED if name.endswith("_IMAGE")}
GIVEN |= {"MODEL_NAME": "Qwen/Qwen2.5-7B-Instruct", "MODEL_REVISION": "a" * 40}
NOT_THE_PROXYS = {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}


def instructions(stage: str | None = None) -> Iterator[tuple[str, str]]:
    """Those of the Dockerfile, or of one stage: each with its arguments on one line."""
    current = None
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            name, _, arguments = line.partition(" ")
            if name == "FROM":
                current = arguments.rpartition(" AS ")[2]
            if stage in (None, current):
                yield name, arguments


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(pinned(COMPOSE.read_text(), GIVEN))
    return found


SERVICES = list(compose()["services"])


def locked(path: str) -> dict[str, frozenset[str]]:
    """What a lock file pins: by name and version, the hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / path).read_text())
    pins = [entry for entry in entries if not entry.startswith("#")]
    return {entry.split()[0]: frozenset(re.findall(r"sha256:[0-9a-f]{64}", entry)) for entry in pins}


def test_every_base_image_is_pinned_by_its_digest() -> None:
    bases = {arguments.split()[0] for name, arguments in instructions() if name == "FROM"}
    declared = dict(arguments.split("=", 1) for name, arguments in instructions() if name == "ARG")
    assert bases == {"${PYTHON_IMAGE}", "${PROMETHEUS_IMAGE}", "${GRAFANA_IMAGE}"}
    assert all(IMAGE.search(declared[base.strip("${}")]) for base in bases)


def test_whatever_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = [
        source
        for name, arguments in instructions()
        if name == "COPY" and not arguments.startswith("--from=")
        for source in arguments.split()[:-1]
    ]
    assert len(copied) > 8
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == path or fnmatch(source, f"{path}/*") for path in allowed), source


def test_packages_are_installed_by_hash_and_nothing_is_built_but_the_project() -> None:
    installs = re.findall(r"pip --python \S+ install ([^\n;]*)", DOCKERFILE)
    assert [
        ("--require-hashes" in one and "--only-binary :all:" in one) or "--no-index" in one for one in installs
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("path", ["deploy/requirements.lock", "deploy/requirements-build.lock"])
def test_the_image_has_what_was_tested(path: str) -> None:
    everything, here = locked("requirements.lock"), locked(path)
    assert here
    assert all(hashes for hashes in here.values())
    assert here.items() <= everything.items()


def test_the_image_has_all_that_the_proxy_needs_and_what_its_settings_switch_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["fast"], *extras["otel"]]
    pinned_names = {pin.partition("==")[0] for pin in locked("deploy/requirements.lock")}
    assert {re.split(r"[^\w.-]", one)[0].lower() for one in wanted} <= pinned_names


def test_nothing_for_development_is_in_the_image() -> None:
    names = {pin.partition("==")[0] for pin in locked("deploy/requirements.lock")}
    assert {"mitmproxy", "uvloop"} <= names
    assert not names & {"pytest", "mypy", "ruff", "openai", "pip"}


def test_the_proxy_is_nobody_and_is_stopped_as_it_wants_to_be() -> None:
    found = dict(instructions("proxy"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", found["USER"])
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(found["ENTRYPOINT"]) == ["/opt/tee-signer/bin/tee-signer"]
    check = json.loads(found["HEALTHCHECK"].partition(" CMD ")[2])
    compile(check[-1], "HEALTHCHECK", "exec")
    assert "curl" not in DOCKERFILE


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_confined_and_pinned(service: str) -> None:
    found = compose()["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(found)
    assert re.search(r"@sha256:[0-9a-f]{64}$", found["image"])
    assert found["restart"] == "unless-stopped"
    assert any(mount.startswith("/tmp:") for mount in found["tmpfs"])
    assert service == "tee-signer" or found["healthcheck"]["test"][0] == "CMD"  # the proxy's is in its image


def test_the_proxys_settings_are_settings() -> None:
    environment = compose()["services"]["tee-signer"]["environment"]
    assert set(environment) - NOT_THE_PROXYS <= {name.upper() for name in Settings.model_fields}
    given = {name.lower(): value for name, value in environment.items() if name not in NOT_THE_PROXYS}
    load_settings(Settings, given | {"token": "that-dstack-hands-in"})


def test_only_the_proxy_can_be_reached_for_chats_and_only_it_has_dstack() -> None:
    services = compose()["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"tee-signer", "grafana"}
    with_dstack = {name for name in services if any("dstack.sock" in one for one in services[name].get("volumes", []))}
    assert with_dstack == {"tee-signer"}
    assert "/var/run/dstack.sock:/var/run/dstack.sock" in services["tee-signer"]["volumes"]


def test_docker_waits_longer_than_the_proxy_drains() -> None:
    proxy = compose()["services"]["tee-signer"]
    assert int(proxy["stop_grace_period"].removesuffix("s")) > int(proxy["environment"]["DRAIN_SECONDS"]) + 15


def test_those_that_watch_are_told_where() -> None:
    services = compose()["services"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    port = services["tee-signer"]["environment"]["ATTEST_PORT"]
    assert targets == {"tee-signer": [f"tee-signer:{port}"], "vllm": ["vllm:8000"], "prometheus": ["localhost:9090"]}
    [source] = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/tee-signer.yaml").read_text())[
        "providers"
    ]
    copies = [arguments.split() for name, arguments in instructions("grafana") if name == "COPY"]
    assert ["deploy/grafana/tee-signer.json", f"{provider['options']['path']}/tee-signer.json"] in copies


def test_what_is_pinned_stands_there_and_secrets_do_not() -> None:
    text = pinned(COMPOSE.read_text(), GIVEN | dict.fromkeys(SECRETS, "s3cret"))
    assert "s3cret" not in text
    assert set(re.findall(r"\$\{(\w+)", text)) == set(SECRETS)
    assert text.count(DIGEST) == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"TEE_SIGNER_IMAGE": "registry.example/image:latest"}, "TEE_SIGNER_IMAGE takes an image by its digest"),
        ({"MODEL_REVISION": "main"}, "MODEL_REVISION takes the commit"),
        ({"MODEL_NAME": 'x" privileged: true'}, "MODEL_NAME takes the name of a model"),
        ({"MODEL_NAME": ""}, "MODEL_NAME takes the name of a model"),
    ],
)
def test_what_would_leave_something_open_is_refused(change: dict[str, str], problem: str) -> None:
    with pytest.raises(PinError, match=problem):
        pinned(COMPOSE.read_text(), GIVEN | change)


def test_a_variable_that_nobody_has_thought_of_is_refused() -> None:
    with pytest.raises(PinError, match="OTHER is neither a secret nor pinned"):
        pinned("image: ${OTHER:-x}", GIVEN)
