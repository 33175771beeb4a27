"""The precisions that an artifact may be in, and how each is judged: the one table, which all others read."""

from dataclasses import dataclass
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
    """For a candidate that rounds on purpose, by far more than the floor: how far its noise must lie below the signal.

    Attributes:
        on_data_db: the least ratio of signal to noise for inputs of the kind that the model is made for.
        elsewhere_db: the same for other inputs.
        smallest_step: an RMS error up to this is no fault, where the signal is no larger than the precision's own
            smallest step; in the outputs' units.
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
        limits: by which outputs are judged.
        least_agreement: share of the answers to labelled inputs that must be the reference's own, right or wrong.
        largest_drop: of top-1 on labelled inputs, as a share of them all.
        is_calibrated: whether inputs of the kind that the model is made for have a part in making it.
        is_palette: whether weights are places in a table of 2^bits values.
        largest_value: beyond which it has no numbers.
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
# A weight off by 1 % gives over 1,000, weights rounded to fp16 some hundreds and more. 200 random layers were seen at
# up to 15 (most below 2, benchmarks/sound.py), whole models at up to 6.
FP32_LIMITS = NoiseLimits(max_noise_units=24.0, rms_noise_units=16.0)
FP32 = Precision(
    "fp32",
    bits=32,
    limits=FP32_LIMITS,
    # It differs from the reference by rounding alone, far below the gap between two logits: loses nothing.
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
    # As fp32, a thousand times as coarse; a gap between two logits is some tenths.
    least_agreement=1.0,
    largest_drop=0.0,
    largest_value=65504.0,
)
# With few bits: nothing is asked of it on inputs unlike those that it is calibrated on, but that it is finite.
_FEW_BITS = SqnrLimits(on_data_db=25.0, elsewhere_db=-inf, smallest_step=0.0)
_AGREEMENT, _DROP = 0.99, 0.005
# Activations too, by ranges that were seen; or weights alone, with activations rounded as they come. Both have their
# biases corrected on the calibration set.
INT8 = Precision("int8", 8, _FEW_BITS, _AGREEMENT, _DROP, is_calibrated=True)
INT8_DYNAMIC = Precision("int8-dynamic", 8, _FEW_BITS, _AGREEMENT, _DROP, is_calibrated=True)
# Weights as places in a table of 2^6 or 2^4 values; Core ML alone runs these.
PALETTE6 = Precision("palette6", 6, _FEW_BITS, _AGREEMENT, _DROP, is_palette=True)
PALETTE4 = Precision("palette4", 4, _FEW_BITS, _AGREEMENT, _DROP, is_palette=True)

# By name, the finest first.
PRECISIONS = {one.name: one for one in (FP32, FP16, INT8, INT8_DYNAMIC, PALETTE6, PALETTE4)}
