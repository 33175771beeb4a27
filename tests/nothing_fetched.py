"""`setup emulated-arm` without the network, as code that goes before a command in a process of its own.

Nothing is fetched or compiled, and each step leaves a file.
"""

CODE = """
from edgeattn.system import cache
from edgeattn.targets._runner import fetch
from edgeattn.targets.emulated_arm import toolchain
cache.run = lambda doing, *command, **_: "qemu version 7.2.0"
toolchain._missing_packages = lambda: None
toolchain._compile = lambda emulator: (emulator.folder / "counts").touch()
toolchain._make_root = lambda folder, cpu: None
toolchain.Emulator.qemu = ["qemu-aarch64"]
fetch.fetch_debian = fetch.fetch_wheels = lambda root, names, **_: root.mkdir(exist_ok=True) or {}
"""
