import pytest

from attest_web.setting_values import split_tokens
from attest_web.settings import LaunchSettings, Settings, SettingsError, load_settings
from attest_web.store_address import MemoryAddress

NEEDED = {"model_name": "org/model", "token": "s3cret"}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def test_settings_defaults_match_the_contract() -> None:
    settings = load_settings(Settings, NEEDED)
    assert settings.vllm_base_url == "http://localhost:8000"
    assert (settings.listen_port, settings.attest_port) == (8000, 8001)
    assert settings.dev is False
    assert settings.chat_cache_expiration == 1200
    assert settings.signature_store == MemoryAddress()
    assert settings.vllm_proxy_max_request_size == 10485760
    assert settings.vllm_proxy_timeout_secs == 3600
    assert settings.signed_model is None


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_NAME", "env-model")
    monkeypatch.setenv("TOKEN", "one, two")
    monkeypatch.setenv("DEV", "1")
    monkeypatch.setenv("SIGNED_TEXT_FORMAT", "model")
    settings = load_settings(Settings)
    assert settings.dev is True
    assert settings.signed_model == "env-model"
    assert split_tokens(settings.token) == ["one", "two"]


@pytest.mark.parametrize("written", ["WARNING", "Warning", "warning"])
def test_log_level_is_accepted_in_any_case(written: str) -> None:
    assert load_settings(Settings, NEEDED | {"log_level": written}).log_level == "warning"


@pytest.mark.parametrize("wrong", ["loud", "warn", ""])
def test_log_level_that_is_unknown_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"LOG_LEVEL .* is wrong: .*'debug', 'info', 'warning' or 'error'"):
        load_settings(Settings, NEEDED | {"log_level": wrong})


def test_tcp_user_timeout_must_exceed_the_keepalive_idle_time() -> None:
    settings = load_settings(Settings, NEEDED)
    assert (settings.tcp_keepalive_idle_secs, settings.tcp_user_timeout_secs) == (30, 120)
    with pytest.raises(SettingsError, match=r"TCP_USER_TIMEOUT_SECS .*: it is not more than TCP_KEEPALIVE_IDLE"):
        load_settings(Settings, NEEDED | {"tcp_keepalive_idle_secs": "60", "tcp_user_timeout_secs": "60"})


def test_upstream_pool_idle_timeout_is_positive_and_below_5_seconds_by_default() -> None:
    assert load_settings(Settings, NEEDED).vllm_proxy_pool_idle_timeout_secs < 5
    for wrong in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(SettingsError, match=r"VLLM_PROXY_POOL_IDLE_TIMEOUT_SECS .* is wrong"):
            load_settings(Settings, NEEDED | {"vllm_proxy_pool_idle_timeout_secs": wrong})


def test_settings_given_as_options_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_NAME", "env-model")
    assert load_settings(Settings, NEEDED).model_name == "org/model"


def test_launch_settings_are_read_without_the_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", "https://vllm:9000/")
    settings = load_settings(LaunchSettings)
    assert (settings.vllm_base_url, settings.listen_port) == ("https://vllm:9000", 8000)
    with pytest.raises(SettingsError, match="LISTEN_PORT"):
        load_settings(LaunchSettings, {"listen_port": "x"})


