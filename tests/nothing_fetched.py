"""`setup emulated-arm` without the network, as code that goes before a command in a process of its own.

Nothing is fetched or compiled, and each step leaves a file.
"""

CODE = """
from edgeattn.system import cache
from edgeattn.targets._runner import fetch as _arm_fetch
from edgeattn.targets.emulated_arm import toolchain as _arm_setup
cache.run = lambda doing, *command, **_: "qemu version 7.2.0"
_arm_setup._missing_packages = lambda: None
_arm_setup._compile = lambda emulator: (emulator.folder / "counts").touch()
_arm_setup._make_root = lambda folder, cpu: None
_arm_setup.Emulator.qemu = ["qemu-aarch64"]
_arm_fetch.fetch_debian = _arm_fetch.fetch_wheels = lambda root, names, **_: root.mkdir(exist_ok=True) or {}
"""
