"""The command line of `tee-signer`, without a proxy. tests/e2e/test_launcher.py tests it with one."""

import socket
from pathlib import Path
from typing import Any

import pytest

from addons.launcher import production, supervisor
from addons.launcher.command import MAX_WORKERS, main, run_proxy
from addons.launcher.production import ProxyArguments, StartError
from addons.launcher.supervisor import SupervisorConfig
from addons.lifecycle.worker_context import WorkerContext
from attest_web.settings import CERTS_PROBLEM, SettingsError


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODEL_NAME": "m", "TOKEN": "t", "DEV": "1", "LISTEN_PORT": "4000"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VLLM_BASE_URL", "http://vllm:9000")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the proxy was run with."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(production, "run", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[SupervisorConfig]:
    """What a supervisor was started with."""
    configs: list[SupervisorConfig] = []

    def supervise(config: SupervisorConfig) -> int:
        configs.append(config)
        return 7

    monkeypatch.setattr(supervisor, "supervise", supervise)
    return configs


def test_command_without_workers_runs_the_proxy_in_this_process(
    ran: list[tuple[Any, ...]], supervised: list[SupervisorConfig]
) -> None:
    assert main([]) == 0
    [(arguments, inherited, attached)] = ran
    assert arguments == ProxyArguments("http://vllm:9000", 4000)
    assert (inherited, attached) == (None, None)
    assert supervised == []


def test_command_passes_its_arguments_to_the_proxy(ran: list[tuple[Any, ...]]) -> None:
    given = ["--listen-host", "::1", "--certs", "a.pem", "--certs", "x=b.pem", "--set", "a=1", "--set", "b=2", "-q"]
    assert main(given) == 0
    assert ran[0][0] == ProxyArguments(
        "http://vllm:9000", 4000, "::1", certs=("a.pem", "x=b.pem"), options=("a=1", "b=2"), verbosity="error"
    )


@pytest.mark.parametrize(("flags", "verbosity"), [([], "info"), (["-q"], "error"), (["-v"], "debug")])
def test_command_quiet_and_verbose_flags_set_the_verbosity(
    ran: list[tuple[Any, ...]], flags: list[str], verbosity: str
) -> None:
    assert main(flags) == 0
    assert ran[0][0].verbosity == verbosity


def test_command_in_a_worker_listens_on_the_port_of_its_supervisors_socket(ran: list[tuple[Any, ...]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = WorkerContext(listener=listener)
        assert run_proxy(["--workers", "2"], context) == 0
        assert ran[0][0].listen_port == listener.getsockname()[1]
        assert ran[0][1] is context


def test_command_start_error_is_one_line_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise StartError("no such option")

    monkeypatch.setattr(production, "run", refuse)
    assert main([]) == 1
    assert capsys.readouterr().err == "tee-signer: no such option\n"


def test_command_prints_one_line_per_settings_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise SettingsError(["one", "two"])

    monkeypatch.setattr(production, "run", refuse)
    assert main([]) == 1
    assert capsys.readouterr().err == "tee-signer: one\ntee-signer: two\n"


def test_command_with_workers_runs_a_supervisor_with_all_arguments(
    ran: list[tuple[Any, ...]], supervised: list[SupervisorConfig]
) -> None:
    given = ["--workers", "3", "--listen-host", "127.0.0.1", "-v", "--set", "tee_model_name=other", "--set", "a=1"]
    assert main(given) == 7
    [config] = supervised
    assert (config.arguments, config.workers) == (given, 3)
    assert (config.listen_host, config.verbosity) == ("127.0.0.1", "debug")
    assert config.read_settings().model_name == "other"
    assert ran == []


def test_command_rereads_the_env_file_each_time_the_settings_are_requested(
    supervised: list[SupervisorConfig], tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("MODEL_NAME=first\n")
    main(["--workers", "1", "--env-file", str(file)])
    [config] = supervised
    assert config.read_settings().model_name == "first"
    file.write_text("MODEL_NAME=second\n")
    assert config.read_settings().model_name == "second"
    file.write_text("")
    assert config.read_settings().model_name == "m", "what is no longer in the file is what it was before"


@pytest.mark.parametrize("given", [["--certs", "a.pem"], ["--set", "certs=a.pem"]])
def test_command_with_certs_beside_tls_from_dstack_is_refused_before_a_worker_starts(
    supervised: list[SupervisorConfig], monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    monkeypatch.setenv("TLS_FROM_DSTACK", "1")
    main(["--workers", "2", *given])
    with pytest.raises(SettingsError) as raised:
        supervised[0].read_settings()
    assert raised.value.problems == [CERTS_PROBLEM]


@pytest.mark.parametrize("count", ["0", "-1", "many", str(MAX_WORKERS + 1), "1.5", "²"])
def test_command_with_an_invalid_number_of_workers_is_refused(
    count: str, supervised: list[SupervisorConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main([f"--workers={count}"])
    assert exited.value.code == 2
    assert f"it must be a number from 1 to {MAX_WORKERS}" in capsys.readouterr().err
    assert supervised == []


def test_command_accepts_the_maximum_number_of_workers(supervised: list[SupervisorConfig]) -> None:
    assert main(["--workers", str(MAX_WORKERS)]) == 7


def test_command_help_lists_settings_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "  MODEL_NAME" in shown
    assert "[required]" in shown
    assert "  CHAT_CACHE_EXPIRATION" in shown
    assert "[1200]" in shown
    assert "None" not in shown
