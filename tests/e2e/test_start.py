"""Starting: settings from the environment and from options, and what is said when they are wrong."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attest_web.settings import Settings
from tests.e2e.support.processes import BIN, MODEL, SCRIPT, TOKEN, Process, clean_env, running_proxy, start_proxy
from tests.e2e.support.raw_client import Asker, RawClient, chat_body, chat_request
from tests.support import verification
from tests.support.certificates import key_pem, self_signed
from tests.support.limits import limit


def refused(process: Process) -> list[str]:
    """Wait for a start that fails; return what it said, without the time and without mitmproxy's own lines."""
    assert process.wait() == 1, process.output
    assert "Traceback" not in process.output
    assert "Errors logged" in process.output or "Error logged" in process.output
    lines = [line.partition("] ")[2] for line in process.output.splitlines() if line.startswith("[")]
    return [line for line in lines if not re.match(r"Loading script|reverse proxy to|HTTP\(S\) proxy", line)]


@pytest.mark.parametrize("setting", ["MODEL_NAME", "TOKEN"])
def test_missing_setting_fails_the_start_with_one_line_that_names_it(fake_vllm: str, setting: str) -> None:
    [line] = refused(start_proxy(fake_vllm, **{setting: ""}))
    assert line.startswith(f"{setting} is missing: ")
    assert f"--set tee_{setting.lower()}=" in line


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        ([], {"ATTEST_PORT": "x"}, "ATTEST_PORT (environment) is wrong"),
        (["--set", "tee_dev=maybe"], {}, "DEV (option tee_dev) is wrong"),
        ([], {"CHAT_CACHE_EXPIRATION": "0"}, "CHAT_CACHE_EXPIRATION (environment) is wrong"),
        ([], {"DEV": "0"}, "dstack's guest agent gave no answer on signing keys: its socket is not there"),
        (["--mode", "regular"], {}, "the option mode must be reverse:http://HOST:PORT"),
        (["--mode", "reverse:http://localhost:4711@4711"], {}, "this proxy's own address"),
        (["--mode", "reverse:http://localhost:4711@4712"], {"ATTEST_PORT": "4711"}, "the model server's port"),
        (["--mode", "reverse:http://192.0.2.1:4711@4712"], {"ATTEST_PORT": "4712"}, "the port that clients use"),
    ],
)
def test_wrong_setting_fails_the_start_with_one_line_that_names_it(
    fake_vllm: str, arguments: list[str], settings: dict[str, str], named: str
) -> None:
    if "--mode" in arguments:  # the later one counts as a second mode, so the first has to go
        env = clean_env(MODEL_NAME=MODEL, TOKEN=TOKEN, DEV="1", ATTEST_PORT="0") | settings
        process = Process([BIN / "mitmdump", "-s", SCRIPT, "-p", "0", *arguments], env)
    else:
        process = start_proxy(fake_vllm, *arguments, **settings)
    [line] = refused(process)
    assert named in line


def test_malformed_token_setting_is_not_shown_in_the_error(fake_vllm: str) -> None:
    process = start_proxy(fake_vllm, TOKEN="s3cret with spaces")
    [line] = refused(process)
    assert "TOKEN" in line
    assert "s3cret" not in process.output


def test_options_configure_the_proxy_as_the_environment_does(fake_vllm: str) -> None:
    options = {"tee_model_name": "org/m", "tee_token": "by-option", "tee_dev": "1", "tee_signed_text_format": "model"}
    arguments = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    body = chat_body("hi")
    with (
        running_proxy(fake_vllm, *arguments, MODEL_NAME="", TOKEN="", DEV="") as proxy,
        RawClient(proxy.port) as client,
    ):
        client.send(chat_request(body, token="by-option"))
        status, headers, answer = client.read_response()
        assert status == 200
        with Asker(proxy.port) as asker:
            _, _, signed = asker.get(f"/v1/signature/{headers['x-receipt-id']}", token="by-option")
        assert signed["text"] == f"org/m:{verification.sha256(body)}:{verification.sha256(answer)}"


def test_every_setting_is_an_option_with_help() -> None:
    listing = subprocess.run(
        [BIN / "mitmdump", "-s", SCRIPT, "--set", f"tee_token={TOKEN}", "--options"],
        env=clean_env(TOKEN=TOKEN),
        capture_output=True,
        text=True,
        timeout=limit(30),
        check=True,
    ).stdout
    for field in set(Settings.model_fields) - {"vllm_base_url", "listen_port"}:
        assert f"tee_{field}" in listing
        assert f"{field.upper()}:" in listing
    assert TOKEN not in listing


