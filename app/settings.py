"""What a person may set from outside: environment variables that begin with SAEFARI_, or arguments."""

from __future__ import annotations

import math
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

if TYPE_CHECKING:
    from sae_core.endpoint import Endpoint


_HOST = r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_ORIGIN = re.compile(rf"https?://{_HOST}", re.IGNORECASE)
_ORIGINS = re.compile(rf"https?://(?:\*\.)?{_HOST}(?::\*)?", re.IGNORECASE)
_BASE = re.compile(rf"https?://{_HOST}(?!.*/v1/traces$)(?:/[\w.~/-]*)?", re.IGNORECASE)
# Of its own: what browsers themselves send, and what says who asks, cannot also be a name.
_USER_HEADER = re.compile(r"(?!x-forwarded-(?:for|proto|host)$)(?:x|remote)-[a-z0-9-]{1,60}", re.IGNORECASE)


class Settings(BaseSettings):
    """Settings of the server and of the commands; every field has one sentence."""

    model_config = SettingsConfigDict(env_prefix="SAEFARI_", frozen=True, extra="forbid")

    home: Path = Field(
        default=Path("~/.saefari"), description="The folder that holds collections, corpora and caches."
    )
    host: str = Field(default="127.0.0.1", description="The address that the server listens on.")
    port: int = Field(
        default=8000, ge=0, le=65_535, description="The port that the server listens on; 0 picks a free one."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("localhost", "127.0.0.1", "::1", "testserver"),
        description="The names under which the server may be addressed besides its host, separated by "
        "commas; *.example.org allows subdomains, * everything.",
    )
    search_slots: int = Field(
        default=max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="How many searches may run at the same time.",
    )
    search_queue: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="How many searches may wait for a slot before others are turned away.",
    )
    search_rate: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="How many searches a client may ask in a minute; 0: any number.",
    )
    write_rate: int = Field(
        default=0, ge=0, le=100_000, description="How often a client may write in a minute; 0: any number."
    )
    sign_in_rate: int = Field(
        default=20,
        ge=0,
        le=100_000,
        description="How often a client may try to sign in, in a minute; all together 30 times that; 0: any "
        "number.",
    )
    public_url: str = Field(
        default="",
        description="The address under which the world sees this server, as https://explorer.example.org: "
        "for feeds, pictures and frames. Without it they say what the browser asked for.",
    )
    embed_on: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The sites that may show features in frames, separated by commas: https://example.org, "
        "https://*.example.org, or * for all. Without it none may.",
    )
    max_target_bytes: int = Field(
        default=64 * 1024, ge=1_024, description="The longest address that is answered, in bytes."
    )
    max_header_bytes: int = Field(
        default=32 * 1024, ge=1_024, description="The most bytes of headers that a request may have."
    )
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1_024, description="The most bytes that a form may have as it is sent."
    )
    header_seconds: float = Field(
        default=10.0, gt=0, le=3_600, description="How long a request's address and headers may take to come."
    )
    body_seconds: float = Field(
        default=30.0, gt=0, le=3_600, description="How long what follows the headers may take to come."
    )
    idle_seconds: int = Field(
        default=5, ge=1, le=3_600, description="How long a connection is kept for the next request."
    )
    reader_seconds: float = Field(
        default=30.0, gt=0, le=3_600, description="How long a client may take nothing of its answer."
    )
    stop_seconds: float = Field(
        default=10.0, gt=0, le=3_600, description="How long requests in flight may take to end when it stops."
    )
    max_connections: int = Field(
        default=4_096, ge=1, le=1_000_000, description="How many connections a process may have."
    )
    max_client_connections: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="How many of them one client may have; proxies of SAEFARI_TRUSTED_PROXIES any number.",
    )
    arxiv_oai: str = Field(
        default="https://oaipmh.arxiv.org/oai",
        description="The address of arXiv's OAI-PMH interface, or of a mirror of it.",
    )
    llm_api_key: SecretStr = Field(
        default=SecretStr(""),
        description="The key of the language model's endpoint, if it wants one; never written anywhere.",
    )
    embed_base_url: str = Field(
        default="",
        description="The address of the endpoint for embedders openai:MODEL, as http://localhost:11434/v1.",
    )
    embed_api_key: SecretStr = Field(
        default=SecretStr(""),
        description="The key of that endpoint, if it wants one; never written anywhere.",
    )
    embed_seconds: float = Field(
        default=5.0, ge=0.1, le=60, description="How long a visitor's query may wait for that endpoint."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="How many processes answer; they share collections in memory.",
    )
    renew_seconds: float = Field(
        default=5.0,
        ge=0,
        le=86_400,
        description="How often the server looks for what was published since; 0: only when it gets SIGHUP.",
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="The database of what people write, postgresql://user:password@host/name; default: the "
        "file authored.sqlite of the home folder.",
    )
    editing: bool = Field(
        default=False,
        description="Let people with tokens write: labels, notes, short links; needs `saefari db upgrade`.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines of the server's log for people, or for machines."
    )
    log_requests: bool = Field(
        default=False,
        description="Write a line for each request: what, how long, how large; never its query.",
    )
    trust_request_ids: bool = Field(
        default=False, description="Take a request's id from X-Request-Id, which a proxy in front must set."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="The addresses of proxies that may say who asks (X-Forwarded-For) and how "
        "(X-Forwarded-Proto), separated by commas: 127.0.0.1, or a network as 10.0.0.0/8.",
    )
    user_header: str = Field(
        default="",
        description="The header in which proxies of SAEFARI_TRUSTED_PROXIES say which user asks, as "
        "X-Forwarded-User; they must replace what visitors send in it.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="The address that numbers are shown on.")
    metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="The port on which Prometheus finds numbers; 0: none."
    )
    otlp_endpoint: str = Field(
        default="",
        description="The OpenTelemetry collector that gets a span for each request, by OTLP over HTTP, as "
        "http://127.0.0.1:4318; needs the extra otel.",
    )
    reload_templates: bool = Field(
        default=False, description="Read templates again when they change; for people who work on them."
    )

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if value and not _ORIGIN.fullmatch(value):
            raise ValueError("it must be an address without a path, as https://explorer.example.org")
        return value.lower()

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_base(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if value and not _BASE.fullmatch(value):
            raise ValueError("it must be an address without /v1/traces, as http://127.0.0.1:4318")
        return value

    @field_validator("embed_on")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # They go into a header, so nothing may stand beside them.
        origins = tuple(each.rstrip("/").lower() for each in value)
        for each in origins:
            if each != "*" and not _ORIGINS.fullmatch(each):
                raise ValueError(f"{each} is no site: write it as https://example.org, or * for all")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            try:
                ip_network(each)
            except ValueError as error:
                sentence = f"{each} is no address of a proxy: write it as 127.0.0.1, or as 10.0.0.0/8"
                raise ValueError(sentence) from error
        return value

    @field_validator("user_header")
    @classmethod
    def _is_header_of_a_proxy(cls, value: str, info: ValidationInfo) -> str:
        if value and not _USER_HEADER.fullmatch(value):
            raise ValueError("it must be the name of a header of its own, as X-Forwarded-User or Remote-User")
        if value and not info.data.get("trusted_proxies"):
            raise ValueError("nobody would be believed: SAEFARI_TRUSTED_PROXIES must say whose word counts")
        return value

    @field_validator("allowed_hosts", "embed_on", "trusted_proxies", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("home")
    @classmethod
    def _expand_user(cls, value: Path) -> Path:
        return value.expanduser()

    def encoder_endpoint(
        self, *, concurrency: int = 4, timeout: float = 120.0, limit: float = math.inf
    ) -> Endpoint | None:
        """Where embedders openai:MODEL are asked, and how; None if that is not set."""
        from sae_core.endpoint import EMBEDDINGS, Endpoint

        if not self.embed_base_url:
            return None
        key = self.embed_api_key.get_secret_value().strip()
        return Endpoint(self.embed_base_url, "", key, concurrency, timeout, limit, EMBEDDINGS)

    @property
    def collections(self) -> Path:
        """One folder for each collection."""
        return self.home / "collections"

    @property
    def authored_url(self) -> str:
        """The database of what people write. May hold a password: not for messages."""
        given = self.database_url.get_secret_value().strip()
        return given or f"sqlite:///{self.home.absolute() / 'authored.sqlite'}"

    @property
    def corpora(self) -> Path:
        """Where `saefari fetch` puts documents."""
        return self.home / "corpora"


def collect_numbers_in(folder: str) -> None:
    """Let this process and those it starts write their numbers for Prometheus into a folder."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder


def asset_folder(name: str) -> Path:
    """`templates` or `static`: `app/_<name>` in an installed package, else beside `app` in the repository."""
    here = Path(__file__).resolve().parent
    installed = here / f"_{name}"
    return installed if installed.is_dir() else here.parent / name
