"""What the records of a study say: one file a study, ``section(records) -> Section``; found by the study's name."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from edgeattn.records import Record
from edgeattn.report.document import Section

# In the order of a report; a study that is not named here has no section of its own.
STUDIES = ("layout", "scaling", "mobilevit")


def sections(records: Sequence[Record]) -> Iterator[Section]:
    """A section for each study that has records among these. It needs matplotlib."""
    for name in STUDIES:
        own = [record for record in records if record.labels.get("study") == name]
        if own:
            yield import_module(f"edgeattn.report.studies.{name}").section(own)
