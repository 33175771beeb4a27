import numpy as np
import pytest

from edgeattn.formats.graph import (
    Op,
    TensorInfo,
    conv_macs,
    count,
    einsum_macs,
    in_category,
    is_one_hot,
    is_one_hot_transposed,
    matmul_macs,
)
from edgeattn.profile.latency import interleave, ratio_of_pairs


def op(kind: str, *, shape: tuple[int, ...] = (2, 3), dtype: str = "float32", **more: bool) -> Op:
    tensor = TensorInfo("t", shape, dtype, 4)
    return Op(kind, kind, (tensor,), (tensor,), **more)


@pytest.mark.parametrize(
    ("kind", "more", "category"),
    [
        ("Transpose", {}, "layout"), ("TRANSPOSE", {}, "layout"), ("pixel_unshuffle", {}, "layout"),
        ("DepthToSpace", {}, "layout"), ("SPACE_TO_DEPTH", {}, "layout"), ("Col2Im", {}, "layout"),
        ("Gather", {"constant_indices": True}, "layout"), ("Gather", {}, "compute"),
        ("gather_along_axis", {"constant_indices": True}, "layout"),
        ("Conv", {"one_hot_kernel": True}, "layout"), ("Conv", {}, "compute"),
        ("Split", {}, "copy"), ("STRIDED_SLICE", {}, "copy"), ("tile", {}, "copy"), ("Expand", {}, "copy"),
        ("ReorderInput", {}, "reorder"), ("Reshape", {}, "compute"), ("Softmax", {}, "compute"),
    ],
)  # fmt: skip
def test_categories(kind: str, more: dict[str, bool], category: str) -> None:
    found = op(kind, **more)
    assert found.category == category
    assert found.moved_bytes == (0 if category == "compute" else 24)


def test_index_arithmetic_on_a_shape_is_no_layout_op() -> None:
    assert op("Gather", shape=(4,), dtype="int64", constant_indices=True).category == "compute"


def test_counts_are_sorted_by_number_then_name() -> None:
    ops = [op("b"), op("Transpose"), op("b"), op("a")]
    assert list(count(ops).items()) == [("b", 2), ("Transpose", 1), ("a", 1)]
    assert len(in_category(ops, "layout")) == 1


def test_one_hot_kernels() -> None:
    unfold = np.eye(4).reshape(4, 1, 2, 2)
    assert is_one_hot(unfold)
    assert not is_one_hot(unfold * 2)
    assert not is_one_hot(np.ones((4, 1, 2, 2)))
    assert is_one_hot(np.eye(4).reshape(1, 2, 2, 4), output_axis=3)
    assert not is_one_hot(np.zeros((0, 1, 1, 1)))


def test_one_hot_kernels_of_transposed_convolutions() -> None:
    fold = np.eye(4).reshape(1, 2, 2, 4)
    assert is_one_hot_transposed(fold, input_axis=3)
    assert not is_one_hot_transposed(fold * 2, input_axis=3)
    # Two inputs in one place are a sum.
    assert not is_one_hot_transposed(fold[..., [0, 0, 2, 3]], input_axis=3)


def test_multiply_adds() -> None:
    assert conv_macs((1, 8, 4, 4), (3, 2, 2)) == 8 * 16 * 12
    assert conv_macs((None, 8, 4, 4), (3, 2, 2)) is None  # of a free axis nothing is known
    assert matmul_macs((2, 3, 5), None) is None
    assert einsum_macs("ij,jk->ik", [(2, None), (3, 4)]) == 2 * 3 * 4
    assert einsum_macs("ij,jk->ik", [(None, 3), (3, 4)]) is None
    assert matmul_macs((2, 3, 5), 7) == 210
    assert einsum_macs("bpn, bcpn -> bcp", [(2, 3, 4), (2, 5, 3, 4)]) == 2 * 3 * 4 * 5


def test_calls_are_interleaved_and_the_warm_up_dropped() -> None:
    order: list[str] = []
    samples = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, runs=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(v) for v in samples.values()] == [3, 3]


def test_the_ratio_is_of_pairs_so_a_drift_does_not_matter() -> None:
    drift = [1, 10, 100]
    assert ratio_of_pairs(baseline_ns=[3 * d for d in drift], candidate_ns=[2 * d for d in drift]).value == 1.5
