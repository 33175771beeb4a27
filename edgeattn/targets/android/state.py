"""A phone's identity and state: model, temperatures, clock frequencies, battery."""

import re
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import TypeGuard, TypeVar

from edgeattn.bundle.records import Device
from edgeattn.system.foreign import sentence
from edgeattn.targets._runner import clocks
from edgeattn.targets.android.adb import Phone

T = TypeVar("T")
_CPU = "/sys/devices/system/cpu"
# One call: each takes a tenth of a second over USB. A file that may not be read is left out.
_SCRIPT = f"""
getprop
echo "present=$(cat {_CPU}/present 2>/dev/null)"
for policy in {_CPU}/cpufreq/policy*; do
  for name in affected_cpus scaling_governor scaling_cur_freq scaling_min_freq scaling_max_freq cpuinfo_max_freq; do
    echo "${{policy##*/}}.$name=$(cat $policy/$name 2>/dev/null)"
  done
done
for zone in /sys/class/thermal/thermal_zone*; do
  echo "zone.$(cat $zone/type 2>/dev/null)=$(cat $zone/temp 2>/dev/null)"
done
dumpsys battery 2>/dev/null | while read -r line; do echo "battery.$line"; done
dumpsys thermalservice 2>/dev/null | while read -r line; do echo "thermal.$line"; done
true
"""
_PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "soc_manufacturer": "ro.soc.manufacturer",
    "soc": "ro.soc.model",
    "platform": "ro.board.platform",
    "hardware": "ro.hardware",
    "android": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
    "build": "ro.build.fingerprint",
}
# More zones, policies or properties than any phone has are not recorded.
_MOST = 500
_CHARGING = {"2": "charging", "3": "discharging", "4": "not charging", "5": "full"}
# android.os.PowerManager.THERMAL_STATUS_*
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@dataclass(frozen=True)
class State:
    """A phone's state at one moment. ``properties`` are those of `getprop`; frequencies in kHz, temperatures in °C."""

    properties: dict[str, str]
    cores: str
    policies: dict[str, dict[str, str]]
    zones: dict[str, float]
    battery: dict[str, str]
    thermal_status: str

    @property
    def abis(self) -> str:
        """The ABIs that it runs, the best first: ``arm64-v8a,armeabi-v7a``."""
        return self.properties.get("ro.product.cpu.abilist") or self.properties.get("ro.product.cpu.abi", "")

    @property
    def emulated(self) -> bool:
        """Whether it is Android's emulator."""
        return "1" in (self.properties.get("ro.boot.qemu"), self.properties.get("ro.kernel.qemu"))

    @property
    def device(self) -> Device:
        """The phone, with the details that do not change during a run."""
        details = {name: self.properties[key] for name, key in _PROPERTIES.items() if self.properties.get(key)}
        details["cores"] = self.cores
        for name, policy in self.policies.items():
            details[name] = (
                f"cores {policy.get('affected_cpus') or 'unknown'}, {policy['scaling_governor']}, "
                f"{_mhz(policy.get('scaling_min_freq'))} to {_mhz(policy.get('scaling_max_freq'))}"
            )
        model = details.get("model", "Android phone")
        maker = details.get("manufacturer", "")
        name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
        return Device(name, details)

    @property
    def temperature(self) -> float | None:
        """The hottest of the CPU's zones in °C; the battery's where they cannot be read."""
        cpu = [value for name, value in self.zones.items() if "cpu" in name.lower()]
        battery = self.battery.get("temperature", "")
        return max(cpu, default=int(battery) / 10 if _is_number(battery) else None)

    def summary(self) -> dict[str, str]:
        """The values that change during a run, for people: governor and frequency by policy, temperatures, battery."""
        values = {
            name: f"{_mhz(policy.get('scaling_cur_freq'))} ({policy['scaling_governor']}, "
            f"at most {_mhz(policy.get('scaling_max_freq'))})"
            for name, policy in self.policies.items()
        }
        values |= {f"zone {name}": f"{value:.1f} °C" for name, value in self.zones.items()}
        if level := self.battery.get("level"):
            warm = self.battery.get("temperature", "")
            parts = [f"{level} %", f"{int(warm) / 10:.1f} °C" if _is_number(warm) else ""]
            parts.append(_CHARGING.get(self.battery.get("status", ""), ""))
            values["battery"] = ", ".join(part for part in parts if part)
        if self.thermal_status:
            values["thermal status"] = self.thermal_status
        return values


