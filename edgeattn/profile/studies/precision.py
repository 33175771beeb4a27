"""Sensitivity to int8: each operator alone in eight bits, everything else in float. A stopped sweep resumes."""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.errors import ArtifactError, BadInputError
from edgeattn.export.quantize import QUANTIZERS, Job
from edgeattn.parity.metrics import difference
from edgeattn.precision import FP32, INT8
from edgeattn.profile.studies import Sensitivity, Study
from edgeattn.runtimes import Backend, backends
from edgeattn.system import files, plugins
from edgeattn.system.progress import Progress, silent
from edgeattn.system.vendor_errors import first_line

# The cases that a sweep is calibrated and judged on, if the bundle has them.
CASES = ("example", "photograph", "calibration")


class Precision(Study):
    # ExecuTorch's quantiser takes the module, which no bundle has.
    formats = ("coreml", "onnx", "tflite")

    def sweep(
        self, bundle: Bundle, format_: str, results: Path, progress: Progress = silent
    ) -> tuple[Sensitivity, ...]:
        """Every operator of ``format_`` that int8 takes, the most sensitive first; the file ``results`` stores each.

        Raises:
            BadInputError: the bundle has no fp32 artifact of the format.
            ArtifactError: ``results`` is of another artifact, or not the file of a sweep.
            MissingError: the runtime or the quantiser is not installed.
        """
        artifact = next((a for a in bundle.manifest.artifacts if (a.format, a.precision) == (format_, FP32.name)), None)
        if artifact is None:
            raise BadInputError(f"{bundle.folder} has no fp32 artifact of {format_}; export one")
        quantiser = QUANTIZERS.get(format_)
        plugins.require(*quantiser.packages, extra=quantiser.extra)
        path = bundle.path(artifact.file)
        backend = next(backend for backend in backends(format_) if not backend.missing)
        cases = {name: golden for name, golden in golden_cases(bundle).items() if name in CASES}
        candidates: list[tuple[str, str]] = quantiser.candidates(path)
        known = _read(results, artifact)
        todo = [(number, kind, output) for number, (kind, output) in enumerate(candidates) if output not in known]
        progress.plan(len(todo))
        for number, kind, output in todo:
            progress(f"{format_}: {number} {kind} alone in int8")
            keep = tuple(name for _, name in candidates if name != output)
            known[output] = Sensitivity(number, kind, output, _sqnr_alone(artifact, path, keep, cases, backend))
            document = {"artifact": artifact.file.sha256, "found": [asdict(result) for result in known.values()]}
            files.write(results, json.dumps(document, indent=1).encode())
        return tuple(
            sorted(known.values(), key=lambda result: float("inf") if result.sqnr_db is None else result.sqnr_db)
        )


STUDY: Study = Precision()


def _read(results: Path, artifact: Artifact) -> dict[str, Sensitivity]:
    if not results.exists():
        return {}
    try:
        document = json.loads(results.read_text())
        stored = {fields["output"]: Sensitivity(**fields) for fields in document["found"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{results} holds no sweep: {first_line(error)}; remove it") from error
    if document["artifact"] != artifact.file.sha256:
        raise ArtifactError(f"{results} is of another artifact than {artifact.file.path}; remove it")
    return stored


def _sqnr_alone(
    artifact: Artifact, path: Path, keep: tuple[str, ...], cases: dict[str, GoldenCase], backend: Backend
) -> float | None:
    """The lowest SQNR in dB over cases and outputs, with the operators ``keep`` in float; None if no value changed."""
    inputs = {name: golden.inputs_for(artifact) for name, golden in cases.items()}
    with TemporaryDirectory() as folder:
        copy = Path(folder, f"alone{path.suffix}")
        job = Job(path, copy, INT8, tuple(inputs.values()), keep=keep)
        QUANTIZERS.get(artifact.format).make(job)
        with backend.open(copy) as session:
            outputs = {name: session.run(case_inputs) for name, case_inputs in inputs.items()}
    lowest = min(
        difference(
            reference=golden.oracle_for(artifact)[output.name],
            candidate=outputs[name][output.name],
        ).sqnr_db
        for name, golden in cases.items()
        for output in artifact.outputs
    )
    return lowest if isfinite(lowest) else None
