"""Who runs what: for each backend of a file's format, the operators that it takes and those that it leaves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.inspection.inspect import format_of
from edgeattn.runtimes import Backend, Left, Share, backends, check, known_backends


def shares(path: Path, chosen: Sequence[str] = (), where: Mapping[str, str] | None = None) -> tuple[Share, ...]:
    """Ask the backends of a file, those too that run on request only; or the ``chosen`` ones alone.

    Args:
        path: the file.
        chosen: names of backends.
        where: what to call the values of the file, by their names in it.

    Raises:
        ArtifactError: the file has no known format.
        BadInputError: there is no such backend.
    """
    check(chosen)
    format_ = format_of(path)
    names = chosen or [name for name, formats in known_backends().items() if format_ in formats]
    found = []
    for backend in backends(format_, names):
        if backend.arithmetic and not chosen:  # it changes nothing of what a backend takes
            continue
        if backend.missing:
            found.append(_unasked(backend, backend.missing))
        elif ask := backend.runtime.share:
            try:
                found.append(_located(ask(path, backend.variant), where or {}))
            except (ArtifactError, MissingError) as error:
                found.append(_unasked(backend, str(error)))
    return tuple(found)


def _unasked(backend: Backend, why: str) -> Share:
    return Share(backend.label, None, (), None, why)


def _located(share: Share, where: Mapping[str, str]) -> Share:
    left = tuple(replace(each, name=where.get(each.name, each.name)) for each in share.left)
    return replace(share, left=left)


def fallback_limits(texts: Sequence[str]) -> dict[str, int]:
    """NAME=N of each: the most operators that the backends with NAME in their own name may leave.

    Raises:
        BadInputError: it is not that.
    """
    limits = {}
    for text in texts:
        name, separator, number = text.rpartition("=")
        if not separator or not name or not number.isdecimal():
            raise BadInputError(f"--max-fallback takes NAME=N, as gpu=0, not {text!r}")
        limits[name] = int(number)
    return limits


def broken(found: Sequence[Share], *, partitions: int | None, fallback: dict[str, int]) -> tuple[str, ...]:
    """The limits that are not kept, a sentence each; one that could not be checked is not kept."""
    said = []
    for share in found:
        if partitions is not None and share.partitions is not None and share.partitions > partitions:
            said.append(f"{share.backend} makes {share.partitions} partitions, {partitions} allowed")
    for name, most in fallback.items():
        asked = [share for share in found if name in share.backend]
        if not any(share.taken is not None for share in asked):
            said.append(f"no backend with {name!r} in its name could be asked")
        said += (
            f"{share.backend} leaves {len(share.left)} operators, {most} allowed"
            for share in asked
            if share.taken is not None and len(share.left) > most
        )
    return tuple(said)


def reasons(left: Sequence[Left]) -> list[tuple[str, int, str, str]]:
    """Kind, number, reason and the name of one of the operators that are left for it, the most frequent first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in left:
        groups.setdefault((each.kind, each.reason), []).append(each.name)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(kind, len(names), reason, next(filter(None, names), "")) for (kind, reason), names in ordered]
