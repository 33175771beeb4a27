"""The one form in which a model is called from here on: tensors in order, and tensors in order out of it."""

from typing import Any

from torch import Tensor, nn

from edgeattn.export.source.outputs import flat


def root_of(module: nn.Module) -> str:
    """The path of the user's own module in ``module``; empty if it is that itself."""
    steps = []
    while isinstance(module, InOrder):
        steps.append("model")
        module = module.model
    return ".".join(steps)


def below(path: str, root: str) -> str:
    """A path as seen from the module at ``root``; a path outside of it is empty."""
    if not root:
        return path
    return path.removeprefix(f"{root}.") if path.startswith(f"{root}.") else ""


class InOrder(nn.Module):
    """Calls ``model`` by keyword, with its inputs and with constants, and returns its outputs flat.

    Only what cannot be called in order, or returns nested or missing outputs, or some in another float type than
    float32, or changes its inputs, is wrapped in it. ``single`` are the numbers of those outputs, which are returned in
    float32; ``copies``: it calls ``model`` with copies of its inputs.
    """

    def __init__(
        self,
        model: nn.Module,
        keywords: tuple[str, ...] = (),
        constants: dict[str, Any] | None = None,
        single: frozenset[int] = frozenset(),
        *,
        copies: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.keywords = keywords
        self.constants = constants or {}
        self.single, self.copies = single, copies
        self.eval()

    def call(self, *inputs: Tensor) -> Any:
        """What the model itself returns."""
        if self.copies:
            inputs = tuple(x.clone() for x in inputs)
        if self.keywords:
            return self.model(**dict(zip(self.keywords, inputs, strict=True)), **self.constants)
        return self.model(*inputs)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        result = self.call(*inputs)
        values = tuple(x.float() if i in self.single else x for i, x in enumerate(flat(result)))
        return values[0] if len(values) == 1 else values
