"""The file system of the loopback phone: a shell and its tools, what a phone says of itself, and ARM programs that run.

Programs for arm64 run under QEMU. A kernel does that by binfmt_misc, which a container may not set up, so that a
preloaded `execve` does it here; nothing else is known to it.
"""

import shutil
import subprocess
from pathlib import Path

TOOLS = ("cat", "chmod", "env", "ls", "ln", "mkdir", "rm", "sleep")
EXEC = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

int execve(const char *path, char *const argv[], char *const envp[])
{
    unsigned char start[20] = {0};
    char *words[256] = {"qemu-aarch64", "-cpu", "cortex-a76", "-U", "LD_PRELOAD", (char *)path};
    int file = open(path, O_RDONLY), i = 0;
    if (file >= 0) {
        read(file, start, sizeof start);
        close(file);
    }
    if (start[1] != 'E' || start[18] != 183)
        return syscall(SYS_execve, path, argv, envp);
    if (access(path, X_OK))
        return -1;
    while (argv[i] && argv[++i] && i < 240)
        words[5 + i] = argv[i];
    return syscall(SYS_execve, "/system/bin/qemu-aarch64", words, envp);
}
"""
PROPERTIES = {
    "ro.product.manufacturer": "Loop",
    "ro.product.model": "Loop 8",
    "ro.soc.manufacturer": "Loop Silicon",
    "ro.soc.model": "LS8",
    "ro.board.platform": "ls",
    "ro.hardware": "ls8",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
    "ro.build.fingerprint": "loop/ls8/ls8:15/AP3A/1:user/release-keys",
}
# As `dumpsys battery` and `dumpsys thermalservice` of Android 15 write them, cut to the size of a test.
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  health: 2
  present: true
  level: 85
  scale: 100
  voltage: 4210
  temperature: 295
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 3
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=31.0, mType=3, mName=skin, mStatus=0}
HAL Ready: true
"""
POLICIES = {"policy0": ("0 1 2 3", 300000, 1328000, 1803000), "policy4": ("4 5 6 7", 400000, 2253000, 2802000)}
ZONES = {"cpu-little": 41200, "cpu-big": 43800, "battery": 29500, "modem-off": 0}


def make_root(root: Path, cpuinfo: Path) -> None:
    """Fill ``root``; ``cpuinfo`` is what /proc/cpuinfo says on the emulated core."""
    programs = root / "system/bin"
    programs.mkdir(parents=True)
    for name in (*TOOLS, "dash", "qemu-aarch64"):
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        _copy_program(root, Path(found))
    (programs / "dash").rename(programs / "sh")
    (root / "system/lib").mkdir()
    source = root / "exec.c"
    source.write_text(EXEC)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-w", "-o", root / "system/lib/exec.so", source], check=True)
    for folder in ("dev", "proc", "data/local/tmp"):
        (root / folder).mkdir(parents=True)
    (root / "dev/null").touch()
    shutil.copy(cpuinfo, root / "proc/cpuinfo")
    script(root, "getprop", "exec cat /system/properties")
    script(root, "dumpsys", "exec cat /system/dumpsys.$1")
    # It pins nothing here: it writes down what it was asked for.
    script(root, "taskset", 'echo "$1" >>/data/taskset; shift; exec "$@"')
    tell(root)


def script(root: Path, name: str, line: str) -> None:
    """A program of the phone's that is a line of shell."""
    write_script(root / "system/bin" / name, line)


def write_script(place: Path, line: str) -> None:
    # Where it is a hard link, the other's stays as it is.
    place.unlink(missing_ok=True)
    place.write_text(f"#!/system/bin/sh\n{line}\n")
    place.chmod(0o755)


def tell(
    root: Path,
    properties: dict[str, str] = PROPERTIES,
    zones: dict[str, int] = ZONES,
    thermal: str = THERMAL,
    cut_khz: int = 0,
) -> None:
    """What the phone says of itself from now on; ``cut_khz`` is taken off its highest frequencies."""
    texts = {
        "system/properties": "".join(f"[{key}]: [{value}]\n" for key, value in properties.items()),
        "system/dumpsys.battery": BATTERY,
        "system/dumpsys.thermalservice": thermal,
        "sys/devices/system/cpu/present": "0-7\n",
    }
    for name, (cores, low, now, high) in POLICIES.items():
        values = {
            "affected_cpus": cores,
            "scaling_governor": "schedutil",
            "scaling_cur_freq": now,
            "scaling_min_freq": low,
            "scaling_max_freq": high - cut_khz,
        }
        texts |= {f"sys/devices/system/cpu/cpufreq/{name}/{key}": f"{value}\n" for key, value in values.items()}
    for number, (name, value) in enumerate(zones.items()):
        texts[f"sys/class/thermal/thermal_zone{number}/type"] = f"{name}\n"
        texts[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{value}\n"
    for path, text in texts.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        # A file of another phone may be the same one, by a hard link.
        place.unlink(missing_ok=True)
        place.write_text(text)


def _copy_program(root: Path, program: Path) -> None:
    shutil.copy(program, root / "system/bin" / program.name)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for word in listed.split():
        if word.startswith("/"):
            place = root / word.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                shutil.copy(word, place)
