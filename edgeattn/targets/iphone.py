"""An attached iPhone, through coremltools' remote device: an app of Apple's that Xcode builds, signs and starts there.

Written against coremltools 9.0, where this is experimental; not run on hardware by this project's own tests.
"""

import asyncio
import os
import platform
import shutil
import tempfile
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgeattn.bundle.records import Device, Operator, Origin
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, EdgeAttnError, MissingError, TargetError
from edgeattn.formats.coreml import takes_pictures
from edgeattn.runtimes import RUNTIMES, missing
from edgeattn.runtimes.coreml import UNITS
from edgeattn.system.output import quiet
from edgeattn.targets import INTERRUPTED, Connection, Job, Measurement, Target
from edgeattn.targets._apple import coreml

ORIGIN: Origin = "phone"
# The oldest iOS that coremltools' app runs on, and its default bundle identifier, which belongs to Apple's team.
OLDEST_IOS = 17
APP = "com.coremltools.modelrunnerd"
T = TypeVar("T")


def _phones() -> list[Any]:
    try:
        with quiet():
            from coremltools.models.ml_program.experimental.remote_device import Device as Remote
            from coremltools.models.ml_program.experimental.remote_device import DeviceType

            return [device for device in Remote.get_devices() if device.type == DeviceType.IPHONE]
    except Exception as error:
        raise MissingError(f"Xcode's devicectl cannot list iPhones: {coreml.error_text(error)}") from error


def _unusable(phone: Any) -> str:
    """Why a listed iPhone cannot be used, with the remedy; "" if it can."""
    if phone.state.value != "connected":
        return f"it is {phone.state.value}: attach it by cable, unlock it, and let it trust this Mac"
    if phone.developer_mode_state == "disabled":
        return "its developer mode is off: turn it on in Settings, Privacy & Security"
    major = phone.os_version.split(".")[0]
    if major.isdecimal() and int(major) < OLDEST_IOS:
        return f"it has iOS {phone.os_version}, and coremltools' app wants {OLDEST_IOS} or later"
    return ""


def _choose(address: str) -> Any:
    phones = _phones()
    wanted = [p for p in phones if address in (p.name, p.udid, p.identifier)] if address else phones
    usable = [p for p in wanted if _unusable(p) == ""]
    if len(usable) == 1:
        return usable[0]
    if usable:
        names = ", ".join(f"iphone:{p.name} ({p.udid})" for p in usable)
        raise BadInputError(f"there are several iPhones, choose one as --target: {names}")
    if wanted:
        raise MissingError("; ".join(f"{p.name} cannot be used, {_unusable(p)}" for p in wanted))
    known = f"; this Mac knows {', '.join(p.name for p in phones)}" if phones else ""
    raise MissingError(f"no iPhone{f' {address!r}' if address else ''} is attached{known}")


