"""Training samples for nano's line-art ControlNet: clips with a free move, and the lines of their frames.

The camera of most clips does not follow from the picture, so only the lines tell where it goes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import svd_core as svd
from svd_core.controls.lines import line_drawing
from svd_core.model.conditioning import clip_pixels
from svd_core.networks.controlnet import AddResiduals, ControlNet, HintEncoder, trained_counts
from svd_core.networks.unet import UNet
from svd_core.networks.vae import LATENT_SCALE, VAE
from svd_core.training import TrainingSample

from .camera import FASTEST_FPS, SLOWEST_FPS, bright_side, choose, film, free_move, full_speed_move, speed_of
from .first_weights import zero
from .latents import hold_exposure, motion_vectors
from .networks import UNET, save_checkpoint
from .pool import CELL, Format, draw_field, middle
from .scenes import PictureSource

SMALL, SQUARE = Format("small", 8, 8, 400), Format("square", 16, 16, 500)
SMALL_SHARE = 0.25  # of the steps, if there are pictures of both formats
CLIPS = {"small": 5, "square": 2}  # per step, for about equal work
FRAMES = 8
FREE = 0.9  # share of clips with a free move; the others keep the rule of the base model
HINT_DEVIATION = 3.0  # of the first hint features
FULLER = 1.6  # free moves are this much larger than those of the base model's training


@torch.no_grad()
def draw_pool(
    form: Format, model: svd.SVDModel, source: PictureSource, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw and encode the pictures of one format.

    picture: [N, 3, H, W], uint8. noised: unscaled latents [N, 4, h, w] of the first view with augmentation noise
    `level` [N]. side [N, 2], token [N, D].
    """
    items: list[dict[str, Tensor]] = []
    for _ in range(form.pictures):
        field = draw_field(source, form, generator)
        view = middle(field, form, CELL)
        level = torch.exp(-3.0 + 0.5 * torch.randn((), generator=generator))
        noised = view + level * torch.randn(view.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            concat = model.vae.encode(noised[None]).float()[0]
        items.append({
            "picture": ((field + 1) * 127.5).round().clamp(0, 255).to(torch.uint8),
            "noised": concat,
            "level": level,
            "side": bright_side(view[None])[0],
            "token": model.image_encoder(clip_pixels(view[None]))[0],
        })  # fmt: skip
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}


def load_pool(work: Path, form: Format, model: svd.SVDModel, source: PictureSource, seed: int) -> dict[str, Tensor]:
    """Return the pool of one format, drawn once and cached in `work`."""
    kept = work / f"control_pool_{form.name}_{seed}_{form.pictures}.pt"
    if not kept.exists():
        generator = torch.Generator().manual_seed(seed * 6_007 + form.width)
        save_checkpoint(kept, **draw_pool(form, model, source, generator))
    return torch.load(kept, weights_only=True)


