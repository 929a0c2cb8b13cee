"""The state of a run, in memory and on disk: optimisers, averaged weights, and the file that a run resumes from."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.source import CheckpointError, TensorSource, read_header
from ..checkpoints.writing import write_tensors
from ..files import is_number, is_whole, parse_json, printable, write_error
from .log import BANDS
from .optimizers import make_optimizers, optimizer_state, restore_optimizers, set_rate
from .settings import TrainSettings

STATE_FILE = "state.safetensors"
MOST_NUMBER = 1e30  # of a sum or a factor in a record
RECORD = "training"  # name of the JSON record in the file's metadata
FIXED = ("method", "targets", "rank", "alpha", "optimizer")  # settings that the tensors of a state depend on


def write_state(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the state of the run in `folder`, whole or not at all."""
    path = folder / STATE_FILE
    try:
        write_tensors(path, tensors, {RECORD: json.dumps(record)})
    except OSError as error:
        raise write_error(path, error) from error


def read_state(folder: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]] | None:
    """Return the tensors (mapped from the file: copy them) and the record, or None if there is no state.

    Raises ValueError for a damaged file.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        header = read_header(path)
        record = checked_record(parse_json(header.metadata[RECORD]))
    except (CheckpointError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not the state of a training run ({error}); delete it to start again") from error
    return TensorSource(path, [header], header.metadata, path.name), record


def checked_record(record: Any) -> dict[str, Any]:
    """Return the record of a state; raise ValueError unless it has the form of those that `Trainer` writes."""
    if not isinstance(record, dict):
        raise ValueError("its record is not an object")
    settings, totals, scale = (record.get(name) for name in ("settings", "totals", "scale"))
    numbers = record.get("numbers")
    tests = {
        "step": is_whole(record.get("step"), 0, 10**9),
        "seconds": is_number(record.get("seconds"), 1e12) and record["seconds"] >= 0,
        "base": isinstance(record.get("base"), str),
        "settings": isinstance(settings, dict) and all(name in settings for name in (*FIXED, "ema")),
        "totals": isinstance(totals, dict) and _are_totals(totals),
        "scale": scale is None or (isinstance(scale, dict) and _is_scale(scale)),
        "numbers": isinstance(numbers, dict) and all(is_number(value, MOST_NUMBER) for value in numbers.values()),
    }
    wrong = [name for name, fits in tests.items() if not fits]
    if wrong:
        raise ValueError(f"its record has no valid {wrong[0]}")
    return record


def _are_totals(totals: dict[str, Any]) -> bool:
    """Return whether these are the fields of `log.Totals`."""
    lists = [totals.get(name) for name in ("bands", "clips")]
    return (
        set(totals) == {"loss", "steps", "bands", "clips"}
        and is_number(totals["loss"], MOST_NUMBER)
        and is_whole(totals["steps"], 0, 10**9)
        and all(isinstance(one, list) and len(one) == len(BANDS) for one in lists)
        and all(is_number(value, MOST_NUMBER) for one in lists for value in one)
    )


def _is_scale(scale: dict[str, Any]) -> bool:
    """Return whether these are the fields of `optimizers.LossScale`."""
    return (
        set(scale) == {"scale", "good_steps"}
        and is_number(scale["scale"], MOST_NUMBER)
        and scale["scale"] > 0
        and is_whole(scale["good_steps"], 0, 10**9)
    )


def make_folder(folder: Path) -> None:
    """Make a folder if it is missing. Raises OSError with one sentence where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def fingerprint(frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> str:
    """Return a short digest of the base model: names, types and first numbers of frozen weights, names and shapes of
    trained ones.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in frozen.items():
        digest.update(f"{name} {parameter.dtype}".encode())
        digest.update(_first_bytes(parameter))
    for name, parameter in trained.items():
        digest.update(f"{name} {list(parameter.shape)}".encode())
    return digest.hexdigest()


def _first_bytes(tensor: Tensor, count: int = 16) -> memoryview:
    return memoryview(tensor.detach().reshape(-1)[:count].cpu().contiguous().view(torch.uint8).numpy())


@torch.no_grad()
def follow(average: list[Tensor], trained: list[Tensor], step: int, decay: float) -> None:
    """Move averaged weights towards the trained ones after `step` steps; a young average moves faster."""
    torch._foreach_lerp_(average, trained, 1 - min(decay, (1 + step) / (10 + step)))


class OptimizerState:
    """Optimisers and averaged weights of named parameters. `average` is empty if the settings have no ema."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: TrainSettings,
        rate_share: Callable[[str], float] | None,
    ) -> None:
        self.parameters, self.settings = dict(parameters), settings
        self._list = list(self.parameters.values())
        self.optimizers = make_optimizers(self.parameters, settings, rate_share)
        self.average = [part.detach().clone() for part in self._list] if settings.ema else []

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the last backward pass."""
        return [part.grad for part in self._list if part.grad is not None]

    def clip(self) -> Tensor:
        """Clip the norm of all gradients together and return the norm before."""
        return nn.utils.clip_grad_norm_(self._list, self.settings.clip_norm or float("inf"))

    def apply(self, rate: float, step: int, *, skip: bool = False) -> None:
        """Apply step number `step` from the gradients and release them; with `skip`, only release them."""
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            if not skip:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average and not skip:
            follow(self.average, self._list, step + 1, self.settings.ema)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap the averaged weights in for the block, without gradients; nothing is copied."""
        self._exchange()
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for index, average in enumerate(self.average):
            parameter = self._list[index]
            self.average[index], parameter.data = parameter.data, average

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return copies of the averaged weights, or of the trained ones if there is no average."""
        values = self.average or self._list
        return {name: value.detach().clone() for name, value in zip(self.parameters, values, strict=True)}

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return everything that a state file needs, as tensors and as plain numbers."""
        memory, numbers = optimizer_state(self.optimizers, self.parameters)
        tensors = {f"optimizer/{name}": value for name, value in memory.items()}
        tensors |= {f"weights/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"average/{name}": value for name, value in zip(self.parameters, self.average, strict=False)}
        return tensors, numbers

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
        """Restore what `tensors` returned. Raises ValueError for tensors of other parameters."""
        self._check(tensors)
        for index, (name, parameter) in enumerate(self.parameters.items()):
            parameter.copy_(tensors[f"weights/{name}"])
            if self.average:
                self.average[index].copy_(tensors[f"average/{name}"])
        prefix = "optimizer/"
        memory = {name[len(prefix) :]: tensors[name] for name in tensors if name.startswith(prefix)}
        restore_optimizers(self.optimizers, self.parameters, memory, numbers)

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise ValueError unless a state has every weight in its shape, and no optimiser's memory of another."""
        kinds = ("weights", "average") if self.average else ("weights",)
        for name, parameter in self.parameters.items():
            for kind in kinds:
                stored = tensors.get(f"{kind}/{name}")
                if stored is None or stored.shape != parameter.shape:
                    found = "is missing" if stored is None else f"has shape {list(stored.shape)}"
                    raise ValueError(
                        f"the state of the run does not fit the model: {kind} of {name} {found}; delete the state to "
                        "start again"
                    )
        for name in tensors:
            kind, _, rest = name.partition("/")
            if kind == "optimizer" and rest.rpartition("/")[0] not in self.parameters:
                raise ValueError(
                    f"the state of the run has an optimiser's memory of {printable(rest)}, which is not trained; "
                    "delete the state to start again"
                )

    def check(self, record: Mapping[str, Any], base: str, folder: Path) -> None:
        """Raise ValueError if the record of a state belongs to other settings or another base model.

        Steps, rates and batch may differ, so that a run can be prolonged.
        """
        before, now = record["settings"], asdict(self.settings)
        changed = [name for name in FIXED if before[name] != now[name]]
        changed += [] if bool(before["ema"]) == bool(now["ema"]) else ["ema"]
        if changed:
            name = changed[0]
            raise ValueError(
                f"{folder} has a run with {name} {before[name]!r} (got {now[name]!r}); choose another folder, or the "
                "settings of that run"
            )
        if record["base"] != base:
            raise ValueError(f"{folder} has a run of another base model; choose another folder, or that model")
