"""JSON Schemas of the two files that other programs may read, made from their dataclasses:
``python -m edgeattn.bundle.schema FOLDER``."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from edgeattn.bundle import manifest, records
from edgeattn.system import files

# By name of the schema's file.
DOCUMENTS = {"manifest": (manifest.Manifest, manifest.SCHEMA), "records": (records.Records, records.SCHEMA)}


class _Described(GenerateJsonSchema):
    """The docstrings as descriptions, and no titles, which would only repeat the names."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        document = super().dataclass_schema(schema)
        return {"description": inspect.getdoc(schema["cls"]), **document}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(name: str) -> dict[str, Any]:
    """The schema of one of :data:`DOCUMENTS`: of the newest version, which older files fit too."""
    kind, newest = DOCUMENTS[name]
    document = TypeAdapter(kind).json_schema(schema_generator=_Described)
    document["properties"]["schema_version"] |= {"minimum": 1, "maximum": newest}
    return {"$schema": GenerateJsonSchema.schema_dialect, **document}


def text(name: str) -> str:
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write them all, ``NAME.schema.json``."""
    for name in DOCUMENTS:
        files.write(folder / f"{name}.schema.json", text(name).encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
