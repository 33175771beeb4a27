"""CSV for spreadsheets: a line for each record, and each artifact that was not run. Headings have the units."""

import csv
import io
from dataclasses import asdict, fields

from edgeattn.report.document import Document
from edgeattn.report.forms import Form
from edgeattn.report.result import Result
from edgeattn.system.foreign import shown

# A spreadsheet takes a text that begins with one of these for a formula; the last four are full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Csv(Form):
    """A line for each record, and each artifact that was not run."""

    def write(self, document: Document) -> bytes:
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, [field.name for field in fields(Result)], restval="")
        writer.writeheader()
        for result in document.results:
            writer.writerow({name: _value(value) for name, value in asdict(result).items()})
        for entry in document.not_run:
            row = {"artifact": entry.subject, "target": entry.target, "status": "not run", "notes": entry.reason}
            writer.writerow({name: _value(value) for name, value in row.items()})
        return out.getvalue().encode()


def _value(value: object) -> object:
    """A text that a spreadsheet would take for a formula begins with an apostrophe, which it does not show."""
    if isinstance(value, str):
        is_formula = value.lstrip(" \0").startswith(_FORMULA)
        safe = shown(value.encode("utf-8", "replace").decode(), keep="\n")
        return f"'{safe}" if is_formula else safe
    return "" if value is None else value


FORM: Form = Csv()
