"""All published documents as text, by their place under `ops/`."""

import json

from events.schema.asyncapi import asyncapi
from events.schema.documents import event_schemas, request_schemas
from events.schema.reference import reference


def documents() -> dict[str, str]:
    """Return every document by its path."""
    schemas = event_schemas() | request_schemas() | {"asyncapi": asyncapi()}
    texts = {
        f"schema/{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }
    return texts | {"events.md": reference()}
