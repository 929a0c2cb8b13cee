"""Run all checks on one model and one device, and make the diagnosis and the profile."""

import gc
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from ..checkpoints import CheckpointError, load_model
from ..memory import is_out_of_memory
from ..model.devices import DTYPES, bfloat16_units, default_dtype
from ..model.model import SVDModel
from ..plan.memory_plan import GIB, MemoryPlan, make_plan
from ..plan.placed import place
from ..plan.rate import measure_rate
from ..version import __version__
from .file_check import PARTS, check_file
from .findings import Diagnosis, Finding
from .memory_check import check_decodes, check_placements
from .options import describe_options, measure_options, measure_shared_pass, profile_of
from .precision import compare_precisions, outputs_of
from .profile import DeviceProfile, device_name
from .speed import check_speed
from .timing import QUIET, Rounds, clock_of, share_of_cores
from .trial import Trial, TrialSize, exact_float32, make_trial, synthetic_trial, trial_size

OnWork = Callable[[str], None]
"""Called with what begins now; an exception raised in it ends the run."""


STAGES = (
    "reading the file",
    "measuring the device",
    "float32",
    "half precision",
    "memory limits",
    "step and decode",
    "options",
    "guidance passes",
)
"""What `on_work` is called with, in this order."""


@dataclass(frozen=True)
class Extent:
    """How long the checks may take. Seconds of one UNet pass: of the comparisons, and of the timed step."""

    comparison: float
    timing: float
    rounds: int
    quick: bool = False


FULL, QUICK = Extent(0.6, 4.0, 5), Extent(0.1, 0.3, 3, quick=True)


@dataclass(frozen=True)
class Examination:
    """What a run of all checks gives. profile: None where the options were not measured."""

    diagnosis: Diagnosis
    profile: DeviceProfile | None = None


def examine(
    path: str | Path,
    device: torch.device,
    *,
    complete_from: str | Path | None = None,
    extent: Extent = FULL,
    on_work: OnWork = lambda what: None,
) -> Examination:
    """Check a model file on a device and return the findings, the tables and the profile.

    A part of the checks that runs out of memory or fails is itself a finding, and the others go on.
    """
    diagnosis = Diagnosis(machine_of(device))
    profile = None
    on_work(STAGES[0])
    diagnosis.findings += check_file(path, quick=extent.quick, on_work=lambda: on_work(""))
    if not diagnosis.is_well:
        return Examination(diagnosis, profile)
    run = _Run(path, complete_from, device, extent, on_work, diagnosis)
    try:
        profile = run.all_checks()
    except CheckpointError as error:
        diagnosis.findings.append(Finding("loading", "bad", f"{error}."))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = "Close other programs, or plan with less memory: svd-reel plan shows what a clip needs."
        diagnosis.findings.append(Finding("memory", "bad", "the checks ran out of memory.", advice))
    return Examination(diagnosis, profile)


def machine_of(device: torch.device) -> list[tuple[str, str]]:
    """Return (name, value) of everything about the machine that an issue needs."""
    rows = [
        ("SVD Reel", __version__),
        ("Python", f"{platform.python_version()}, {platform.system()} {platform.release()}"),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads"),
        ("main memory", f"{psutil.virtual_memory().total / GIB:.0f} GiB"),
        ("device", device_name(device)),
    ]
    if device.type == "cpu":
        rows.append(("bfloat16 units", bfloat16_units() or "none"))
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        build = f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        free = torch.cuda.mem_get_info(device)[0] / GIB
        rows.append(
            ("card", f"{card.total_memory / GIB:.1f} GiB, {free:.1f} free, {build}, compute capability {capability}")
        )
    return rows


