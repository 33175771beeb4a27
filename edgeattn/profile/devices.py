"""Measures a bundle on one device, or on several attached devices at once, and saves records as they come."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.bundle.manifest import Bundle
from edgeattn.errors import BadInputError
from edgeattn.profile import run
from edgeattn.profile.run import Options, Profile
from edgeattn.system import files, parallel
from edgeattn.system.progress import Progress, silent


def measure(
    bundle: Bundle, options: Options, settings: Mapping[str, str], out: Path | None = None, progress: Progress = silent
) -> Profile:
    """Measure on the target of ``options``; if it means several devices, on all of them at once.

    Args:
        settings: the target's settings, which it checks itself.
        out: the file of records; it is written after each step, so that a later failure loses no measurement.

    Raises: as :func:`edgeattn.profile.run.profile`; BadInputError, if ``out`` cannot be written, or options do not go
        together.
    """
    options.check()
    if options.seconds is not None and "cool_down" in settings:
        raise BadInputError("--for shows a device that gets warm, and --cool-down waits until it is not; leave one out")
    files.check(out)
    profiles: dict[str, Profile] = {}
    saving = threading.Lock()

    def save(target: str, profile: Profile) -> None:
        with saving:
            profiles[target] = profile
            _save(out, run.merge(bundle.folder.name, profiles))

    def measure_target(target: str) -> Profile:
        with targets.connect(target, settings, progress) as connection:
            target_options = replace(options, target=target)
            return run.profile(bundle, connection, target_options, progress, lambda profile: save(target, profile))

    result = run.merge(bundle.folder.name, parallel.each(measure_target, targets.expand(options.target)))
    _save(out, result)
    return result


def _save(out: Path | None, profile: Profile) -> None:
    if out and profile.records:
        records.save(out, profile.records, profile.not_run)
