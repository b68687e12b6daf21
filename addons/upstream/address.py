"""Upstream addresses in `--mode` and the settings: their problems, and the certificates to trust."""

import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult

import certifi
from mitmproxy.options import Options
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode


def mode_problems(options: Options) -> list[str]:
    """Problems of the option `mode`, which names the upstream, a line each."""
    problems = []
    for spec in options.mode:
        try:
            mode = ProxyMode.parse(spec)
        except ValueError as error:
            problems.append(f"the option mode is wrong: {error}")
            continue
        if not isinstance(mode, ReverseMode) or mode.scheme not in ("http", "https"):
            problems.append(f"the option mode must be reverse:http://HOST:PORT or reverse:https://…, not {spec}")
        elif mode.address[1] == mode.listen_port(options.listen_port) and _is_this_machine(mode.address[0]):
            problems.append(
                f"the upstream {spec.partition(':')[2]} is this proxy's own address: name the model's"
                " (VLLM_BASE_URL; under mitmdump, --mode), or have the proxy listen elsewhere (LISTEN_PORT; -p)"
            )
    return problems


def side_port_problems(options: Options, side_port: int) -> list[str]:
    """Conflicts of the side port with other ports, a line each. The modes have been checked already."""
    problems = []
    for mode in map(ProxyMode.parse, options.mode):
        assert isinstance(mode, ReverseMode)  # noqa: S101  # for mypy; mode_problems has seen to it
        if side_port and side_port == mode.listen_port(options.listen_port):
            problems.append(f"ATTEST_PORT {side_port} is the port that clients use, too; set another")
        if side_port == mode.address[1] and _is_this_machine(mode.address[0]):
            problems.append(f"ATTEST_PORT {side_port} is the model server's port; set another")
    return problems


def override_problems(options: Options, overrides: Mapping[str, SplitResult]) -> list[str]:
    """Problems of the endpoints on other servers, a line each. The modes have been checked already."""
    own_ports = {ProxyMode.parse(spec).listen_port(options.listen_port) for spec in options.mode}
    return [
        f"the address {url.geturl()} for {path} is this proxy's own; name another server's"
        for path, url in overrides.items()
        if port_of(url) in own_ports and _is_this_machine(url.hostname or "")
    ]


def upstream_base_url(mode: Sequence[str]) -> str:
    """The base URL of the upstream, e.g. `http://vllm:8000`. The modes have been checked already."""
    spec = ProxyMode.parse(mode[0])
    assert isinstance(spec, ReverseMode)  # noqa: S101  # for mypy; mode_problems has seen to it
    host, port, *_ = spec.address
    return f"{spec.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def upstream_tls(options: Options) -> ssl.SSLContext:
    """The TLS context for an https upstream, which trusts the same certificates as mitmproxy."""
    cafile, capath = options.ssl_verify_upstream_trusted_ca, options.ssl_verify_upstream_trusted_confdir
    if cafile is None and capath is None:
        cafile = certifi.where()
    context = ssl.create_default_context(cafile=cafile, capath=capath)
    if options.ssl_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def port_of(url: SplitResult) -> int:
    """The TCP port of an http or https URL, by default that of the scheme."""
    return url.port or (443 if url.scheme == "https" else 80)


def _is_this_machine(host: str) -> bool:
    """Whether a name or address is this machine's: a socket can be bound only to an address of its own machine."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # a name that does not resolve yet is another machine's
    for family, kind, protocol, _, address in found:
        if ipaddress.ip_address(str(address[0]).partition("%")[0]).is_unspecified:
            return True
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind((address[0], 0))
            except OSError:
                continue
            return True
    return False
