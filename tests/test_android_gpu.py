"""The user's GPU library on a phone: LiteRT's accelerator for Linux on arm64, which runs on Chromium's Vulkan driver in
software; and what is said where it cannot.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attached import Attach, left_on
from conftest import Answer

from edgeattn import targets
from edgeattn.bundle import manifest, records
from edgeattn.errors import ArtifactError
from edgeattn.parity.check import verify
from edgeattn.system import cache
from edgeattn.targets import Connection, Job, Measurement
from edgeattn.targets._runner import fetch, native
from edgeattn.targets.android import elf
from edgeattn.targets.emulated_arm import toolchain

Command = Callable[..., Answer]
QUICK = ("--runs", 3, "--warmup", 1)
ON_GPU = ("--target", "android", "--runtime", "litert gpu")


@pytest.fixture(scope="session")
def accelerator(base_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The accelerator in the aarch64 wheel of ai-edge-litert, alone in a folder."""
    wheel = toolchain.build().folder / "root" / fetch.DIST_PACKAGES / "ai_edge_litert"
    return Path(shutil.copy(wheel / "libLiteRtWebGpuAccelerator.so", tmp_path_factory.mktemp("accelerator")))


@pytest.fixture(scope="session")
def driver(base_root: Path) -> Path:
    """A folder with a Vulkan loader and a driver, of Debian's packages for arm64."""

    def build(folder: Path) -> None:
        root = folder / "root"
        fetch.fetch_debian(root, ("chromium-common", "libvulkan1"), dependencies=False)
        for name in ("chromium/libvk_swiftshader.so", "chromium/vk_swiftshader_icd.json"):
            shutil.copy(root / "usr/lib" / name, folder)
        shutil.copy(root / "usr/lib/aarch64-linux-gnu/libvulkan.so.1", folder)
        shutil.rmtree(root)

    return cache.once(cache.home() / "tests-swiftshader-arm64/1", build)


