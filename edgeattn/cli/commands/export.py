"""``edgeattn export``: a model to a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console
from edgeattn.precision import FP32


def export(
    model: Annotated[str, typer.Argument(help="A sample model's name, or FILE.py:FACTORY. The file is run.")],
    arg: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An argument of the model.")] = None,
    format: Annotated[list[str] | None, typer.Option(help="onnx, tflite or coreml; all by default.")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32 (default), fp16, int8, int8-dynamic; coreml: palette6, palette4.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A .safetensors, .pt, .pth or .bin state dict, a folder, or a hub name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; MODEL-bundle by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    input_shape: Annotated[
        list[str] | None, typer.Option(metavar="1,3,256,256", help="Shape of a random example input.")
    ] = None,
    input: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.safetensors", help="More inputs to check parity on.")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images or .npz files that int8 is calibrated on.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="OUTPUT", help="An operator that int8 leaves in float; see study precision."),
    ] = None,
    max_accuracy_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Points of top-1 that a recommended artifact may lose.")
    ] = 0.5,
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="Leave the batch size free (ONNX, Core ML).")
    ] = False,
    edge_layout: Annotated[
        str | None, typer.Option(help="Layout of TFLite's edges: channels_last (default) or channels_first.")
    ] = None,
    edge_type: Annotated[
        str, typer.Option(help="Inputs and outputs of fp16 and int8: float32 (default), or own, where the format can.")
    ] = "float32",
    json: console.Json = False,
) -> int:
    """Export MODEL to a bundle and check that it is still the same model.

    Example: edgeattn export attention --arg embed_dim=192 --out b
    """
    console.wants(json)
    from edgeattn.bundle import manifest as bundles
    from edgeattn.export import pipeline, source
    from edgeattn.interface.deploy import export_to_bundle

    options = pipeline.Options(
        formats=tuple(dict.fromkeys(format or ())),
        precisions=tuple(dict.fromkeys(precision or (FP32.name,))),
        edge_layout=edge_layout,
        dynamic_batch=dynamic_batch,
        inputs=tuple(input or ()),
        force=force,
        calibrate=calibrate,
        keep=tuple(keep or ()),
        edge_type=edge_type,
    )

    def build() -> source.Source:
        return source.load(model, arg or (), weights=weights, input_shapes=input_shape or ())

    with console.progress() as progress:
        made = export_to_bundle(build, model.rpartition(":")[2], options, out, progress)
    document = {
        "bundle": str(made.path),
        "passed": made.passed,
        "recommended": made.recommended(max_accuracy_drop),
        "manifest": bundles.document(made.manifest),
    }
    console.show(document, lambda: made.shown(max_accuracy_drop))
    return 0 if made.passed else 1
