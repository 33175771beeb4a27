"""Exports a module, or a model that a command names, to a bundle."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeattn.interface.bundle import Bundle
from edgeattn.system.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from edgeattn.bundle.manifest import Answer
    from edgeattn.bundle.preprocessing import Preprocessing
    from edgeattn.export.pipeline import Options
    from edgeattn.export.source import Inputs, Source


def deploy(
    module: "nn.Module | ExportedProgram",
    inputs: "Inputs | None" = None,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    formats: str | Sequence[str] = (),
    precisions: str | Sequence[str] = "fp32",
    calibrate: "str | os.PathLike[str] | Tensor | None" = None,
    evaluation: "tuple[Tensor, Tensor] | None" = None,
    preprocessing: "Preprocessing | Mapping[str, Any] | None" = None,
    input_image: bool = False,
    resize: tuple[int, int] | None = None,
    labels: Sequence[str] = (),
    output: "Answer" = "values",
    cases: "Mapping[str, Inputs] | None" = None,
    keep: Sequence[str] = (),
    auto_keep: bool = False,
    dynamic_batch: bool = False,
    edge_layout: str | None = None,
    edge_type: str = "float32",
    lowering: bool = True,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Export ``module`` to a bundle and check that every artifact is still the same model, as `edgeattn export` does.

    It works on copies, on the CPU and in evaluation mode: module, tensors and random state are not changed. Nothing is
    printed. An artifact that fails parity is no error: check ``bundle.passed``, or call :func:`edgeattn.assert_parity`.

    Args:
        module: the module to export, in any float type: it is exported in float32, and ``bundle.notes`` says so. The
            wrappers of torch.compile and of data parallelism are taken off, also inside. A program of torch.export too.
        inputs: example inputs with a batch of 1: a tensor, a tuple of tensors in the order of forward's parameters, or
            a dict of tensors by their names. None is for a program: the inputs that it was exported with.
        out: the bundle's folder; None is NAME-bundle in the working directory.
        name: the name of the model and the files; None is the class's name.
        formats: onnx, tflite, coreml, coreai, executorch; none means all that are installed, and then a format that
            refuses the module is in ``bundle.refused``.
        precisions: fp32, fp16, int8, int8-dynamic; in coreml and coreai palette6 and palette4 too.
        calibrate: the calibration set of int8: a folder of images or .npz files, or a tensor [n, ...] of inputs. None
            is scikit-learn's photographs.
        evaluation: labelled inputs [n, ...], and their classes [n], int64, to check the accuracy of the artifacts.
            The first output must be logits [1, classes]; or [1, classes, H, W], with classes [n, H, W] of its pixels,
            -1 where one is not judged.
        preprocessing: how the model's input is made from a picture, stored in the manifest and in the files; a
            :class:`edgeattn.Preprocessing`, or a dict of its fields.
        input_image: the files take the bytes of a picture, uint8 in RGB, and the range of values and the order of
            channels that ``preprocessing`` says are inside.
        resize: with ``input_image``: the height and width of the pictures that the files take; they resize them
            bilinearly, and crop them, as ``preprocessing`` says.
        labels: the names of the classes of the first output; they go into the files.
        output: what the first output is: values, as the model has them; probabilities, their softmax over the classes;
            or top5, the five largest, with a second output that has their classes.
        cases: more inputs to check parity on, by names of your choice, each as ``inputs``.
        keep: outputs of operators that stay in float in int8, as `edgeattn study precision` names them.
        auto_keep: where int8 loses more than it may, leave in float what loses most for the work that it is, as found
            by measurement; it takes some minutes for a whole network.
        dynamic_batch: make the batch size dynamic (ONNX, Core ML).
        edge_layout: the layout of TFLite's and ExecuTorch's inputs and outputs: channels_last (None means this;
            ExecuTorch's in memory alone) or channels_first.
        edge_type: the type of inputs and outputs in fp16 and int8: float32, or own: int8 in TFLite's int8,
            float16 in fp16 of ONNX, Core ML, Core AI and ExecuTorch.
        lowering: False exports the module as it is: to compare with, or to see whether the lowering is at fault.
        force: replace an existing bundle.
        progress: called with each step that begins.

    Raises:
        BadInputError: an argument or the folder cannot be used; or the bundle exists, and ``force`` is False.
        ConversionError: the converter of a format in ``formats`` refuses the module, or all converters do.
        MissingError: a package is not installed; the message has the command that installs it.
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
        auto_keep=auto_keep,
        edge_type=edge_type,
        lowering=lowering,
        picture=input_image,
        resize=resize,
        labels=tuple(labels),
        answer=output,
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

    return export_to_bundle(
        build, name or source.name_of(module), options, None if out is None else Path(out), progress
    )


def export_to_bundle(
    build: "Callable[[], Source]", name: str, options: "Options", out: Path | None, progress: Progress
) -> Bundle:
    """Export the source that ``build`` returns; options that cannot be used are refused first.

    Raises: as :func:`deploy`.
    """
    from edgeattn.export import pipeline

    out = out or Path(f"{name}-bundle")
    pipeline.check(options, out)
    progress.plan(1)
    progress(f"building {name}")
    source = build()
    return Bundle(pipeline.export(source, options, out, progress).bundle)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple, without duplicates; a single name may be a plain string."""
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
