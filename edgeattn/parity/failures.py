"""Rows of what gave no values to judge: an output that a file lacks, and a file that a runtime refuses."""

from collections.abc import Iterator

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.parity.verdicts import Row


def lacking(bundle: Bundle, case: str) -> Iterator[Row]:
    """A failed row for each output of the model that an artifact lacks, as of ``case``."""
    for artifact in bundle.manifest.artifacts:
        present = {output.name for output in artifact.outputs}
        for output in bundle.manifest.outputs:
            if output.name not in present:
                yield _failed(artifact, "any", case, output.name, "the file has no such output")


def refused(artifact: Artifact, runtime: str, case: str, reason: str) -> Row:
    """A failed row for an artifact that ``runtime`` refuses to load or to run: the others are still judged."""
    return _failed(artifact, runtime, case, artifact.outputs[0].name if artifact.outputs else "", reason)


def _failed(artifact: Artifact, runtime: str, case: str, output: str, reason: str) -> Row:
    return Row("conversion", artifact.file.path, runtime, case, output, False, reason, None, None, None, None, None)
