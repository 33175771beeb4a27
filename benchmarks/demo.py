"""`make demo`: a layer on a real photograph and a trained model, exported, checked, counted, timed, and reported."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from forms import measure, print_table
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from edgeattn.attention import LinearSelfAttention
from edgeattn.formats import by_default
from edgeattn.targets import TARGETS

BUNDLE, DIGITS = Path("demo-bundle"), Path("demo-digits-bundle")
REPORT = Path("demo-report.html")
SIDE, PATCH = 256, 8


def photograph() -> torch.Tensor:
    """scikit-learn's china.jpg as [1, 192, 4, 256]: 8x8 RGB patches are 192 channels of a 32x32 map, cut 2x2."""
    image = torch.from_numpy(load_sample_image("china.jpg").copy())
    top, left = (image.shape[0] - SIDE) // 2, (image.shape[1] - SIDE) // 2
    pixels = image[top : top + SIDE, left : left + SIDE].permute(2, 0, 1).float()[None] / 127.5 - 1
    patches = torch.nn.functional.pixel_unshuffle(pixels, PATCH)
    batch, channels, height, width = patches.shape
    cells = patches.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(batch, channels, 4, height * width // 4).contiguous()


def edgeattn(*arguments: str | Path) -> None:
    words = list(map(str, arguments))
    print(f"$ edgeattn {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "edgeattn.cli.main", *words], check=False).returncode
    if code:
        sys.exit(code)


def profile(bundle: Path, target: str) -> None:
    """Measure into the bundle, where `edgeattn report` looks for records."""
    (bundle / "records").mkdir(exist_ok=True)
    edgeattn("profile", bundle, "--target", target, "--out", bundle / "records" / f"{target}.json")


def main() -> None:
    x = photograph()
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "china.safetensors"
        save_file({"x": x}, photo)
        shape = ("--arg", "embed_dim=192", "--arg", "pixels=4", "--arg", "patches=256")
        edgeattn("export", "attention", *shape, "--input", photo, "--out", BUNDLE, "--force")
    edgeattn("export", "digits", "--out", DIGITS, "--force")

    print("Layout ops, and reference against lowered form (one thread, interleaved)\n")
    torch.manual_seed(0)
    layer = LinearSelfAttention(192).eval()
    rows = [measure(layer, x, name, runs=200) for name in by_default()]
    print_table(rows, ["china.jpg"] * len(rows))

    arm = TARGETS.get("emulated-arm").unavailable()
    for bundle in (BUNDLE, DIGITS):
        profile(bundle, "host")
        if arm is None:
            profile(bundle, "emulated-arm")
    if arm:
        print(f"Not counted on an emulated ARM core: {arm}\n")
    edgeattn("report", BUNDLE, DIGITS, "--out", REPORT)
    print(f"The bundles are {BUNDLE} and {DIGITS}. Open the report in a browser:  {REPORT.resolve().as_uri()}")


if __name__ == "__main__":
    main()
