"""A bundle: one folder with a manifest, artifacts, golden inputs and reference outputs. Written whole or not at all."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field

from edgeattn.bundle import sound
from edgeattn.bundle.change import Change
from edgeattn.bundle.details import Details
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.layout import Layout
from edgeattn.precision import PRECISIONS
from edgeattn.system import plugins
from edgeattn.system.files import check_regular, opened, parse, read
from edgeattn.system.foreign import plain_name, sentence

# History: 1, the first; 2, labelled inputs, the descriptions of the cases, the omitted cases, and values of layers; 3,
# the calibration of lower precisions; 4, the attention maps, and inputs and outputs that hold steps; 5, the notes,
# whether the module was lowered, and the model's own names; 6, the picture, the labels, and what the first output is.
SCHEMA = 6
MANIFEST = "manifest.json"
# Of one file of a bundle: a larger one takes minutes to hash, and no format holds it.
MOST_BYTES = 2**34
# Not in the manifest: files of records of this bundle's artifacts, written as they are measured.
RECORDS = ("records.json", "records/*.json")


# The numbers that an edge of an artifact may hold.
_TYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
_FORMATS = "edgeattn.formats"
_LAYOUTS = get_args(Layout)
_LARGEST_AXIS, _MOST_AXES, _LARGEST_FILE = 2**40, 32, 2**50


def _name(text: str) -> str:
    if not plain_name(text):
        raise ValueError(f"{sentence(repr(text), 80)} is no name: it is empty, or holds control characters")
    return text


def _one_of(known: Iterable[str]) -> AfterValidator:
    known = tuple(known)

    def check(text: str) -> str:
        if text not in known:
            raise ValueError(f"{sentence(repr(text), 80)} is none of {', '.join(known)}")
        return text

    return AfterValidator(check)


# The first output: as the model gives it; its softmax over the classes; the five largest of that, and a second output
# with the numbers of their classes.
Answer = Literal["values", "probabilities", "top5"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
Label = Annotated[str, Field(min_length=1, max_length=1000)]
# What stands in lines of files, in commands and in tables.
Name = Annotated[str, AfterValidator(_name)]


@dataclass(frozen=True)
class Tensor:
    """An input or output as a file declares it; a free axis is None. ``layout`` is set for rank 4.

    Where it holds steps, a value is ``scale * (step - zero_point)``. ``own_name`` is the model's own name of it, where
    no file can hold that; ``dtype`` is the file's own type in an artifact, which may be narrower than the model's.
    """

    name: Name
    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=_LARGEST_AXIS)] | None, ...], Field(max_length=_MOST_AXES)]
    dtype: Annotated[str, _one_of(_TYPES)]
    layout: Annotated[str, _one_of(_LAYOUTS)] | None = None
    scale: float | None = None
    zero_point: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    own_name: str | None = None


@dataclass(frozen=True)
class File:
    """A file (or the folder of an .mlpackage or .aimodel) of the bundle: a relative path, its hash and its size."""

    path: str
    sha256: str
    size_bytes: Annotated[int, Field(ge=0, le=_LARGEST_FILE)]


@dataclass(frozen=True)
class Artifact:
    """One deployable file; ``lowering`` is the layout of the lowered form that it was made from.

    ``judged_on`` are the golden cases of the kind that a lower precision is made for or calibrated on, None for fp32.
    ``beyond`` are those whose values its numbers cannot hold, with the reason; they are not run.
    """

    format: Name
    precision: Annotated[str, _one_of(PRECISIONS)]
    file: File
    lowering: Name
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    details: Details
    judged_on: tuple[Name, ...] | None = None
    beyond: dict[Name, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibrated:
    """What int8 was calibrated on: in words, how many inputs, their hash, and files that were skipped, with reasons."""

    about: str
    number: int
    sha256: str
    skipped: dict[str, str] = field(default_factory=dict)
    warning: str = ""


@dataclass(frozen=True)
class Manifest:
    """The description of a bundle. It holds no time: the same export gives the same bytes.

    ``cases`` says what each golden case is, ``cases_omitted`` why the model cannot have one of the battery's.
    ``evaluation`` holds labelled inputs and the reference's logits, if the source had any. ``layers`` holds what the
    lowered forms compute inside (by layout), and where the artifacts do (by their paths); ``attention`` where a vision
    model looks (:mod:`edgeattn.export.attention_maps`). Older bundles have neither. ``notes`` are sentences of the
    export: what of the model was changed, and why. ``lowered`` is False where it was exported as it is, as asked.

    ``picture`` is the input that takes the bytes of a picture, from 0 to 255, in RGB or grey: ``preprocessing`` still
    says how a file becomes a picture of that size, but its range and order of channels are inside. ``labels`` are the
    names of the classes. ``answer`` is what the first output is: see :data:`ANSWERS`.
    """

    schema_version: int
    model: Name
    arguments: dict[str, Any]
    weights_sha256: str
    preprocessing: dict[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    lowering: dict[Name, tuple[Change, ...]]
    golden: dict[Name, File]
    artifacts: tuple[Artifact, ...]
    tools: dict[str, str]
    parity: dict[str, Any]
    evaluation: File | None = None
    cases: dict[Name, str] = field(default_factory=dict)
    cases_omitted: dict[Name, str] = field(default_factory=dict)
    layers: dict[str, File] | None = None
    calibration: Calibrated | None = None
    attention: File | None = None
    notes: tuple[str, ...] = ()
    lowered: bool = True
    picture: Name | None = None
    labels: tuple[Label, ...] = ()
    answer: Annotated[str, _one_of(ANSWERS)] = "values"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    folder: Path
    manifest: Manifest

    def path(self, file: File) -> Path:
        return self.folder / file.path


def dump(manifest: Manifest) -> bytes:
    """The content of a manifest's file.

    Raises:
        BadInputError: a name in it cannot stand in a manifest.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter: Any = TypeAdapter(Manifest)
    content: bytes = adapter.dump_json(manifest, indent=2) + b"\n"
    try:
        adapter.validate_json(content)
    except ValidationError as error:  # as `load` would refuse it
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"no bundle can be written: {sentence(field)}: {sentence(first['msg'])}") from error
    return content


