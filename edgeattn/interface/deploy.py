"""From a module, or a model that a command names, to a bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeattn.interface.bundle import Bundle
from edgeattn.system.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgeattn.export.pipeline import Options
    from edgeattn.export.source import Inputs, Source


def deploy(
    module: "nn.Module",
    inputs: "Inputs",
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    formats: str | Sequence[str] = (),
    precisions: str | Sequence[str] = "fp32",
    calibrate: "str | os.PathLike[str] | Tensor | None" = None,
    evaluation: "tuple[Tensor, Tensor] | None" = None,
    preprocessing: Mapping[str, Any] | None = None,
    cases: "Mapping[str, Inputs] | None" = None,
    keep: Sequence[str] = (),
    dynamic_batch: bool = False,
    edge_layout: str | None = None,
    edge_type: str = "float32",
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Export ``module`` to a bundle and check that every artifact is still the same model, as `edgeattn export` does.

    It works on copies, on the CPU and in evaluation mode: module, tensors and random state stay as they are. Nothing is
    printed. An artifact that is another model is no error: ask ``bundle.passed``, or :func:`edgeattn.assert_parity`.

    Args:
        module: what is exported; torch.compile and parallel wrappers around it are taken off.
        inputs: an example, with a batch of 1: a tensor, a tuple of tensors in the order of forward's parameters, or a
            dict of tensors by their names.
        out: the bundle's folder; None is NAME-bundle in the working directory.
        name: of the model, and so of the files; None is the class's.
        formats: onnx, tflite, coreml; none are all, and then one that refuses the module is in ``bundle.refused``.
        precisions: fp32, fp16, int8, int8-dynamic; in coreml palette6 and palette4 too.
        calibrate: what int8 is calibrated on: a folder of images or .npz files, or a tensor [n, ...] of inputs. None
            are photographs that a package carries.
        evaluation: labelled inputs [n, ...], and their classes [n], int64: accuracy after export is checked on them.
            The first output must be logits [1, classes].
        preprocessing: what the model expects of an image, noted in the manifest and in the files: plain numbers,
            texts, lists and dicts.
        cases: more inputs to check parity on, by a name of yours, each as ``inputs``.
        keep: outputs of operators that int8 leaves in float, as `edgeattn study precision` names them.
        dynamic_batch: leave the batch size free (ONNX, Core ML).
        edge_layout: channels_last (None is this) or channels_first: the layout of TFLite's inputs and outputs.
        edge_type: float32, or own: the type of inputs and outputs of fp16 and int8.
        force: replace a bundle that is there.
        progress: is called with each step that begins.

    Raises:
        BadInputError: what was given, or the place, cannot be used; there is a bundle, and ``force`` is False.
        ConversionError: a converter that was asked for by name refuses the module, or all of them do.
        MissingError: a package is not installed; the sentence has the command that installs it.
    """
    from edgeattn.export import pipeline, source

    folder, calibration = None, None
    if isinstance(calibrate, str | os.PathLike):
        folder = Path(calibrate)
    else:
        calibration = calibrate
    options = pipeline.Options(
        formats=_names(formats),
        precisions=_names(precisions),
        edge_layout=edge_layout,
        dynamic_batch=dynamic_batch,
        force=force,
        calibrate=folder,
        keep=_names(keep),
        edge_type=edge_type,
    )

    def build() -> "Source":
        return source.from_module(
            module,
            inputs,
            name=name,
            evaluation=evaluation,
            calibration=calibration,
            preprocessing=preprocessing,
            cases=cases,
        )

    return exported(build, name or type(module).__name__, options, None if out is None else Path(out), progress)


def exported(
    build: "Callable[[], Source]", name: str, options: "Options", out: Path | None, progress: Progress
) -> Bundle:
    """Export what ``build`` gives; what cannot be used is refused before it is called.

    Raises: as :func:`deploy`.
    """
    from edgeattn.export import pipeline

    out = out or Path(f"{name}-bundle")
    pipeline.check(options, out)
    progress.plan(1)
    progress(f"building {name}")
    return Bundle(pipeline.export(build(), options, out, progress).bundle)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Each once; a single one need not stand in a list."""
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
