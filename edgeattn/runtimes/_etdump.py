"""The times by operator that ExecuTorch's event tracer notes in an ETDump."""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

# The event of one of ExecuTorch's own kernels; that of the call around it does not tell its name.
_KERNEL = "native_call_"
# The block of events of one run.
_RUN = "Execute"


def operators(path: Path) -> list[tuple[str, str, int]]:
    """Name, kind and median time in ns of each operator, in order: ExecuTorch's kernels, and what a backend tells of
    its own. The first run lays out memory, and does not count."""
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    dump = deserialize_from_etdump_flatcc(path.read_bytes())
    runs = [list(_events(block)) for block in dump.run_data if block.name == _RUN]
    return [
        # XNNPACK numbers its kernels of one kind: "Convolution (NHWC, F32) IGEMM #2".
        (f"{number} {events[0][0]}", re.sub(r" #\d+$", "", events[0][0]), int(median(time for _, time in events)))
        for number, events in enumerate(zip(*runs[1:], strict=True))
    ]


def _events(block: Any) -> Iterator[tuple[str, int]]:
    for event in (entry.profile_event for entry in block.events or ()):
        name = event and (event.delegate_debug_id_str or (event.name or "").partition(_KERNEL)[2])
        if name:
            yield name, event.end_time - event.start_time
