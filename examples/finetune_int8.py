"""A hundred steps of fake-quantised training before int8: what they buy.

    python examples/finetune_int8.py --steps 100 --out tuned

The fashion sample is trained on, with its activations and weights rounded to eight bits in the forward pass
(quantisation-aware training: B. Jacob et al., arXiv 1712.05877), by torchao's PT2E and ExecuTorch's XNNPACK quantiser.
The names of the weights stay, so that the tuned ones go back into the plain module, which `edgeattn.deploy` exports.

Needs Debian's dataset-fashion-mnist, and `pip install 'edgeattn[executorch,tflite,onnx,demo]'`.
"""

import argparse
import copy
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgeattn
from edgeattn.sample_models import fashion
from edgeattn.sample_models.fashion import data

BATCH, RATE = 128, 1e-4
FORMATS = ("tflite", "onnx", "executorch")


def tuned(module: nn.Module, steps: int) -> nn.Module:
    """A copy of ``module`` after ``steps`` steps with eight bits in its forward pass."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as vendor
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    pictures, random = data.load("training"), torch.Generator().manual_seed(0)
    result = copy.deepcopy(module).train()
    free = {0: torch.export.Dim("batch", min=2, max=BATCH)}
    exported = torch.export.export(result, (data.inputs(pictures.pixels[:BATCH]),), dynamic_shapes=(free,))
    quantizer = vendor.XNNPACKQuantizer()
    quantizer.set_global(vendor.get_symmetric_quantization_config(is_per_channel=True, is_qat=True))
    prepared = prepare_qat_pt2e(exported.module(), quantizer)
    move_exported_model_to_train(prepared)
    # The statistics of BatchNorm are the trained ones: a hundred batches would be poorer.
    for node in prepared.graph.nodes:
        if "batch_norm" in str(node.target):
            node.args = tuple(False if isinstance(x, bool) and i == 5 else x for i, x in enumerate(node.args))
    prepared.recompile()
    optimiser = torch.optim.SGD(prepared.parameters(), lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures.labels), (BATCH,), generator=random).numpy()
        loss = F.cross_entropy(
            prepared(data.inputs(pictures.pixels[chosen])), torch.from_numpy(pictures.labels[chosen]).long()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    weights = {name: value for name, value in prepared.state_dict().items() if name in result.state_dict()}
    result.load_state_dict(weights)
    return result.eval()


def rows(name: str, module: nn.Module, held_out: int, out: Path) -> list[str]:
    """Export in fp32 and int8, and judge on the held-out pictures: a line for each artifact."""
    pictures = data.load("held_out")[:held_out]
    images: Tensor = data.inputs(pictures.pixels)
    bundle = edgeattn.deploy(
        module,
        images[:1],
        out=out / name,
        name=name,
        formats=FORMATS,
        precisions=("fp32", "int8"),
        calibrate=data.inputs(data.load("calibration").pixels),
        evaluation=(images, pictures.classes()),
        preprocessing=data.PREPROCESSING,
        force=True,
    )
    return [
        f"| {row.candidate} | {row.correct / row.n:.2%} | {row.agreeing / row.n:.2%} |"
        for row in bundle.parity().report.accuracy
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("tuned"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    module = fashion.trained()
    print("| artifact | top-1 | agrees with its own fp32 reference |\n|---|---|---|")
    print(*rows("as-trained", module, options.held_out, options.out), sep="\n", flush=True)
    print(*rows("tuned", tuned(module, options.steps), options.held_out, options.out), sep="\n", flush=True)


if __name__ == "__main__":
    main()
