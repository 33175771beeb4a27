"""MobileViTv2-1.0 at 256: ours lowered, our reference form and transformers' own, interleaved: `make bench-models`."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MobileViTV2Config, MobileViTV2ForImageClassification

from edgeattn.latency import interleave, ratio
from edgeattn.lowering import lower, to_channels_last
from export.formats import Job, onnx, tflite
from export.inspection import inspect
from export.runtimes import litert, onnxruntime
from sample_models.mobilevitv2 import build

RUNS = 60


class Transformers(nn.Module):
    """Logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MobileViTV2ForImageClassification(MobileViTV2Config(num_labels=1000))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image).logits
        return logits


def main() -> None:
    torch.manual_seed(0)
    model, inputs = build()
    image = inputs["image"]
    first = lower(model, layout="channels_first", inputs=(image,))
    last = lower(model, layout="channels_last", inputs=(image,))
    jobs = {
        "lowered, onnxruntime": (onnx, onnxruntime, first.module, image),
        "reference, onnxruntime": (onnx, onnxruntime, model, image),
        "transformers, onnxruntime": (onnx, onnxruntime, Transformers().eval(), image),
        "lowered, LiteRT": (tflite, litert, last.with_edges("channels_last"), to_channels_last(image).contiguous()),
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        calls, found = {}, {}
        for number, (name, (format_, runtime, module, x)) in enumerate(jobs.items()):
            path = Path(folder) / f"{number}{format_.SUFFIX}"
            format_.convert(Job(module, {"image": x}, ("y",)), path)
            found[name] = inspect(path)
            session, given = stack.enter_context(runtime.open(path)), {"image": x.numpy()}
            calls[name] = lambda session=session, given=given: session.run(given)
        samples = interleave(calls, runs=RUNS, warmup=RUNS // 5)
    ours = samples["lowered, onnxruntime"]
    print(f"medians of {RUNS} interleaved runs, one thread, fp32\n")
    print("| form | operators | layout ops | copy ops | median ms | time against lowered in onnxruntime |")
    print("|---|---|---|---|---|---|")
    for name, times in samples.items():
        counts = [sum(c.values()) for c in (found[name].operators, found[name].layout_ops, found[name].copy_ops)]
        slower = ratio(baseline_ns=times, candidate_ns=ours)
        print(f"| {name} | {' | '.join(map(str, counts))} | {np.median(times) / 1e6:.1f} | {slower:.2f} |")


if __name__ == "__main__":
    main()
