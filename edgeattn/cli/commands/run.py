"""``edgeattn run``: what a file answers to a picture."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeattn.cli import console


def run(
    artifact: Annotated[Path, typer.Argument(help="A file of a bundle; with --compare the bundle's folder.")],
    image: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run it in this backend; repeatable; default: the first.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="All artifacts of the bundle, side by side, each in its first backend.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all answers as CSV to this file.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw where the file looks: its attention over the one picture."),
    ] = None,
    json: console.Json = False,
) -> int:
    """Show the five best answers of a file to each picture, and the time of a run; for a folder, a line of CSV each.

    Example: edgeattn run b/fashion-int8.tflite photo.png
    """
    console.use_json(json)
    from edgeattn import runtimes
    from edgeattn.bundle import manifest
    from edgeattn.cli import picture as drawing
    from edgeattn.interface import answers, render_answers
    from edgeattn.system import files

    names = tuple(backend or ())
    runtimes.check(names)
    files.check(out)
    if picture:
        drawing.check(picture)
        if compare or len(image) != 1 or image[0].is_dir():
            raise typer.BadParameter("--picture draws one file's attention over one picture")
    folder = artifact if compare and artifact.is_dir() else artifact.parent
    loaded = manifest.load(folder)
    pictures = [file for path in image for file in answers.find(path)]
    runs = answers.chosen(loaded, None if compare else artifact.name, names)
    with console.progress() as progress:
        found, skipped = answers.answers(loaded, runs, pictures, progress)
    if picture:
        drawing.draw_attention(loaded, runs[0][0], pictures[0], picture)
    if out:
        files.write(out, render_answers.csv(found).encode())
    document = {"answers": [asdict(each) for each in found], "skipped": [asdict(each) for each in skipped]}
    is_folder = any(path.is_dir() for path in image)
    console.show(document, lambda: render_answers.shown(found, skipped, as_csv=is_folder and not out))
    return 0
