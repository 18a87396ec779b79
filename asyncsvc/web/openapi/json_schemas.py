"""JSON schemas of the types that operations, messages and events declare, for both documents."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

REF = "#/components/schemas/{model}"


class Schemas:
    """The schemas of types, and the components they refer to. `apart` are TypedDicts that declare
    parameters or parts of a message: they are no components."""

    def __init__(self, kinds: Iterable[Any], apart: Iterable[Any] = ()) -> None:
        self._apart = list(apart)
        kinds = dict.fromkeys([*kinds, *self._apart])
        asked = [(kind, "validation", TypeAdapter(kind)) for kind in kinds]
        made, rest = TypeAdapter.json_schemas(asked, ref_template=REF)  # type: ignore[arg-type]
        self._made: dict[Any, dict[str, Any]] = {kind: schema for (kind, _), schema in made.items()}
        self.components: dict[str, Any] = _without_defaults(rest.get("$defs", {}))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type: mostly a reference."""
        return dict(self._made[kind])

    def whole(self, kind: Any) -> dict[str, Any]:
        """The schema of a type, never a reference."""
        schema = self.of(kind)
        if "$ref" in schema:
            schema = dict(self.components[schema["$ref"].rpartition("/")[2]])
        return schema

    def fields(self, kind: Any) -> dict[str, Any]:
        """The properties of a TypedDict."""
        fields: dict[str, Any] = self.whole(kind).get("properties", {})
        return fields

    def named(self) -> dict[str, Any]:
        """The components without the types apart."""
        apart = {kind.__name__ for kind in self._apart}
        return {name: schema for name, schema in self.components.items() if name not in apart}


def _without_defaults(schema: Any) -> Any:
    """The schema with each default in its field's description: generators of types take a field
    with a default for one that is always there."""
    if isinstance(schema, list):
        return [_without_defaults(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _without_defaults(value) for name, value in schema.items()}
    if "default" in found and not isinstance(found["default"], dict):
        default = found.pop("default")
        if default is not None:
            words = f"{found.get('description', '')} (default: `{json.dumps(default)}`)"
            found["description"] = words.strip()
    return found
