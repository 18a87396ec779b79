"""`GET /settings`: what is in force and where it comes from, without any secret."""

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import to_jsonable_python
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from asyncsvc.access import Permission
from asyncsvc.config.diff import Effect, in_force, shown
from asyncsvc.config.load import variable_of
from asyncsvc.config.secrets import redacted
from asyncsvc.config.settings import Settings
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import operation, resource
from asyncsvc.web.http.state import services


class Setting(TypedDict):
    """One value; *** stands for what is not shown."""

    name: Annotated[str, Field(description="its full name in the file")]
    value: Any
    source: Literal["default", "file", "environment", "command line"]
    default: Annotated[Any, Field(description="null also where there is none")]
    variable: Annotated[str, Field(description="the variable that sets it")]
    takes_effect: Annotated[Effect, Field(description="when a reload finds another value")]
    about: str | None


class SettingsInForce(TypedDict):
    """All settings of the service, by section."""

    settings: list[Setting]


@operation(scope=Permission.ADMIN, answer=SettingsInForce)
async def settings(request: Request) -> Response:
    """GET /settings: each value in force, where it comes from, and when a new one takes effect.

    Keys of providers and tokens are never shown: the settings only name the variables that hold
    them.
    """
    return JSON({"settings": _rows(services(request).settings)})


def _rows(found: Settings) -> list[Setting]:
    return [
        {
            "name": ".".join(parts),
            "value": _plain(value),
            "source": found.sources.get(".".join(parts), "default"),  # type: ignore[typeddict-item]
            "default": None if info.is_required() else _plain(shown(parts[-1], info.get_default())),
            "variable": variable_of(*parts),
            "takes_effect": effect,
            "about": info.description,
        }
        for parts, value, info, effect in in_force(found)
    ]


def _plain(value: Any) -> Any:
    """The value as JSON has it, without what is shaped like a key, wherever it stands."""
    value = to_jsonable_python(value)
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {redacted(name): _plain(one) for name, one in value.items()}
    return value


ROUTES = [resource("/settings", GET=settings)]
