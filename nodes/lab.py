"""The node that tries a grid of settings and picks the best.

`svd_core.lab` is imported on first use, because ComfyUI imports every pack at start-up.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..svd_core.pipelines.clip import AnimateSettings, animate
from ..svd_core.pipelines.settings import SETTINGS, STEERED_BUCKET
from ..svd_core.sampling.solvers import Step
from .condition import Motion
from .host import comfy as host
from .host.preview import ClipPreview, encoded, pictures, played, shown
from .shared import inputs
from .shared.controls import ControlChain
from .shared.model import LoadedModel

if TYPE_CHECKING:
    from ..svd_core.lab.sweep import Sweep

CELL_SIDE = 144  # pixels of the frames on the sheet in the browser


class SVDReelSweep:
    """Sweep motion settings over one image."""

    DISPLAY_NAME = "Motion Lab (SVD)"
    CATEGORY = f"{inputs.CATEGORY}/Motion"
    DESCRIPTION = (
        "Tries motion buckets, seeds and noise levels on one image: a quick clip for each combination, measured, all "
        "on one sheet. Picks the best by a score, samples it with all steps, and outputs its settings for the other "
        "nodes."
    )
    SEARCH_ALIASES = ["motion lab", "sweep", "xy plot", "grid", "compare seeds", "motion bucket", "best settings"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "SVD_MOTION", "INT", "FLOAT", "STRING", "STRING", "STRING")
    RETURN_NAMES = ("sheet", "frames", "motion", "seed", "sigma_max", "text", "json", "csv")
    OUTPUT_TOOLTIPS = (
        "All clips on one page with their measured motion, the best in a green frame; for Preview Image.",
        "The frames of the best clip, sampled with all steps.",
        "Motion bucket, fps and noise of the best clip, for Prepare Image for SVD and other nodes that take motion.",
        "Seed of the best clip, for every node that uses a seed.",
        "Highest noise level of the best clip, for Make Noise Schedule.",
        "The table as text, one line for each clip, for Preview Any.",
        "All numbers as JSON, for programs.",
        "The table as CSV, for spreadsheets.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.lab import SCORES, SHOWN, Aim
        from ..svd_core.lab.sweep import FEW_STEPS

        return {
            "required": {
                "model": inputs.MODEL,
                "image": inputs.socket("IMAGE", "The image to animate, a single one of any size."),
                "buckets": inputs.text(
                    "60, 127, 200",
                    "Motion buckets to try, 0 to 255, separated by commas. Every value of every list is combined "
                    "with all others, so time grows with the product of the list lengths.",
                ),
                "seeds": inputs.text("23, 24", "Seeds to try: whole numbers separated by commas."),
                "sigma_max": inputs.text(
                    "700",
                    "Highest noise levels to try, separated by commas. 700 is SVD's own; 50 to 200 start "
                    "from less noise and move differently.",
                ),
                "steps": inputs.whole(
                    FEW_STEPS,
                    1,
                    1000,
                    "Sampling steps of the quick clips. 6 to 10 show how a clip will move; details need all steps.",
                ),
                "score": inputs.choice(
                    SCORES,
                    "How the best clip is chosen. closest: motion nearest to wanted_motion. most motion: the most "
                    "motion within drift_limit. steadiest: the least flicker and drift among clips that move.",
                ),
                "wanted_motion": inputs.decimal(
                    Aim.motion,
                    0.0,
                    20.0,
                    "Target motion for closest, in per cent of the width per frame: 0.3 is calm, 1 usual, 2 lively.",
                ),
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.FRAMES,
                "fit": inputs.FIT,
            },
            "optional": {
                "fps": inputs.text(
                    "7",
                    "Frame rates for which the motion is made, 6 to 30. Several values, separated by commas, are "
                    "combined like the other lists.",
                    advanced=True,
                ),
                "augmentation_level": inputs.decimal(
                    SETTINGS["augmentation"].default,
                    0.0,
                    10.0,
                    inputs.AUGMENTATION[1]["tooltip"],
                    step=0.01,
                    advanced=True,
                ),
                "drift_limit": inputs.decimal(
                    Aim.drift,
                    0.0,
                    100.0,
                    "Drift in colour, contrast and sharpness, in per cent, that most motion still accepts.",
                    step=0.5,
                    advanced=True,
                ),
                "full_steps": inputs.whole(
                    0,
                    0,
                    1000,
                    "Sampling steps of the best clip. 0 uses the model's own number, 25 or 30.",
                    advanced=True,
                ),
                "shows": inputs.choice(SHOWN, "Which frames of each clip appear on the sheet.", advanced=True),
                "camera": inputs.text(
                    "",
                    'Camera path of all clips in words, such as "pan right 0.1". The table then shows how much of it '
                    "each clip follows. Leave it empty for a free camera.",
                ),
                "camera_strength": inputs.text(
                    "1",
                    "Strengths of the camera path to try, 0 to 3, separated by commas; combined like the other lists.",
                    advanced=True,
                ),
                "camera_mode": inputs.CAMERA_MODE,
                "camera_bucket_id": inputs.whole(
                    STEERED_BUCKET,
                    -1,
                    1023,
                    f"Motion bucket of all clips with a camera path. {STEERED_BUCKET} follows best. -1 tries the list "
                    "of buckets.",
                    advanced=True,
                ),
                "control": inputs.socket(
                    "SVD_CONTROL",
                    "Control of all clips: a ControlNet, camera weights or another control node. Make it with a latent "
                    "of the size and length of these clips.",
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        image: Tensor,
        buckets: str,
        seeds: str,
        sigma_max: str,
        steps: int,
        score: str,
        wanted_motion: float,
        width: int,
        height: int,
        frames: int,
        fit: str,
        fps: str = "7",
        augmentation_level: float = 0.02,
        drift_limit: float = 5.0,
        full_steps: int = 0,
        shows: str = "first, middle, last",
        camera: str = "",
        camera_strength: str = "1",
        camera_mode: str = AnimateSettings.camera_mode,
        camera_bucket_id: int = STEERED_BUCKET,
        control: ControlChain | None = None,
    ) -> tuple:
        from ..svd_core.lab import SHOWN, Aim, Grid, draw_sheet, run_sweep
        from ..svd_core.lab.grid import parse_list
        from ..svd_core.lab.sweep import count_from, full_settings

        steered = bool(camera.strip())
        if steered and camera_bucket_id >= 0:
            buckets = str(camera_bucket_id)
        grid = Grid(
            parse_list(buckets, "buckets"),
            parse_list(seeds, "seeds", whole=True),
            parse_list(sigma_max, "sigma_max"),
            parse_list(fps, "fps"),
            parse_list(camera_strength, "camera_strength") if steered else (),
        )
        settings = AnimateSettings(
            width=width or None,
            height=height or None,
            frames=frames or None,
            augmentation=augmentation_level,
            fit=fit,
            camera=camera.strip(),
            camera_mode=camera_mode,
        )
        all_steps = replace(settings, steps=full_steps or None).resolve(model.config).steps
        total = grid.count * steps + all_steps
        progress = host.Progress(total, ClipPreview(model.colours))

        def on_step(step: Step) -> None:
            progress.update(step.index + 1, step.denoised, total=total)

        quick = replace(settings, steps=steps)
        aim = Aim(score, wanted_motion, drift_limit)
        controls = (control or ControlChain()).of_clip(0, 1)
        report = {"shown": SHOWN[shows], "on_step": on_step, "steps_after": all_steps, "controls": controls}
        sweep = run_sweep(model, image, quick, grid, aim, **report)
        best = full_settings(settings, sweep.best, full_steps or None, model)
        on_last = count_from(on_step, total - all_steps, total)
        clip = animate(model, image, best, controls=controls, on_step=on_last)
        motion = Motion(best.motion_bucket, best.fps, best.augmentation)
        sheet, clip = (_image(frames) for frames in (draw_sheet(sweep), clip))
        text = (sweep.text(), sweep.to_json(), sweep.to_csv())
        result = (sheet, clip, motion, best.seed, float(best.sigma_max), *text)
        return shown(result, played(clip, best.fps), cells_of(sweep))


def cells_of(sweep: "Sweep") -> dict[str, list[dict]]:
    """Return the settings, the motion and a small frame of every cell, for the node's own sheet in the browser."""
    cells = []
    for cell in sweep.cells:
        middle = cell.shown[len(cell.shown) // 2].movedim(-1, 0)[None] * 2 - 1  # [1, 3, H, W]
        made = cell.settings
        cells.append(
            {
                "buckets": made.motion_bucket,
                "seeds": made.seed,
                "sigma_max": made.sigma_max,
                "fps": made.fps,
                "rank": cell.rank,
                "motion": round(cell.numbers["motion_percent"] or 0, 2),
                "jpeg": encoded(pictures(middle, CELL_SIDE)[0]),
            }
        )
    return {"svd_cells": cells, "svd_columns": [sweep.grid.columns]}


def _image(frames: Tensor) -> torch.Tensor:
    return frames.to(host.output_device(), host.output_dtype())


NODES = [SVDReelSweep]
