from pathlib import Path

import pytest

from attest_web.settings import Settings, SettingsError, load_settings
from attest_web.store_address import MemoryAddress, RedisAddress, SqliteAddress, parse_address

SECRET = "s3cret-pa55"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory", MemoryAddress()),
        ("sqlite:///run/x/a%20b.db", SqliteAddress(Path("/run/x/a b.db"))),
        ("redis://host", RedisAddress("server", (("host", 6379),))),
        ("redis://[::1]:1/2", RedisAddress("server", (("::1", 1),), database=2)),
        ("redis://u:p%40%2F@host", RedisAddress("server", (("host", 6379),), username="u", password="p@/")),
        (
            "rediss://:p@host?ssl_ca_certs=/ca.pem",
            RedisAddress("server", (("host", 6379),), password="p", tls=True, tls_files=(("ssl_ca_certs", "/ca.pem"),)),
        ),
        (
            "redis+sentinel://:p@a,b:1/mymaster/3?sentinel_password=q",
            RedisAddress(
                "sentinel",
                (("a", 26379), ("b", 1)),
                password="p",
                sentinel_password="q",
                database=3,
                service="mymaster",
            ),
        ),
        ("rediss+cluster://a,b:7000", RedisAddress("cluster", (("a", 6379), ("b", 7000)), tls=True)),
    ],
)
def test_store_address_is_parsed(text: str, expected: object) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://:{SECRET}@host",
        f"redis://{SECRET}@host",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host:70000",
        f"redis://:{SECRET}@host/db",
        f"redis://:{SECRET}@one,two",
        f"redis://:{SECRET}@host?ssl_ca_certs=/ca.pem",
        f"rediss://:{SECRET}@host?ssl_cert_reqs=none",
        f"rediss://:{SECRET}@host?{SECRET}",
        f"redis+sentinel://:{SECRET}@host",
        f"redis+cluster://:{SECRET}@host/1",
        f"redis+magic://:{SECRET}@host",
        f"redis://:{SECRET}@[::1",
        f"redis://:{SECRET}@ho\u2100st",
        f"sqlite://{SECRET}/x",
        "sqlite:///",
        "sqlite://",
        f"{SECRET}",
    ],
)
def test_invalid_store_address_is_refused_and_its_password_not_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {"model_name": "m", "token": "t", "signature_store": text})
    assert "SIGNATURE_STORE" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_store_password_is_in_no_form_of_the_settings() -> None:
    given = {"model_name": "m", "token": "t"}
    for text in (f"redis://u:{SECRET}@h", f"redis+sentinel://:{SECRET}@h/s?sentinel_password={SECRET}"):
        settings = load_settings(Settings, given | {"signature_store": text})
        for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.signature_store)):
            assert SECRET not in shown
