"""The training loop. Every random draw and the order of the clips depend only on the seed and the number of the step,
so that a resumed run gives the same weights as an uninterrupted one.
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
from .state import OptimizerState, fingerprint, make_folder, read_state, write_state

PLOT_EVERY = 10.0  # seconds between two plots of the loss


@dataclass(frozen=True)
class TrainingProgress:
    """A run after a step: `step` of `steps` are done, at the learning rate `rate`. Reading `loss` waits for the device.

    seconds: training time of all sessions of the run.
    """

    step: int
    steps: int
    rate: float
    seconds: float
    losses: Tensor = field(repr=False)

    @property
    def loss(self) -> float:
        """Mean loss of the clips of this step."""
        return float(self.losses.mean())


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The result of a run: steps done, whether it was stopped early, rows of the log, and trained weights.

    weights: {parameter name: tensor}, averaged if the settings have an ema. adapters: the same as
    {module path: (down, up, alpha)} for method "lora", empty for "full".
    """

    steps: int
    stopped: bool
    rows: list[LogRow]
    weights: dict[str, Tensor]
    adapters: AdapterWeights


class Trainer:
    """Train a UNet on a source of samples, with the state of the run in a folder.

    unet: the raw network, on its training device. Method "lora" leaves it unchanged bit for bit. Method "full" gives
    it new float32 weights and leaves the last ones in place (the averaged ones are in the result); memory shared with
    other models is not written to. rate_share(name): multiplies the learning rate of a parameter. adapters: weights to
    start a LoRA from, instead of new ones of the settings' rank.
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
        on_step: Callable[[TrainingProgress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        validate: Callable[[nn.Module, int], None] | None = None,
        validated: Callable[[int], bool] | None = None,
    ) -> TrainResult:
        """Train until `settings.steps` steps are done, starting from the state in the folder if there is one.

        on_step: called after every step. should_stop: called before every step; if it returns True, the state is saved
        and the run ends. validate(unet, step): called every `validate_every` steps and at the end, with the averaged
        weights in place and no gradients. validated(step): whether that was done before; a resumed run catches up on a
        validation that a kill prevented. Raises ValueError for a folder of another run, OSError where a file cannot be
        written, and FloatingPointError where the loss is not a number; the last saved state is kept.
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
            weights = session.optimizers.averaged_weights()
            return TrainResult(session.step, stopped, session.rows, weights, pair_up(weights, alphas))


@contextmanager
def trained_parts(
    unet: nn.Module, settings: TrainSettings, adapters: Mapping[str, tuple[Tensor, Tensor, float]] | None = None
) -> Iterator[tuple[dict[str, nn.Parameter], dict[str, float]]]:
    """Prepare a UNet for training and undo it at the end: adapters, gradients, checkpointing.

    Yields the trained parameters by name and the adapters' alphas by path (empty for method "full").
    """
    required = {parameter: parameter.requires_grad for parameter in unet.parameters()}
    with ExitStack() as stack:
        stack.callback(_restore, required)
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


def _restore(required: dict[nn.Parameter, bool]) -> None:
    for parameter, requires_grad in required.items():
        parameter.requires_grad_(requires_grad)
        parameter.grad = None


class _Session:
    """One call of `Trainer.run`: the loop and its state."""

    def __init__(self, trainer: Trainer, parameters: dict[str, nn.Parameter]) -> None:
        self.unet, self.source, self.device = trainer.unet, trainer.source, trainer.device
        self.settings, self.folder = trainer.settings, trainer.folder
        self.parameters = parameters
        self.optimizers = OptimizerState(parameters, self.settings, trainer.rate_share)
        self.scale = LossScale() if self.settings.precision == "fp16" else None
        self.input_dtype, self.context = computing(self.unet, self.settings, self.device)
        frozen = {name: part for name, part in self.unet.named_parameters() if not part.requires_grad}
        trained = parameters if self.settings.method == "full" else {}
        self.base = fingerprint(frozen, trained)
        self.step, self.saved, self.seconds, self.plotted = 0, 0, 0.0, -PLOT_EVERY
        self.totals, self.pending, self.rows = Totals(), Pending(), []

    def begin(self) -> None:
        """Start from the state in the folder, or from the beginning."""
        found = read_state(self.folder)
        if found is not None:
            tensors, record = found
            if record["step"] > self.settings.steps:
                raise ValueError(
                    f"{self.folder} has a run of {record['step']} steps, and {self.settings.steps} were asked for; "
                    f"use {record['step']} steps or more, or choose another folder"
                )
            self.optimizers.check(record, self.base, self.folder)
            self.optimizers.restore(tensors, record["numbers"])
            self.step, self.seconds, self.totals = record["step"], record["seconds"], Totals(**record["totals"])
            if self.scale is not None and record["scale"] is not None:
                self.scale = LossScale(**record["scale"])
        self.saved = self.step
        self.rows = start_log(self.folder, self.step)

    def train(self, on_step, should_stop, validate) -> bool:
        """Make the remaining steps. Return whether the run was stopped before its end."""
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
                on_step(TrainingProgress(self.step, settings.steps, rate, self.seconds, losses))
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
        """Call `validate` if it is due after this step."""
        every, ends = self.settings.validate_every, self.step >= self.settings.steps
        if every and (self.step % every == 0 or ends):
            self._read()  # raises first if the weights are broken
            with self.optimizers.averaged():
                validate(self.unet, self.step)

    def _learn(self, rate: float) -> Tensor:
        """Make one step and return the loss of each of its clips [N] on the device."""
        losses, sigmas = [], []
        share = (1.0 if self.scale is None else self.scale.scale) / self.settings.accumulation
        for part in range(self.settings.accumulation):
            loss, sigma = self._losses(part)
            (loss.mean() * share).backward()
            losses.append(loss.detach())
            sigmas.append(sigma)
        set_strength(self.unet, 1.0)
        if self.scale is not None:
            self.scale.undo(self.optimizers.gradients())
        norm = self.optimizers.clip() if self.settings.clip_norm or self.scale is not None else None
        finite = self.scale is None or self.scale.accept(bool(norm.isfinite()))
        self.optimizers.apply(rate, self.step, skip=not finite)
        together = torch.cat(losses)
        self.pending.add(together, torch.cat(sigmas), norm if finite else None)
        return together

    def _losses(self, part: int) -> tuple[Tensor, Tensor]:
        """Return loss [B] on the device and noise level [B] on the CPU for forward pass `part` of this step."""
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
        set_strength(self.unet, batch.strength)  # until the backward pass, which may recompute blocks
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
            kept = f"the state of step {self.saved} is kept" if self.saved else "no state was saved yet"
            raise FloatingPointError(
                f"the loss or its gradient is not a number at step {self.step} (rate {rate:g}); lower the rate{bound}; "
                f"{kept}"
            )

    def _save(self) -> None:
        self._read()  # raises first, so that no state holds a NaN
        tensors, numbers = self.optimizers.tensors()
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