@pytest.fixture(scope="session")
def with_driver(accelerator: Path, driver: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The accelerator, with the driver beside it."""
    folder = shutil.copytree(driver, tmp_path_factory.mktemp("gpu") / "gpu")
    return Path(shutil.copy(accelerator, folder))


def test_the_model_on_the_gpu(
    attach: Attach, edgeattn: Command, made_bundle: Path, with_driver: Path, tmp_path: Path
) -> None:
    phone = attach()
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, *ON_GPU, "--gpu-library", with_driver, *QUICK, "--out", out)
    assert answer.code == 0, answer.err
    (record,) = records.load(out).records
    assert (record.origin, record.runtime, record.runtime_version) == ("phone", "litert gpu", "2.3.0")
    assert len(record.samples_ns) == 3
    assert record.device.details["gpu library"].startswith("libLiteRtWebGpuAccelerator.so, sha256 ")
    assert record.operators_note == "LiteRT's GPU accelerator gives no time by operator"
    assert record.parity
    assert record.parity.passed
    assert left_on(phone) == []


def test_parity_in_both_of_its_runtimes(
    attach: Attach, edgeattn: Command, lean: Path, with_driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
    answer = edgeattn("parity", lean, "--target", "android", "--gpu-library", with_driver, "--json")
    assert answer.code == 0, answer.err
    rows = [row for row in answer.document["rows"] if row["hop"] == "conversion"]
    assert {row["runtime"].partition(" on ")[0] for row in rows} == {
        "litert",
        "litert gpu",
        "onnxruntime",
        "executorch",
    }


class Half(Connection):
    """Computes as a phone's GPU may: the host's outputs, each off by half a step of 16 bits."""

    place, runtimes = "half", {"tflite": ("litert", "litert gpu")}
    warmup, runs = None, 1

    def run(self, job: Job) -> Measurement:
        with targets.connect("host", {}) as host:
            seen = host.run(replace(job, runtime=""))
        first, last, *then = (
            {name: value * np.float32(1 + 2**-11) for name, value in outputs.items()}
            for outputs in (seen.first, seen.last, *seen.then)
        )
        return replace(seen, first=first, last=last, then=tuple(then))


def test_it_is_judged_as_half_precision(made_bundle: Path) -> None:
    report = verify(manifest.load(made_bundle), connection=Half())
    passed = {
        runtime: all(row.passed for row in report.rows if row.runtime == f"{runtime} on half")
        for runtime in ("litert", "litert gpu")
    }
    assert passed == {"litert": False, "litert gpu": True}


def test_what_is_not_on_it_alone(attach: Attach, five: Path, with_driver: Path) -> None:
    attach()
    x = np.random.default_rng(0).random((1, 8, 8, 8), np.float32)
    job = Job(five, {"args_0": x}, runs=1, runtime="litert gpu")
    said = r"it is not on the GPU alone: LiteRT's accelerator takes \d+ operators of \d+"
    with targets.connect("android", {"gpu_library": str(with_driver)}) as phone:
        with pytest.raises(ArtifactError, match=said):
            phone.run(job)
        assert phone.run(replace(job, runtime="litert")).last  # on the CPU it goes on


def test_a_phone_without_a_gpu(attach: Attach, edgeattn: Command, made_bundle: Path, accelerator: Path) -> None:
    phone = attach()
    answer = edgeattn("profile", made_bundle, *ON_GPU, "--gpu-library", accelerator, *QUICK)
    assert answer.code == 3
    assert "on Loop 8: LiteRT's GPU accelerator finds no GPU, or no driver that it can load" in answer.err
    assert answer.err.count("\n") == 1
    assert left_on(phone) == []
    # The other runtimes go on.
    answer = edgeattn("profile", made_bundle, "--target", "android", "--gpu-library", accelerator, *QUICK, "--json")
    assert answer.code == 1
    assert {record["runtime"] for record in answer.document["records"]} == {"litert", "onnxruntime", "executorch"}
    assert any("finds no GPU" in entry["reason"] for entry in answer.document["not_run"])


def test_a_library_that_is_no_accelerator(
    attach: Attach, edgeattn: Command, made_bundle: Path, driver: Path, tmp_path: Path
) -> None:
    attach()
    answer = edgeattn("profile", made_bundle, *ON_GPU, "--gpu-library", driver / "libvk_swiftshader.so", *QUICK)
    assert answer.code == 2
    assert "the GPU library is no accelerator for LiteRT: it lacks LiteRtAcceleratorImpl" in answer.err
    needs = library_that_needs("libnone.so", tmp_path)
    (tmp_path / "libnone.so").unlink()
    answer = edgeattn("profile", made_bundle, *ON_GPU, "--gpu-library", needs, *QUICK)
    assert answer.code == 3
    assert "the GPU library cannot be loaded: libnone.so: cannot open shared object file" in answer.err
    assert answer.err.count("\n") == 1


def library_that_needs(name: str, folder: Path) -> Path:
    """A library for arm64 in ``folder``, and beside it one of that ``name``, which it needs."""
    compiler = ("aarch64-linux-gnu-gcc", "-nostdlib", "-shared", "-x", "c", "/dev/null")
    library = folder / "libLiteRtGpuAccelerator.so"
    subprocess.run([*compiler, f"-Wl,-soname,{name}", "-o", folder / name], check=True)
    subprocess.run([*compiler, "-Wl,--no-as-needed", "-o", library, "-x", "none", folder / name], check=True)
    return library


def test_what_is_refused_before_a_phone_is_asked(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    rubbish, tool = tmp_path / "rubbish.so", tmp_path / "benchmark_model"
    rubbish.write_bytes(b"rubbish")
    arm = b"\x7fELF" + bytes(14) + b"\xb7\x00"
    tool.write_bytes(arm)
    library = tmp_path / "libLiteRtGpuAccelerator.so"
    library.write_bytes(arm)
    for arguments, said in (
        (("--target", "android:none", "--gpu-library", tmp_path / "none.so"), "none.so cannot be read: No such file"),
        (("--target", "android:none", "--gpu-library", tmp_path), "cannot be read: Is a directory"),
        (("--target", "android:none", "--gpu-library", rubbish), "rubbish.so is no program for arm64"),
        (("--target", "android:none", "--gpu-library", library, "--runner", tool), "is loaded by the native runner"),
        (("--target", "host", "--gpu-library", library), "--gpu-library means nothing to --target host"),
    ):
        answer = edgeattn("profile", made_bundle, *arguments)
        assert answer.code == 2, answer.err
        assert said in answer.err
    assert "--gpu-library needs --target" in edgeattn("parity", made_bundle, "--gpu-library", library).err


def test_a_library_for_androids_own_c_library(
    accelerator: Path, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown on a library that needs a libc.so, as those for Android do; the real ones come in no package."""
    library = library_that_needs("libc.so", tmp_path)
    assert elf.is_bionic(library)
    assert not elf.is_bionic(accelerator)
    arguments = ("profile", made_bundle, "--target", "android:none", "--gpu-library", library)
    answer = edgeattn(*arguments)
    assert answer.code == 2
    assert "is built for Android, and needs the libLiteRt.so of the same release beside it" in answer.err
    shutil.copy(litert(), tmp_path)
    for name in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    answer = edgeattn(*arguments)
    assert answer.code == 3
    assert "is compiled by an Android NDK; set ANDROID_NDK_HOME to the folder of one" in answer.err
    monkeypatch.setenv("ANDROID_NDK_ROOT", str(ndk(tmp_path / "ndk", "echo 'fatal error: no such header' >&2; exit 1")))
    answer = edgeattn(*arguments)
    assert answer.code == 3
    assert "failed at compiling the native runner for Android: fatal error: no such header" in answer.err


def litert() -> Path:
    return native.build().folder / "litert/libLiteRt.so"


def ndk(folder: Path, line: str) -> Path:
    """A stand-in for an NDK: its compiler is a line of shell."""
    clang = folder / "toolchains/llvm/prebuilt/linux-x86_64/bin/clang"
    clang.parent.mkdir(parents=True)
    clang.write_text(f"#!/bin/sh\n{line}\n")
    clang.chmod(0o755)
    return folder


def test_a_runner_for_the_phones_own_c_library(
    attach: Attach, edgeattn: Command, made_bundle: Path, with_driver: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As with a library for Android: the runner is compiled for the phone's C library, and is all of ours that is
    pushed. The phone's is GNU's here, put where Debian has it, and the NDK is Debian's compiler.
    """
    phone = attach()
    libraries = phone.root / "lib/aarch64-linux-gnu"
    shutil.copytree(native.build().folder / native.GLIBC, libraries)
    loader = "-Wl,--dynamic-linker=/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"
    compiler = f'[ $1 = --target=aarch64-linux-android26 ] || exit 2; shift; exec aarch64-linux-gnu-gcc {loader} "$@"'
    monkeypatch.setenv("ANDROID_NDK_HOME", str(ndk(tmp_path / "ndk", compiler)))
    monkeypatch.setattr(elf, "is_bionic", lambda path: True)
    library, built = litert(), native.build()
    monkeypatch.setattr(cache, "home", lambda: tmp_path / "cache")
    monkeypatch.setattr(native, "ready", lambda: built)
    folder = shutil.copytree(with_driver.parent, tmp_path / "gpu")
    shutil.copy(library, folder)
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, *ON_GPU, "--gpu-library", folder / with_driver.name, *QUICK, "--out", out)
    assert answer.code == 0, answer.err
    (record,) = records.load(out).records
    assert record.runtime == "litert gpu"
    assert record.runtime_version.startswith("sha256 ")
    assert record.parity
    assert record.parity.passed
    assert not any("glibc" in path for path in phone.pushed)
    assert left_on(phone) == []
