"""The training loop: every random draw and the order of the clips follow from the seed and the step's number, so that
a run that was interrupted goes on as if it had not been.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from .log import LogRow, Pending, Totals, append_row, start_log
from .loss import drop_conditions, velocity_losses
from .optimizers import learning_rate, make_optimizers, optimizer_state, restore_optimizers, set_rate
from .sample import SampleSource, TrainingBatch, stack_samples
from .settings import TrainSettings
from .sigmas import draw_sigmas
from .state import read_state, remove_leftovers, write_state
from .targets import weight_names

log = logging.getLogger("svd_reel")

COMPUTED_IN = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIXED = ("method", "targets", "rank", "optimizer")  # settings that the tensors of a state depend on


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step: `step` of `steps` are done, `rate` was used; `loss` waits for the device."""

    step: int
    steps: int
    rate: float
    seconds: float
    losses: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        """Mean loss of the step's clips."""
        return float(self.losses.mean())


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run leaves: steps done in all, whether it was stopped early, the log's rows and the trained weights.

    weights: {parameter name: tensor} of what was trained, averaged where the settings ask for it.
    """

    steps: int
    stopped: bool
    rows: list[LogRow]
    weights: dict[str, Tensor]


def seeded(seed: int, *place: int | str) -> torch.Generator:
    """A CPU generator for one place of a run, for example a step and what is drawn there."""
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@torch.no_grad()
def follow(average: list[Tensor], trained: list[nn.Parameter], step: int, decay: float) -> None:
    """Move averaged weights towards the trained ones after `step` steps; a young average is followed faster."""
    torch._foreach_lerp_(average, trained, 1 - min(decay, (1 + step) / (10 + step)))


class Trainer:
    """Trains a UNet on a source of samples and keeps the state of the run in a folder.

    unet: the raw network, on the device that shall train it. `rate_share(name)` multiplies the learning rate of single
    parameters (1 where it is not given).
    """

    def __init__(
        self,
        unet: nn.Module,
        source: SampleSource,
        settings: TrainSettings,
        folder: str | PathLike,
        *,
        rate_share: Callable[[str], float] | None = None,
    ) -> None:
        self.unet, self.source, self.settings, self.folder = unet, source, settings, Path(folder)
        self.rate_share = rate_share
        self.device = next(unet.parameters()).device
        self.step, self.seconds, self.totals = 0, 0.0, Totals()
        self.parameters: dict[str, nn.Parameter] = {}
        self.average: list[Tensor] = []
        self.optimizers: list[torch.optim.Optimizer] = []

    def run(
        self,
        *,
        on_step: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        validate: Callable[[nn.Module, int], None] | None = None,
    ) -> TrainResult:
        """Train until `settings.steps` steps are done in all, going on from the state in the folder.

        on_step is called after every step; should_stop is asked before every step, and when it says so the state is
        saved and the run ends. validate(unet, step) is called every `validate_every` steps with the averaged weights in
        place and no gradients. Raises ValueError for a folder of another run, OSError where nothing can be written and
        FloatingPointError where the loss stops being a number; the state saved last then stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        with self._prepared():
            self._begin()
            rows = start_log(self.folder, self.step)
            pending, started = Pending(), time.monotonic() - self.seconds
            saved, stopped = self.step, False
            while self.step < self.settings.steps:
                if should_stop is not None and should_stop():
                    stopped = True
                    break
                rate = learning_rate(self.step, self.settings)
                losses = self._learn(rate, pending)
                self.step += 1
                self.seconds = time.monotonic() - started
                if on_step is not None:
                    on_step(Progress(self.step, self.settings.steps, rate, self.seconds, losses))
                ends = self.step == self.settings.steps
                if self.step % self.settings.log_every == 0 or ends:
                    rows.append(self._log(pending, rate))
                if self.step % self.settings.save_every == 0 or ends:
                    self._save(pending)
                    saved = self.step
                every = self.settings.validate_every
                if validate is not None and every and (self.step % every == 0 or ends):
                    with self.averaged():
                        validate(self.unet, self.step)
            if saved != self.step:
                self._save(pending)
            return TrainResult(self.step, stopped, rows, self._weights())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place for a while, without gradients; only tensors' owners are exchanged."""
        self._exchange()
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for index, (parameter, average) in enumerate(zip(self.parameters.values(), self.average, strict=False)):
            self.average[index], parameter.data = parameter.data, average

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Make what is trained, and only that, ask for gradients while the run lasts."""
        asked = {parameter: parameter.requires_grad for parameter in self.unet.parameters()}
        try:
            self.unet.requires_grad_(False)
            names = set(weight_names(self.unet, self.settings.targets))
            self.parameters = {name: part for name, part in self.unet.named_parameters() if name in names}
            for parameter in self.parameters.values():
                parameter.requires_grad_(True)
            yield
        finally:
            for parameter, ask in asked.items():
                parameter.requires_grad_(ask)
                parameter.grad = None

    def _begin(self) -> None:
        """Start anew, or from the state in the folder."""
        self.optimizers = make_optimizers(self.parameters, self.settings, self.rate_share)
        self.average = [part.detach().clone() for part in self.parameters.values()] if self.settings.ema else []
        self.step, self.seconds, self.totals = 0, 0.0, Totals()
        found = read_state(self.folder)
        if found is None:
            return
        tensors, record = found
        self._check_record(record)
        with torch.no_grad():
            for index, (name, parameter) in enumerate(self.parameters.items()):
                parameter.copy_(tensors[f"weights/{name}"])
                if self.average:
                    self.average[index].copy_(tensors[f"average/{name}"])
        prefix = "optimizer/"
        memory = {name[len(prefix) :]: tensors[name] for name in tensors if name.startswith(prefix)}
        restore_optimizers(self.optimizers, self.parameters, memory, record["numbers"])
        self.step, self.seconds, self.totals = record["step"], record["seconds"], Totals(**record["totals"])
        log.info("training goes on at step %d of %d", self.step, self.settings.steps)

    def _check_record(self, record: Mapping) -> None:
        before, now = record["settings"], asdict(self.settings)
        changed = [name for name in FIXED if before[name] != now[name]]
        if bool(before["ema"]) != bool(now["ema"]):
            changed.append("ema")
        if changed:
            name = changed[0]
            raise ValueError(
                f"{self.folder} holds a run with {name} {before[name]!r}, not {now[name]!r}; "
                "choose another folder, or the settings of that run"
            )

    def _learn(self, rate: float, pending: Pending) -> Tensor:
        """Make one step; returns the loss of each of its clips [N] on the device."""
        settings = self.settings
        losses, sigmas = [], []
        for part in range(settings.accumulation):
            loss, sigma = self._losses(part)
            (loss.mean() / settings.accumulation).backward()
            losses.append(loss.detach())
            sigmas.append(sigma)
        norm = None
        if settings.clip_norm:
            norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip_norm)
        set_rate(self.optimizers, rate)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average:
            follow(self.average, list(self.parameters.values()), self.step + 1, settings.ema)
        pending.add(torch.cat(losses), torch.cat(sigmas), norm)
        return torch.cat(losses)

    def _draw(self, part: int) -> TrainingBatch:
        """The clips of one forward pass: `part` of the current step."""
        seed, count = self.settings.seed, self.settings.batch
        if hasattr(self.source, "batch"):
            found = self.source.batch(self.step, count, seeded(seed, self.step, part, "clips"))
            return found if isinstance(found, TrainingBatch) else stack_samples(found)
        first = (self.step * self.settings.accumulation + part) * count
        numbers = range(first, first + count)
        return stack_samples([self.source.sample(number, seeded(seed, number, "clip")) for number in numbers])

    def _losses(self, part: int) -> tuple[Tensor, Tensor]:
        """Loss [B] on the device and noise level [B] on the CPU of each clip of one forward pass."""
        settings = self.settings
        generator = seeded(settings.seed, self.step, part, "noise")
        batch = self._draw(part)
        sigma = draw_sigmas(
            len(batch),
            generator,
            p_mean=settings.p_mean,
            p_std=settings.p_std,
            wide_share=settings.wide_share,
            limit=batch.sigma_limit,
        )
        batch = drop_conditions(batch.to(self.device), settings, generator)
        noise = torch.randn(batch.latent.shape, generator=generator).to(self.device, non_blocking=True)
        dtype = COMPUTED_IN[settings.precision]
        with torch.amp.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return velocity_losses(self.unet, batch, sigma, noise, torch.float32), sigma

    def _log(self, pending: Pending, rate: float) -> LogRow:
        self._read(pending)
        row = self.totals.row(self.step, rate, self.seconds)
        append_row(self.folder, row)
        self.totals = Totals()
        return row

    def _read(self, pending: Pending) -> None:
        if not pending.read_into(self.totals):
            rate = learning_rate(self.step - 1, self.settings)
            raise FloatingPointError(
                f"the loss or its gradient stopped being a number before step {self.step} (rate {rate:g}); lower the "
                "rate, or set clip_norm 1; the state saved before is kept"
            )

    def _save(self, pending: Pending) -> None:
        self._read(pending)
        memory, numbers = optimizer_state(self.optimizers, self.parameters)
        tensors = {f"optimizer/{name}": value for name, value in memory.items()}
        tensors |= {f"weights/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"average/{name}": v for name, v in zip(self.parameters, self.average, strict=False)}
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "totals": asdict(self.totals),
            "numbers": numbers,
        }
        write_state(self.folder, tensors, record)

    def _weights(self) -> dict[str, Tensor]:
        values = self.average or [parameter.data for parameter in self.parameters.values()]
        return {name: value.detach().clone() for name, value in zip(self.parameters, values, strict=True)}
