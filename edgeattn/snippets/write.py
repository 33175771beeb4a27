"""From a bundle's manifest to the program: chooses the artifact and the way, and fills in the language's template."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.parity.recommend import recommend
from edgeattn.parity.verdicts import stored
from edgeattn.snippets.facts import facts
from edgeattn.snippets.languages import LANGUAGES, Language, Way
from edgeattn.system.foreign import sentence
from edgeattn.system.plugins import require

# What a recommended artifact may lose of top-1, in points, as in an export.
_MAX_ACCURACY_DROP = 0.5
_COLUMNS = 110


@dataclass(frozen=True)
class Snippet:
    """A program: ``artifact`` is the name of the file that it loads, ``compiled`` says what edgeattn's own tests do
    with programs of its kind."""

    artifact: str
    language: str
    code: str
    compiled: str


def snippet(
    bundle: Bundle,
    language: str,
    artifact: str | None = None,
    *,
    threads: int | None = None,
    delegate: str | None = None,
) -> Snippet:
    """The program in ``language`` that loads an artifact and runs it.

    Args:
        artifact: its file in the bundle; None is the recommended one of the first format that the language runs.
        threads: of the runtime; None is 1, with which `edgeattn profile` measures too.
        delegate: what runs the operators (xnnpack, gpu, ...); None is the runtime's own choice for the CPU, or all
            units of Core ML.

    Raises:
        BadInputError: there is no such language, artifact or delegate, or they do not go together.
        MissingError: jinja2 is not installed.
    """
    if language not in LANGUAGES:
        raise BadInputError(f"there is no snippet in {language!r}; choose from {', '.join(LANGUAGES)}")
    spoken = LANGUAGES[language]
    chosen = _named(bundle, artifact) if artifact else _default(bundle, language)
    if chosen.format not in spoken.ways:
        raise BadInputError(f"{language} does not run {chosen.file.path} ({chosen.format}): {_known()}")
    way = spoken.ways[chosen.format]
    if foreign := _foreign(way, chosen):
        raise BadInputError(
            f"{way.runtime} takes no {_and(foreign)} at the edges of {chosen.file.path}: take another artifact, or "
            "export it without --edge-type own"
        )
    delegate = delegate or next(iter(way.delegates))
    if delegate not in way.delegates:
        raise BadInputError(
            f"{language} has no delegate {delegate!r} in {way.runtime}; choose from {', '.join(way.delegates)}"
        )
    if threads is not None and threads < 1:
        raise BadInputError(f"threads must be at least 1, not {threads}")
    if threads is not None and not way.threads:
        raise BadInputError(f"{way.runtime} chooses its own threads; leave out --threads")
    code = _render(bundle, language, chosen, threads or 1, delegate)
    return Snippet(chosen.file.path, language, code, way.checked_with(delegate))


def _known() -> str:
    return "; ".join(f"{name} runs {_and(language.ways)}" for name, language in LANGUAGES.items())


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _foreign(way: Way, artifact: Artifact) -> list[str]:
    """The types of its inputs and outputs that the runtime lacks."""
    types = dict.fromkeys(edge.dtype for edge in (*artifact.inputs, *artifact.outputs))
    return [dtype for dtype in types if way.edges and dtype not in way.edges]


def _named(bundle: Bundle, name: str) -> Artifact:
    for artifact in bundle.manifest.artifacts:
        if artifact.file.path == name:
            return artifact
    names = ", ".join(artifact.file.path for artifact in bundle.manifest.artifacts)
    raise BadInputError(f"{bundle.folder} has no artifact {name!r}; it has {names}")


def _default(bundle: Bundle, language: str) -> Artifact:
    artifacts = bundle.manifest.artifacts
    for format_, way in LANGUAGES[language].ways.items():
        of_it = [artifact for artifact in artifacts if artifact.format == format_ and not _foreign(way, artifact)]
        if of_it:
            return next((a for a in of_it if a.file.path in _recommended(bundle)), of_it[0])
    has = ", ".join(dict.fromkeys(artifact.format for artifact in artifacts))
    raise BadInputError(f"{language} runs no artifact of {bundle.folder}, which has {has or 'none'}: {_known()}")


def _recommended(bundle: Bundle) -> set[str]:
    try:
        report, _ = stored(bundle)
    except ArtifactError:  # another tool may have made the bundle
        return set()
    return {choice.artifact for choice in recommend(bundle, report, _MAX_ACCURACY_DROP)}


def _render(bundle: Bundle, language: str, artifact: Artifact, threads: int, delegate: str) -> str:
    require("jinja2", extra="report")
    spoken, manifest = LANGUAGES[language], bundle.manifest
    way = spoken.ways[artifact.format]
    code: str = _template(language).render(
        about=_about(spoken, way, artifact, delegate),
        format=artifact.format,
        file=artifact.file.path,
        stem=PurePosixPath(artifact.file.path).stem,
        facts=facts(manifest, artifact),
        labels=[spoken.literal(label) for label in manifest.labels],
        threads=threads,
        delegate=way.delegates[delegate],
    )
    return code


@cache
def _template(language: str) -> Any:
    import jinja2

    spoken = LANGUAGES[language]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeattn.snippets", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is no markup: all texts from outside go through `text`
    )
    environment.filters |= {
        "text": spoken.literal,
        "type": spoken.types.__getitem__,
        "number": _number,
        "numbers": _numbers,
        "plus": _plus,
        "rows": _rows,
    }
    return environment.get_template(f"{language}.jinja")


def _about(language: Language, way: Way, artifact: Artifact, delegate: str) -> str:
    first = f"{sentence(artifact.file.path)} in {way.runtime} ({delegate}): {way.checked_with(delegate)}."
    return f"{language.comment} {first}\n{language.comment} It needs: {way.needs}"


def _number(value: float) -> str:
    """With as many digits as float32 has."""
    return f"{value:.9g}"


def _plus(value: int) -> str:
    return f"{'-' if value < 0 else '+'} {abs(value)}"


def _numbers(values: Iterable[float], after: str = "") -> str:
    return ", ".join(_number(value) + after for value in values)


def _rows(items: Iterable[str], indent: int = 4) -> str:
    """Items with commas, broken into lines of some length."""
    rows: list[str] = []
    for item in items:
        if rows and len(rows[-1]) + len(item) < _COLUMNS:
            rows[-1] += f" {item},"
        else:
            rows.append(f"{' ' * indent}{item},")
    return "\n".join(rows)
