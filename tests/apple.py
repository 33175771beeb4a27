"""In the place of what only Apple has: Core ML below coremltools, and Xcode's tools with a phone behind them.

coremltools' own Python runs for real, down to the extension module that it calls on macOS (``Framework``) and to the
commands that it starts (``Tools``, which also plays the app on the phone). Predictions are those of mil_reference.
"""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import numpy.typing as npt

from edgeattn.formats.mil.package import is_constant, main_function, read_spec
from edgeattn.runtimes import mil_reference
from edgeattn.system.output import quiet

with quiet():
    from coremltools.models import compute_device, compute_plan

LOAD_NS, PREDICT_NS = 7_000_000, 250_000
UNITS = {"CPU_ONLY": "CPU", "CPU_AND_GPU": "GPU", "CPU_AND_NE": "Neural Engine", "ALL": "Neural Engine"}
DEVICES = {
    "CPU": create_autospec(compute_device.MLCPUComputeDevice, instance=True),
    "GPU": create_autospec(compute_device.MLGPUComputeDevice, instance=True),
    "Neural Engine": create_autospec(compute_device.MLNeuralEngineComputeDevice, instance=True),
}


def predict(package: Path, inputs: dict[str, Any]) -> dict[str, npt.NDArray[np.generic]]:
    with mil_reference.opened(package) as session:
        return session.run(inputs)


def structure(package: Path) -> compute_plan.MLModelStructure:
    """What Core ML says of the program that is in the file."""
    _, block = main_function(read_spec(package))
    named = compute_plan.MLModelStructureProgramNamedValueType
    operations = [
        compute_plan.MLModelStructureProgramOperation(
            inputs={},
            operator_name=op.type,
            outputs=[named(value.name, compute_plan.MLModelStructureProgramValueType()) for value in op.outputs],
            blocks=[],
            __proxy__=is_constant(op),
        )
        for op in block.operations
    ]
    body = compute_plan.MLModelStructureProgramBlock(inputs=[], operations=operations, output_names=list(block.outputs))
    function = compute_plan.MLModelStructureProgramFunction(inputs=[], block=body)
    program = compute_plan.MLModelStructureProgram(functions={"main": function})
    return compute_plan.MLModelStructure(neuralnetwork=None, program=program, pipeline=None)


def plan(package: Path, unit: str) -> compute_plan.MLComputePlan:
    """Everything on one unit but the softmax, which is on the CPU; no constant runs."""
    found = create_autospec(compute_plan.MLComputePlan, instance=True)
    found.model_structure = structure(package)
    runs = [op for op in found.model_structure.program.functions["main"].block.operations if not op.__proxy__]

    def usage(operation: Any) -> compute_plan.MLComputePlanDeviceUsage | None:
        device = DEVICES["CPU" if operation.operator_name == "softmax" else UNITS[unit]]
        return None if operation.__proxy__ else compute_plan.MLComputePlanDeviceUsage(device, [device])

    def cost(operation: Any) -> compute_plan.MLComputePlanCost | None:
        return None if operation.__proxy__ else compute_plan.MLComputePlanCost(1 / len(runs))

    found.get_compute_device_usage_for_mlprogram_operation.side_effect = usage
    found.get_estimated_cost_for_mlprogram_operation.side_effect = cost
    return found


class Framework:
    """In the place of coremltools.libcoremlpython._MLModelProxy, as coremltools 9.0 calls it."""

    newest_specification, refuses, plans, wrong_on = 9, "", True, ""

    def __init__(self, path: str, unit: str, function: str, hints: dict[str, str], asset: None) -> None:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.path, self.wrong = Path(path), bool(self.wrong_on) and self.wrong_on in unit
        (self.path / "Manifest.json").write_text("{}")  # as coremltools does, in its own way

    @classmethod
    def maximum_supported_specification_version(cls) -> int:
        return cls.newest_specification

    def predict(self, inputs: dict[str, Any], state: None) -> dict[str, Any]:
        factor = np.float32(1.01 if self.wrong else 1)
        return {name: value * factor for name, value in predict(ORIGINAL[0], inputs).items()}

    def get_compiled_model_path(self) -> str:
        return str(self.path)

    def get_load_duration_in_nano_seconds(self) -> int:
        return LOAD_NS

    def get_last_predict_duration_in_nano_seconds(self) -> int:
        return PREDICT_NS

    @classmethod
    def get_compute_plan(cls, path: str, unit: str) -> compute_plan.MLComputePlan:
        if not cls.plans:
            raise RuntimeError("MLComputePlan is only available on macOS >= 14.4")
        return plan(ORIGINAL[0], unit)


# The package that is measured, unharmed: coremltools rewrites the manifest of the copy that it is given.
ORIGINAL: list[Path] = []