@dataclass
class LineSource:
    """Random clips, which depend only on the step and the generator; `lines` are those of the last batch.

    Trainers pass latents and conditions to the network; the network of `TaughtControlNet` takes the lines from here.
    `pools` has the pictures of one format or of both. Every frame is filmed in pixels and encoded by `vae`: one moved
    latent would be blurred by the interpolation, and a network taught with it dissolves the picture.
    """

    pools: list[tuple[Format, dict[str, Tensor]]]
    vae: VAE
    lines: Tensor | None = None

    def batch(self, step: int, count: int, generator: torch.Generator) -> list[TrainingSample]:
        """Return clips of one format: `count` of the smallest, fewer of larger ones."""
        larger = torch.rand((), generator=generator).item() >= SMALL_SHARE
        form, pool = self.pools[-1 if larger else 0]
        clips = max(1, CLIPS[form.name] * count // CLIPS["small"])
        slots = torch.randint(form.pictures, (clips,), generator=generator)
        fps = torch.randint(SLOWEST_FPS, FASTEST_FPS + 1, (clips,), generator=generator)
        bucket = torch.randint(0, 256, (clips,), generator=generator)
        free = torch.rand(clips, generator=generator) < FREE
        rule = full_speed_move(pool["side"][slots]).times(speed_of(bucket, fps))
        move = choose(free, free_move(clips, generator).times(torch.tensor(FULLER)), rule)
        seen = film(pool["picture"][slots].float() / 255, move, FRAMES, form.height * CELL, form.width * CELL)
        self.lines = draw_lines(seen)
        latent = self.encoded(hold_exposure(seen))
        vector = motion_vectors(fps, bucket, pool["level"][slots])
        tokens, noised = pool["token"][slots], pool["noised"][slots]
        return [TrainingSample(latent[clip], noised[clip], tokens[clip], vector[clip]) for clip in range(clips)]

    @torch.no_grad()
    def encoded(self, clips: Tensor) -> Tensor:
        """Return the scaled latents [B, T, 4, h, w] of clips [B, T, 3, H, W] in 0..1."""
        frames = clips.flatten(0, 1).clamp(0, 1) * 2 - 1  # [B*T, 3, H, W]
        with torch.autocast("cpu", torch.bfloat16):
            latents = self.vae.encode(frames).float()
        return latents.unflatten(0, clips.shape[:2]) * LATENT_SCALE


def draw_lines(clips: Tensor) -> Tensor:
    """Return the control pictures [B*T, 3, H, W] in -1..1 of clips [B, T, 3, H, W] in 0..1."""
    return torch.cat([line_drawing(clip.clamp(0, 1).movedim(1, -1)) for clip in clips]).movedim(-1, 1) * 2 - 1


@torch.no_grad()
def start_hint(hint: HintEncoder, lines: Tensor) -> None:
    """Draw the first weights of a hint encoder: unit deviation in every layer for such lines, none for black.

    The result is as strong as the noise in the features that it is added to. With torch's own initial values it is a
    thousandth of that, and its change from frame to frame is lost.
    """
    layers = (hint.conv_in, *hint.blocks, hint.conv_out)
    h = lines
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        if layer is hint.conv_in:
            layer.bias.copy_(layer.weight.sum((1, 2, 3)))  # black is -1
        h = layer(h)
        scale = (HINT_DEVIATION if layer is hint.conv_out else 1.0) / h.std()
        layer.weight.mul_(scale)
        layer.bias.mul_(scale)
        h = F.silu(h * scale)


class TaughtControlNet(ControlNet):
    """The ControlNet in training, called as the UNet is: it runs the frozen UNet with its residuals."""

    def __init__(self, base: UNet, source: LineSource) -> None:
        super().__init__(UNET)
        # In a tuple, so that neither the frozen network nor its weights are parts of this one.
        self._others = (base, source)

    def start(self) -> None:
        """Start as a copy of the base's downward half that changes nothing."""
        base, source = self._others
        base = base.state_dict()
        own = {name: base[name] for name in self.state_dict() if name in base}
        missing, unexpected = self.load_state_dict(own, strict=False)
        if unexpected or any(not name.startswith(("hint.", "zero_convs.", "middle_conv.")) for name in missing):
            raise ValueError(f"the base does not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")
        for layer in (*self.zero_convs, self.middle_conv):
            zero(layer)
        form, pool = source.pools[-1]
        views = film(pool["picture"][:8].float() / 255, free_move(8, torch.Generator().manual_seed(0)), 2,
                     form.height * CELL, form.width * CELL)  # fmt: skip
        start_hint(self.hint, draw_lines(views))

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, vector: Tensor, num_frames: int) -> Tensor:
        """Return the base's output with the residuals of the lines of the last batch."""
        base, source = self._others
        hint = self.hint(source.lines)
        made = self.residuals(x, c_noise, context, vector, num_frames, hint)
        hooks = AddResiduals(made, trained_counts(self.config))
        return base(x, c_noise, context, vector, num_frames, hooks=hooks)