def test_mitmweb_signs_masks_secrets_and_refuses_changes_of_settings(fake_vllm: str, free_ports: list[int]) -> None:
    web = [
        "--no-web-open-browser",
        "--set",
        f"web_port={free_ports[0]}",
        "--set",
        "web_password=pw",
        "--set",
        f"tee_token={TOKEN}",
    ]
    with running_proxy(fake_vllm, *web, program="mitmweb", TOKEN="") as proxy:
        with RawClient(proxy.port) as client, Asker(proxy.port) as asker:
            body = chat_body("hi")
            client.send(chat_request(body))
            _, headers, answer = client.read_response()
            verification.check(asker.signature(headers["x-receipt-id"])[1], body, answer)
        proxy.process.wait_for("Web server listening")
        web_url = f"http://127.0.0.1:{free_ports[0]}"

        def options(change: dict[str, Any] | None = None) -> str:
            request = urllib.request.Request(f"{web_url}/options", headers={"Authorization": "Bearer pw"})
            if change is not None:
                request.method = "PUT"
                request.data = json.dumps(change).encode()
                request.add_header("Content-Type", "application/json")
                request.add_header("Cookie", "_mitmproxy_xsrf=abcd")
                request.add_header("X-XSRFToken", "abcd")
            with urllib.request.urlopen(request, timeout=limit()) as response:
                found: str = response.read().decode()
                return found

        shown = options()
        assert json.loads(shown)["tee_token"]["value"] == "********"
        assert TOKEN not in shown
        with pytest.raises(urllib.error.HTTPError) as caught:
            options({"tee_model_name": "another"})
        with caught.value as error:
            assert "restart" in error.read().decode()
        assert json.loads(options())["tee_model_name"]["value"] is None
        with pytest.raises(urllib.error.HTTPError) as caught:
            options({"store_streamed_bodies": True})
        with caught.value as error:
            assert "must stay False" in error.read().decode()
        assert json.loads(options())["store_streamed_bodies"]["value"] is False


def test_the_launcher_takes_port_and_upstream_from_the_settings(fake_vllm: str) -> None:
    with running_proxy(fake_vllm) as other:
        taken = str(other.port)
        env = clean_env(MODEL_NAME=MODEL, TOKEN=TOKEN, DEV="1", ATTEST_PORT="0", VLLM_BASE_URL=fake_vllm)
        process = Process([BIN / "tee-signer", "--listen-host", "127.0.0.1"], env | {"LISTEN_PORT": taken})
        assert process.wait() == 1
        assert f"reverse proxy to {fake_vllm} failed to listen on 127.0.0.1:{taken}" in process.output


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_unusable_certs_file_fails_the_start_and_names_the_expected_format(
    fake_vllm: str, tmp_path: Path, workers: list[str]
) -> None:
    alone = tmp_path / "cert.pem"
    alone.write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    for file, wrong in ((tmp_path / "none.pem", "does not exist"), (alone, "Unable to find private key")):
        env = clean_env(MODEL_NAME=MODEL, TOKEN=TOKEN, DEV="1", ATTEST_PORT="0", LISTEN_PORT="0")
        process = Process([BIN / "tee-signer", "--certs", file, *workers], env | {"VLLM_BASE_URL": fake_vllm})
        assert process.wait() == 1, process.output
        said = [line for line in process.output.splitlines() if "certs" in line or "option" in line]
        assert said, process.output
        for line in said:
            assert wrong in line
            assert "--certs takes one PEM file with the key and the certificates (cat key.pem cert.pem)" in line


def test_help_separates_each_setting_from_its_description() -> None:
    process = Process([BIN / "tee-signer", "--help"], clean_env())
    assert process.wait() == 0
    _, _, settings = process.output.partition("settings:\n")
    for field, info in Settings.model_fields.items():
        assert re.search(rf"^  {field.upper()}\s+{re.escape(info.description or '')}", settings, re.MULTILINE), field


def test_launcher_accepts_options_names_a_missing_setting_and_has_help(fake_vllm: str, free_ports: list[int]) -> None:
    port, side_port = map(str, free_ports)
    env = clean_env(VLLM_BASE_URL=fake_vllm, LISTEN_PORT=port, ATTEST_PORT=side_port, TOKEN=TOKEN)
    assert "MODEL_NAME is missing: " in refused(Process([BIN / "tee-signer", "--set", "tee_dev=1"], env))[0]
    process = Process([BIN / "tee-signer", "--set", "tee_model_name=m", "--set", "tee_dev=1"], env)
    process.wait_for(f"proof pages on side port {side_port}")
    assert process.stop() == 0
    process = Process([BIN / "tee-signer"], env | {"VLLM_BASE_URL": "http://vllm:9000/v1"})
    assert process.wait() == 1
    assert process.output.startswith("tee-signer: VLLM_BASE_URL (environment) is wrong: it has a path")
    process = Process([BIN / "tee-signer", "--version"], clean_env())
    assert process.wait() == 0
    assert re.match(r"tee-signer \d+\.\d+\.\d+ \(mitmproxy 12\.", process.output)
    process = Process([BIN / "tee-signer", "--help"], clean_env())
    assert process.wait() == 0
    for field in Settings.model_fields:
        assert field.upper() in process.output


@pytest.mark.parametrize(("program", "tls"), [("mitmdump", False), ("tee-signer", False), ("tee-signer", True)])
def test_unwritable_home_does_not_prevent_the_start(fake_vllm: str, tmp_path: Path, program: str, tls: bool) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "tls.pem").write_bytes(key_pem(key) + self_signed(key))
    certs = ["--certs", str(tmp_path / "tls.pem")] if tls else []
    with running_proxy(fake_vllm, *certs, program=program, HOME="/proc/nowhere") as proxy:
        said = proxy.process.wait_for(
            r"/proc/nowhere/\.mitmproxy cannot be written: .* is kept in (\S+), until the end"
        )
        scheme = "https" if tls else "http"
        with httpx2.Client(base_url=f"{scheme}://127.0.0.1:{proxy.port}", verify=False) as client:
            assert client.get("/health").status_code == 200
        assert Path(said[1]).is_dir()
    assert not Path(said[1]).exists()
