"""`edgeattn inspect` in a process of its own: `python _inspect_child.py BYTES SECONDS FOLDER FILE`, FOLDER being
edgeattn's.

It writes one JSON document to standard output: the inspection, or the class and the sentence of an error.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    memory_bytes, seconds, folder, file = sys.argv[1:]
    sys.path.append(folder)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    from dataclasses import asdict

    from pydantic_core import to_json

    from edgeattn.errors import EdgeAttnError
    from edgeattn.inspection import _open_child as _probe
    from edgeattn.inspection import inspect as inspection
    from edgeattn.system.vendor_errors import first_line

    _probe.limit(int(memory_bytes), int(seconds))
    document: dict[str, object]
    try:
        document = {"found": asdict(inspection.inspect(Path(file)))}
    except EdgeAttnError as error:
        document = {"error": [type(error).__name__, str(error)]}
    except MemoryError:
        os._exit(_probe.MEMORY)
    except Exception as error:  # noqa: BLE001  # a traceback here would reach nobody
        document = {"error": ["ArtifactError", f"{file} cannot be read: {first_line(error)}"]}
    out.write(to_json(document))
    out.close()
    # Without any destructor of a library that was given a hostile file.
    os._exit(0)


if __name__ == "__main__":
    main()
