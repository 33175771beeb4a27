"""The precisions that an artifact may be in, and how each is judged: the only table of this."""

from dataclasses import dataclass, replace
from math import inf


@dataclass(frozen=True)
class NoiseLimits:
    """For a candidate that rounds as the reference does: the largest error, in units of the noise floor.

    The noise floor is the reference's own error in float32.
    """

    max_noise_units: float
    rms_noise_units: float


@dataclass(frozen=True)
class SqnrLimits:
    """For a candidate that rounds on purpose, by far more than the floor: how far its noise must be below the signal.

    Attributes:
        on_data_db: the smallest ratio of signal to noise for inputs of the kind that the model is made for.
        elsewhere_db: the same for other inputs.
        smallest_step: an RMS error up to this passes: the precision's own smallest step, for signals that are no
            larger; in the outputs' units.
    """

    on_data_db: float
    elsewhere_db: float
    smallest_step: float


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        name: in a manifest, in a file's name and on the command line.
        bits: of a weight, as it is stored.
        limits: for the outputs.
        least_agreement: share of the predictions for labelled inputs that must be the reference's, right or wrong.
        largest_drop: of top-1 accuracy on labelled inputs, as a share of all inputs.
        is_calibrated: whether it is made with inputs of the kind that the model is made for.
        is_palette: whether weights are indices into a table of 2^bits values.
        largest_value: the largest number that it can hold.
    """

    name: str
    bits: int
    limits: NoiseLimits | SqnrLimits
    least_agreement: float
    largest_drop: float
    is_calibrated: bool = False
    is_palette: bool = False
    largest_value: float = inf

    @property
    def has_few_bits(self) -> bool:
        """Whether it is made for inputs of the model's own kind, and judged on these alone."""
        return self.bits <= 8


# A candidate sums in another order than PyTorch, and by other kernels: its error is of the floor's kind, not its size.
# A weight off by 1 % gives over 1,000, weights rounded to fp16 some hundreds and more. 200 random layers gave up
# to 15 (most below 2, benchmarks/sound.py), whole models up to 6.
FP32_LIMITS = NoiseLimits(max_noise_units=24.0, rms_noise_units=16.0)
FP32 = Precision(
    "fp32",
    bits=32,
    limits=FP32_LIMITS,
    # It differs from the reference by rounding alone, far below the gap between two logits: no accuracy is lost.
    least_agreement=1.0,
    largest_drop=0.0,
)
FP16 = Precision(
    "fp16",
    bits=16,
    limits=SqnrLimits(
        on_data_db=50.0,
        elsewhere_db=35.0,  # on inputs unlike what the model is made for it must not lose the range
        smallest_step=2.0**-24,
    ),
    # As for fp32, a thousand times as coarse; a gap between two logits is some tenths, but once in a thousand.
    least_agreement=0.999,
    largest_drop=0.0005,
    largest_value=65504.0,
)
# With few bits: on inputs unlike the calibration inputs the outputs only have to be finite.
_FEW_BITS = SqnrLimits(on_data_db=25.0, elsewhere_db=-inf, smallest_step=0.0)
_AGREEMENT, _DROP = 0.99, 0.005
# Weights and activations, by calibrated ranges; or weights alone, with activations rounded at run time. Both have
# their biases corrected on the calibration set.
INT8 = Precision("int8", 8, _FEW_BITS, _AGREEMENT, _DROP, is_calibrated=True)
INT8_DYNAMIC = Precision("int8-dynamic", 8, _FEW_BITS, _AGREEMENT, _DROP, is_calibrated=True)
# Weights as indices into a table of 2^6 or 2^4 values; only Core ML and Core AI run these.
PALETTE6 = Precision("palette6", 6, _FEW_BITS, _AGREEMENT, _DROP, is_palette=True)
# Sixteen values: what a trained network keeps of its answers, not more.
PALETTE4 = Precision(
    "palette4", 4, replace(_FEW_BITS, on_data_db=20.0), least_agreement=0.95, largest_drop=0.01, is_palette=True
)

# By name, the finest first.
PRECISIONS = {precision.name: precision for precision in (FP32, FP16, INT8, INT8_DYNAMIC, PALETTE6, PALETTE4)}