def document(manifest: Manifest) -> dict[str, Any]:
    """A manifest as part of a larger JSON document."""
    from pydantic import TypeAdapter

    values: dict[str, Any] = TypeAdapter(Manifest).dump_python(manifest, mode="json")
    return values


def load(folder: Path) -> Bundle:
    """Read a bundle and check it: its schema, that every path is inside it, and that no file has changed.

    Raises:
        ArtifactError: in one sentence, what is wrong with it.
    """
    path = folder / MANIFEST
    manifest = read_manifest(folder)
    bundle = Bundle(folder, manifest)
    # Their names alone: the room of the formats lies above this one, and is not imported.
    known = plugins.modules(_FORMATS)
    for artifact in manifest.artifacts:
        if artifact.format not in known:
            raise ArtifactError(f"{path} names the format {artifact.format!r}, which this edgeattn does not have")
    optional = (file for file in (manifest.evaluation, manifest.attention) if file is not None)
    files = (*manifest.golden.values(), *(manifest.layers or {}).values(), *optional)
    for file in (*files, *(artifact.file for artifact in manifest.artifacts)):
        _check(bundle, file)
    return bundle


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, its files unchecked.

    Raises:
        ArtifactError: there is none, or what is wrong with it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(f"{folder} is no bundle: it has no {MANIFEST}; make one with `edgeattn export`")
    otherwise = "not a manifest of edgeattn; export the bundle again"
    manifest = parse(read(path), Manifest, path, newest=SCHEMA, otherwise=otherwise)
    if problem := next(sound.problems(manifest), ""):
        raise ArtifactError(f"{path} is damaged: {problem}; export the bundle again")
    return manifest


def _check(bundle: Bundle, file: File) -> None:
    relative, path = PurePosixPath(file.path), bundle.path(file)
    try:
        # A link inside a package could lead out as well, and an exported bundle has none.
        links = path.is_symlink() or any(part.is_symlink() for part in path.rglob("*"))
        outside = relative.is_absolute() or not relative.parts or ".." in relative.parts
        if outside or links or not _contains(bundle.folder, path):
            raise ArtifactError(f"{bundle.folder} names a path outside itself: {file.path}")
        if not path.exists():
            raise ArtifactError(f"{file.path} is missing from {bundle.folder}; export the bundle again")
        actual = describe(bundle.folder, path)
    except ArtifactError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ArtifactError(f"{file.path!r} in {bundle.folder} cannot be read: {error}") from error
    if actual.sha256 != file.sha256:
        raise ArtifactError(f"{file.path} in {bundle.folder} is not the file that was exported (its hash differs)")


def _contains(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def describe(folder: Path, path: Path) -> File:
    """Hash and size of a file or a folder; a folder's hash is over the sorted relative paths and their hashes.

    Raises:
        ArtifactError: it is no file, nor a folder of files; or one is too big.
    """
    relative = path.relative_to(folder).as_posix()
    if not path.is_dir():
        return File(relative, _sha256(path), path.stat().st_size)
    digest, size = hashlib.sha256(), 0
    for part in sorted(p for p in path.rglob("*") if not p.is_dir()):
        digest.update(f"{part.relative_to(path).as_posix()}\0{_sha256(part)}\n".encode())
        size += part.stat().st_size
    return File(relative, digest.hexdigest(), size)


def _sha256(path: Path) -> str:
    check_regular(path, MOST_BYTES)
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
