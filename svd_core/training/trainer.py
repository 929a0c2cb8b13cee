"""The training loop: every random draw and the order of the clips follow from the seed and the step's number, so that
a run that was interrupted goes on as if it had not been.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import remove_leftovers
from .adapters import Adapters, AdapterWeights, adapter_paths, new_adapters, pair_up, set_strength, weight_names
from .data.samples import SampleSource, draw_batch, seeded
from .log import LogRow, Pending, Totals, append_row, start_log, write_plot
from .loss import draw_sigmas, drop_conditions, velocity_losses
from .network import computing, leaving_inference, master_weights, recomputed_blocks
from .optimizers import LossScale, learning_rate
from .settings import TrainSettings
from .state import Memories, fingerprint, make_folder, read_state, write_state

PLOT_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step: `step` of `steps` are done, `rate` was used; `loss` waits for the device.

    seconds: trained in all, over every session of the run.
    """

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
    adapters: the same as {module path: (down, up, alpha)} for method "lora", empty for "full".
    """

    steps: int
    stopped: bool
    rows: list[LogRow]
    weights: dict[str, Tensor]
    adapters: AdapterWeights


class Trainer:
    """Trains a UNet on a source of samples and keeps the state of the run in a folder.

    unet: the raw network, on the device that shall train it. Method "lora" leaves it as it was, bit for bit; "full"
    gives it new weights, in float32, and leaves the last ones in place (the averaged ones are in the result); memory
    that it shares with other models is not written to.
    `rate_share(name)` multiplies the learning rate of single parameters. `adapters`: weights to begin a LoRA from, in
    place of new ones of the settings' rank.
    """

    def __init__(
        self,
        unet: nn.Module,
        source: SampleSource,
        settings: TrainSettings,
        folder: str | PathLike,
        *,
        rate_share: Callable[[str], float] | None = None,
        adapters: Mapping[str, tuple[Tensor, Tensor, float]] | None = None,
    ) -> None:
        self.unet, self.source, self.settings, self.folder = unet, source, settings, Path(folder)
        self.rate_share, self.adapters = rate_share, adapters
        self.device = next(unet.parameters()).device

    def run(
        self,
        *,
        on_step: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        validate: Callable[[nn.Module, int], None] | None = None,
        validated: Callable[[int], bool] | None = None,
    ) -> TrainResult:
        """Train until `settings.steps` steps are done in all, going on from the state in the folder.

        on_step is called after every step; should_stop is asked before every step, and when it says so the state is
        saved and the run ends. validate(unet, step) is called every `validate_every` steps and at the end, with the
        averaged weights in place and no gradients; `validated(step)` says whether that was done before, so that a run
        that was killed meanwhile makes up for it. Raises ValueError for a folder of another run, OSError where nothing
        can be written and FloatingPointError where the loss stops being a number; the state saved last then stays.
        """
        make_folder(self.folder)
        remove_leftovers(self.folder)
        with (
            leaving_inference(self.unet, keep=self.settings.method == "full"),
            trained_parts(self.unet, self.settings, self.adapters) as (parameters, alphas),
        ):
            session = _Session(self, parameters)
            session.begin()
            if validate is not None and validated is not None and session.step and not validated(session.step):
                session.validate(validate)
            stopped = session.train(on_step, should_stop, validate)
            weights = session.memories.averaged_weights()
            return TrainResult(session.step, stopped, session.rows, weights, pair_up(weights, alphas))


@contextmanager
def trained_parts(
    unet: nn.Module, settings: TrainSettings, adapters: Mapping[str, tuple[Tensor, Tensor, float]] | None = None
) -> Iterator[tuple[dict[str, nn.Parameter], dict[str, float]]]:
    """Prepare a UNet for training, and undo that at the end: adapters, what asks for gradients, checkpointing.

    Yields the trained parameters by name, and the adapters' alphas by path (empty for method "full").
    """
    asked = {parameter: parameter.requires_grad for parameter in unet.parameters()}
    with ExitStack() as stack:
        stack.callback(_restore, asked)
        unet.requires_grad_(False)
        if settings.method == "lora":
            if adapters is None:
                paths = adapter_paths(unet, settings.targets)
                adapters = new_adapters(unet, paths, settings.rank, settings.scale_alpha, settings.seed)
            placed = Adapters(unet, adapters)
            stack.callback(placed.remove)
            parameters, alphas = placed.parameters(), placed.alphas
        else:
            parameters, alphas = master_weights(unet, set(weight_names(unet, settings.targets))), {}
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        if settings.gradient_checkpointing:
            stack.enter_context(recomputed_blocks(unet))
        yield parameters, alphas


def _restore(asked: dict[nn.Parameter, bool]) -> None:
    for parameter, ask in asked.items():
        parameter.requires_grad_(ask)
        parameter.grad = None


class _Session:
    """One call of `run`: the loop and what it keeps."""

    def __init__(self, trainer: Trainer, parameters: dict[str, nn.Parameter]) -> None:
        self.unet, self.source, self.device = trainer.unet, trainer.source, trainer.device
        self.settings, self.folder = trainer.settings, trainer.folder
        self.parameters = parameters
        self.memories = Memories(parameters, self.settings, trainer.rate_share)
        self.scale = LossScale() if self.settings.precision == "fp16" else None
        self.input_dtype, self.context = computing(self.unet, self.settings, self.device)
        frozen = {name: part for name, part in self.unet.named_parameters() if not part.requires_grad}
        trained = parameters if self.settings.method == "full" else {}
        self.base = fingerprint(frozen, trained)
        self.step, self.saved, self.seconds, self.plotted = 0, 0, 0.0, -PLOT_EVERY
        self.totals, self.pending, self.rows = Totals(), Pending(), []

    def begin(self) -> None:
        """Start anew, or from the state in the folder."""
        found = read_state(self.folder)
        if found is not None:
            tensors, record = found
            if record["step"] > self.settings.steps:
                raise ValueError(
                    f"{self.folder} holds a run of {record['step']} steps, more than the {self.settings.steps} wanted; "
                    "give at least as many, or choose another folder"
                )
            self.memories.check(record, self.base, self.folder)
            self.memories.restore(tensors, record["numbers"])
            self.step, self.seconds, self.totals = record["step"], record["seconds"], Totals(**record["totals"])
            if self.scale is not None and record["scale"] is not None:
                self.scale = LossScale(**record["scale"])
        self.saved = self.step
        self.rows = start_log(self.folder, self.step)

    def train(self, on_step, should_stop, validate) -> bool:
        """Make the steps that are left; returns whether the run was stopped before its end."""
        settings, started = self.settings, time.monotonic() - self.seconds
        stopped = False
        while self.step < settings.steps and not stopped:
            if should_stop is not None and should_stop():
                stopped = True
                break
            rate = learning_rate(self.step, settings)
            losses = self._learn(rate)
            self.step += 1
            self.seconds = time.monotonic() - started
            if on_step is not None:
                on_step(Progress(self.step, settings.steps, rate, self.seconds, losses))
            ends = self.step >= settings.steps
            if self.step % settings.log_every == 0 or ends:
                self._log(rate)
            if self.step % settings.save_every == 0 or ends:
                self._save()
            if validate is not None:
                self.validate(validate)
        if self.saved != self.step:
            self._save()
        write_plot(self.folder, self.rows, settings.steps)
        return stopped

    def validate(self, validate: Callable[[nn.Module, int], None]) -> None:
        """Call it after a step that asks for it."""
        every, ends = self.settings.validate_every, self.step >= self.settings.steps
        if every and (self.step % every == 0 or ends):
            self._read()  # first, for a network that is broken makes clips that say nothing
            with self.memories.averaged():
                validate(self.unet, self.step)

    def _learn(self, rate: float) -> Tensor:
        """Make one step; returns the loss of each of its clips [N] on the device."""
        losses, sigmas = [], []
        share = (1.0 if self.scale is None else self.scale.scale) / self.settings.accumulation
        for part in range(self.settings.accumulation):
            loss, sigma = self._losses(part)
            (loss.mean() * share).backward()
            losses.append(loss.detach())
            sigmas.append(sigma)
        set_strength(self.unet, 1.0)
        if self.scale is not None:
            self.scale.undo(self.memories.gradients())
        norm = self.memories.clip() if self.settings.clip_norm or self.scale is not None else None
        finite = self.scale is None or self.scale.accept(bool(norm.isfinite()))
        self.memories.apply(rate, self.step, skip=not finite)
        together = torch.cat(losses)
        self.pending.add(together, torch.cat(sigmas), norm if finite else None)
        return together

    def _losses(self, part: int) -> tuple[Tensor, Tensor]:
        """Loss [B] on the device and noise level [B] on the CPU of the clips of forward pass `part` of this step."""
        settings = self.settings
        generator = seeded(settings.seed, self.step, part, "noise")
        batch = draw_batch(self.source, settings, self.step, part)
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
        set_strength(self.unet, batch.strength)  # kept for the backward pass, which may compute blocks again
        with self.context:
            losses = velocity_losses(self.unet, batch, sigma, noise, self.input_dtype, settings.mean_weight)
        return losses, sigma

    def _log(self, rate: float) -> None:
        self._read()
        row = self.totals.row(self.step, rate, self.seconds)
        append_row(self.folder, row)
        self.rows.append(row)
        self.totals = Totals()
        if time.monotonic() - self.plotted >= PLOT_EVERY:
            write_plot(self.folder, self.rows, self.settings.steps)
            self.plotted = time.monotonic()

    def _read(self) -> None:
        if not self.pending.read_into(self.totals):
            rate = learning_rate(max(0, self.step - 1), self.settings)
            bound = "" if self.settings.clip_norm else ", or set clip_norm to 1"
            kept = f"the state of step {self.saved} is kept" if self.saved else "nothing was saved yet"
            raise FloatingPointError(
                f"the loss or its gradient stopped being a number by step {self.step} (rate {rate:g}); lower the rate"
                f"{bound}; {kept}"
            )

    def _save(self) -> None:
        self._read()  # first, for a state must not hold what is not a number
        tensors, numbers = self.memories.tensors()
        record = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(self.settings),
            "base": self.base,
            "totals": asdict(self.totals),
            "scale": None if self.scale is None else asdict(self.scale),
            "numbers": numbers,
        }
        write_state(self.folder, tensors, record)
        self.saved = self.step
