"""JSON Schemas of the two files that others may read, made from the dataclasses that describe them:
``python -m edgeattn.bundle.schema FOLDER``."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from edgeattn.bundle import manifest as bundle
from edgeattn.bundle import records
from edgeattn.system import files

# By the name of the schema's file.
DOCUMENTS = {"manifest": (bundle.Manifest, bundle.SCHEMA), "records": (records.Records, records.SCHEMA)}


class _Described(GenerateJsonSchema):
    """The docstrings as descriptions, and no titles, which would only repeat the names."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        made = super().dataclass_schema(schema)
        return {"description": inspect.getdoc(schema["cls"]), **made}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(name: str) -> dict[str, Any]:
    """The schema of one of :data:`DOCUMENTS`: of the newest version, which every older file fits too."""
    kind, newest = DOCUMENTS[name]
    made = TypeAdapter(kind).json_schema(schema_generator=_Described)
    made["properties"]["schema_version"] |= {"minimum": 1, "maximum": newest}
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}


def text(name: str) -> str:
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write them all, ``NAME.schema.json``."""
    for name in DOCUMENTS:
        files.write(folder / f"{name}.schema.json", text(name).encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