def read(phone: Phone) -> State:
    """Read the phone's state now.

    Raises:
        TargetError: it does not answer.
    """
    return parse(phone.shell(_SCRIPT))


def parse(text: str) -> State:
    """Parse the output of the script; a value that the phone does not reveal is missing."""
    properties: dict[str, str] = {}
    values: dict[str, str] = {}
    battery: dict[str, str] = {}
    status = ""
    for line in text.split("\n"):
        line = sentence(line)
        if match := re.fullmatch(r"\[(.+?)\]: \[(.*)\]", line):
            properties[match[1]] = match[2]
        elif match := re.fullmatch(r"battery\.([\w ]+): *(.+)", line):
            battery[match[1].lower()] = match[2]
        elif match := re.fullmatch(r"thermal\.Thermal Status: ([0-9]{1,9})", line):
            status = _THERMAL[min(int(match[1]), len(_THERMAL) - 1)]
        elif "=" in line:
            name, _, value = line.partition("=")
            if len(values) < 5 * _MOST:  # five for each policy; more would also take long to sort out
                values[name] = value.strip()
    names = {name.split(".")[0] for name in values if name.startswith("policy") and name != "policy*"}
    policies = {
        name: {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        for name in sorted(names)
        if values.get(f"{name}.scaling_governor")
    }
    zones = {name.removeprefix("zone."): _celsius(value) for name, value in values.items() if name.startswith("zone.")}
    # A zone that is switched off reads 0, or some impossible value.
    active = {name: value for name, value in zones.items() if name and 0 < value < 150}
    return State(_some(properties), values.get("present", ""), _some(policies), _some(active), _some(battery), status)


def throttled(before: State, after: State) -> tuple[str, ...]:
    """A warning for each sign that the phone was slowed down: by heat during the run, or by a limit before it."""
    warnings = []
    if after.thermal_status not in ("", _THERMAL[0]):
        warnings.append(f"the phone was too warm: its thermal status was {after.thermal_status} after the run")
    for name, policy in before.policies.items():
        was, now = policy.get("scaling_max_freq"), after.policies.get(name, {}).get("scaling_max_freq")
        if _is_number(was) and _is_number(now) and int(now) < int(was):
            warnings.append(f"the highest frequency of {name} was cut from {_mhz(was)} to {_mhz(now)} during the run")
        elif was and clocks.is_capped(was, reach := policy.get("cpuinfo_max_freq", "")):
            warnings.append(clocks.capped(name, _mhz(was).split()[0], _mhz(reach).split()[0]))
    return tuple(warnings)


def _celsius(value: str) -> float:
    """Thousandths of a degree on nearly all phones, degrees on some."""
    try:
        number = float(value)
    except ValueError:
        return float("nan")
    return number / 1000 if isfinite(number) and abs(number) >= 1000 else number


def _is_number(text: str | None) -> TypeGuard[str]:
    """Whether it is a whole number of a size that can be; ``isdigit`` also takes what ``int`` does not."""
    return text is not None and re.fullmatch("[0-9]{1,12}", text) is not None


def _mhz(khz: str | None) -> str:
    return f"{int(khz) / 1000:.0f} MHz" if _is_number(khz) else "unknown"


def _some(values: dict[str, T]) -> dict[str, T]:
    return dict(islice(values.items(), _MOST))