def phone(**changes: Any) -> dict[str, Any]:
    """One entry of `devicectl list devices`."""
    given = {"name": "Ada's iPhone", "state": "connected", "mode": "enabled", "ios": "18.5", "udid": "00-1", **changes}
    return {
        "identifier": f"ID-{given['udid']}",
        "deviceProperties": {
            "name": given["name"],
            "osVersionNumber": given["ios"],
            "osBuildUpdate": "22F76",
            "developerModeStatus": given["mode"],
        },
        "hardwareProperties": {"deviceType": "iPhone", "udid": given["udid"]},
        "connectionProperties": {"tunnelState": given["state"]},
    }


class Tools:
    """In the place of subprocess where coremltools starts xcodebuild and devicectl: a Mac with phones."""

    PIPE, STDOUT, CalledProcessError = subprocess.PIPE, subprocess.STDOUT, subprocess.CalledProcessError

    def __init__(self, *phones: dict[str, Any]) -> None:
        self.phones = list(phones)
        self.commands: list[str] = []
        self.files: dict[str, bytes] = {}
        self.running = False
        self.fails: dict[str, str] = {}  # part of a command: what it then says
        self.refuses: dict[str, str] = {}  # method: what the app then says
        self.predictions = 0
        self.lost_after = 10**9

    def run(self, command: str, shell: bool, **streams: Any) -> subprocess.CompletedProcess[bytes]:
        assert shell
        self.commands.append(command)
        for part, says in self.fails.items():
            if part in command:
                return subprocess.CompletedProcess(command, 1, b"", says.encode())
        words = shlex.split(command)
        if words[0] == "xcodebuild":
            built = next(word.split("=")[1] for word in words if word.startswith("SYMROOT="))
            (Path(built) / "Release-iphoneos/ModelRunner.app").mkdir(parents=True)
            return subprocess.CompletedProcess(command, 0)
        words = words[words.index("devicectl") + 1 :]
        told: dict[str, Any] = {"source": "", "destination": ""}
        if words[:2] == ["list", "devices"]:
            told = {"devices": self.phones}
        elif words[:3] == ["device", "install", "app"]:
            told = {"installedApplications": [{"bundleID": "com.example.runner", "databaseUUID": "1"}]}
        elif self.predictions >= self.lost_after:
            self.running = False
            return subprocess.CompletedProcess(command, 1, b"", b"ERROR: The device was disconnected.")
        elif words[:3] == ["device", "copy", "to"]:
            self._receive(Path(words[words.index("--source") + 1]), words[words.index("--destination") + 1])
        else:
            source = words[words.index("--source") + 1]
            Path(words[words.index("--destination") + 1]).write_bytes(self.files[source])
        Path(words[words.index("-j") + 1]).write_text(json.dumps({"result": told}))
        return subprocess.CompletedProcess(command, 0)

    def Popen(self, command: str, **streams: Any) -> Any:  # noqa: N802 - it stands for subprocess.Popen
        assert "devicectl device process launch --console" in command
        self.running = True
        process = create_autospec(subprocess.Popen, instance=True)
        process.poll.side_effect = lambda: None if self.running else 1
        process.terminate.side_effect = lambda: setattr(self, "running", False)
        return process

    def _receive(self, file: Path, destination: str) -> None:
        if file.is_dir():
            return  # the compiled model
        self.files[destination] = file.read_bytes()
        if file.name == "message.json":
            request = json.loads(self.files[destination])
            answer = {"jsonrpc": "2.0", "id": request["id"], **self._answer(request)}
            self.files[f"Documents/modelrunnerd/responses/{request['id']}/message.json"] = json.dumps(answer).encode()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"].split(".")[1], request["params"]
        if method in self.refuses:
            return {"error": {"code": -32001, "message": self.refuses[method]}}
        if method != "Prediction":
            return {"result": {"modelID": params["modelID"], "duration": LOAD_NS}}
        self.predictions += 1
        data = self.files[f"Documents/modelrunnerd/requests/resources/{request['id']}/{request['resource']}"]
        inputs = {name: _tensor(given, data) for name, given in params["inputs"].items()}
        outputs, stored = {}, b""
        for name, value in predict(ORIGINAL[0], inputs).items():
            outputs[name] = {
                "shape": value.shape,
                "strides": [step // value.itemsize for step in value.strides],
                "dataType": {"float32": "Float32", "float16": "Float16"}[value.dtype.name],
                "storage": {"offset": len(stored), "size": value.nbytes},
            }
            stored += value.tobytes()
        self.files[f"Documents/modelrunnerd/responses/{request['id']}/outputs.bin"] = stored
        result = {"modelID": params["modelID"], "outputs": outputs, "duration": PREDICT_NS}
        return {"result": result, "resource": "outputs.bin"}


def _tensor(given: dict[str, Any], data: bytes) -> npt.NDArray[np.generic]:
    kind = np.dtype(given["dataType"].lower())
    storage = given["storage"]
    value = np.frombuffer(data, kind, storage["size"] // kind.itemsize, storage["offset"])
    return value.reshape(given["shape"])


def compile_package(model: str, destination_path: str) -> str:
    return str(shutil.copytree(model, destination_path))
