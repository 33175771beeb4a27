"""Core ML's classifiers: what Vision takes an image to, and gives names of classes from.

coremltools makes one of a model while it converts. Here the operator is put behind a package that is done, and taken
off before another precision is made of it, so that whatever reads the program finds the probabilities as a tensor. The
package is the one that coremltools writes; a test compares them.
"""

from collections.abc import Sequence
from typing import Any

from edgeattn.formats.mil.values import tensor_type

_OP, LABEL, PROBABILITIES = "classify", "classLabel", "classLabel_probs"


def is_asked(answer: str | None, labels: Sequence[str]) -> bool:
    """Whether a model with this answer and these labels is to be a classifier: of labels that are alike it would keep
    one."""
    return answer == "probabilities" and 0 < len(set(labels)) == len(labels)


def put(spec: Any, labels: Sequence[str]) -> None:
    """Make a classifier of a model whose only output is the probabilities [1, classes] of as many ``labels``.

    Raises:
        ValueError: it has other outputs.
    """
    block = _block(spec)
    (name,) = block.outputs
    kind = next(tensor_type(out.type) for op in block.operations for out in op.outputs if out.name == name)
    if kind is None or kind.shape != (1, len(labels)):
        raise ValueError(f"its output {name} is no probabilities of {len(labels)} classes")
    operation = block.operations.add(type=_OP)
    operation.inputs["probabilities"].arguments.add(name=name)
    classes = operation.inputs["classes"].arguments.add().value
    classes.type.listType.type.tensorType.dataType = _string()
    classes.type.listType.length.constant.size = len(labels)
    for label in labels:
        _set(classes.immediateValue.list.values.add(), label)
    operation.outputs.add(name=LABEL).type.tensorType.dataType = _string()
    probabilities = operation.outputs.add(name=PROBABILITIES).type.dictionaryType
    probabilities.keyType.tensorType.dataType = _string()
    probabilities.valueType.tensorType.dataType = _double()
    _set(operation.attributes["name"], f"{_OP}_0")
    block.outputs[:] = [LABEL, PROBABILITIES]
    description = spec.description
    del description.output[:]
    description.output.add(name=LABEL).type.stringType.SetInParent()
    description.output.add(name=PROBABILITIES).type.dictionaryType.stringKeyType.SetInParent()
    description.predictedFeatureName, description.predictedProbabilitiesName = LABEL, PROBABILITIES


def take_off(spec: Any) -> bool:
    """Make a model with the probabilities as its output of a classifier; whether it was one."""
    block = _block(spec)
    operation = _classify(block)
    if operation is None:
        return False
    (name,) = outputs(block)
    kind = next(out.type.tensorType for op in block.operations for out in op.outputs if out.name == name)
    block.operations.remove(operation)
    block.outputs[:] = [name]
    description = spec.description
    del description.output[:]
    array = description.output.add(name=name).type.multiArrayType
    array.shape.extend(int(d.constant.size) for d in kind.dimensions)
    array.dataType = array.FLOAT32
    description.predictedFeatureName = description.predictedProbabilitiesName = ""
    return True


def outputs(block: Any) -> tuple[str, ...]:
    """The names of a program's outputs; of a classifier's, that of the tensor with the probabilities."""
    operation = _classify(block)
    if operation is None:
        return tuple(block.outputs)
    return (str(operation.inputs["probabilities"].arguments[0].name),)


def is_classify(op: Any) -> bool:
    """Whether an operator only gives names to probabilities."""
    return bool(op.type == _OP)


def labels_of(spec: Any) -> tuple[str, ...]:
    """The names of the classes of a classifier; none, if it is none."""
    operation = _classify(_block(spec))
    if operation is None:
        return ()
    listed = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
    return tuple(value.immediateValue.tensor.strings.values[0] for value in listed)


def _classify(block: Any) -> Any:
    return next((op for op in block.operations if is_classify(op)), None)


def _block(spec: Any) -> Any:
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return block


def _set(value: Any, text: str) -> None:
    value.type.tensorType.dataType = _string()
    value.immediateValue.tensor.strings.values.append(text)


def _string() -> Any:
    from coremltools.proto import MIL_pb2

    return MIL_pb2.STRING


def _double() -> Any:
    from coremltools.proto import MIL_pb2

    return MIL_pb2.FLOAT64
