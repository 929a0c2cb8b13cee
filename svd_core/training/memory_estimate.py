"""What a run will need of the device's memory, from a dry run at real size on the meta device, which has none."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..memory import PeakMemory
from ..networks.config import UNetConfig
from ..networks.unet import UNet
from .data.samples import TrainingBatch
from .loss import velocity_losses
from .network import BLOCKS, COMPUTED_IN
from .settings import TrainSettings
from .trainer import trained_parts

HALF_PRECISION_CALLS = (F.linear, F.conv2d, F.scaled_dot_product_attention, torch.conv2d)
FLOAT32_CALLS = (F.group_norm, F.layer_norm)
STATES_PER_NUMBER = {"adamw": 8, "adamw8bit": 2, "muon": 4}  # bytes that an optimizer keeps for a trained number


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of a training run on its device; `trainable` counts numbers.

    activations: everything that a step makes besides gradients, at its highest. peak: the highest sum of all.
    """

    trainable: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    peak: int


def training_memory(
    config: UNetConfig, settings: TrainSettings, frames: int, width: int, height: int
) -> TrainingMemory:
    """Estimate the memory of training a UNet on clips of `frames` frames of width x height pixels.

    One forward and backward pass of the batch runs on the meta device. Frozen weights of a LoRA are counted in the
    settings' precision, trained weights in float32. What kernels allocate for themselves, and what the allocator keeps
    unused, is not seen: leave a tenth. Raises ValueError for sizes that the model cannot have.
    """
    if width % 64 or height % 64 or min(frames, width, height) < 1:
        raise ValueError(
            f"{frames} frames of {width}x{height} pixels cannot be trained; use sizes that are multiples of 64"
        )
    computed = COMPUTED_IN[settings.precision]
    stored = computed if settings.method == "lora" else torch.float32
    unet = UNet(config, device="meta", dtype=stored)
    autocast = _Autocast(computed if stored != computed else None)
    for layer in unet.modules():
        if isinstance(layer, BLOCKS):  # backward passes turn function modes off, which a recomputed block needs
            layer.forward = partial(autocast.around, layer.forward)
    with trained_parts(unet, settings) as (parameters, _):
        numbers = sum(part.numel() for part in parameters.values())
        weights = sum(part.numel() * part.element_size() for part in unet.parameters())
        step, gradients = _step_bytes(unet, config, settings, (frames, height // 8, width // 8), stored, autocast)
    optimizer = _optimizer_bytes(parameters, settings)
    average = 4 * numbers if settings.ema else 0
    peak = weights + optimizer + average + max(step, gradients)
    return TrainingMemory(numbers, weights, gradients, optimizer, average, max(0, step - gradients), peak)


def _step_bytes(
    unet: nn.Module,
    config: UNetConfig,
    settings: TrainSettings,
    size: tuple[int, int, int],
    stored: torch.dtype,
    autocast: "_Autocast",
) -> tuple[int, int]:
    """Highest bytes made by one step, its gradients included, and the bytes of the gradients."""
    frames, height, width = size
    meta = partial(torch.empty, device="meta")
    clips = settings.batch
    batch = TrainingBatch(
        meta(clips, frames, 4, height, width),
        meta(clips, 4, height, width),
        meta(clips, config.context_channels),
        meta(clips, config.vector_channels),
    )
    noise, sigma = torch.empty_like(batch.latent), torch.ones(clips, dtype=torch.float64)
    with PeakMemory() as memory, autocast:
        velocity_losses(unet, batch, sigma, noise, stored).mean().backward()
        autocast.forget()
    gradients = [part.grad for part in unet.parameters() if part.grad is not None]
    return memory.peak, sum(gradient.numel() * gradient.element_size() for gradient in gradients)


def _optimizer_bytes(parameters: dict[str, nn.Parameter], settings: TrainSettings) -> int:
    usual = STATES_PER_NUMBER["adamw" if settings.optimizer == "muon" else settings.optimizer]
    matrices = STATES_PER_NUMBER[settings.optimizer]
    return sum(part.numel() * (matrices if part.ndim > 1 else usual) for part in parameters.values())


class _Attention(torch.autograd.Function):
    """A fused kernel keeps its inputs, its result and one number per query; meta's own keeps every score."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = query.new_empty(query.shape[:-1] + value.shape[-1:])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _Autocast(TorchFunctionMode):
    """Autocast as a GPU does it, for the meta device, which has none; also fused attention. `computed` None: no casts.

    Matrix products and convolutions take half precision, norms float32; the cast of a trained weight is made once.
    """

    def __init__(self, computed: torch.dtype | None) -> None:
        super().__init__()
        self._computed = computed
        self._cast: dict[int, Tensor] = {}

    def around(self, function, *inputs):
        """Call a function in this mode."""
        with self:
            return function(*inputs)

    def forget(self) -> None:
        """Let go of the casts of weights."""
        self._cast.clear()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._computed is not None and function in (*HALF_PRECISION_CALLS, *FLOAT32_CALLS):
            wanted = self._computed if function in HALF_PRECISION_CALLS else torch.float32
            args = tuple(self._to(value, wanted) for value in args)
            kwargs = {name: self._to(value, wanted) for name, value in kwargs.items()}
        if function is F.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        return function(*args, **kwargs)

    def _to(self, value, dtype: torch.dtype):
        if not isinstance(value, Tensor) or value.dtype == dtype or not value.is_floating_point():
            return value
        if not isinstance(value, nn.Parameter):
            return value.to(dtype)
        if id(value) not in self._cast:
            self._cast[id(value)] = value.to(dtype)
        return self._cast[id(value)]
