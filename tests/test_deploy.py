"""What stands in `deploy/`, as far as it can be told without Docker."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from attest_web.settings import Settings, load_settings
from attest_web.verify.dstack.boot_log import KeyProvider, KeyProviderKind
from attest_web.verify.dstack.key_provider import check_key_provider, pinned_by_compose
from attest_web.verify.nvidia.boot_attestation import policy_hash
from deploy.pin_compose import APP_PINNED, COMPOSE, DEFAULTS, PINNED, SECRETS, PinError, app_compose, gpu_policy, pinned
from tests.support.limits import limit

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IMAGE = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
DIGEST = "registry.example/image@sha256:" + "0" * 64
GIVEN = {name: DIGEST for name in PINNED if name.endswith("_IMAGE")}
GIVEN |= {"MODEL_NAME": "Qwen/Qwen2.5-7B-Instruct", "MODEL_REVISION": "a" * 40}
KMS_KEY = "3059301306072a8648ce3d020106082a8648ce3d03010703420004" + "ab" * 64
APP_GIVEN = GIVEN | {"KEY_PROVIDER_ID": KMS_KEY, "GPU_COUNT": "8"}
NEEDED = {"model_name": "m", "token": "t"}
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


def test_dockerfile_copy_sources_exist_and_are_not_ignored() -> None:
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


def test_packages_are_installed_by_hash_and_only_the_project_is_built() -> None:
    installs = re.findall(r"pip --python \S+ install ([^\n;]*)", DOCKERFILE)
    assert [
        ("--require-hashes" in one and "--only-binary :all:" in one) or "--no-index" in one for one in installs
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("path", ["deploy/requirements.lock", "deploy/requirements-build.lock"])
def test_image_packages_are_the_tested_versions(path: str) -> None:
    everything, here = locked("requirements.lock"), locked(path)
    assert here
    assert all(hashes for hashes in here.values())
    assert here.items() <= everything.items()


def test_image_packages_cover_the_projects_dependencies_and_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["fast"], *extras["otel"]]
    pinned_names = {pin.partition("==")[0] for pin in locked("deploy/requirements.lock")}
    assert {re.split(r"[^\w.-]", one)[0].lower() for one in wanted} <= pinned_names


def test_image_packages_include_no_development_tools() -> None:
    names = {pin.partition("==")[0] for pin in locked("deploy/requirements.lock")}
    assert {"mitmproxy", "uvloop"} <= names
    assert not names & {"pytest", "mypy", "ruff", "openai", "pip"}


def test_proxy_image_has_an_unprivileged_user_sigterm_and_a_health_check() -> None:
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


def test_compose_environment_of_the_proxy_is_valid_settings() -> None:
    environment = compose()["services"]["tee-signer"]["environment"]
    assert set(environment) - NOT_THE_PROXYS <= {name.upper() for name in Settings.model_fields}
    given = {name.lower(): value for name, value in environment.items() if name not in NOT_THE_PROXYS}
    load_settings(Settings, given | {"token": "that-dstack-hands-in"})


def test_compose_publishes_only_proxy_and_grafana_and_only_the_proxy_has_dstack() -> None:
    services = compose()["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"tee-signer", "grafana"}
    with_dstack = {name for name in services if any("dstack.sock" in one for one in services[name].get("volumes", []))}
    assert with_dstack == {"tee-signer"}
    assert "/var/run/dstack.sock:/var/run/dstack.sock" in services["tee-signer"]["volumes"]


def test_compose_stop_grace_period_exceeds_the_drain_time() -> None:
    proxy = compose()["services"]["tee-signer"]
    # Its port is published as it is: what connects is the client, whatever X-Forwarded-For says.
    assert proxy["environment"]["RATE_LIMIT_NO_TRUST_PROXY"] == "1"
    assert proxy["ports"]
    assert int(proxy["stop_grace_period"].removesuffix("s")) > int(proxy["environment"]["DRAIN_SECONDS"]) + 15


def test_prometheus_and_grafana_addresses_match_the_compose_services() -> None:
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


def test_pinned_compose_has_the_pinned_values_and_no_secrets() -> None:
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
        ({"TLS_FROM_DSTACK": "yes"}, "TLS_FROM_DSTACK takes 0 or 1"),
        ({"TLS_FROM_DSTACK": "1\n"}, "TLS_FROM_DSTACK takes 0 or 1"),
        ({"TLS_ALT_NAMES": "chat.example,"}, "TLS_ALT_NAMES takes host names"),
        ({"TLS_ALT_NAMES": "chat.example, ::1"}, "TLS_ALT_NAMES takes host names"),
        ({"TLS_ALT_NAMES": 'x"'}, "TLS_ALT_NAMES takes host names"),
        ({"TLS_ALT_NAMES": "chat.example:443"}, "TLS_ALT_NAMES takes host names"),
    ],
)
def test_invalid_pin_value_is_refused_with_what_it_takes(change: dict[str, str], problem: str) -> None:
    with pytest.raises(PinError, match=problem):
        pinned(COMPOSE.read_text(), GIVEN | change)


@pytest.mark.parametrize("given", [{}, {"TLS_FROM_DSTACK": "", "TLS_ALT_NAMES": ""}])
def test_tls_from_dstack_is_off_by_default(given: dict[str, str]) -> None:
    proxy = yaml.safe_load(pinned(COMPOSE.read_text(), GIVEN | given))["services"]["tee-signer"]
    assert {name: proxy["environment"][name] for name in DEFAULTS} == DEFAULTS
    without_pins = dict(re.findall(r"\$\{(TLS_\w+):-([^}]*)\}", COMPOSE.read_text()))
    assert without_pins == DEFAULTS


def test_tls_from_dstack_is_pinned_with_its_alt_names() -> None:
    given = {"TLS_FROM_DSTACK": "1", "TLS_ALT_NAMES": "chat.example,*.a-1.example,10.0.0.1,::1,::ffff:1.2.3.4"}
    proxy = yaml.safe_load(pinned(COMPOSE.read_text(), GIVEN | given))["services"]["tee-signer"]
    assert {name: proxy["environment"][name] for name in given} == given
    settings = load_settings(Settings, {name.lower(): value for name, value in given.items()} | NEEDED)
    assert settings.tls_from_dstack
    assert settings.tls_names == tuple(given["TLS_ALT_NAMES"].split(","))


def test_unknown_compose_variable_is_refused() -> None:
    with pytest.raises(PinError, match="OTHER is neither a secret nor pinned"):
        pinned("image: ${OTHER:-x}", GIVEN)


def test_app_compose_has_the_pinned_compose_file_and_guest_requirements() -> None:
    document = json.loads(app_compose(COMPOSE.read_text(), APP_GIVEN))
    assert document["docker_compose_file"] == pinned(COMPOSE.read_text(), GIVEN)
    assert document["manifest_version"] == "3"
    assert (document["kms_enabled"], document["key_provider"]) == (True, "kms")
    assert not any(document[name] for name in ("gateway_enabled", "public_logs", "public_sysinfo", "no_instance_id"))
    assert document["allowed_envs"] == list(SECRETS)
    assert document["requirements"] == {
        "os_version": ">=0.6.0",
        "platforms": ["dstack-tdx"],
        "tdx_measure_acpi_tables": False,
        "gpu_policy": {"rego": gpu_policy(8)},
    }
    assert "event_log_version" not in document  # the default is what dstack's own verification reads


def test_app_compose_pins_the_key_provider_that_the_verifier_checks() -> None:
    demanded = pinned_by_compose(app_compose(COMPOSE.read_text(), APP_GIVEN))
    assert demanded == bytes.fromhex(KMS_KEY)
    found = check_key_provider(KeyProvider(KeyProviderKind.KMS, demanded), frozenset(), demanded)
    assert found.endswith("which the compose file requires (key_provider_id)")


def test_app_compose_has_a_gpu_policy_whose_hash_differs_by_the_number_of_gpus() -> None:
    hashes = {policy_hash(app_compose(COMPOSE.read_text(), APP_GIVEN | {"GPU_COUNT": str(n)})) for n in range(1, 9)}
    assert len(hashes) == 8
    policy = json.dumps({"rego": gpu_policy(8)}, separators=(",", ":"))
    assert hashlib.sha256(policy.encode()).digest() in hashes
    lines = [line.strip() for line in gpu_policy(8).splitlines() if line]
    assert lines == ["package policy", "default nv_match = false", "nv_match {", "count(input) == 8", "}"]


def test_app_compose_output_is_deterministic_and_survives_reserialization() -> None:
    command = [sys.executable, str(ROOT / "deploy" / "pin_compose.py"), "--app-compose"]
    env = {"PATH": os.environ["PATH"], "TOKEN": "s3cret"} | APP_GIVEN
    printed = subprocess.run(command, env=env, capture_output=True, timeout=limit(30), check=True).stdout
    assert printed == app_compose(COMPOSE.read_text(), dict(reversed(APP_GIVEN.items()))).encode()
    assert json.dumps(json.loads(printed), indent=4, ensure_ascii=False).encode() == printed
    assert b"s3cret" not in printed


@pytest.mark.parametrize("name", [name for name in [*PINNED, *APP_PINNED] if name not in DEFAULTS])
def test_app_compose_without_a_value_is_refused_in_one_line_that_names_it(name: str) -> None:
    env = {"PATH": os.environ["PATH"]} | {given: value for given, value in APP_GIVEN.items() if given != name}
    command = [sys.executable, str(ROOT / "deploy" / "pin_compose.py"), "--app-compose"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit(30), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"pin_compose: {name} takes .*\n", done.stderr)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"KEY_PROVIDER_ID": KMS_KEY.upper()}, "KEY_PROVIDER_ID takes the KMS's CA key"),
        ({"KEY_PROVIDER_ID": KMS_KEY[:-2]}, "KEY_PROVIDER_ID takes the KMS's CA key"),
        ({"KEY_PROVIDER_ID": f"0x{KMS_KEY}"}, "KEY_PROVIDER_ID takes the KMS's CA key"),
        ({"KEY_PROVIDER_ID": "02" + "ab" * 32}, "KEY_PROVIDER_ID takes the KMS's CA key"),  # its secp256k1 root
        ({"GPU_COUNT": "0"}, "GPU_COUNT takes how many GPUs"),
        ({"GPU_COUNT": "9"}, "GPU_COUNT takes how many GPUs"),
        ({"GPU_COUNT": "08"}, "GPU_COUNT takes how many GPUs"),
        ({"GPU_COUNT": "all"}, "GPU_COUNT takes how many GPUs"),
        ({"GPU_COUNT": "8\n"}, "GPU_COUNT takes how many GPUs"),
        ({"MODEL_REVISION": "main"}, "MODEL_REVISION takes the commit"),
    ],
)
def test_app_compose_with_a_malformed_value_is_refused(change: dict[str, str], problem: str) -> None:
    with pytest.raises(PinError, match=problem):
        app_compose(COMPOSE.read_text(), APP_GIVEN | change)
