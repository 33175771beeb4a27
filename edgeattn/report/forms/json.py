"""The report for programs: the verdict, every figure with its unit in its name, tables, picture descriptions."""

import json
from dataclasses import asdict
from typing import Any

from edgeattn.report.document import Document, Part, Picture, Table, Text
from edgeattn.report.forms import Form

SCHEMA = 1


class Json(Form):
    """For programs."""

    def write(self, document: Document) -> bytes:
        value = {
            "schema_version": SCHEMA,
            "title": document.title,
            "subtitle": document.subtitle,
            "verdict": [asdict(statement) for statement in document.verdict],
            "results": [asdict(result) for result in document.results],
            "not_run": [asdict(entry) for entry in document.not_run],
            "sections": [
                {"title": section.title, "lead": section.lead, "parts": [_part(part) for part in section.parts]}
                for section in document.sections
            ],
        }
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"kind": "text", "text": part.text}
    if isinstance(part, Picture):
        return {"kind": "picture", "title": part.title, "description": part.description}
    assert isinstance(part, Table)
    names = [column.name for column in part.columns]
    rows = [{name: _cell(cell.text, cell.detail) for name, cell in zip(names, row, strict=True)} for row in part.rows]
    return {"kind": "table", "title": part.title, "note": part.note, "rows": rows}


def _cell(text: str, detail: str) -> str:
    return f"{text} ({detail})" if detail else text


FORM: Form = Json()
