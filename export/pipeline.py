"""The whole way through: source -> lowered forms -> golden cases -> artifacts -> parity -> bundle."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from edgeattn.bundle import manifest as bundle
from edgeattn.errors import BadInputError, ConversionError
from edgeattn.export import attention_maps as attention_map
from edgeattn.export import calibration, cases
from edgeattn.export import reference as golden
from edgeattn.export.converter import Converter
from edgeattn.export.quantize import EDGE_TYPES, FLOAT32, QUANTIZERS, Quantizer
from edgeattn.export.source import Source
from edgeattn.export.user_code import contained
from edgeattn.export.writing import _described, _hash_weights, _tensors, _write_evaluation, _write_golden, _write_layers
from edgeattn.formats import FORMATS, Format
from edgeattn.layout import Layout
from edgeattn.lowering import Lowering, lower
from edgeattn.parity.check import steps, verify
from edgeattn.parity.verdicts import Report
from edgeattn.precision import FP32, Precision
from edgeattn.system import plugins
from edgeattn.system.progress import Progress, silent
from edgeattn.system.versions import versions

# How long a conversion takes against another step: they take 0.1 to 5 s, the others 0 to 2 s, with a small layer.
_CONVERSION = 5


@dataclass(frozen=True)
class Options:
    """How to export. No formats means all, and then a converter's refusal is noted and not fatal.

    ``keep`` are outputs of operators that no lower precision takes, as the study ``precision`` names them.
    """

    formats: tuple[str, ...] = ()
    precisions: tuple[str, ...] = (FP32.name,)
    edge_layout: str | None = None
    dynamic_batch: bool = False
    inputs: tuple[Path, ...] = ()
    force: bool = False
    calibrate: Path | None = None
    keep: tuple[str, ...] = ()
    edge_type: str = FLOAT32


@dataclass(frozen=True)
class Export:
    """What came out: the bundle on disk, its parity, and the formats whose converter refused, with the reason."""

    bundle: bundle.Bundle
    report: Report
    refused: dict[str, str]


def check(options: Options, out: Path) -> None:
    """Refuse bad options before anything heavy is imported or run."""
    formats = options.formats or FORMATS.names
    offered = {name: [precision.name for precision in _offered(name)] for name in formats}
    for precision in options.precisions:
        lacking = [name for name in formats if precision not in offered[name]]
        # What was not asked for by name is left out where it cannot be had.
        if lacking if options.formats else len(lacking) == len(formats):
            choice = dict.fromkeys(known for name in lacking for known in offered[name])
            raise BadInputError(f"{lacking[0]} cannot be exported in {precision!r}; choose from {', '.join(choice)}")
    for name in formats:
        needed: list[Format | Quantizer] = [FORMATS.get(name)]
        if set(_asked(name, options)) - {FP32}:
            needed.append(QUANTIZERS.get(name))
        for plugin in needed:
            plugins.require(*plugin.packages, extra=plugin.extra)
    calibration.check(options.calibrate)
    if options.edge_layout not in (None, *get_args(Layout)):
        raise BadInputError(f"--edge-layout must be {' or '.join(get_args(Layout))}, not {options.edge_layout!r}")
    if options.edge_type not in EDGE_TYPES:
        raise BadInputError(f"--edge-type must be {' or '.join(EDGE_TYPES)}, not {options.edge_type!r}")
    bundle.check_destination(out, force=options.force)


def _offered(format_: str) -> tuple[Precision, ...]:
    """The precisions of a format, fp32 first, from which the others are made."""
    lower = QUANTIZERS.get(format_).precisions if format_ in QUANTIZERS.names else ()
    return (FP32, *lower)


def _asked(format_: str, options: Options) -> list[Precision]:
    """Those that were asked for."""
    return [precision for precision in _offered(format_) if precision.name in options.precisions]


def export(source: Source, options: Options, out: Path, progress: Progress = silent) -> Export:
    """Export ``source`` to the bundle ``out``, and check it.

    Raises:
        BadInputError: the options, or the place, cannot be used.
        ConversionError: a converter that was asked for by name refuses the module, or all of them do.
    """
    with contained():  # the model's own code runs in all that follows
        return _export(source, options, out.absolute(), out, progress)


def _plan(names: Sequence[str], options: Options, progress: Progress) -> None:
    """All steps of an export; one that a converter refuses is never begun."""
    made = [name for name in names for _ in _asked(name, options)]
    progress.plan(len({FORMATS.get(name).layout for name in names}) + 2)  # and the reference, and the layers
    progress.plan(len(made), _CONVERSION)
    progress.plan(steps(made))


def _export(source: Source, options: Options, place: Path, out: Path, progress: Progress) -> Export:
    names = options.formats or FORMATS.names
    asked = {precision for name in names for precision in _asked(name, options)}
    _plan(names, options, progress)
    lowerings: dict[Layout, Lowering] = {}
    for name in names:
        layout = FORMATS.get(name).layout
        if layout not in lowerings:
            progress(f"lowering to {layout}")
            lowerings[layout] = lower(source.module, layout=layout, inputs=tuple(source.inputs.values()))

    with bundle.writing(place, force=options.force) as folder, TemporaryDirectory() as scratch:
        progress("reference outputs in float64 and float32")
        exact = golden.exact(source, lowerings)
        chosen, omitted = cases.inputs(source, list(options.inputs), dynamic_batch=options.dynamic_batch)
        # Palettes are not calibrated, but judged on inputs of that kind.
        calibrated_on = calibration.choose(source, options.calibrate) if any(p.has_few_bits for p in asked) else None
        if calibrated_on:
            chosen[calibration.CASE] = cases.Case("the last of the calibration set", calibrated_on.inputs[-1])
        files = _write_golden(source, lowerings, exact, chosen, folder)
        evaluation = _write_evaluation(source, folder)
        artifacts, refused = [], {}
        beyond = cases.beyond_fp16(source, chosen) if asked - {FP32} else {}
        for name in names:
            converter = Converter(
                source=source,
                lowering=lowerings[FORMATS.get(name).layout],
                format=name,
                folder=folder,
                scratch=Path(scratch),
                calibration=calibrated_on,
                given_cases=(*(file.stem for file in options.inputs), *source.cases),
                beyond_fp16=beyond,
                edge_layout=options.edge_layout,
                dynamic_batch=options.dynamic_batch,
                keep=options.keep,
                edge_type=options.edge_type,
            )
            for precision in _asked(name, options):
                progress(f"converting to {name} {precision.name}", _CONVERSION)
                try:
                    artifacts.append(converter.convert(precision))
                except ConversionError as error:
                    if bundle.not_writable(error):
                        raise
                    refused[name if precision == FP32 else f"{name} {precision.name}"] = str(error)
                    if options.formats:
                        raise
        if not artifacts:
            raise ConversionError("; ".join(refused.values()))
        kept = {name for artifact in artifacts for name in artifact.details.kept_by_name or ()}
        for name in set(options.keep) - kept:
            raise BadInputError(f"no operator that int8 takes gives {name!r}; `edgeattn study precision` names them")
        progress("layers: what is computed inside, and where the artifacts hold it")
        inside = _write_layers(source, lowerings, exact, artifacts, folder)
        manifest = bundle.Manifest(
            schema_version=bundle.SCHEMA,
            model=source.name,
            arguments=source.arguments,
            weights_sha256=_hash_weights(source.module),
            preprocessing=source.preprocessing,
            inputs=_tensors(source.inputs, options.dynamic_batch),
            outputs=_tensors(source.outputs, options.dynamic_batch),
            lowering={layout: lowering.changes for layout, lowering in lowerings.items()},
            golden=files,
            artifacts=tuple(artifacts),
            tools=versions(),
            parity={},
            evaluation=evaluation,
            layers=inside,
            attention=attention_map.write(source, chosen, folder),
            cases={name: case.about for name, case in chosen.items()},
            cases_omitted=omitted,
            calibration=_described(calibrated_on) if any(p.is_calibrated for p in asked) else None,
        )
        report = verify(bundle.Bundle(folder, manifest), progress)
        parity = {"passed": report.passed, **asdict(report), "refused": refused}
        manifest = replace(manifest, parity=parity)
        (folder / bundle.MANIFEST).write_bytes(bundle.dump(manifest))
    return Export(bundle.Bundle(out, manifest), report, refused)
