"""Pictures for the template browser and the README: frames made by the embedded model on a CPU."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

import svd_core as svd
from svd_core.controls.brush import motion_brush
from svd_core.controls.camera.moves import parse_path
from svd_core.controls.drag import drag_signal, parse_drag
from svd_core.controls.driving_clip import driving_signal
from svd_core.controls.lines import line_drawing
from svd_core.controls.signal import DualClock
from svd_core.finish import Reel, batch_of, to_size
from svd_core.lab import Grid, run_sweep
from svd_core.lora import apply_loras, load_lora
from svd_core.model.orbit import OrbitPath
from svd_core.pictures import as_batch, fit, from_pil, open_picture
from svd_core.pictures.strokes import paint_objects
from svd_core.pipelines.between import inbetween, loop
from svd_core.pipelines.steered import Steering, steered_clip
from svd_core.pipelines.steering import camera_signals
from svd_core.storyboard import film_frames
from svd_core.storyboard.film import plan_film
from svd_core.storyboard.panels import parse_text

from .brush import DRAG, MOVES, OBJECT
from .build import FOLDER, ROOT
from .drawn_inputs import (
    angle_table,
    depth_frames,
    line_frames,
    mug,
    on_checks,
    orbit_map,
    pose,
    prepared_mug,
    ray_maps,
)
from .lab_board import PANELS
from .library import load_pack
from .pieces import PICTURES
from .thumbnails import LOOKS, STILLS, Look, captioned, cells, hero, spread

PHOTOGRAPH = ROOT / "svd_core" / "assets" / "demo.png"
SAMPLES = ROOT / "web" / "pictures"
RESULT = ROOT / "docs" / "result.jpg"
GAP = 4
WIDTH, HEIGHT, STEPS = 144, 96, 5  # of the frames, which are shown small
FIRST, LAST, TINT = (80, 170, 255), (255, 150, 40), (255, 90, 40)
PAPER = (24, 24, 28)
# Captions name the purpose of the workflow, the small print the model. Seeds only vary the pictures.
CAPTIONS = {
    "nano_image_to_video": ("No download, any CPU", 23),
    "svd_image_to_video": ("SVD, 14 frames", 1),
    "svd_xt_image_to_video": ("SVD-XT, 25 frames", 2),
    "svd_xt_1_1_image_to_video": ("SVD-XT 1.1, 25 frames", 3),
    "svd_with_comfyui_nodes": ("With KSampler", 5),
    "low_vram_8gb": ("1024x576 on 8 GB", 4),
    "animatelcm_few_steps": ("AnimateLCM, 4 steps", 23),
    "fast_draft": ("Fast drafts", 24),
    "upscale_and_interpolate": ("Larger and smoother", 7),
    "clip_report": ("Motion and flicker, measured", 9),
    "camera_pan_and_zoom": ("Camera: pan and zoom", 23),
    "camera_orbit_with_depth": ("Camera: orbit, with depth", 23),
    "motion_brush": ("The sky moves, the wood does not", 23),
    "cut_and_drag": ("Cut out and dragged", 23),
    "control_by_clip": ("Moved by another clip", 23),
    "edit_clip": ("An edit, carried through a clip", 23),
    "first_and_last_frame": ("First and last frame", 5),
    "seamless_loop": ("Seamless loop", 19),
    "longer_clip": ("Five seconds, continued", 13),
    "longer_clip_15_seconds": ("Fifteen seconds in windows", 17),
    "steadier_clip": ("Steadier, with a curve of motion", 11),
    "finish_4k": ("Five seconds, up to 4K", 23),
    "draft_then_final": ("Draft, then final", 6),
    "interpolate_with_model": ("Frames in between", 8),
    "vhs_output": ("Into Video Helper Suite", 10),
    "sketch_to_4k_film": ("Sketch to 4K film", 23),
    "text_to_video": ("Words to a clip", 15),
    "product_b_roll": ("Product: dolly and light", 16),
    "portrait_9_16": ("Portrait, 9:16", 18),
    "social_square": ("Square loop", 20),
    "motion_lab": ("Settings tried, measured", 12),
    "compare_clips": ("Two clips in step", 23),
    "storyboard_animatic": ("Storyboard to film", 14),
    "inspect_model": ("What is in a file", 12),
    "check_setup": ("Is everything well?", 12),
    "lora_camera_move": ("A LoRA moves the camera", 23),
    "train_camera_lora": ("Train a camera move", 29),
    "train_character_lora": ("Train a character", 31),
    "turntable_sv3d": ("A turntable of an object", 0),
    "motionctrl_camera": ("MotionCtrl moves the camera", 0),
    "cameractrl_camera": ("CameraCtrl moves the camera", 0),
    "character_dance": ("Poses drive a person", 0),
    "video_depth": ("Depth of a video", 0),
    "orbit_from_video_depth": ("An orbit from read depth", 0),
    "depth_controlnet": ("Follows depth maps", 0),
    "lineart_controlnet": ("Follows line drawings", 0),
    "nano_controlnet": ("A ControlNet, no download", 23),
    "generative_inbetween": ("First and last, fine-tuned", 0),
}
# What else a picture shows than a clip of the usual settings.
SETTINGS = {
    "camera_pan_and_zoom": {
        "motion_bucket": 20,
        "camera": "pan right 0.12 ease, zoom in 1.15 ease",
    },
    "animatelcm_few_steps": {"schedule": "lcm"},
    "motion_brush": {"motion_bucket": 200},
    "social_square": {"motion_bucket": 100},
    "fast_draft": {"schedule": "align_your_steps", "solver": "dpmpp_2m", "reuse": 2},
}

CAMERAS = {
    "camera_orbit_with_depth": "orbit left 12",
    "product_b_roll": "dolly in 0.12",
    "lora_camera_move": "pan left 0.15",
}


def _between_crops(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """From one part of the photograph to another."""
    height, width = photograph.shape[1:3]
    down, across = height // 10, width // 10
    parts = [photograph[:, : height - down, : width - across], photograph[:, down:, across:]]
    return inbetween(model, parts, settings)


def _finished(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """Cut to 16:9 and with frames in between."""
    clip = svd.animate(model, photograph, settings)
    return batch_of(Reel(clip, (to_size(640, 360, "crop"),), factor=4))


def _upright(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """9:16, calm."""
    return svd.animate(model, photograph, replace(settings, width=144, height=256, motion_bucket=90))


def _lit(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """A dolly, and light that sweeps from left to right."""
    calm = replace(settings, motion_bucket=90, camera="dolly in 0.12 ease")
    height, width = photograph.shape[1:3]
    near = torch.linspace(0, 1, height)[:, None].expand(-1, width)
    frames = svd.animate(model, photograph, calm, depth=near)
    places = torch.linspace(0.1, 0.9, len(frames))[:, None, None]
    light = 0.4 * (1 - (torch.linspace(0, 1, frames.shape[2]) - places).abs() * 8).clamp(0)[..., None]
    return 1 - (1 - frames) * (1 - light)


def _painted(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """The motion mask of the workflow: all above the wood."""
    fitted, _ = fit(as_batch(photograph), settings.width, settings.height)
    masks = torch.zeros(1, 1, settings.height, settings.width)
    masks[:, :, : round(MOVES * settings.height)] = 1.0
    return svd.animate(model, photograph, settings, controls=[motion_brush(model.encode_latent, fitted, masks)])


def _dragged(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """The object and the path of the workflow: the sun of the drawing."""
    fitted, _ = fit(as_batch(photograph), settings.width, settings.height)
    masks = as_batch(paint_objects(OBJECT, photograph)[..., None].expand(-1, -1, -1, 3))
    mask = (fit(masks, settings.width, settings.height)[0][:, :1] + 1) / 2
    objects = [(mask.clamp(0, 1), parse_drag(DRAG, easing="ease"))]
    made = drag_signal(model.encode_latent, fitted, objects, settings.frames or model.config.frames)
    return svd.animate(model, photograph, settings, controls=[DualClock(made.signal)])


def _driven(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """Moved like a lively clip of the model's own."""
    driving = svd.animate(model, photograph, replace(settings, motion_bucket=255))
    fitted, _ = fit(as_batch(photograph), settings.width, settings.height)
    frames = settings.frames or model.config.frames
    made = driving_signal(model.encode_latent, fitted, driving, frames, "camera", amount=1.5)
    return svd.animate(model, photograph, settings, controls=[DualClock(made.signal)])


