"""The settings: read once at the start, from the environment or from given values, and named when they are wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from attest_web import setting_values
from attest_web.store_address import MemoryAddress, StoreAddress, parse_address

LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(setting_values.lower_case),
]
EndpointUrl = Annotated[str, AfterValidator(setting_values.endpoint_url)]


def _endpoint(name: str) -> Any:
    return Field(
        default=None,
        description=f"the full address of another server's /v1/{name}; by default the model server's own",
    )


CERTS_PROBLEM = (
    "TLS_FROM_DSTACK=1 has dstack make the key and certificate of TLS: leave out --certs, or set TLS_FROM_DSTACK=0"
)
"""The error if mitmproxy's option `certs` is set together with that setting."""


class LaunchSettings(BaseSettings):
    """The settings that are needed before mitmproxy starts, by launchers that take no options for them."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True, protected_namespaces=()
    )

    vllm_base_url: Annotated[str, AfterValidator(setting_values.base_url)] = Field(
        default="http://localhost:8000",
        description="where the model server listens, e.g. http://vllm:8000 or http://[2001:db8::1]:8000 (under"
        " mitmdump, --mode reverse:… says it)",
    )
    listen_port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="the port that clients use, 1 to 65535; 0 takes a free one (under mitmdump, -p says it)",
    )


class Settings(LaunchSettings):
    """All settings of this proxy. The environment variable is the field's name in capitals."""

    model_name: Annotated[str, AfterValidator(setting_values.printable_name)] = Field(
        description="the name of the served model, e.g. Qwen/Qwen2.5-7B-Instruct"
    )
    token: Annotated[SecretStr, AfterValidator(setting_values.bearer_tokens)] = Field(
        description="the bearer token that clients must send, or several separated by commas"
    )
    attest_port: int = Field(
        default=8001,
        ge=0,
        le=65535,
        description="the side port of the proof pages, 1 to 65535; 0 takes a free one",
    )
    dev: bool = Field(default=False, description="1 signs with random keys that no attestation covers; 0 or 1")
    chat_cache_expiration: int = Field(
        default=1200, ge=1, description="how long a signature can be fetched, in seconds, 1 or more"
    )
    signature_store: Annotated[StoreAddress, PlainValidator(parse_address), PlainSerializer(str)] = Field(
        default=MemoryAddress(),
        description="where signatures are kept: memory; sqlite:///FILE for several processes; redis://HOST, rediss://, "
        "redis+sentinel:// or redis+cluster:// for several machines",
    )
    signed_text_format: Literal["hashes", "model"] = Field(
        default="hashes",
        description="what is signed: hashes, or model to put the model's name in front of them",
    )
    allow_request_hash_header: bool = Field(
        default=False,
        description="1 signs the X-Request-Hash that a client sends instead of its body's hash; 0 or 1",
    )
    vllm_proxy_max_request_size: int = Field(
        default=10 * 2**20, ge=1, description="the largest request body, in bytes, 1 or more"
    )
    vllm_proxy_max_image_request_size: int = Field(
        default=50 * 2**20, ge=1, description="the largest request body to the image endpoints, in bytes, 1 or more"
    )
    vllm_proxy_max_audio_request_size: int = Field(
        default=100 * 2**20, ge=1, description="the largest request body to the transcriptions, in bytes, 1 or more"
    )
    vllm_images_url: EndpointUrl | None = _endpoint("images/generations")
    vllm_images_edits_url: EndpointUrl | None = _endpoint("images/edits")
    vllm_transcriptions_url: EndpointUrl | None = _endpoint("audio/transcriptions")
    vllm_rerank_url: EndpointUrl | None = _endpoint("rerank")
    vllm_score_url: EndpointUrl | None = _endpoint("score")
    vllm_proxy_timeout_secs: float = Field(
        default=3600,
        gt=0,
        allow_inf_nan=False,
        description="how long the model server may take to begin an answer or to go on with it, in seconds, above 0",
    )
    inspect_plaintext: bool | None = Field(
        default=None,
        description="1 keeps prompts and answers in flows, which mitmweb shows and -w saves; by default as DEV; 0 or 1",
    )
    keep_flows: int = Field(
        default=1000, ge=1, description="how many flows mitmweb and the console list at most, 1 or more"
    )
    rate_limit_per_second: int = Field(
        default=100, ge=0, description="requests a second that one client address may make in the long run; 0: no limit"
    )
    rate_limit_burst_size: int = Field(
        default=200, ge=1, description="requests that one client address may make at once, 1 or more"
    )
    rate_limit_no_trust_proxy: bool = Field(
        default=False,
        description="1 takes the peer address as the client; 0 trusts the last entry of X-Forwarded-For, or else "
        "X-Real-IP, from private addresses; 0 or 1",
    )
    log_level: LogLevel = Field(
        default="info", description="how much is logged: debug, info, warning or error; -q and -v go before it"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="how the log is written: text for people, json for machines"
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(setting_values.collector_url)] | None = Field(
        default=None,
        description="where traces go (OTLP over HTTP), e.g. http://collector:4318; needs the extra otel. The other "
        "variables of OpenTelemetry hold too",
    )
    cors_allow_origins: Annotated[str, AfterValidator(setting_values.cors_origins)] = Field(
        default="*",
        description="the origins whose scripts may read answers in a browser, separated by commas; * for any, or none",
    )
    drain_seconds: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="how long requests under way may take to finish after SIGTERM, in seconds, 0 or more",
    )
    vllm_proxy_max_keepalive: int = Field(
        default=100,
        ge=0,
        description="how many idle connections to the model server are kept, 0 or more; 0 makes a new one each time",
    )
    vllm_proxy_pool_idle_timeout_secs: float = Field(
        default=4,
        gt=0,
        allow_inf_nan=False,
        description="how long an idle connection to the model server is kept, in seconds, above 0; less than the server"
        " keeps it (uvicorn, and so vLLM: 5)",
    )
    client_header_timeout_secs: float = Field(
        default=30,
        gt=0,
        allow_inf_nan=False,
        description="how long a client may take for a TLS handshake, and for a request's head, in seconds, above 0",
    )
    client_body_timeout_secs: float = Field(
        default=60,
        gt=0,
        allow_inf_nan=False,
        description="how long a client may make no progress in a request's body, in seconds, above 0",
    )
    client_body_min_rate: int = Field(
        default=1024,
        ge=1,
        description="how fast a request's body must come on average, beyond a pause of CLIENT_BODY_TIMEOUT_SECS, in "
        "bytes a second, 1 or more",
    )
    client_body_deadline_secs: float = Field(
        default=300,
        gt=0,
        allow_inf_nan=False,
        description="how long a JSON body may take that is held until it is complete, as those of up to 1 MiB are, in "
        "seconds, above 0",
    )
    max_buffered_body_bytes: int = Field(
        default=256 * 2**20,
        ge=2**20,
        description="the memory that waiting request bodies may take, over all clients, in bytes, 1048576 or more",
    )
    client_idle_timeout_secs: float = Field(
        default=120,
        gt=0,
        allow_inf_nan=False,
        description="how long a client's connection may stay open between requests, in seconds, above 0",
    )
    max_connections: int = Field(
        default=4096,
        ge=1,
        description="how many connections clients may have open at once, 1 or more; and a quarter of that number "
        "besides, at the side port",
    )
    max_connections_per_client: int | None = Field(
        default=None,
        ge=0,
        description="how many of MAX_CONNECTIONS one client address may have open, 0 or more; 0: no limit; by default "
        "a quarter of them. It does not hold for proxies that are believed, see RATE_LIMIT_NO_TRUST_PROXY",
    )
    tcp_keepalive_idle_secs: int = Field(
        default=30,
        ge=1,
        le=32767,  # as Linux has it
        description="how long a connection to a client or to the model server may be silent before the kernel asks "
        "whether the other side is there, in seconds, 1 to 32767",
    )
    tcp_user_timeout_secs: int = Field(
        default=120,
        ge=2,
        le=86400,
        description="how long the other side of a connection may give no sign, or take nothing of what is sent, before "
        "it counts as gone, in seconds, 2 to 86400, and more than TCP_KEEPALIVE_IDLE_SECS",
    )
    tls_cert_path: Path | None = Field(
        default=None, description="the certificate that clients see, in PEM; reports can then bind its key"
    )
    tls_from_dstack: bool = Field(
        default=False,
        description="1 speaks TLS with a key that dstack's guest agent makes and that is in memory alone, in place of "
        "--certs and TLS_CERT_PATH; 0 or 1",
    )
    tls_alt_names: Annotated[str, AfterValidator(setting_values.alternative_names)] = Field(
        default="localhost,127.0.0.1",
        description="the host names and IP addresses that TLS_FROM_DSTACK's certificate is for, separated by commas",
    )
    attestation_cache_ttl: int = Field(
        default=300, ge=2, description="how old a report without a nonce may be, in seconds, 2 or more"
    )
    attestation_public: bool = Field(default=False, description="1 serves reports without a token; 0 or 1")
    gpu_no_hw_mode: bool = Field(
        default=False, description="1 shows NVIDIA's canned evidence, which proves nothing; 0 or 1"
    )
    gpu_python: Path | None = Field(
        default=None,
        description="the Python that has nv-attestation-sdk; by default .venv-gpu's, which scripts/setup makes",
    )
    git_revision: str | None = Field(
        default=None,
        description="the revision that /version names; by default that of the checkout, if it is one",
    )
    source_url: Annotated[str, AfterValidator(setting_values.https_url)] | None = Field(
        default=None,
        description="where the source of this release is, for readers of the page at /, e.g. https://git.example/tee-signer",
    )

    @field_validator("tls_from_dstack")
    @classmethod
    def _one_certificate(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("tls_cert_path") is not None:
            raise ValueError("TLS_CERT_PATH names another certificate; unset one of the two")
        return value

    @field_validator("tcp_user_timeout_secs")
    @classmethod
    def _time_for_probes(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("tcp_keepalive_idle_secs", 0):
            raise ValueError("it is not more than TCP_KEEPALIVE_IDLE_SECS")
        return value

    @property
    def tls_names(self) -> tuple[str, ...]:
        """The names of `TLS_ALT_NAMES`."""
        return tuple(name.strip() for name in self.tls_alt_names.split(","))

    @property
    def keeps_plaintext(self) -> bool:
        """Whether prompts and responses may stay in flows."""
        return self.dev if self.inspect_plaintext is None else self.inspect_plaintext

    @property
    def cors_origins(self) -> frozenset[str]:
        """The origins of `CORS_ALLOW_ORIGINS`; `*` stands for all."""
        none = self.cors_allow_origins == "none"
        return frozenset() if none else frozenset(origin.strip() for origin in self.cors_allow_origins.split(","))

    @property
    def signed_model(self) -> str | None:
        """The model name in the signed text; None if the text has only the hashes."""
        return self.model_name if self.signed_text_format == "model" else None


class SettingsError(ValueError):
    """One or more settings are missing or wrong; `problems` has one line for each, which names it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_settings[T: LaunchSettings](kind: type[T], given: Mapping[str, str] | None = None) -> T:
    """Read settings from the environment.

    Args:
        kind: Which settings to read.
        given: Values by field name, which take precedence over the environment.

    Raises:
        SettingsError: A setting is missing or malformed. No message holds a secret.
    """
    given = given or {}
    try:
        return kind(**given)  # type: ignore[arg-type]  # pydantic parses the strings
    except ValidationError as error:
        problems = []
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            field = str(detail["loc"][0]).lower()
            how = f"option tee_{field}" if field in given else "environment"
            wanted = kind.model_fields[field].description
            if detail["type"] == "missing":
                problem = f"{field.upper()} is missing: {wanted}. Set it in the environment or with --set tee_{field}=…"
            else:
                reason = detail["msg"].removeprefix("Value error, ")
                problem = f"{field.upper()} ({how}) is wrong: {reason}. Wanted: {wanted}"
            problems.append(problem)
        raise SettingsError(problems) from None
