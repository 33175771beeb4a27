"""The golden cases of a bundle: read, and laid out for an artifact."""

from pathlib import Path

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays, to_edge
from edgeattn.errors import ArtifactError


def golden_cases(bundle: Bundle) -> dict[str, Arrays]:
    """The golden cases by name: inputs, and what the reference and the lowered forms make of them."""
    cases = {name: read_golden(bundle.path(file)) for name, file in bundle.manifest.golden.items()}
    for name, case in cases.items():
        _check_case(bundle, bundle.manifest.golden[name].path, case)
    return cases


def _check_case(bundle: Bundle, path: str, case: Arrays) -> None:
    """That a golden case has all that will be asked of it."""
    manifest = bundle.manifest
    forms = ["reference", *(f"lowered.{layout}" for layout in manifest.lowering)]
    forms = [f"{form}.{precision}" for form in forms for precision in ("fp32", "fp64")]
    needed = {f"{form}/{output.name}" for form in forms for output in manifest.outputs}
    for artifact in manifest.artifacts:
        needed |= {f"lowered.{artifact.lowering}.fp64/{output.name}" for output in artifact.outputs}
        needed |= {f"reference.fp32/{output.name}" for output in artifact.outputs}
        needed |= {f"input/{tensor.name}" for tensor in artifact.inputs}
    if lacking := sorted(needed - case.keys()):
        raise ArtifactError(f"{path} in {bundle.folder} has no tensor {lacking[0]!r}; export the bundle again")


def read_golden(path: Path) -> Arrays:
    """The tensors of a golden file, or of the held-out inputs."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def inputs(artifact: Artifact, golden: Arrays) -> Arrays:
    """The inputs of a case, in the artifact's own layout and type."""
    return {tensor.name: to_edge(golden[f"input/{tensor.name}"], tensor) for tensor in artifact.inputs}