def _credentials() -> Any:
    """The signing of the app, from environment variables named like Xcode's build settings."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

    team, profile, app = (
        os.environ.get(name) for name in ("DEVELOPMENT_TEAM", "PROVISIONING_PROFILE", "PRODUCT_BUNDLE_IDENTIFIER")
    )
    if not (team or profile):
        raise MissingError(
            "an app must be signed to run on an iPhone; set DEVELOPMENT_TEAM to your team's identifier "
            "(ten characters, on developer.apple.com or in Keychain Access), or PROVISIONING_PROFILE"
        )
    return AppSigningCredentials(development_team=team, provisioning_profile_uuid=profile, bundle_identifier=app)


async def _prepare(phone: Any, folder: Path) -> Any:
    from coremltools.models.ml_program.experimental.remote_device import _RemoteMLModelService

    # Its destructor starts a coroutine that nobody awaits: its only effect is a warning in the user's terminal.
    # We unload the models, or they end with the app.
    _RemoteMLModelService.__del__ = lambda _: None
    credentials = _credentials()
    try:
        with quiet():
            return await phone.prepare_for_model_debugging(credentials=credentials, working_directory=folder)
    except Exception as error:
        raise MissingError(
            f"coremltools' app cannot be built, signed, installed or started on {phone.name}: "
            f"{coreml.error_text(error)}; unlock the phone, sign in to Xcode with the team, and set "
            f"PRODUCT_BUNDLE_IDENTIFIER to a name of your own, as {credentials.bundle_identifier or APP} may belong to "
            f"somebody else"
        ) from error


@dataclass
class _Session:
    """An artifact loaded on the phone, and its results so far."""

    job: Job
    runtime: str
    model: Any
    first: Arrays = field(default_factory=dict)
    last: Arrays = field(default_factory=dict)
    first_run_ns: int | None = None
    samples: list[int] = field(default_factory=list)
    then: list[Arrays] = field(default_factory=list)
    note: str = ""
    operators: tuple[Operator, ...] = ()


class _IPhone(Connection):
    runtimes: Mapping[str, tuple[str, ...]] = {"coreml": tuple(UNITS)}
    # Inputs and outputs travel as files, so a run takes seconds; the phone itself times the prediction alone.
    warmup: int | None = 2
    runs = 20

    def __init__(self, loop: asyncio.Runner, phone: Any) -> None:
        self.loop, self.phone = loop, phone
        self.place = f"iphone ({phone.name})"
        self.version = f"iOS {phone.os_version} ({phone.os_build_number})"
        self.device = Device(phone.name, {"system": self.version, "udid": phone.udid, "threads": coreml.THREADS})

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved([job])[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        return self.loop.run(self._measure(jobs))

    async def _measure(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        sessions: list[_Session] = []
        try:
            for job in jobs:
                sessions.append(await self._open(job))
            stopped = await self._sample(sessions) or await self._run_then(sessions)
            for session in sessions:
                session.note = "no compute plan: the run stopped before it"
                if not stopped:
                    await self._read_plan(session)
        finally:
            # A phone that is gone has nothing to unload.
            await asyncio.gather(*(session.model.unload() for session in sessions), return_exceptions=True)
        return tuple(self._measurement(session, stopped) for session in sessions)

    async def _open(self, job: Job) -> _Session:
        """Load one package on the phone, and run it once for its first outputs and as a warm-up."""
        import coremltools as ct
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper

        runtime = job.runtime or next(iter(UNITS))
        name = job.artifact.name
        if takes_pictures(job.artifact):
            raise BadInputError(
                f"coremltools' app on the iPhone takes no pictures, as {name} does; measure a bundle there that was "
                "made without --input-image"
            )
        with _copied(job.artifact) as copy:
            model = MLModelAsyncWrapper.from_spec_or_path(
                str(copy),
                weights_dir=str(copy),  # required, but used only with a specification instead of a path
                compute_units=ct.ComputeUnit[UNITS[runtime]],
                device=self.phone,
            )
            await self._await(model.load(), ArtifactError, f"Core ML on {self.phone.name} refuses {name}")
        session = _Session(job, runtime, model)
        session.first, session.first_run_ns = await self._predict(session, BadInputError)
        session.last = session.first
        for _ in range(self.warmup or 0 if job.warmup is None else job.warmup):
            await self._predict(session)
        return session

    async def _sample(self, sessions: Sequence[_Session]) -> str:
        """The measured runs, interleaved; why they stopped early, or "". The earlier samples are kept."""
        try:
            for _ in range(sessions[0].job.runs):
                for session in sessions:
                    session.last, elapsed = await self._predict(session)
                    session.samples.append(elapsed)
        except TargetError as error:
            return str(error)
        except asyncio.CancelledError:  # Ctrl-C
            return INTERRUPTED
        return ""

    async def _run_then(self, sessions: Sequence[_Session]) -> str:
        """Run the further inputs for their outputs; why they stopped early, or ""."""
        try:
            for session in sessions:
                session.then = [(await self._predict(session, inputs=inputs))[0] for inputs in session.job.then]
        except TargetError as error:
            return str(error)
        except asyncio.CancelledError:  # Ctrl-C
            return INTERRUPTED
        return ""

    async def _predict(
        self, session: _Session, refusal: type[EdgeAttnError] = TargetError, *, inputs: Arrays | None = None
    ) -> tuple[Arrays, int]:
        """The outputs on ``inputs``, or the job's, and the prediction's time on the phone in ns."""
        inputs = {name: np.ascontiguousarray(value) for name, value in (inputs or session.job.inputs).items()}
        about = f"{session.job.artifact.name} did not run on {self.phone.name}"
        outputs: Arrays = await self._await(session.model.predict(inputs), refusal, about)
        elapsed = session.model.last_predict_duration_in_nano_seconds
        if elapsed is None:
            raise TargetError(f"{about}: it gave no time")
        return outputs, int(elapsed)

    async def _await(self, call: Awaitable[T], refusal: type[EdgeAttnError], about: str) -> T:
        """Await coremltools; raise ``refusal`` if the app on the phone refuses, TargetError if it is lost."""
        try:
            with quiet():
                return await call
        except Exception as error:
            # The app's own errors have negative codes (JSON-RPC); those of devicectl are exit codes.
            if isinstance(code := getattr(error, "error_code", None), int) and code < 0:
                raise refusal(f"{about}: {coreml.error_text(error)}") from error
            hint = "" if self.phone.session.is_alive() else "; its app has ended: is the phone attached and unlocked?"
            raise TargetError(f"{about}: {coreml.error_text(error)}{hint}") from error

    async def _read_plan(self, session: _Session) -> None:
        """The compute plan and, if requested, times by operator; the measurement is valid without them."""
        import coremltools as ct

        about = "no compute plan, which needs iOS 17.4 and macOS 14.4 or later"
        try:
            session.note = ""
            plan = await self._await(session.model.retrieve_compute_plan(), TargetError, about)
            session.note = coreml.summary(plan)
            if session.job.operators:
                with _copied(session.job.artifact) as copy:
                    units = ct.ComputeUnit[UNITS[session.runtime]]
                    model = ct.models.MLModel(str(copy), compute_units=units, skip_model_load=True)
                    request = coreml.operators(model, self.phone, session.job.inputs)
                    timings = await self._await(request, TargetError, "no times by operator")
                session.operators = coreml.in_package_order(timings, session.job.artifact)
                session.note += f"; {coreml.ESTIMATE}"
        except (EdgeAttnError, ValueError) as error:
            session.note = "; ".join(filter(None, (session.note, str(error))))

    def _measurement(self, session: _Session, stopped: str) -> Measurement:
        job, samples = session.job, len(session.samples)
        incomplete = bool(stopped) and (samples < job.runs or len(session.then) < len(job.then))
        return Measurement(
            origin=ORIGIN,
            device=self.device,
            runtime=session.runtime,
            runtime_version=self.version,
            first=session.first,
            last={} if incomplete else session.last,
            then=tuple(session.then),
            samples_ns=tuple(session.samples),
            load_ns=session.model.load_duration_in_nano_seconds,
            first_run_ns=session.first_run_ns,
            warmup=self.warmup or 0 if job.warmup is None else job.warmup,
            operators=session.operators,
            operators_note=session.note,
            stopped=f"{stopped}, after {samples} of {job.runs} runs" if incomplete else "",
        )


@contextmanager
def _copied(package: Path) -> Iterator[Path]:
    """A copy: coremltools rewrites the manifest of a package that it opens, and a bundle's files are hashed."""
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        yield Path(shutil.copytree(package, Path(scratch) / package.name))


