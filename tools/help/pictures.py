"""The pictures of the help pages, one per node, made by `python -m tools.help --pictures [NODE...]`."""

import io
import re
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from PIL import Image

from . import drawn, filmed
from .pages import DOCS, PICTURES
from .studio import Studio
from .tables import node_class, node_ids

LARGEST = 60 * 1024
QUALITIES = (85, 80, 75, 70, 60, 50)


def maker_of(node_id: str) -> Callable[[Studio], Image.Image]:
    """Return the function of `drawn` or `filmed` that is named after a node, or one that draws the node's sockets."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", node_id.removeprefix("SVDReel")).lower()
    for module in (drawn, filmed):
        maker = vars(module).get(name)
        if maker is not None and maker.__module__ == module.__name__:
            return maker
    return lambda studio: drawn.node_card(node_class(node_id))


def write_pictures(wanted: Collection[str] = ()) -> list[Path]:
    """Make the pictures of the named nodes, or of all; return the files."""
    unknown = sorted(set(wanted) - set(node_ids()))
    if unknown:
        raise ValueError(f"there is no node {', '.join(unknown)}; use node ids such as SVDReelMotion")
    folder, studio, written = DOCS / PICTURES, Studio(), []
    folder.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        for node_id in wanted or node_ids():
            written.append(save(maker_of(node_id)(studio), folder, node_id))
            print(written[-1].name, written[-1].stat().st_size, flush=True)
    return written


def save(picture: Image.Image, folder: Path, node_id: str) -> Path:
    """Write a drawing as PNG or frames as JPEG; raise ValueError if the file is too large."""
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
    """Return whether a picture is drawn: drawings have some hundred colours, frames many thousand."""
    return picture.getcolors(3000) is not None


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()
