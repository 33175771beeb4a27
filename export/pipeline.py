"""The whole export: source -> lowered forms -> golden cases -> artifacts -> parity -> bundle."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeattn.bundle import destination
from edgeattn.bundle.manifest import ANSWERS, MANIFEST, SCHEMA, Answer, Bundle, Manifest, dump
from edgeattn.bundle.preprocessing import document
from edgeattn.errors import BadInputError, ConversionError
from edgeattn.export import attention_maps, batch, calibration, cases
from edgeattn.export.converter import Converter
from edgeattn.export.quantize import EDGE_TYPES, FLOAT32, QUANTIZERS, Quantizer
from edgeattn.export.source import Source
from edgeattn.export.source.adapter import root_of
from edgeattn.export.source.picture import finished
from edgeattn.export.user_code import contained
from edgeattn.export.writing import (
    describe_calibration,
    describe_tensors,
    hash_weights,
    write_evaluation,
    write_golden,
    write_layers,
)
from edgeattn.formats import FORMATS, Format, by_default
from edgeattn.layout import EDGE_LAYOUTS, Layout
from edgeattn.lowering import Lowering, understand
from edgeattn.parity.check import steps, verify
from edgeattn.parity.verdicts import Report
from edgeattn.precision import FP32, Precision
from edgeattn.system import plugins
from edgeattn.system.progress import Progress, silent
from edgeattn.system.versions import versions

# The weight of a conversion among the steps: with a small layer it takes 0.1 to 5 s, another step 0 to 2 s.
_CONVERSION = 5


@dataclass(frozen=True)
class Options:
    """How to export. No ``formats`` means all of them; a converter that refuses the module is then noted, not fatal.

    ``lowering`` is False to export the module as it is. ``keep`` are the outputs of operators that stay in float, as
    the study ``precision`` names them; ``auto_keep`` chooses some for int8, by measurement, where it loses too much.
    ``picture``: the files take the bytes of a picture, of the size ``resize`` where that is given; ``labels`` and
    ``answer`` are as in the manifest.
    """

    formats: tuple[str, ...] = ()
    precisions: tuple[str, ...] = (FP32.name,)
    edge_layout: str | None = None
    dynamic_batch: bool = False
    inputs: tuple[Path, ...] = ()
    force: bool = False
    calibrate: Path | None = None
    keep: tuple[str, ...] = ()
    auto_keep: bool = False
    edge_type: str = FLOAT32
    lowering: bool = True
    picture: bool = False
    resize: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()
    answer: Answer = "values"


@dataclass(frozen=True)
class Export:
    """The bundle on disk, its parity, and the formats whose converter refused the module, with the reason."""

    bundle: Bundle
    report: Report
    refused: dict[str, str]


def check(options: Options, out: Path) -> None:
    """Refuse bad options before anything heavy is imported or run."""
    formats = options.formats or by_default()
    available = {name: [precision.name for precision in _available(name)] for name in formats}
    for precision in options.precisions:
        without = [name for name in formats if precision not in available[name]]
        # A format that was not named is left out where it lacks the precision.
        if without if options.formats else len(without) == len(formats):
            choices = dict.fromkeys(known for name in without for known in available[name])
            raise BadInputError(f"{without[0]} cannot be exported in {precision!r}; choose from {', '.join(choices)}")
    for name in formats:
        needed: list[Format | Quantizer] = [FORMATS.get(name)]
        if set(_requested(name, options)) - {FP32}:
            needed.append(QUANTIZERS.get(name))
        for plugin in needed:
            plugins.require(*plugin.packages, extra=plugin.extra)
    calibration.check(options.calibrate)
    if options.edge_layout not in (None, *EDGE_LAYOUTS):
        raise BadInputError(f"--edge-layout must be {' or '.join(EDGE_LAYOUTS)}, not {options.edge_layout!r}")
    if options.edge_type not in EDGE_TYPES:
        raise BadInputError(f"--edge-type must be {' or '.join(EDGE_TYPES)}, not {options.edge_type!r}")
    if options.answer not in ANSWERS:
        raise BadInputError(f"--output must be {', '.join(ANSWERS)}, not {options.answer!r}")
    if options.resize and not options.picture:
        raise BadInputError("--resize needs --input-image: only a picture is resized inside")
    if options.picture and options.dynamic_batch:
        raise BadInputError("--input-image takes one picture at a time: leave out --dynamic-batch")
    destination.check(out, force=options.force)


def _available(format_: str) -> tuple[Precision, ...]:
    """The precisions of a format: fp32 first, as the others are made from it."""
    lower = QUANTIZERS.get(format_).precisions if format_ in QUANTIZERS.names else ()
    return (FP32, *lower)


def _requested(format_: str, options: Options) -> list[Precision]:
    """The precisions of a format that the user chose."""
    return [precision for precision in _available(format_) if precision.name in options.precisions]


def export(source: Source, options: Options, out: Path, progress: Progress = silent) -> Export:
    """Export ``source`` to the bundle ``out``, and check it.

    Raises:
        BadInputError: the options, or the folder ``out``, cannot be used.
        ConversionError: a converter of a format that was named refuses the module, or all of them do.
    """
    with contained():  # the model's own code runs in all that follows
        source = finished(
            source, picture=options.picture, labels=options.labels, answer=options.answer, resize=options.resize
        )
        return _export(source, options, out.absolute(), out, progress)


def _plan(names: Sequence[str], options: Options, progress: Progress) -> None:
    """Announce all steps of an export."""
    conversions = [name for name in names for _ in _requested(name, options)]
    progress.plan(len({FORMATS.get(name).layout for name in names}) + 2)  # and the reference, and the layers
    progress.plan(len(conversions), _CONVERSION)
    progress.plan(steps(conversions))


def _export(source: Source, options: Options, place: Path, out: Path, progress: Progress) -> Export:
    names = options.formats or by_default()
    precisions = {precision for name in names for precision in _requested(name, options)}
    _plan(names, options, progress)
    lowerings: dict[Layout, Lowering] = {}
    if options.dynamic_batch:
        batch.check(source)
    understood = understand(
        source.module,
        tuple(source.inputs.values()),
        dynamic_batch=options.dynamic_batch,
        lowering=options.lowering,
        root=root_of(source.module),
    )
    for name in names:
        layout = FORMATS.get(name).layout
        if layout not in lowerings:
            progress(f"lowering to {layout}")
            lacks = [FORMATS.get(other).lacks for other in names if FORMATS.get(other).layout == layout]
            lowerings[layout] = understood.lowered(layout, frozenset().union(*lacks))

    with destination.writing(place, force=options.force) as folder, TemporaryDirectory() as scratch:
        progress("reference outputs in float64 and float32")
        chosen, omitted = cases.inputs(source, understood, list(options.inputs), dynamic_batch=options.dynamic_batch)
        # Palettes need no calibration, but they are judged on such inputs.
        calibrated_on = (
            calibration.choose(source, options.calibrate) if any(p.has_few_bits for p in precisions) else None
        )
        if calibrated_on:
            chosen[calibration.CASE] = cases.Case("the last of the calibration set", calibrated_on.inputs[-1])
        golden_files = write_golden(source, lowerings, chosen, folder, understood.oracle)
        evaluation = write_evaluation(source, folder)
        artifacts, refused = [], {}
        beyond = cases.beyond_fp16(source, chosen) if precisions - {FP32} else {}
        for name in names:
            converter = Converter(
                source=source,
                lowering=lowerings[FORMATS.get(name).layout],
                format=name,
                folder=folder,
                scratch=Path(scratch),
                calibration=calibrated_on,
                user_cases=(*(file.stem for file in options.inputs), *source.cases),
                beyond_fp16=beyond,
                cases={name: {n: x.detach().numpy() for n, x in case.inputs.items()} for name, case in chosen.items()},
                edge_layout=options.edge_layout,
                dynamic_batch=options.dynamic_batch,
                keep=options.keep,
                auto_keep=options.auto_keep,
                progress=progress,
                edge_type=options.edge_type,
            )
            for precision in _requested(name, options):
                progress(f"converting to {name} {precision.name}", _CONVERSION)
                try:
                    artifacts.append(converter.convert(precision))
                except ConversionError as error:
                    if destination.not_writable(error):
                        raise
                    refused[name if precision == FP32 else f"{name} {precision.name}"] = str(error)
                    if options.formats:
                        raise
        if not artifacts:
            raise ConversionError("; ".join(refused.values()))
        known = {name for artifact in artifacts for name in artifact.details.kept_by_name or ()}
        for name in set(options.keep) - known:
            raise BadInputError(f"no operator that int8 takes gives {name!r}; `edgeattn study precision` names them")
        progress("layers: what is computed inside, and where the artifacts hold it")
        layer_files = write_layers(source, lowerings, artifacts, folder)
        manifest = Manifest(
            schema_version=SCHEMA,
            model=source.name,
            arguments=source.arguments,
            weights_sha256=hash_weights(source.module),
            preprocessing=document(source.preprocessing) if source.preprocessing else {},
            inputs=describe_tensors(source.inputs, options.dynamic_batch, source.own_names),
            outputs=describe_tensors(source.outputs, options.dynamic_batch, source.own_names),
            lowering={layout: lowering.changes for layout, lowering in lowerings.items()},
            golden=golden_files,
            artifacts=tuple(artifacts),
            tools=versions(),
            parity={},
            evaluation=evaluation,
            layers=layer_files,
            attention=attention_maps.write(source, understood, chosen, folder),
            cases={name: case.about for name, case in chosen.items()},
            cases_omitted=omitted,
            calibration=describe_calibration(calibrated_on) if any(p.is_calibrated for p in precisions) else None,
            notes=(*source.notes, *(calibrated_on.ranges if calibrated_on else ())),
            lowered=options.lowering,
            picture=source.picture,
            labels=source.labels,
            answer=source.answer,
        )
        report = verify(Bundle(folder, manifest), progress)
        parity = {"passed": report.passed, **asdict(report), "refused": refused}
        manifest = replace(manifest, parity=parity)
        (folder / MANIFEST).write_bytes(dump(manifest))
    return Export(Bundle(out, manifest), report, refused)
