"""What a phone says of its GPU becomes a record: who ran the operators, and whether a driver repeats what it gave."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phone_client import Client, encoded, offered
from pydantic import ValidationError

from edgeattn.bundle import golden, manifest
from edgeattn.bundle.records import Record
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.phone import results
from edgeattn.phone.messages import Join, Result
from edgeattn.phone.plan import Task

ALL = {"full": True, "taken": 13, "left": 0}
SOME = {"full": False, "taken": 10, "left": 1, "words": ["Sign (node_sign)"]}
WEBGPU, WASM = "onnxruntime-web webgpu", "onnxruntime-web wasm"


def task_of(client: Client, runtime: str) -> Task:
    return next(task for task in client.plan.tasks.values() if runtime == f"{task.runtime} {task.backend}")


def recorded(bundle: Path, runtime: str = WEBGPU, **changes: Any) -> Record:
    """The record of an honest phone's message with ``changes``."""
    plan = replace(offered(bundle), runtime_versions={"onnxruntime-web": "1"}, runs=25)
    client = Client("http://localhost", plan)
    message = client.result(task_of(client, runtime).key, samples=[1_000_000 + n % 3 for n in range(25)], **changes)
    seen = Result.model_validate_json(json.dumps(message)).seen
    assert seen
    by = results.sender(Join.model_validate(client.hello), session="s", local=False)
    return results.record(plan, task_of(client, runtime), seen, by, started_at="", command="")


@pytest.mark.parametrize(
    ("placement", "runtime", "accelerated", "warning"),
    [
        (ALL, WEBGPU, "all 13 operators on webgpu", ""),
        ({"full": True}, WEBGPU, "all operators on webgpu", ""),
        (
            SOME,
            f"{WEBGPU} and CPU",
            "10 of 11 operators on webgpu, others on the CPU",
            "1 of 11 operators ran on the CPU (Sign (node_sign)): this is no time of webgpu alone",
        ),
        (
            {"full": False},
            f"{WEBGPU} and CPU",
            "not all operators on webgpu, others on the CPU",
            "some operators ran on the CPU: this is no time of webgpu alone",
        ),
        (
            None,
            f"{WEBGPU} or CPU",
            "it does not say who ran what",
            "onnxruntime-web does not say whether all operators ran on webgpu: the CPU may have a part in it",
        ),
    ],
)
def test_a_time_of_the_cpu_never_stands_as_the_gpus(
    placement: object, runtime: str, accelerated: str, warning: str, made_bundle: Path
) -> None:
    record = recorded(made_bundle, placement=placement)
    assert (record.runtime, record.device.details["accelerated"]) == (runtime, accelerated)
    assert record.untrusted == ((warning,) if warning else ())
    assert results.summary(record) == f"1.000 ms, 1 thread, parity passed, {accelerated}"


def test_the_cpus_own_backend_is_asked_nothing(made_bundle: Path) -> None:
    record = recorded(made_bundle, WASM)
    assert record.runtime == WASM
    assert record.untrusted == ()
    assert "accelerated" not in record.device.details


def test_a_driver_in_software_is_no_gpu(made_bundle: Path) -> None:
    assert recorded(made_bundle, placement=ALL, details={"adapter": "qualcomm adreno-7xx"}).untrusted == ()
    for adapter in ("google swiftshader", "mesa llvmpipe"):
        [warning] = recorded(made_bundle, placement=ALL, details={"adapter": adapter}).untrusted
        assert warning == f"its GPU is a driver in software ({adapter}): these times are no GPU's"


def outputs(bundle: Path, *, other: bool = False) -> Arrays:
    client = Client("http://localhost", offered(bundle))
    task = task_of(client, WEBGPU)
    return client.plan.outputs(client.plan.artifacts[task.artifact], client.plan.other(task) if other else None)


def test_another_case_runs_between_the_first_and_the_last_run(made_bundle: Path) -> None:
    """A driver that gives its first outputs for all inputs, or nothing, is wrong."""
    first = {"y": encoded(outputs(made_bundle)["y"].tobytes())}
    for between in (first, {}):
        parity = recorded(made_bundle, placement=ALL, other=between).parity
        assert parity
        assert not parity.passed
        assert parity.reason.startswith("y of the run of another case: ")


def test_a_last_run_that_differs_is_said_within_the_noise_too(made_bundle: Path) -> None:
    y = outputs(made_bundle)["y"]
    near, far = y.copy(), y.copy()
    near.flat[3] = np.nextafter(near.flat[3], np.float32(9))
    far.flat[3] += 1
    record = recorded(made_bundle, placement=ALL, last={"y": encoded(near.tobytes())})
    assert record.parity
    assert record.parity.passed
    assert record.untrusted == (
        "the last run does not repeat the outputs of the first: some phone drivers are right in the first only",
    )
    record = recorded(made_bundle, placement=ALL, last={"y": encoded(far.tobytes())})
    assert record.parity
    assert record.parity.reason.startswith("y of the last run: ")
    assert record.untrusted


def test_the_other_case_fits_and_is_in_reach(bundle: Path) -> None:
    """One of the first one's shapes, which the artifact's precision can hold; none is no failure."""
    document = json.loads((bundle / "manifest.json").read_text())
    names = list(document["golden"])
    for artifact in document["artifacts"]:
        artifact["beyond"] = {names[1]: "out of reach"}
    (bundle / "manifest.json").write_text(json.dumps(document))
    cases = golden.golden_cases(manifest.load(bundle))
    [other, *_] = offered(bundle).others
    assert other
    assert np.array_equal(other.inputs["x"], cases[names[2]].inputs["x"])
    document["golden"] = {names[0]: document["golden"][names[0]]}
    (bundle / "manifest.json").write_text(json.dumps(document))
    assert set(offered(bundle).others) == {None}
    assert recorded(bundle, placement=ALL).untrusted == ()


@pytest.mark.parametrize(
    "placement",
    [
        {},
        {"full": 1},
        {"full": True, "left": 1},
        {"full": False, "left": 0},
        {"full": False, "taken": -1},
        {"full": False, "taken": 10**7},
        {"full": False, "left": "3"},
        {"full": False, "words": ["x"] * 5},
        {"full": False, "words": ["x" * 401]},
        {"full": False, "words": ["\x1b[31mred"]},
        {"full": False, "more": 1},
    ],
)
def test_words_and_numbers_have_bounds(placement: object, made_bundle: Path) -> None:
    with pytest.raises(ValidationError):
        recorded(made_bundle, placement=placement)


def test_outputs_that_the_model_does_not_have(made_bundle: Path) -> None:
    with pytest.raises(BadInputError, match="has no output 'nosuch'"):
        recorded(made_bundle, placement=ALL, other={"nosuch": ""})