class _Run:
    """The checks of one run, in order; each loads what it needs and lets it go."""

    def __init__(
        self,
        path: str | Path,
        complete_from: str | Path | None,
        device: torch.device,
        extent: Extent,
        on_work: OnWork,
        diagnosis: Diagnosis,
    ) -> None:
        self.path, self.complete_from, self.device = path, complete_from, device
        self.extent, self.on_work, self.diagnosis = extent, on_work, diagnosis
        self.dtype = DTYPES[default_dtype(device)]
        self.rate = 0.0
        self.share = share_of_cores() if device.type == "cpu" else 1.0
        self.rounds = Rounds(extent.rounds, clock_of(device, self.share))

    def all_checks(self) -> DeviceProfile | None:
        """Run the checks and return the profile, None where the model cannot run."""
        self.on_work(STAGES[1])
        self.rate = measure_rate(self.device, self.dtype)
        if self.device.type == "cpu":
            self._add(_load_finding(self.share))
        self.on_work(STAGES[2])
        model = self._load(torch.float32)
        lacking = [PARTS[name] for name in PARTS if getattr(model, name) is None]
        if lacking:
            seen = f"there is no {' and no '.join(lacking)}, so nothing can be run."
            self._add(Finding("parts", "bad", seen, "Name a full checkpoint that has it with --complete-from."))
            return None
        self._add(Finding("parts", "good", f"{', '.join(PARTS.values())} load."))
        trial, reference = self._reference(model)
        self._precisions(model, trial, reference)
        if self.dtype != torch.float32:
            del model
            gc.collect()
            model = self._load(self.dtype)
        self._memory(model, trial)
        return self._speed(model, trial)

    def _add(self, *findings: Finding) -> None:
        self.diagnosis.findings += findings

    def _load(self, dtype: torch.dtype) -> SVDModel:
        return load_model(self.path, device="cpu", dtype=dtype, complete_from=self.complete_from)

    def _size(self, model: SVDModel, seconds: float) -> TrialSize:
        """Return the largest clip of which a UNet pass takes about so long."""
        return trial_size(model.config, 0.5 * self.rate * seconds)

    def _plan(self, model: SVDModel, size: TrialSize) -> MemoryPlan:
        """Return a plan of the trial for the memory of the device."""
        memory = psutil.virtual_memory().total
        if self.device.type == "cuda":
            memory = torch.cuda.get_device_properties(self.device).total_memory
        return make_plan(model.config, size.frames, size.width, size.height, memory, itemsize=model.dtype.itemsize)

    def _placed(self, model: SVDModel, size: TrialSize) -> SVDModel:
        """Return the model on the device, placed by a plan where that is a card; on a CPU the model itself."""
        return model if self.device.type == "cpu" else place(model, self._plan(model, size), self.device)

    def _reference(self, model: SVDModel) -> tuple[Trial, dict]:
        """Return the trial clip and the outputs of all stages in float32."""
        size = self._size(model, self.extent.comparison)
        placed = self._placed(model, size)
        with exact_float32():
            trial = make_trial(placed, size)
            return trial, outputs_of(placed, trial)

    def _precisions(self, model: SVDModel, trial: Trial, reference: dict) -> None:
        """Compare half precision with float32."""
        wanted = (torch.bfloat16,) if self.device.type == "cpu" else (torch.float16, torch.bfloat16)
        halves = {}
        self.on_work(STAGES[3])
        for dtype in wanted:
            half = self._placed(self._load(dtype), trial.size)
            halves[dtype] = outputs_of(half, trial)
            del half
            gc.collect()
        findings, table = compare_precisions(reference, halves)
        self._add(*findings)
        self.diagnosis.tables.append(table)

    def _memory(self, model: SVDModel, trial: Trial) -> None:
        """Check that memory limits and placements do not change the clip."""
        self.on_work(STAGES[4])
        finding, table = check_placements(model, trial, self.device, self._plan(model, trial.size))
        self._add(finding)
        self.diagnosis.tables.append(table)
        findings, table = check_decodes(self._placed(model, trial.size), trial)
        self._add(*findings)
        self.diagnosis.tables.append(table)

    def _speed(self, model: SVDModel, trial: Trial) -> DeviceProfile:
        """Time the step, the decode and the options; return the profile."""
        self.on_work(STAGES[5])
        size = self._size(model, self.extent.timing)
        placed = self._placed(model, size)
        clip = trial if size == trial.size else synthetic_trial(model, size)
        rate = self.rate if self.rounds.clock == "wall" else None
        findings, table = check_speed(placed, clip, self.rounds, rate)
        self._add(*findings)
        self.diagnosis.tables.append(table)
        self.on_work(STAGES[6])
        options = self._size(model, self.extent.comparison)
        half = self._load(torch.bfloat16) if self.device.type == "cpu" else None
        gains, reasons = measure_options(placed, options, self.rounds, half=half, compiled=not self.extent.quick)
        del half
        self.on_work(STAGES[7])
        smaller = trial_size(model.config, self.rate * self.extent.comparison / 8)
        sizes = list({smaller, options, *(() if self.extent.quick else (size,))})
        gains += measure_shared_pass(placed, sizes, self.rounds, reasons)
        findings, table = describe_options(gains, reasons, self.device)
        self._add(*findings)
        self.diagnosis.tables.append(table)
        return profile_of(gains)


def _load_finding(share: float) -> Finding:
    """Return whether other programs slow this one down."""
    seen = f"this process gets {100 * share:.0f} % of the processor time that it asks for."
    if share >= QUIET:
        return Finding("other programs", "good", seen)
    advice = "Close other programs for times that hold; meanwhile processor time is measured."
    return Finding("other programs", "note", seen, advice)
