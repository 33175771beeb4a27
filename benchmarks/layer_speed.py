"""The layer in its reference and in its lowered form, five shapes, every format: `make bench`."""

import platform

import torch
from forms import measure, print_table

from edgeattn.attention import LinearSelfAttention
from edgeattn.formats import FORMATS
from edgeattn.system.versions import versions

SHAPES = ((128, 4, 256), (192, 4, 64), (256, 4, 16), (128, 1, 4096), (512, 1, 256))
RUNS = 400


def main() -> None:
    torch.manual_seed(0)
    rows, titles = [], []
    for channels, pixels, patches in SHAPES:
        layer = LinearSelfAttention(channels).eval()
        x = torch.randn(1, channels, pixels, patches)
        for name in FORMATS.names:
            rows.append(measure(layer, x, name, runs=RUNS))
            titles.append(f"({channels}, {pixels}, {patches})")
    print(f"fp32, one thread, medians of {RUNS} interleaved runs; {platform.machine()}, {platform.system()}")
    print(", ".join(f"{name} {version}" for name, version in versions().items()), end="\n\n")
    print_table(rows, titles)
    ratios = sorted(row.speed_ratio for row in rows if row.format == "onnx" and row.speed_ratio)
    print(f"\nonnxruntime: lowest ratio {ratios[0]:.2f}, middle one {ratios[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    main()
