"""A bundle, measured on one device, or on all that are attached at once; records are saved as they come."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.bundle.manifest import Bundle
from edgeattn.profile import run
from edgeattn.profile.run import Options, Profile
from edgeattn.system import files, parallel
from edgeattn.system.progress import Progress, silent


def measure(
    bundle: Bundle, options: Options, settings: Mapping[str, str], out: Path | None = None, progress: Progress = silent
) -> Profile:
    """Measure on the target of ``options``, or on each device that it may mean, at once.

    Args:
        settings: of the target; which it takes it says itself.
        out: is written after each step, so that whatever happens later costs nothing that was measured before.

    Raises: as :func:`edgeattn.profile.run.profile`; BadInputError, if ``out`` cannot be written.
    """
    files.check(out)
    so_far: dict[str, Profile] = {}
    saving = threading.Lock()

    def keep(one: str, profile: Profile) -> None:
        with saving:
            so_far[one] = profile
            _save(out, run.together(bundle.folder.name, so_far))

    def measured(one: str) -> Profile:
        with targets.connect(one, settings, progress) as connection:
            wanted = replace(options, target=one)
            return run.profile(bundle, connection, wanted, progress, lambda profile: keep(one, profile))

    found = run.together(bundle.folder.name, parallel.each(measured, targets.expand(options.target)))
    _save(out, found)
    return found


def _save(out: Path | None, found: Profile) -> None:
    if out and found.records:
        records.save(out, found.records, found.not_run)
