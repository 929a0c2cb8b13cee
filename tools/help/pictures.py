"""The pictures of the help pages, one a node, made anew by `python -m tools.help --pictures [NODE...]`."""

import io
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from PIL import Image

from . import drawn, filmed
from .pages import DOCS, PICTURES
from .studio import Studio

LARGEST = 60 * 1024
QUALITIES = (85, 80, 75, 70, 60, 50)
MAKERS: dict[str, Callable[[Studio], Image.Image]] = {
    "SVDReelLoadModel": drawn.load_model,
    "SVDReelAnimate": filmed.animate,
    "SVDReelMotion": filmed.motion,
    "SVDReelCondition": drawn.condition,
    "SVDReelGuidance": drawn.guidance,
    "SVDReelSchedule": drawn.schedule,
    "SVDReelSampler": filmed.sampler,
    "SVDReelDecode": drawn.decode,
    "SVDReelExportModel": drawn.export_model,
    "SVDReelReport": filmed.report,
    "SVDReelPlan": drawn.plan,
    "SVDReelSweep": filmed.sweep,
    "SVDReelStoryboard": filmed.storyboard,
    "SVDReelCameraPath": drawn.camera_path,
    "SVDReelCameraControl": filmed.camera_control,
    "SVDReelInbetween": filmed.inbetween,
    "SVDReelLoop": filmed.loop,
    "SVDReelWindows": drawn.windows,
    "SVDReelExtend": filmed.extend,
    "SVDReelMotionAmount": drawn.motion_amount,
    "SVDReelMotionMask": filmed.motion_mask,
    "SVDReelCutAndDrag": filmed.cut_and_drag,
    "SVDReelSteady": filmed.steady,
    "SVDReelReuseFeatures": filmed.reuse_features,
    "SVDReelColorMatch": filmed.color_match,
    "SVDReelFinish": filmed.finish,
    "SVDReelDuration": drawn.duration,
    "SVDReelModelInfo": drawn.model_info,
    "SVDReelLoadLora": filmed.load_lora,
    "SVDReelTrainingSet": filmed.training_set,
    "SVDReelTrainLora": filmed.train_lora,
    "SVDReelSaveLora": filmed.save_lora,
}


def write_pictures(wanted: Collection[str] = ()) -> list[Path]:
    """Make the pictures of the nodes named, or of all; returns the files."""
    unknown = sorted(set(wanted) - set(MAKERS))
    if unknown:
        raise ValueError(f"there is no picture of {', '.join(unknown)}; name nodes such as SVDReelMotion")
    folder, studio, written = DOCS / PICTURES, Studio(), []
    folder.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        for node_id, maker in MAKERS.items():
            if not wanted or node_id in wanted:
                written.append(save(maker(studio), folder, node_id))
                print(written[-1].name, written[-1].stat().st_size, flush=True)
    return written


def save(picture: Image.Image, folder: Path, node_id: str) -> Path:
    """Write a drawing as PNG, frames as JPEG; ValueError where that does not get small enough."""
    plain = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(plain, "PNG", optimize=True)
    packed = {quality: _jpeg(picture, quality) for quality in QUALITIES}
    best = next((data for data in packed.values() if len(data) <= LARGEST), None)
    if few_colours(picture) and len(plain.getvalue()) <= LARGEST:
        suffix, data = ".png", plain.getvalue()
    elif best is not None:
        suffix, data = ".jpg", best
    else:
        raise ValueError(f"the picture of {node_id} is larger than {LARGEST} bytes; make it smaller")
    for other in folder.glob(f"{node_id}.*"):
        other.unlink()
    path = folder / f"{node_id}{suffix}"
    path.write_bytes(data)
    return path


def few_colours(picture: Image.Image) -> bool:
    """Whether a picture is drawn: lines and letters have some hundred colours, frames many thousand."""
    return picture.getcolors(3000) is not None


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()
