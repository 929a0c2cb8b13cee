"""Validation clips: one picture animated during training with the same noise, as clips, a sheet and numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..charts import INK, PAPER, font
from ..condition import Condition
from ..files import remove_leftovers, replacing, write_error, write_text
from ..model.conditioning import condition_on_image
from ..model.decoding import frames_to_image
from ..pictures import as_batch, fit
from ..pictures.sheets import small_picture, spread
from ..pipelines.settings import AnimateSettings, guidance_of, sigmas_of
from ..report import measure
from ..sampling.denoiser import denoise_with
from ..sampling.noise import start_noise
from ..sampling.sampler import sample
from ..video import write_clip
from .state import make_folder

SHOWN, SIDE, LABEL, GAP = 6, 112, 92, 4
ROWS, NUMBERS = "rows", "numbers.csv"
COLUMNS = ("step", "pan_x", "pan_y", "zoom", "motion", "first_frame_psnr")


class Validation:
    """Animate one picture with a network in training. Files go to `folder`: clips, sheet.png and numbers.csv."""

    def __init__(
        self,
        model: Any,
        picture: Tensor,
        settings: AnimateSettings,
        decode: Callable[[Tensor], Tensor],
        folder: Path,
    ) -> None:
        """Encode the picture [1, H, W, C] in 0..1 with `model`, which has a `config`.

        settings: of the clips. decode: returns frames [T, 3, H, W] in -1..1 of scaled latents.
        """
        self.settings = settings.resolve(model.config)
        self.decode, self.folder = decode, folder
        self.latents: Tensor | None = None  # of the last clip, for previews
        fitted = fit(as_batch(picture), self.settings.width, self.settings.height, self.settings.fit)[0][:1]
        self.start = frames_to_image(fitted)
        self.condition: Condition = condition_on_image(
            model,
            fitted,
            fps_id=self.settings.fps - 1,
            motion_bucket_id=self.settings.motion_bucket,
            augmentation_level=self.settings.augmentation,
            seed=self.settings.seed,
        )

    def sheet(self) -> Path:
        """Return the path of the sheet that shows all clips, one per row."""
        return self.folder / "sheet.png"

    @torch.no_grad()
    def __call__(self, unet: nn.Module, step: int, stop: Callable[[], None] | None = None) -> Tensor:
        """Animate with `unet` after `step` steps, write all files, and return the frames [T, H, W, 3] in 0..1.

        stop: called at every sampling step; may raise to interrupt.
        """
        frames = self.clip(unet, stop)
        rows = self.folder / ROWS
        make_folder(rows)
        remove_leftovers(self.folder)
        remove_leftovers(rows)
        try:
            write_clip(frames, self.folder / f"step_{step:06d}.webp", fps=self.settings.fps, metadata={"step": step})
            self._add_row(frames, step)
            self._add_numbers(frames, step)  # last, because `has` looks for them
        except OSError as error:
            # An error without a system message is already one sentence.
            raise (write_error(self.folder, error) if error.strerror else error) from error
        return frames

    def has(self, step: int) -> bool:
        """Return whether the validation after `step` steps is complete."""
        return self.sheet().exists() and any(line.split(",")[0] == str(step) for line in self._known_numbers())

    @torch.no_grad()
    def clip(self, unet: nn.Module, stop: Callable[[], None] | None = None) -> Tensor:
        """Return the frames [T, H, W, 3] in 0..1 of the picture animated with `unet`."""
        weight = next(unet.parameters())
        settings = self.settings

        def denoise(x: Tensor, sigma: float | Tensor, condition: Condition) -> Tensor:
            if stop is not None:
                stop()
            return denoise_with(unet, x, sigma, condition, dtype=weight.dtype)

        noise = start_noise(settings.frames, settings.height // 8, settings.width // 8, settings.seed)
        self.latents = sample(
            denoise,
            noise.to(weight.device),
            sigmas_of(settings),
            guidance_of(settings),
            self.condition.to(weight.device),
            solver=settings.solver,
            seed=settings.seed,
        )
        return frames_to_image(self.decode(self.latents)).float().cpu()

    def _add_numbers(self, frames: Tensor, step: int) -> None:
        """Write one row of measurements; a resumed run replaces the row of the same step."""
        report = measure(frames, image=self.start)
        means = [sum(values) / len(values) for values in (report.pan_x, report.pan_y, report.zoom, report.motion)]
        row = ",".join([str(step), *(f"{value:.4f}" for value in (*means, report.psnr))])
        kept = [line for line in self._known_numbers() if int(line.split(",")[0]) < step]
        write_text(self.folder / NUMBERS, "\n".join([",".join(COLUMNS), *kept, row, ""]))

    def _known_numbers(self) -> list[str]:
        path = self.folder / NUMBERS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [line for line in lines if line.split(",")[0].isdecimal()]

    def _add_row(self, frames: Tensor, step: int) -> None:
        """Add the clip to the sheet, below those of earlier steps."""
        height = round(SIDE * frames.shape[1] / frames.shape[2])
        places = spread(len(frames), SHOWN)
        row = Image.new("RGB", (LABEL + len(places) * (SIDE + GAP), height + GAP), PAPER)
        pen = ImageDraw.Draw(row)
        pen.text((6, height // 2 - 8), f"step {step}", fill=INK, font=font(15))
        for place, index in enumerate(places):
            row.paste(small_picture(frames[index], SIDE, height), (LABEL + place * (SIDE + GAP), 0))
        rows = self.folder / ROWS
        with replacing(rows / f"{step:06d}.png") as temporary:
            row.save(temporary, format="PNG")
        known = sorted(file for file in rows.glob("*.png") if file.stem.isdecimal() and int(file.stem) <= step)
        shown = [picture for picture in map(_whole, known) if picture is not None]
        sheet = Image.new("RGB", (row.width, len(shown) * row.height), PAPER)
        for index, picture in enumerate(shown):
            sheet.paste(picture, (0, index * row.height))
        with replacing(self.sheet()) as temporary:
            sheet.save(temporary, format="PNG")


def _whole(file: Path) -> Image.Image | None:
    """Return the row of an earlier step, or None for a damaged file."""
    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except OSError:
        return None
