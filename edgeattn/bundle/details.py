"""How an artifact was made: what its converter or quantiser reports."""

from dataclasses import dataclass, field, fields
from typing import Any, Self, get_type_hints


@dataclass(frozen=True)
class Details:
    """The ``details`` of one artifact in a manifest, without the fields that are None.

    Attributes:
        opset: of ONNX.
        signature: of TFLite, by which a runtime names inputs and outputs.
        deployment_target: the oldest system that runs a Core ML or Core AI package.
        arithmetic: of a TFLite file in fp16, whose runtime decides.
        static_ops: how many operators have activations in eight bits too, by calibrated ranges.
        dynamic_ops: how many have weights in eight bits alone.
        float_ops: how many stay in float.
        kept_in_fp32: the kinds of operators that stay in fp32, sorted.
        kept_ops: the number of these operators.
        edges: the type of inputs and outputs.
        weights: how they are stored, in words.
        float_activations: how many operators with weights in eight bits keep float activations.
        kept_by_name: outputs of the operators that the user leaves in float.
        other: all other keys of a manifest, from a plug-in or another version.
    """

    opset: int | None = None
    signature: str | None = None
    deployment_target: str | None = None
    arithmetic: str | None = None
    static_ops: int | None = None
    dynamic_ops: int | None = None
    float_ops: int | None = None
    kept_in_fp32: tuple[str, ...] | None = None
    kept_ops: int | None = None
    edges: str | None = None
    weights: str | None = None
    float_activations: int | None = None
    kept_by_name: tuple[str, ...] | None = None
    other: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As a manifest holds it: the known fields, in the order of the attributes, then ``other``."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "other"}
        known = {key: list(x) if isinstance(x, tuple) else x for key, x in values.items() if x is not None}
        return known | self.other

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """From a manifest of any origin: a known key with a value of another type goes to ``other``."""
        known: dict[str, Any] = {}
        other: dict[str, Any] = {}
        for key, value in document.items():
            if key != "other" and _fits(value, _TYPES.get(key)):
                known[key] = tuple(value) if isinstance(value, list) else value
            else:
                other[key] = value
        return cls(**known, other=other)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """In a manifest this is one flat object, and the schema declares no keys: any key is valid."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.dict_schema(core_schema.str_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.document),
        )


_TYPES = get_type_hints(Details)


def _fits(value: Any, expected: Any) -> bool:
    if value is None or expected is None or isinstance(value, bool):
        return False
    if expected == tuple[str, ...] | None:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, expected)
