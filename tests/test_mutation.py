"""The mutations of arrays, and what each format's writer leaves alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.manifest import Artifact
from edgeattn.parity import mutation
from edgeattn.parity.mutation import EDITORS, Array, Edit, Weight
from edgeattn.runtimes import RUNTIMES

RUNTIME_OF = {
    "coreai": "coreai",
    "coreml": "mil_reference",
    "executorch": "executorch",
    "onnx": "onnxruntime",
    "tflite": "litert",
}
NUMBERS = st.floats(-8, 8, width=16).filter(lambda value: value == 0 or abs(value) > 1e-3)


@st.composite
def weights(draw: st.DrawFn) -> Weight:
    dtype = draw(st.sampled_from([np.float16, np.float32]))
    value = draw(stn.arrays(dtype, stn.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=NUMBERS))
    return Weight("w", value, "weight", draw(st.integers(0, value.ndim - 1)))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@given(weights())
def test_a_mutation_keeps_shape_and_type_and_its_argument(weight: Weight) -> None:
    before = weight.value.copy()
    for kind in mutation.MUTATIONS:
        changed = kind.change(weight, generator())
        assert changed is None or (changed.shape, changed.dtype) == (before.shape, before.dtype), kind.name
        assert mutation.same(weight.value, before), kind.name


@given(weights())
def test_channels_are_exchanged_and_silenced_along_their_axis(weight: Weight) -> None:
    before = np.moveaxis(weight.value, weight.axis, 0)
    exchanged = mutation.channels_exchanged(weight, generator())
    if len(before) < 2:
        assert exchanged is None
    else:
        assert exchanged is not None
        after = np.moveaxis(exchanged, weight.axis, 0)
        assert sorted(c.tobytes() for c in after) == sorted(c.tobytes() for c in before)
        assert sum(not mutation.same(a, b) for a, b in zip(before, after, strict=True)) in (0, 2)
    silent = np.moveaxis(mutation.channel_silenced(weight, generator()), weight.axis, 0)
    differing = [i for i in range(len(before)) if not np.array_equal(before[i], silent[i])]
    assert len(differing) <= 1
    assert not any(silent[i].any() for i in differing)


@given(weights())
def test_transposing_twice_is_nothing(weight: Weight) -> None:
    once = mutation.transposed(weight, generator())
    shape = [n for n in weight.value.shape if n > 1]
    assert (once is None) == (len(set(shape)) == len(shape))
    if once is not None:
        twice = mutation.transposed(Weight("w", once, "weight"), generator())
        assert twice is not None
        assert mutation.same(twice, weight.value)


@given(weights())
def test_one_number_is_negated_or_lost(weight: Weight) -> None:
    assume(weight.value.any())
    negated = mutation.largest_negated(weight, generator())
    assert np.flatnonzero(negated != weight.value).size == 1
    assert np.array_equal(np.abs(negated), np.abs(weight.value))
    assert np.abs(negated[negated != weight.value]).item() == np.abs(weight.value).max()
    assert np.isnan(mutation.one_set_to_nan(weight, generator())).sum() == 1


@given(weights())
def test_rounding_scaling_and_noise_are_small(weight: Weight) -> None:
    wide = Weight("w", weight.value.astype(np.float32) * np.float32(1 / 3), "weight")
    rounded = mutation.rounded_to_half(wide, generator())
    assert rounded is not None
    assert np.allclose(rounded, wide.value, rtol=2**-11, atol=2**-25)
    assert mutation.same(rounded, np.float32(np.float16(rounded)))
    assert mutation.rounded_to_half(Weight("w", np.float16(wide.value), "weight"), generator()) is None
    assert np.allclose(mutation.scaled(wide, generator()), wide.value * 1.01, rtol=1e-6)
    noise = mutation.stale(wide, generator())
    assert np.allclose(noise, wide.value, rtol=6e-3)
    assert (noise == wide.value).all() == (not wide.value.any())


@given(st.lists(st.integers(), unique=True), st.integers(1, 5))
def test_places_are_spread_over_the_depth(values: list[int], number: int) -> None:
    chosen = mutation.spread(values, number)
    assert len(chosen) == min(number, len(values))
    assert sorted(set(chosen), key=values.index) == chosen
    if number > 1:
        assert chosen[:1] + chosen[-1:] == values[:1] + values[-1:]


def test_what_changes_nothing_is_said_and_not_made() -> None:
    random = generator()
    zeros = [Weight(f"b{i}", np.zeros(4, np.float32), "bias") for i in range(2)]
    kernels = [Weight(f"w{i}", random.standard_normal((4, 3)).astype(np.float32), "weight") for i in range(7)]
    edits = [Edit(mutation.RELU, i, f"relu {i}") for i in range(9)]
    found = mutation.mutants([*zeros, *kernels], edits, 3)
    again = mutation.mutants([*zeros, *kernels], edits, 3)
    assert [(m.mutation, m.place, str(m.replaced)) for m in again] == [
        (m.mutation, m.place, str(m.replaced)) for m in found
    ]
    by_kind = {m.mutation: [x for x in found if x.mutation == m.mutation] for m in found}
    assert [(m.place, m.unchanged) for m in by_kind["bias set to zero"]] == [("all 2", "it is zero already")]
    assert [m.place for m in by_kind["weight scaled by 1.01"]] == ["w0", "w3", "w6"]
    assert [m.place for m in by_kind[mutation.RELU]] == ["relu 0", "relu 4", "relu 8"]
    assert "square weight transposed" not in by_kind
    pair = by_kind[mutation.EXCHANGE][0].replaced
    assert mutation.same(pair["w0"], kernels[1].value)
    assert mutation.same(pair["w1"], kernels[0].value)


def artifact(bundle: Path, name: str) -> tuple[Artifact, Path]:
    loaded = bundles.load(bundle)
    found = next(a for a in loaded.manifest.artifacts if a.format == name)
    return found, loaded.path(found.file)


def outputs(bundle: Path, name: str, path: Path) -> list[Array]:
    kind, _ = artifact(bundle, name)
    found = []
    with RUNTIMES.get(RUNTIME_OF[name]).open(path) as session:
        for golden in golden_cases(bundles.load(bundle)).values():
            found += session.run(golden.inputs_for(kind)).values()
    return found


@pytest.mark.parametrize("name", EDITORS.names)
def test_a_copy_without_a_change_gives_the_same_bits(name: str, norm_bundle: Path, tmp_path: Path) -> None:
    editor, (_, path) = EDITORS.get(name), artifact(norm_bundle, name)
    copy = tmp_path / f"copy{path.suffix}"
    editor.write(path, copy)
    before, after = outputs(norm_bundle, name, path), outputs(norm_bundle, name, copy)
    assert before
    assert all(mutation.same(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", EDITORS.names)
def test_a_copy_differs_in_the_changed_weight_alone(name: str, norm_bundle: Path, tmp_path: Path) -> None:
    editor, (_, path) = EDITORS.get(name), artifact(norm_bundle, name)
    found = editor.weights(path)
    assert {w.role for w in found} == {"weight", "bias"}
    for number, weight in enumerate(found):
        copy = tmp_path / f"{number}{path.suffix}"
        editor.write(path, copy, {weight.name: weight.value + 1})
        for before, after in zip(found, editor.weights(copy), strict=True):
            assert (before.name, before.role, before.axis) == (after.name, after.role, after.axis)
            assert np.array_equal(after.value, before.value + 1 if before.name == weight.name else before.value)
        assert editor.edits(copy) == editor.edits(path)


@pytest.mark.parametrize("name", EDITORS.names)
def test_every_kind_of_operator_is_found_and_changed_once(name: str, norm_bundle: Path, tmp_path: Path) -> None:
    editor, (_, path) = EDITORS.get(name), artifact(norm_bundle, name)
    edits = editor.edits(path)
    kinds = Counter(e.kind for e in edits)
    assert kinds.keys() == {mutation.SOFTMAX, mutation.RELU, mutation.SUBTRACTION, mutation.EPSILON}
    assert kinds[mutation.SOFTMAX] == kinds[mutation.RELU] == kinds[mutation.EPSILON] == 1
    for number, edit in enumerate(edits):
        copy = tmp_path / f"{number}{path.suffix}"
        editor.write(path, copy, None, edit)
        # A softmax and a norm are still there, and could be changed again.
        gone = Counter([edit.kind]) if edit.kind in (mutation.RELU, mutation.SUBTRACTION) else Counter()
        assert Counter(e.kind for e in editor.edits(copy)) == kinds - gone
        pairs = zip(editor.weights(path), editor.weights(copy), strict=True)
        assert all(mutation.same(before.value, after.value) for before, after in pairs)
    with pytest.raises(ValueError, match="not suited to this mutation"):
        editor.write(path, tmp_path / f"wrong{path.suffix}", None, Edit(mutation.SOFTMAX, edits[-1].index, "there"))
