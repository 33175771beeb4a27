"""What was measured on several devices at once, as one."""

from collections.abc import Mapping

from edgeattn.errors import EdgeAttnError
from edgeattn.records import NotRun
from export.parallel import InterruptedTargetError
from export.profile import Profile


def together(bundle: str, found: Mapping[str, Profile | EdgeAttnError]) -> Profile:
    """The records of all targets; a target that failed is listed as not run.

    Raises:
        EdgeAttnError: the first of their errors, if all of them failed.
    """
    profiles = [one for one in found.values() if isinstance(one, Profile)]
    errors = {target: one for target, one in found.items() if isinstance(one, EdgeAttnError)}
    if not profiles:
        raise next(iter(errors.values()))
    not_run = [entry for profile in profiles for entry in profile.not_run]
    not_run += [NotRun(bundle, target, str(error)) for target, error in errors.items()]
    failed = bool(errors) or any(profile.failed for profile in profiles)
    interrupted = any(profile.interrupted for profile in profiles)
    interrupted = interrupted or any(isinstance(error, InterruptedTargetError) for error in errors.values())
    records = tuple(record for profile in profiles for record in profile.records)
    return Profile(records, tuple(not_run), failed, interrupted)
