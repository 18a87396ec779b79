"""The sections `[log]` and `[otel]`: what the service writes down about itself, and to where."""

from typing import Literal

from pydantic import Field, field_validator

from asyncsvc.config.value_types import Bool, Section, web_address

Level = Literal["debug", "info", "warning", "error"]


class Log(Section):
    level: Level = Field("info", description="debug, info, warning or error: what is logged")
    format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="text or json, a line each; auto: text at a terminal, json where stderr is "
        "none",
    )
    prompts: Bool = Field(
        False,
        description="let lines about tasks hold the beginning of their prompts, and providers' "
        "words, which may repeat them",
    )


class Otel(Section):
    endpoint: str = Field(
        "",
        description="OTLP collector over HTTP, such as http://127.0.0.1:4318, which is sent traces "
        "and metrics; needs the extra otel; empty: none",
    )
    prompts: Bool = Field(
        False, description="let spans hold prompts and answers; they leave the machine then"
    )

    @property
    def on(self) -> bool:
        """Whether spans and metrics are sent."""
        return bool(self.endpoint)

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = web_address(value, "http://127.0.0.1:4318")
        if parts and ("@" in parts.netloc or parts.query or parts.fragment):
            raise ValueError(
                "takes no user, password, ? or #; headers are set by OTEL_EXPORTER_OTLP_HEADERS"
            )
        return value.rstrip("/")