class IPhone(Target):
    """An attached iPhone."""

    origin = ORIGIN
    caveat = coreml.CAVEAT

    def unavailable(self) -> str | None:
        if platform.system() != "Darwin":
            return f"--target iphone needs macOS with Xcode, and this is {platform.system()}"
        for command in ("xcodebuild", "devicectl"):
            if shutil.which(command) is None:
                path = 'export PATH="$(xcode-select -p)/usr/bin:$PATH"'
                return f"there is no {command}; install Xcode 16 or later, open it once, and run: {path}"
        return missing(RUNTIMES.get("coreml"))

    def addresses(self) -> tuple[str, ...]:
        """The identifiers of the iPhones connected now.

        Raises:
            MissingError: Xcode's tools cannot list them.
        """
        return tuple(phone.udid for phone in _phones() if _unusable(phone) == "")

    @contextmanager
    def connect(self, address: str, settings: Mapping[str, str]) -> Iterator[_IPhone]:
        """The iPhone ``address`` (its name or identifier), or the only one; builds and starts the app, which takes a
        minute or two."""
        phone = _choose(address)
        with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch, asyncio.Runner() as loop:
            prepared = loop.run(_prepare(phone, Path(scratch)))
            try:
                yield _IPhone(loop, prepared)
            finally:
                prepared.session.stop()


TARGET: Target = IPhone()
