"""The settings of the application, from the environment (prefix LONGLEAF_); resolved once, at the edge.

Libraries below this folder read no environment: they are handed what they need.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from longleaf.errors import LongleafError
from longleaf.ingestion import default_home
from longleaf.model import default_models_dir

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """One tree of settings; each field can be set as LONGLEAF_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="LONGLEAF_", extra="forbid", frozen=True)

    home: Path = Field(
        default_factory=default_home, description="Folder of the library: database, files, derived data."
    )
    models_dir: Path = Field(default_factory=default_models_dir, description="Folder of installed models.")
    reader: str = Field(
        "embedded",
        description="Model that writes answers: a name from `longleaf model list`, a model folder, a .gguf file, or "
        "openai:NAME for one of the server at `base_url`.",
    )
    base_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Address of an OpenAI-compatible server, as http://127.0.0.1:8000/v1; its only model is the reader "
        "where no reader is named.",
    )
    reader_key: SecretStr | None = Field(None, min_length=1, description="Key for the server at `base_url`.")
    reader_timeout_s: float = Field(
        600.0, gt=0, description="Seconds that the server at `base_url` may send nothing, as while it reads."
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias="OPENAI_API_KEY",
        description="Sent to OpenAI's own address alone, which openai:NAME then means without a `base_url`.",
    )
    embedder: str = Field("minilm", description="Model that makes vectors of passages.")
    context_tokens: int | None = Field(
        None, ge=512, description="Context that the reader is run with, in tokens; the model's own default if unset."
    )
    n_threads: int | None = Field(None, ge=1, description="CPU threads of the reader; all cores if unset.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the reader runs.")
    quantize: Literal["int8", "int8-experts", "w8a8"] | None = Field(
        None, description="Round the reader's weights to int8 as they are loaded; not for .gguf files."
    )
    readings_budget_bytes: int = Field(
        20_000_000_000, ge=0, description="Room on disk for readings, in bytes; 0 keeps none."
    )
    top_k: int = Field(12, ge=1, le=200, description="Passages searched for evidence.")
    evidence_tokens: int | None = Field(
        None,
        ge=0,
        description="Room for passages and the sections around them on the retrieval route, in tokens; 0 shows single "
        "sentences. Unset: sentences to a reader with a short context, 8,000 tokens to one with a long one.",
    )
    vector_store: str | None = Field(
        None,
        pattern="^postgres(ql)?://",
        description="Where vectors are searched: in an index beside the library if unset, in a PostgreSQL with "
        "pgvector if postgresql://USER@HOST/DATABASE.",
    )
    jobs_url: str | None = Field(
        None,
        pattern="^postgres(ql)?://",
        description="Where jobs are kept: in the library if unset, in a PostgreSQL that several machines share if "
        "postgresql://USER@HOST/DATABASE.",
    )
    ocr: bool = Field(True, description="Read pages without text with tesseract, where it is installed.")
    max_upload_mb: int = Field(500, ge=1, description="Largest file that the browser app takes, in megabytes.")
    password: SecretStr | None = Field(None, min_length=1, description="Asked of everybody who opens the browser app.")
    oidc_metadata_url: str | None = Field(
        None, description="OpenID Connect: address of the identity provider's .well-known/openid-configuration."
    )
    oidc_client_id: str | None = Field(None, description="OpenID Connect: the app's id there.")
    oidc_client_secret: SecretStr | None = Field(None, description="OpenID Connect: the app's secret there.")
    oidc_redirect_uri: str | None = Field(
        None, description="OpenID Connect: where it sends people back to, https://HOST/oauth2callback."
    )
    oidc_allowed: str = Field(
        "", description="Who may come in: addresses and @domains, separated by commas; everybody it knows if unset."
    )
    page_timeout_s: float = Field(
        60.0, gt=0, description="Seconds that one page may take to parse (twice that with OCR)."
    )

    @model_validator(mode="before")
    @classmethod
    def _reader_of_a_server(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # Compose files hand on a variable that is not set as an empty one.
        values = {
            name: value for name, value in values.items() if value != "" or name not in ("base_url", "reader_key")
        }
        return {"reader": "openai:"} | values if "base_url" in values else values

    @property
    def readings_dir(self) -> Path | None:
        """Folder of readings, or None where none are kept."""
        return self.home / "readings" if self.readings_budget_bytes else None


def load_settings(**given: object) -> Settings:
    """The settings from the environment, overridden by what was given and is not None.

    Raises:
        LongleafError: A value is not usable; names the variable and says what is wrong with it.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as exc:
        problem = exc.errors()[0]
        name = "_".join(str(part) for part in problem["loc"]).upper()
        given_value = "" if any(word in name for word in ("PASSWORD", "SECRET", "KEY")) else f" = {problem['input']!r}"
        raise LongleafError(f"LONGLEAF_{name}{given_value}: {problem['msg']}") from exc
