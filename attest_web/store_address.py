"""Parses `SIGNATURE_STORE`, the address of the signature store.

    memory
    sqlite:///run/tee-signer/signatures.db
    redis[s]://[[user]:password@]host[:6379][/database]
    redis[s]+sentinel://[[user]:password@]host[:26379],host2,…/service[/database]
    redis[s]+cluster://[[user]:password@]host[:6379],host2,…

With `rediss` all connections are encrypted, and certificates checked; `?ssl_ca_certs=`, `ssl_certfile=` and
`ssl_keyfile=` name files in PEM. Sentinels with a password of their own take it from `?sentinel_password=`. Special
characters in a user, a password or a service are percent-encoded.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_SCHEME = re.compile(r"(rediss?)(?:\+(sentinel|cluster))?")


@dataclass(frozen=True)
class MemoryAddress:
    """In this process."""

    def __str__(self) -> str:
        return "memory"


@dataclass(frozen=True)
class SqliteAddress:
    """In a file, for all processes of a machine."""

    path: Path

    def __str__(self) -> str:
        return f"sqlite://{self.path}"


@dataclass(frozen=True)
class RedisAddress:
    """In Redis, Valkey or another server with their protocol. The repr has no passwords.

    Attributes:
        kind: Whether the hosts are a server, sentinels or a cluster.
        hosts: Names and ports; one for a single server.
        service: The sentinels' name for the servers.
        tls_files: Names of files, by redis-py's names of the options.
    """

    kind: Literal["server", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    database: int = 0
    service: str = ""
    tls: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "server" else f"+{self.kind}")
        return f"{scheme}://" + ",".join(f"{host}:{port}" for host, port in self.hosts)


StoreAddress = MemoryAddress | SqliteAddress | RedisAddress


def parse_address(text: object) -> StoreAddress:
    """Parse an address.

    Raises:
        ValueError: It is not a valid address; the message does not quote it.
    """
    if isinstance(text, StoreAddress):
        return text
    if text == "memory":
        return MemoryAddress()
    try:
        url = urlsplit(str(text).strip())
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
    except ValueError:  # its message quotes the address
        raise ValueError("it is no address") from None
    if url.scheme == "sqlite":
        if url.netloc or not url.path.strip("/") or url.path.endswith("/") or url.query or url.fragment:
            raise ValueError(
                "a sqlite address is sqlite:// and the absolute path of a file, sqlite:///run/x/signatures.db"
            )
        return SqliteAddress(Path(unquote(url.path)))
    scheme = _SCHEME.fullmatch(url.scheme)
    if scheme is None or url.fragment:
        raise ValueError("it is neither memory nor a sqlite:// or redis:// address")
    return _redis(url, options, tls=scheme[1] == "rediss", kind=scheme[2] or "server")


def _redis(url: SplitResult, options: dict[str, str], *, tls: bool, kind: str) -> RedisAddress:
    user, at, netloc = url.netloc.rpartition("@")
    username, _, password = user.partition(":")
    if at and not password:
        raise ValueError("there is a user without a password in front of the @")
    hosts = tuple(_host(host, 26379 if kind == "sentinel" else 6379) for host in netloc.split(","))
    service, database = "", url.path.strip("/")
    if kind == "sentinel":
        service, _, database = database.partition("/")
        if not service:
            raise ValueError("behind the sentinels' hosts there is no name of a service")
    elif kind == "server" and len(hosts) > 1:
        raise ValueError("several hosts are those of redis+sentinel:// or redis+cluster://")
    if not re.fullmatch(r"[0-9]{0,5}", database) or (kind == "cluster" and database):
        raise ValueError("the database is not a number, or there is one for a cluster, which has none")
    sentinel_password = options.pop("sentinel_password", None) if kind == "sentinel" else None
    if options.keys() - (_TLS_FILES if tls else ()):
        raise ValueError("it has an option that is not known, or TLS files without rediss://")
    return RedisAddress(
        kind=kind,  # type: ignore[arg-type]  # what the pattern lets through
        hosts=hosts,
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_password=sentinel_password,
        database=int(database or 0),
        service=unquote(service),
        tls=tls,
        tls_files=tuple(sorted(options.items())),
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < (port := int(match[3] or default_port)) < 65536:
        raise ValueError("a host is missing, or a name, address or port is not one")
    return match[1] or match[2], port
