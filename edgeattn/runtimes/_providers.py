"""Execution providers of onnxruntime: built in, or plug-ins in packages of their own (onnxruntime-ep-...)."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from edgeattn.errors import BadInputError, MissingError
from edgeattn.system.vendor_errors import refusing

CPU = "CPUExecutionProvider"
_PACKAGE = "onnxruntime_ep_"


@dataclass(frozen=True)
class Provider:
    """An execution provider by its name, with its options; what it leaves is the CPU provider's."""

    name: str = CPU
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Provider":
        """NAME KEY=VALUE ..., as a backend's name has it.

        Raises:
            BadInputError: an option has no value.
        """
        name, *options = text.split() or [CPU]
        pairs = [option.partition("=") for option in options]
        for key, separator, _ in pairs:
            if not separator or not key:
                raise BadInputError(f"an option of a provider is KEY=VALUE, not {key!r}")
        return cls(name, {key: value for key, _, value in pairs})

    def check(self) -> None:
        """Raise what :meth:`add_to` would."""
        import onnxruntime

        self.add_to(onnxruntime.SessionOptions())

    def add_to(self, options: Any) -> None:
        """Let a session with these ``options`` run on it.

        Raises:
            MissingError: onnxruntime has no such provider here, or that finds no device.
        """
        import onnxruntime

        if self.name == CPU:
            options.add_provider(CPU, {})
            return
        plugins = _registered()
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == self.name]
        with refusing(f"onnxruntime's provider {self.name} cannot be used"):
            if devices:
                options.add_provider_for_devices(devices[:1], dict(self.options))
                return
            if self.name in plugins:
                raise MissingError(
                    f"{self.name} ({plugins[self.name]}) finds no device that it runs on in this machine"
                )
            built_in = onnxruntime.get_available_providers()
            if self.name in built_in:
                options.add_provider(self.name, dict(self.options))
                return
        known = ", ".join(sorted({*built_in, *plugins}))
        raise MissingError(
            f"onnxruntime has no provider {self.name!r} here, but {known}; install the package of its plug-in, "
            "pip install onnxruntime-ep-..., or a build of onnxruntime that has it"
        )


@cache
def _registered() -> dict[str, str]:
    """The providers of all installed plug-ins, which onnxruntime then knows, with their packages."""
    import onnxruntime

    found = {}
    for module in sorted(module.name for module in pkgutil.iter_modules() if module.name.startswith(_PACKAGE)):
        package = import_module(module)
        with refusing(f"onnxruntime cannot load the plug-in {module}"):
            onnxruntime.register_execution_provider_library(module, package.get_library_path())
            names = package.get_ep_names() if hasattr(package, "get_ep_names") else [package.get_ep_name()]
        found.update(dict.fromkeys(names, module.replace("_", "-")))
    return found
