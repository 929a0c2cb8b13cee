"""Goes on training nano's UNet on clips that are filmed in pixels: python -m recipes.nano.filmed --work DIR.

`latents.ClipSource` moves one encoded picture by interpolation. Decoded, the last frame of such a clip has 31 %
of the sharpness of its first frame at bucket 127, so no network that learns from them does better. Here the picture is
moved, and every frame is encoded: 85 % stay. The clips are drawn and encoded once, and cached in DIR.

The base is the nano of the pack. A stopped run resumes when it is started again. DIR/nano_filmed.safetensors is nano
with the new UNet; DIR/filmed has the log and its plot.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import svd_core as svd
from svd_core.model.conditioning import clip_pixels
from svd_core.networks.vae import LATENT_SCALE
from svd_core.training import Trainer, TrainingSample, TrainSettings

from .camera import (
    FASTEST_FPS,
    SLOWEST_FPS,
    Move,
    bright_side,
    choose,
    film,
    free_move,
    full_speed_move,
    speed_of,
)
from .latents import FREE, FREE_BELOW, hold_exposure, motion_vectors
from .networks import prepare_cpu, save_checkpoint
from .objects import FLIGHT, draw_dart
from .photographs import uniform
from .pool import CELL, DARTS, Format, draw_field, middle
from .scenes import PictureSource
from .train_unet import SETTINGS, UNET_PREFIX, report

NANO = Path(svd.__file__).parent / "assets" / "nano.safetensors"
SQUARE = Format("square", 16, 16, 500)
FRAMES = 8
CLIPS = 3  # per step
CHANGED = {"rate": 5e-4, "warmup": 30, "batch": CLIPS, "save_every": 50}


def filmed_frames(form: Format, source: PictureSource, move: Move, flight: float, generator: torch.Generator) -> Tensor:
    """Return one clip [T, 3, H, W] in -1..1: a picture under `move`, at times with a dart at `flight` of its speed."""
    field = draw_field(source, form, generator)[None]
    height, width = form.height * CELL, form.width * CELL
    clip = film(field, move, FRAMES, height, width)[0]
    if uniform(generator, 0, 1) < DARTS:
        dart = draw_dart(*field.shape[2:], min(height, width), generator)
        nose = torch.tensor(dart.direction)[:, None] * flight
        # An object that flies to the right looks like a camera that moves to the left.
        chase = Move(move.right - nose[0], move.down - nose[1], move.zoom, move.roll)
        layers = film(torch.cat([dart.colours * 2 - 1, dart.cover])[None], chase, FRAMES, height, width)[0]
        clip = clip + (layers[:, :3] - clip) * layers[:, 3:].clamp(0, 1)
    return hold_exposure(clip[None])[0].clamp(-1, 1)


@torch.no_grad()
def draw_clip(
    form: Format, model: svd.SVDModel, source: PictureSource, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw and encode one clip.

    latent [T, 4, h, w], scaled; noised [4, h, w]: unscaled latent of frame 0 with augmentation noise; token [D];
    vector [768]; free: whether the move does not follow from the picture.
    """
    fps = torch.randint(SLOWEST_FPS, FASTEST_FPS + 1, (1,), generator=generator)
    bucket = torch.randint(0, 256, (1,), generator=generator)
    free, untold = torch.rand(1, generator=generator) < FREE, free_move(1, generator)
    probe = generator.get_state()
    view = middle(draw_field(source, form, generator), form, CELL)
    generator.set_state(probe)  # the same picture again, now that the side of its light is known
    speed = speed_of(bucket, fps)
    rule = full_speed_move(bright_side(view[None])).times(speed)
    move = choose(free, untold, rule)
    frames = filmed_frames(form, source, move, float(FLIGHT * speed), generator)
    level = torch.exp(-3.0 + 0.5 * torch.randn((), generator=generator))
    noised = frames[0] + level * torch.randn(frames[0].shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model.vae.encode(torch.cat([frames, noised[None]])).float()
    return {
        "latent": encoded[:-1] * LATENT_SCALE,
        "noised": encoded[-1],
        "token": model.image_encoder(clip_pixels(frames[:1]))[0],
        "vector": motion_vectors(fps, bucket, level[None])[0],
        "free": free[0],
    }


@dataclass
class FilmedSource:
    """Random clips of a pool of encoded ones; they depend only on the step and the generator."""

    pool: dict[str, Tensor]
    form: Format

    def batch(self, step: int, count: int, generator: torch.Generator) -> list[TrainingSample]:
        """Return `count` clips."""
        slots = torch.randint(len(self.pool["latent"]), (count,), generator=generator)
        limit = FREE_BELOW[self.form.height]
        return [
            TrainingSample(
                latent=self.pool["latent"][slot].float(),
                concat=self.pool["noised"][slot],
                token=self.pool["token"][slot],
                vector=self.pool["vector"][slot],
                sigma_limit=limit if self.pool["free"][slot] else None,
            )
            for slot in slots.tolist()
        ]


def load_clips(work: Path, form: Format, model: svd.SVDModel, source: PictureSource, seed: int) -> dict[str, Tensor]:
    """Return the pool of clips, drawn once and cached in `work`."""
    kept = work / f"filmed_{form.name}_{seed}_{form.pictures}.pt"
    if not kept.exists():
        generator = torch.Generator().manual_seed(seed * 5_003 + form.width)
        items = [draw_clip(form, model, source, generator) for _ in range(form.pictures)]
        save_checkpoint(kept, **{key: torch.stack([item[key] for item in items]) for key in items[0]})
    return torch.load(kept, weights_only=True)


def export(weights: dict[str, Tensor], path: Path) -> None:
    """Write nano with the UNet `weights`."""
    tensors = load_file(NANO)
    for name, tensor in weights.items():
        key = f"{UNET_PREFIX}{name}"
        tensors[key] = tensor.to(tensors[key].dtype).contiguous()
    with safe_open(NANO, "pt") as nano:
        save_file(tensors, path, nano.metadata())


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--clips", type=int, default=SQUARE.pictures, help="clips in the pool")
    parser.add_argument("--rate", type=float, default=CHANGED["rate"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare_cpu(given.threads)
    torch.manual_seed(given.seed)
    given.work.mkdir(parents=True, exist_ok=True)
    model = svd.load_model(NANO)
    form = Format(SQUARE.name, SQUARE.width, SQUARE.height, given.clips)
    source = FilmedSource(load_clips(given.work, form, model, PictureSource(given.work, given.seed), given.seed), form)
    settings = TrainSettings(
        steps=given.steps, cooldown=given.steps // 2, seed=given.seed, **SETTINGS | CHANGED | {"rate": given.rate}
    )
    result = Trainer(model.unet, source, settings, given.work / "filmed").run(on_step=report)
    export(result.weights, given.work / "nano_filmed.safetensors")


if __name__ == "__main__":
    main()