@pytest.mark.parametrize(
    ("dev", "inspect", "kept"), [("0", "", False), ("1", "", True), ("1", "0", False), ("0", "1", True)]
)
def test_plaintext_is_kept_in_dev_or_if_configured(
    monkeypatch: pytest.MonkeyPatch, dev: str, inspect: str, kept: bool
) -> None:
    monkeypatch.setenv("DEV", dev)
    monkeypatch.setenv("INSPECT_PLAINTEXT", inspect)
    assert load_settings(Settings, NEEDED).keeps_plaintext is kept


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEST_PORT", "")
    monkeypatch.setenv("MODEL_NAME", "")
    assert load_settings(Settings, NEEDED).attest_port == 8001
    with pytest.raises(SettingsError, match="MODEL_NAME is missing"):
        load_settings(Settings, {"token": "s3cret"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_name", " "),
        ("model_name", "a\nb"),
        ("token", "one,,two"),
        ("token", "with space"),
        ("token", "ünï"),
        ("vllm_base_url", "vllm:8000"),
        ("vllm_base_url", "http://vllm:8000/v1"),
        ("vllm_base_url", "http://vllm:port"),
        ("vllm_base_url", "http://user:pw@vllm"),
        ("listen_port", "-1"),
        ("attest_port", "65536"),
        ("attest_port", "none"),
        ("dev", "maybe"),
        ("chat_cache_expiration", "0"),
        ("signature_store", "disk"),
        ("signed_text_format", "xml"),
        ("vllm_proxy_max_request_size", "10MB"),
        ("vllm_images_url", "img:80/v1/images/generations"),
        ("vllm_images_url", "http://img"),
        ("vllm_images_url", "http://img/v1/x?y"),
        ("vllm_images_url", "http://user@img/v1/x"),
        ("vllm_images_url", "http://img:port/v1/x"),
        ("vllm_images_url", "http://img/v1/ü"),
        ("vllm_proxy_timeout_secs", "-1"),
        ("vllm_proxy_timeout_secs", "inf"),
        ("rate_limit_per_second", "-1"),
        ("rate_limit_burst_size", "0"),
        ("drain_seconds", "inf"),
        ("cors_allow_origins", "chat.example"),
        ("cors_allow_origins", "https://chat.example/"),
        ("cors_allow_origins", "*,https://chat.example"),
        ("cors_allow_origins", "https://a.example,"),
        ("source_url", "http://git.example/tee-signer"),
        ("source_url", "javascript:alert(1)"),
        ("source_url", "https://user@git.example/"),
        ("source_url", "https://git.example/a b"),
        ("tls_from_dstack", "yes please"),
        ("tls_alt_names", "chat.example,"),
        ("tls_alt_names", "https://chat.example"),
        ("tls_alt_names", "chat.example:443"),
        ("tls_alt_names", "-chat.example"),
        ("tls_alt_names", "chat.*.example"),
        ("tls_alt_names", "1.2.3"),
        ("tls_alt_names", "a" * 64),
        ("tls_alt_names", "a." * 127 + "a"),
    ],
)
def test_invalid_setting_gives_one_line_with_its_name_and_accepted_values(field: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {**NEEDED, field: value})
    [problem] = caught.value.problems
    assert problem.startswith(f"{field.upper()} (option tee_{field}) is wrong: ")
    assert str(Settings.model_fields[field].description) in problem
    assert "\n" not in problem


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {"attest_port": "x"})
    assert [problem.split()[0] for problem in caught.value.problems] == ["MODEL_NAME", "TOKEN", "ATTEST_PORT"]


def test_settings_errors_and_reprs_do_not_hold_the_token() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {"token": "s3cret with space"})
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__context__)
    assert "s3cret" not in repr(load_settings(Settings, NEEDED))
    assert "s3cret" not in load_settings(Settings, NEEDED).model_dump_json()


def test_tls_alt_names_are_host_names_and_ip_addresses() -> None:
    assert load_settings(Settings, NEEDED).tls_names == ("localhost", "127.0.0.1")
    given = NEEDED | {"tls_alt_names": " chat.example , *.x-1.example,::1,10.0.0.1"}
    assert load_settings(Settings, given).tls_names == ("chat.example", "*.x-1.example", "::1", "10.0.0.1")


@pytest.mark.parametrize("names", ["chat.example,", ",chat.example", "a,,b", "a, ,b", " "])
def test_tls_alt_names_with_an_empty_name_are_refused(names: str) -> None:
    with pytest.raises(SettingsError, match=r"TLS_ALT_NAMES .* is wrong: there is an empty name in it"):
        load_settings(Settings, NEEDED | {"tls_alt_names": names})


def test_tls_from_dstack_with_a_certificate_path_is_refused() -> None:
    given = NEEDED | {"tls_from_dstack": "1", "tls_cert_path": "cert.pem"}
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, given)
    [problem] = caught.value.problems
    assert problem.startswith("TLS_FROM_DSTACK (option tee_tls_from_dstack) is wrong: TLS_CERT_PATH names another")
    assert load_settings(Settings, given | {"tls_from_dstack": "0"}).tls_cert_path is not None
