"""Watch the modules of a network while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def watching(
    module: nn.Module,
    enter: Callable[[str, nn.Module, tuple[Any, ...]], None] = lambda *_: None,
    leave: Callable[[str, nn.Module, Any], None] = lambda *_: None,
) -> Iterator[None]:
    """While the block runs, call ``enter`` with the path, the part and its inputs (named ones last) before the forward
    pass of each part of ``module``, and ``leave`` with the path, the part and its output after it."""

    def before(path: str) -> Any:
        return lambda part, args, kwargs: enter(path, part, (*args, *kwargs.values()))

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(before(path), with_kwargs=True))
        handles.append(part.register_forward_hook(lambda part, _, output, path=path: leave(path, part, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