def _edited(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """A patch of another colour on the first frame of a clip that pans."""
    source = svd.animate(model, photograph, replace(settings, camera="pan right 0.12"))
    first = source[:1].clone()
    height, width = first.shape[1:3]
    patch = first[:, height // 3 : height // 2, width // 3 : width // 2]
    patch.copy_(torch.tensor([0.85, 0.15, 0.1]))
    return steered_clip(model, first, settings, Steering(source_clip=source))


def _orbit(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """An orbit over a plain, near at the bottom."""
    calm = replace(settings, motion_bucket=20, camera="orbit left 12 ease", camera_mode="replace estimate")
    height, width = photograph.shape[1:3]
    return svd.animate(model, photograph, calm, depth=torch.linspace(0, 1, height)[:, None].expand(-1, width))


def _tried(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """The last frames of four cells of a sweep."""
    sweep = run_sweep(model, photograph, settings, Grid(buckets=(20.0, 100.0, 180.0, 250.0)), shown=1)
    return torch.cat([cell.shown for cell in sweep.cells])


def _film(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """The workflow's own panels."""
    film = plan_film(parse_text(PANELS), settings, model.config)
    return torch.stack(list(film_frames(model, lambda number: photograph, film)))


def _panned(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """With the embedded camera LoRA."""
    return svd.animate(apply_loras(model, [(load_lora("nano_pan_left"), 1.0, 1.0)]), photograph, settings)


LINES_OF = "pan left 0.12"  # the camera whose lines the workflow follows


def camera_lines(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """Return the line drawings [T, H, W, 3] of a picture seen by a moving camera."""
    fitted, _ = fit(as_batch(photograph), settings.width, settings.height)
    size, frames = tuple(photograph.shape[1:3]), settings.frames or model.config.frames
    (made,) = camera_signals(model, fitted, parse_path(LINES_OF), frames, size=size, fit_mode="crop")
    return line_drawing((made.warped.frames / 2 + 0.5).clamp(0, 1).movedim(1, -1))


def _followed(model: svd.SVDModel, photograph: Tensor, settings: svd.AnimateSettings) -> Tensor:
    """With the embedded ControlNet and the lines of a moving camera."""
    settings = replace(settings, width=HEIGHT)
    lines = camera_lines(model, photograph, settings)
    calm = replace(settings, motion_bucket=20)
    return svd.animate(model, photograph, calm, controlnet="nano", controlnet_images=lines, controlnet_end=0.6)


MAKERS = {
    "nano_controlnet": _followed,
    "lora_camera_move": _panned,
    "train_camera_lora": _panned,
    "motion_lab": _tried,
    "storyboard_animatic": _film,
    "camera_orbit_with_depth": _orbit,
    "motion_brush": _painted,
    "cut_and_drag": _dragged,
    "control_by_clip": _driven,
    "edit_clip": _edited,
    "first_and_last_frame": _between_crops,
    "seamless_loop": loop,
    "finish_4k": _finished,
    "sketch_to_4k_film": _finished,
    "product_b_roll": _lit,
    "portrait_9_16": _upright,
    "social_square": loop,
    "interpolate_with_model": _finished,
}


def _turntable() -> list[Tensor]:
    """The object, what SV3D sees of it, the cameras from above, and their angles."""
    path = OrbitPath.level()
    return [on_checks(mug()), prepared_mug(), orbit_map(path), angle_table(path)]


def _camera(path: str, file: Path = PHOTOGRAPH) -> list[Tensor]:
    """The picture, the drawing of the path, and the rays of the first and the last frame."""
    photograph = open_picture(file)[..., :3]
    node = load_pack().NODE_CLASS_MAPPINGS["SVDReelCameraPath"]()
    drawing = node.execute("pan right", 0.0, "linear", 0, 0, path, image=photograph)[1][0]
    rays = ray_maps(path, width=240, height=240)
    return [photograph[0], drawing, rays[0], rays[-1]]


def _poses() -> list[Tensor]:
    """A person, then three poses that drive the clip."""
    return [open_picture(SAMPLES / "portrait.jpg")[0, :, :, :3], *(pose(share, 240, 240) for share in (0, 0.5, 1))]


def _video(file: Path = PHOTOGRAPH) -> list[Tensor]:
    """Four frames of a video: a view that moves over the demo photograph."""
    photograph = open_picture(file)[0, ..., :3]
    side = min(photograph.shape[:2]) * 3 // 4
    starts = [place * (photograph.shape[1] - side) // 3 for place in range(4)]
    return [photograph[:side, start : start + side] for start in starts]


def _ends() -> list[Tensor]:
    """The first picture and the last one, each above its lines."""
    first, *_, last = _video()
    return [first, last, *(line_drawing(picture[None])[0] for picture in (first, last))]


# Workflows whose weights cannot be shipped: their pictures show the input.
INPUTS = {
    "turntable_sv3d": _turntable,
    "motionctrl_camera": lambda: _camera("dolly in 0.2"),
    "cameractrl_camera": lambda: _camera("pan right 0.15, zoom in 1.2", SAMPLES / "drawing.jpg"),
    "character_dance": _poses,
    "video_depth": _video,
    "generative_inbetween": _ends,
    "orbit_from_video_depth": lambda: _video(SAMPLES / "cat.jpg"),
    "depth_controlnet": depth_frames,
    "lineart_controlnet": lambda: line_frames(open_picture(PHOTOGRAPH)[..., :3]),
}


def to_pil(frame: Tensor) -> Image.Image:
    """Turn [H, W, 3] in 0..1 into a picture."""
    return Image.fromarray((frame.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def to_picture(frame: Tensor, side: int) -> Image.Image:
    """Turn [H, W, 3] in 0..1 into a square picture, with bars where it is not square."""
    return ImageOps.pad(to_pil(frame), (side, side), Image.Resampling.LANCZOS, color=PAPER)


def with_idea(name: str, still: Image.Image) -> Image.Image:
    """Draw what a workflow does over its still: the views of a camera, a painted mask, a drag path."""
    still = still.convert("RGB")
    width, height = still.size
    pen = ImageDraw.Draw(still)
    camera = SETTINGS.get(name, {}).get("camera") or CAMERAS.get(name)
    if camera:
        views = torch.linalg.inv(parse_path(camera).poses(9).homographies(width, height))
        corners = torch.tensor([[0.0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1]]).T
        for number, view in enumerate(views):
            seen = view @ corners.double()
            outline = [tuple(point) for point in (seen[:2] / seen[2]).T.tolist()]
            share = number / (len(views) - 1)
            colour = tuple(round(a + (b - a) * share) for a, b in zip(FIRST, LAST, strict=True))
            pen.line([*outline, outline[0]], fill=colour, width=8 if number == len(views) - 1 else 3)
    if name == "motion_brush":
        tint = Image.new("RGB", (width, round(MOVES * height)), TINT)
        still.paste(Image.blend(still.crop((0, 0, *tint.size)), tint, 0.35), (0, 0))
    if name == "nano_controlnet":
        model, settings = svd.load_model("nano"), svd.AnimateSettings(width=HEIGHT, height=HEIGHT)
        last = camera_lines(model, torch.from_numpy(np.array(still))[None] / 255, settings)[-1]
        # The last control picture beside the start picture.
        still.paste(ImageOps.fit(to_picture(last, height), (width // 2, height)), (width // 2, 0))
    if name == "cut_and_drag":
        places = [(x * width, y * height) for x, y in parse_drag(DRAG).points]
        pen.line(places, fill=LAST, width=9, joint="curve")
        for x, y in places:
            pen.ellipse([x - 13, y - 13, x + 13, y + 13], fill=LAST, outline=PAPER, width=3)
    return still


def strip(photograph: Image.Image, frames: Tensor) -> Image.Image:
    """The photograph, then four frames of the clip [T, H, W, 3] in a row."""
    side = 240
    sheet = Image.new("RGB", (5 * side + 4 * GAP + 4 * GAP, side), (255, 255, 255))
    sheet.paste(photograph.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (0, 0))
    for place, index in enumerate(spread(len(frames), 4), 1):
        sheet.paste(to_picture(frames[index], side), (place * (side + GAP) + 4 * GAP, 0))
    return sheet


def write_pictures(names: Collection[str] = ()) -> list[Path]:
    """Animate each workflow's own picture (none named: for all) and write the pictures; return the files."""
    model = svd.load_model("nano")
    demo = open_picture(PHOTOGRAPH)[..., :3]
    written = []
    for name, (caption, seed) in CAPTIONS.items():
        if names and name not in names:
            continue
        path = FOLDER / f"{name}.jpg"
        if name in INPUTS:
            shown = [to_pil(frame) for frame in INPUTS[name]()]
            captioned(cells(shown[0], shown), caption, "inputs only").save(path, quality=88)
            written.append(path)
            continue
        more = SETTINGS.get(name, {})
        make = MAKERS.get(name, svd.animate)
        own = FOLDER.parent / "web" / "pictures" / f"{PICTURES.get(name, 'product')}.jpg"
        look = LOOKS.get(name, Look(hero))
        with Image.open(own) as opened:
            still = look.still(opened.convert("RGB"))
        frames, source = [still], ""
        if look.layout not in STILLS:
            wide = {"width": WIDTH, "height": HEIGHT, "steps": STEPS}
            clip = make(model, from_pil(still), svd.AnimateSettings(seed=seed, **(wide | more)))
            frames, source = [to_pil(frame) for frame in clip], "frames: nano"
        captioned(look.layout(with_idea(name, still), frames), caption, source).save(path, quality=86)
        written.append(path)
        print(path.name, flush=True)
        if name == "nano_image_to_video":
            frames = svd.animate(model, demo, svd.AnimateSettings(seed=seed))
            strip(to_picture(demo[0], 240), frames).save(RESULT, quality=92)
            written.append(RESULT)
    return written
