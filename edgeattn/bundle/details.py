"""How an artifact was made, as far as its converter or quantiser has something to say of it."""

from dataclasses import dataclass, field, fields
from typing import Any, Self, get_type_hints


@dataclass(frozen=True)
class Details:
    """What a manifest says of one artifact under ``details``. What is None is left out there.

    Attributes:
        opset: of ONNX.
        signature: of TFLite, by which a runtime finds inputs and outputs.
        deployment_target: the oldest system that runs a Core ML package.
        arithmetic: of a TFLite file in fp16, whose runtime decides.
        static_ops: how many operators have activations in eight bits too, by ranges that were seen.
        dynamic_ops: how many have weights in eight bits alone.
        float_ops: how many stay in float.
        kept_in_fp32: the kinds of operators that stay in fp32, sorted.
        kept_ops: how many operators these are.
        edges: the type of inputs and outputs.
        weights: how they are stored, in words.
        float_activations: how many operators with weights in eight bits keep float activations.
        kept_by_name: outputs of operators that the user asked to be left in float.
        other: by key, what else a manifest says: of a plug-in, or of another version.
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
        """As it stands in a manifest: what is known, in the order of the attributes, then ``other``."""
        known = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "other"}
        said = {key: list(x) if isinstance(x, tuple) else x for key, x in known.items() if x is not None}
        return said | self.other

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """Of a manifest that may be anyone's: a known key with a value of another type is one of the ``other``."""
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
        """A manifest has one flat object, and its schema says no more: others' keys are as good as ours."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.dict_schema(core_schema.str_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.document),
        )


_TYPES = get_type_hints(Details)


def _fits(value: Any, wanted: Any) -> bool:
    if value is None or wanted is None or isinstance(value, bool):
        return False
    if wanted == tuple[str, ...] | None:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, wanted)
