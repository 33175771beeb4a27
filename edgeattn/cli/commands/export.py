"""``edgeattn export``: a model to a bundle."""

from pathlib import Path
from typing import Annotated, cast

import typer

from edgeattn.cli import apart, console
from edgeattn.precision import FP32

# The groups of the help.
_MODEL, _FILES, _PICTURE = "The model", "The files", "From the picture to the answer"
_PRECISION, _CHECK = "int8 and palettes", "The check, and limits"


def export(
    model: Annotated[
        str, typer.Argument(help="A sample model, FILE.py:FACTORY, or FILE.pt2 of torch.export; the file may run code.")
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="An argument of the model; repeatable.", rich_help_panel=_MODEL),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="coreai, coreml, executorch, onnx or tflite; repeatable; default: all that are installed.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32 (default), fp16, int8, int8-dynamic; coreai and coreml also palette6, palette4; repeatable.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The name of the model and of its files; default: MODEL's own.", rich_help_panel=_MODEL),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights: a .safetensors, .pt, .pth, .bin or .ckpt file, a checkpoint folder, or a Hugging Face name.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Take weights that lack a part of the model, such as its head; it is named.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the bundle; default: MODEL-bundle.", rich_help_panel=_FILES)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.", rich_help_panel=_FILES)] = False,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="1,3,256,256", help="The shape of a random example input.", rich_help_panel=_MODEL),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="N or HxW",
            help="The size of the example image, in place of the model's own.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    input: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.safetensors", help="More inputs to check parity on; repeatable.", rich_help_panel=_CHECK
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of images or .npz files to calibrate int8 on.", rich_help_panel=_PRECISION
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OUTPUT",
            help="Keep the operator with this output in float in int8; see `study precision`; repeatable.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    auto_keep: Annotated[
        bool,
        typer.Option(
            "--auto-keep",
            help="Where int8 loses too much, keep in float what loses most for the work that it is, by measurement.",
            rich_help_panel=_PRECISION,
        ),
    ] = False,
    max_accuracy_drop: Annotated[
        float,
        typer.Option(
            metavar="POINTS",
            help="The most percentage points of top-1 that a recommended artifact may lose.",
            rich_help_panel=_PRECISION,
        ),
    ] = 0.5,
    dynamic_batch: Annotated[
        bool,
        typer.Option(
            "--dynamic-batch", help="Make the batch size dynamic (ONNX, Core ML, Core AI).", rich_help_panel=_FILES
        ),
    ] = False,
    preprocessing: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="How the model's input is made from a picture: scale, mean, std, ...",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    input_image: Annotated[
        bool,
        typer.Option(
            "--input-image",
            help="The files take the bytes of a picture, RGB; its preprocessing is inside.",
            rich_help_panel=_PICTURE,
        ),
    ] = False,
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="N or HxW",
            help="With --input-image: take pictures of this size; the files resize them.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The names of the classes, one a line; they go into the files.",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            help="The first output: values (logits, say, as the model has them), probabilities or top5.",
            rich_help_panel=_PICTURE,
        ),
    ] = "values",
    edge_layout: Annotated[
        str | None,
        typer.Option(
            help="Layout of TFLite's and ExecuTorch's inputs and outputs: channels_last (default; ExecuTorch's in "
            "memory alone) or channels_first.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    edge_type: Annotated[
        str,
        typer.Option(
            help="Type of inputs and outputs: float32, or own: int8 in TFLite int8, float16 in the fp16 of others.",
            rich_help_panel=_FILES,
        ),
    ] = "float32",
    no_lowering: Annotated[
        bool,
        typer.Option(
            "--no-lowering",
            help="Export the module as it is: to compare with, or to see whether the lowering is at fault.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="End the export, if it takes longer.", rich_help_panel=_CHECK),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(metavar="GIB", help="The most memory that the export may take.", rich_help_panel=_CHECK),
    ] = None,
    json: console.Json = False,
) -> int:
    """Export MODEL to a bundle, and check that every artifact is still the same model.

    Example: edgeattn export attention --arg embed_dim=192 --out b
    """
    console.use_json(json)
    apart.limit(time_limit, memory_limit)
    from edgeattn.bundle import manifest
    from edgeattn.bundle import preprocessing as told
    from edgeattn.export import pipeline, source
    from edgeattn.export.source import factory, picture, sizes
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
        auto_keep=auto_keep,
        edge_type=edge_type,
        lowering=not no_lowering,
        picture=input_image,
        resize=sizes.image_size(resize, "--resize") if resize else None,
        labels=picture.read_labels(labels) if labels else (),
        answer=cast("manifest.Answer", output),
    )
    wanted = told.load(preprocessing) if preprocessing else None

    def build() -> source.Source:
        return source.load(
            model,
            arg or (),
            weights=weights,
            input_shapes=input_shape or (),
            image_size=image_size,
            partial=partial,
            preprocessing=wanted,
            name=name,
        )

    with console.progress() as progress:
        bundle = export_to_bundle(build, name or factory.name_of(model), options, out, progress)
    document = {
        "bundle": str(bundle.path),
        "passed": bundle.passed,
        "notes": bundle.notes,
        "recommended": bundle.recommended(max_accuracy_drop),
        "manifest": manifest.document(bundle.manifest),
    }
    console.show(document, lambda: bundle.shown(max_accuracy_drop))
    return 0 if bundle.passed else 1
