"""Control pictures of a clip: fitted like the start picture, and made a control by a ControlNet."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..controls.controlnet import ControlNetControl, controlnet_control
from ..networks.config import UNetConfig
from ..networks.controlnet import ControlNet
from ..pictures import as_batch, fit
from .settings import AnimateSettings


def control_by_pictures(
    network: ControlNet,
    pictures: Any,
    settings: AnimateSettings,
    config: UNetConfig,
    *,
    strength: float | Sequence[float] = 1.0,
    mask: Tensor | None = None,
    **options: Any,
) -> ControlNetControl:
    """Return the control of clips with resolved `settings` by control pictures, such as depth maps or line drawings.

    pictures: as `svd.animate` takes images, one per frame; the last is repeated, a single one serves all frames. They
    and the mask [N, H, W] in 0..1 are fitted to the clip as its start picture is. config: of the UNet that is steered.
    options: start, end, sums, numbers, both; see `controls.controlnet.controlnet_control`.
    """
    check_fits(network, config)
    size = (settings.width, settings.height, settings.fit)
    fitted, _ = fit(as_batch(pictures, settings.background), *size)
    if mask is not None:
        flat = mask.reshape(-1, *mask.shape[-2:]).float().clamp(0, 1)
        mask = (fit(flat[:, None].expand(-1, 3, -1, -1) * 2 - 1, *size)[0][:, :1] + 1) / 2
    return controlnet_control(network, fitted, settings.frames, strength=strength, mask=mask, **options)


def check_fits(network: ControlNet, config: UNetConfig) -> None:
    """Raise ValueError where a ControlNet was not made for a UNet of this size."""
    own = network.config
    sizes = ("model_channels", "channel_mult", "num_res_blocks", "context_channels")
    for name in sizes:
        mine, theirs = getattr(own, name), getattr(config, name)
        if mine != theirs:
            raise ValueError(
                f"the ControlNet is for a UNet with {name.replace('_', ' ')} {_words(mine)}, the model has "
                f"{_words(theirs)}; use a ControlNet made for this model"
            )


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
