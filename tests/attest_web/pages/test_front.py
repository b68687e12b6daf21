"""The front page as the application serves it; what it does in a browser is in `e2e/test_front_page.py`."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from attest_web.attestation.reports import Attestation
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.pages import front as front_page
from tests.attest_web.conftest import Evidence

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
FILES = sorted(file.name for file in Path(front_page.__file__).with_name("static").iterdir() if file.suffix != ".html")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/json, text/html;q=0.9",
        "text/html, application/json",
        "text/html;q=0",
        "image/png",
        "nonsense",
    ],
)
def test_front_page_without_an_html_preference_returns_the_json_status(client: FlaskClient, accept: str | None) -> None:
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert answer.data == b'{"status":"ok","service":"tee-signer","version":"1.2.3"}\n'
    assert dict(answer.headers) == {"Content-Type": "application/json", "Content-Length": "57", "Vary": "Accept"}


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "text/html", "text/html, application/json;q=0.5", "text/*"])
def test_front_page_for_browsers_is_html(client: FlaskClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    assert answer.headers["Vary"] == "Accept"


def test_the_page_shows_the_proxys_identity_without_scripts(client: FlaskClient, vectors: dict[str, str]) -> None:
    text = client.get("/", headers=BROWSER).text
    for told in ("org/m", "1.2.3", "abc123", vectors["ecdsa_address"], vectors["ed25519_public_key"]):
        assert f">{told}<" in text.replace("tee-signer ", "")


@pytest.mark.parametrize("path", ["/", *(f"/proof-page/{name}" for name in FILES)])
def test_front_page_files_with_a_matching_etag_are_304(client: FlaskClient, path: str) -> None:
    first = client.get(path, headers=BROWSER)
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "no-cache")
    again = client.get(path, headers={**BROWSER, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert client.get(path, headers={**BROWSER, "If-None-Match": '"other"'}).data == first.data
    assert client.head(path, headers=BROWSER).headers["Content-Length"] == str(len(first.data))


@pytest.mark.parametrize("path", ["/", *(f"/proof-page/{name}" for name in FILES)])
def test_the_content_security_policy_allows_nothing_else(client: FlaskClient, path: str) -> None:
    headers = client.get(path, headers=BROWSER).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert {name for name, value in policy.items() if value == "'self'"} == {
        "script-src",
        "style-src",
        "img-src",
        "connect-src",
    }
    assert {name for name, value in policy.items() if value == "'none'"} == {
        "default-src",
        "base-uri",
        "form-action",
        "frame-ancestors",
    }
    assert len(policy) == 8
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("name", ["page.html", "unknown.js", "..%2Ffront_page.py", "../front_page.py", ""])
def test_front_page_route_serves_no_other_file(client: FlaskClient, name: str) -> None:
    assert client.get(f"/proof-page/{name}").status_code == 404


def test_front_page_references_only_its_own_files(client: FlaskClient) -> None:
    text = client.get("/", headers=BROWSER).text
    targets = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert {"proof-page/page.js", "proof-page/page.css", "proof-page/icon.svg"} <= set(targets)
    for target in targets:
        if target.startswith("#"):
            assert f'id="{target[1:]}"' in text
        else:
            assert client.get(f"/{target}").status_code == 200
    for name in FILES:
        for imported in re.findall(r'from "\./([^"]*)"', client.get(f"/proof-page/{name}").text):
            assert imported in FILES


@pytest.mark.parametrize("url", [None, "https://git.example/tee-signer?a=1&b=2"])
def test_the_page_links_to_the_source_and_to_tee_verify(keys: SigningKeys, url: str | None) -> None:
    evidence = Evidence()
    attestation = Attestation(keys, "m", evidence, evidence.gpu, dev=False, metrics=Metrics())
    app = Flask("test")
    app.register_blueprint(front_page.blueprint(attestation, "1", None, attestation_public=False, source_url=url))
    text = app.test_client().get("/", headers=BROWSER).text
    assert text.count('href="https://git.example/tee-signer?a=1&amp;b=2"') == (2 if url else 0)
    assert ("SOURCE_URL" in text) == (url is None)
    assert '<h2 id="tee-verify">' in text


@pytest.mark.parametrize("public", [True, False])
def test_the_page_names_what_needs_the_token(make_client: Callable[..., FlaskClient], public: bool) -> None:
    assert ("and the attestation." in make_client(public=public).get("/", headers=BROWSER).text) is not public


def test_front_page_marks_a_development_run_and_escapes_the_model_name(keys: SigningKeys) -> None:
    evidence = Evidence()
    attestation = Attestation(keys, "<script>\"'&", evidence, evidence.gpu, dev=True, metrics=Metrics())

    def shown(attestation: Attestation) -> str:
        app = Flask("test")
        app.register_blueprint(front_page.blueprint(attestation, "1", None, attestation_public=False))
        return app.test_client().get("/", headers=BROWSER).text

    in_development = shown(attestation)
    assert "Development run" in in_development
    assert "Development run" not in shown(replace(attestation, dev=False))
    assert " data-dev>" in in_development
    assert " data-dev" not in shown(replace(attestation, dev=False))
    assert in_development.count("&lt;script&gt;&#34;&#39;&amp;") == 3
    assert '<script>"' not in in_development
