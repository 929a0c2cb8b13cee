"""The host's parts of a film: upscale and interpolation models one frame at a time, file names, VIDEO, metadata.

ComfyUI is used through comfy.py only. Without a host, models are plain callables and a film's path is its VIDEO.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...svd_core.files import printable
from ...svd_core.memory import is_out_of_memory
from . import comfy as host

if TYPE_CHECKING:
    from ...svd_core.finish.stream import Between, FilmProgress, FrameStep

TILE, SMALLEST_TILE, TILE_OVERLAP = 512, 128, 32  # pixels; as in the host's own upscale node
BYTES_PER_PIXEL = 384 * 3  # of a tile and unit of scale, the host's own estimate


@contextmanager
def upscaler(upscale_model: Any, width: int, height: int) -> "Iterator[FrameStep]":
    """Yield a step that upscales frames [H, W, 3] of that size by an UPSCALE_MODEL, as the host's node does."""
    if not host.PRESENT:
        yield lambda frame: upscale_model(frame.movedim(-1, 0)[None])[0].movedim(0, -1).clamp(0, 1)
        return
    patcher = getattr(upscale_model, "patcher", None)  # hosts before 0.26 move the model themselves
    device = host.compute_device() if patcher is None else patcher.load_device
    size = TILE * TILE * BYTES_PER_PIXEL * 4 * max(upscale_model.scale, 1.0) + width * height * 12
    if patcher is None:
        host.mm.free_memory(size + host.mm.module_size(upscale_model.model), device)
        upscale_model.to(device)
    else:
        host.mm.load_models_gpu([patcher], memory_required=size, force_full_load=True)
    tile = TILE

    def upscale(frame: Tensor) -> Tensor:
        nonlocal tile
        picture = frame.movedim(-1, 0)[None].to(device)
        while True:
            host.check_interrupt()
            try:
                large = host.comfy.utils.tiled_scale(
                    picture, lambda part: upscale_model(part.float()), tile_x=tile, tile_y=tile, overlap=TILE_OVERLAP,
                    upscale_amount=upscale_model.scale, output_device="cpu",
                )  # fmt: skip
                return large[0].movedim(0, -1).clamp(0, 1)
            except host.mm.OOM_EXCEPTION as error:
                refuse_other_errors(error)
                if tile <= SMALLEST_TILE:
                    raise
                tile //= 2

    try:
        yield upscale
    finally:
        if patcher is None:
            upscale_model.to("cpu")


def refuse_other_errors(error: BaseException) -> None:
    """Raise errors other than a shortage of memory: without CUDA, hosts catch every error as OOM_EXCEPTION."""
    if host.hasattr_host("raise_non_oom"):
        host.mm.raise_non_oom(error)
    elif not is_out_of_memory(error):
        raise error


def interpolator(model: Any) -> "Between":
    """Return the interpolation of frames by an INTERP_MODEL of the host (0.20 and later: RIFE, FILM), pair by pair."""
    if not host.PRESENT:
        return model
    network = model.model
    align = getattr(network, "pad_align", 1)

    def prepared(frame: Tensor) -> Tensor:
        picture = frame.movedim(-1, 0)[None].to(device=model.load_device, dtype=model.model_dtype())
        rows, columns = (-side % align for side in picture.shape[-2:])
        return F.pad(picture, (0, columns, 0, rows), mode="reflect") if rows or columns else picture

    def between(earlier: Tensor, later: Tensor, times: Sequence[float]) -> Iterator[Tensor]:
        height, width = earlier.shape[:2]
        size = network.memory_used_forward((1, height, width, 3), model.model_dtype())
        host.mm.load_models_gpu([model], memory_required=size)
        first, second = prepared(earlier), prepared(later)
        cache = {"img0": network.extract_features(first), "img1": network.extract_features(second)}
        together = getattr(network, "forward_multi_timestep", None)
        for time in times:
            host.check_interrupt()
            if together is not None:
                picture = together(first, second, [time], cache=cache)
            else:
                moment = torch.full((1, 1, *first.shape[-2:]), time, device=first.device, dtype=first.dtype)
                picture = network(first, second, timestep=moment, cache=cache)
            yield picture[0, :, :height, :width].float().cpu().movedim(0, -1).clamp(0, 1)

    return between


def film_target(prefix: str, suffix: str, width: int, height: int) -> tuple[Path, dict[str, str]]:
    """Return a film's path in the host's output folder, and the entry with which its interface shows it.

    prefix: as `file_prefix` returns it; %width%, %height% and the host's tokens of time are replaced. Raises ValueError
    for a path outside the output folder.
    """
    if not host.PRESENT:
        path = Path(tempfile.mkdtemp()) / f"{Path(prefix).name}{suffix}"
        return path, {"filename": path.name, "subfolder": "", "type": "output"}
    try:
        folder, name, counter, subfolder, _ = host.folder_paths.get_save_image_path(
            prefix, host.folder_paths.get_output_directory(), width, height
        )
    except OSError:
        raise
    except Exception:  # the host's plain Exception for a path outside
        raise ValueError(
            f"filename_prefix {printable(prefix)!r} is outside ComfyUI's output folder; use a name such as video/film"
        ) from None
    file = f"{name}_{counter:05}_{suffix}"
    return Path(folder) / file, {"filename": file, "subfolder": subfolder, "type": "output"}


def workflow_texts(prompt: Any, extra: Any) -> dict[str, Any]:
    """Return the metadata that the host's save nodes write into a file, unless the user switched that off."""
    if host.PRESENT and host.host_arguments.disable_metadata:
        return {}
    return {**(extra or {}), **({"prompt": prompt} if prompt is not None else {})}


def video_of(path: Path) -> Any:
    """Return the host's VIDEO of a file."""
    return host.InputImpl.VideoFromFile(str(path)) if host.PRESENT else str(path)


def show_time_left(node: Any, progress: "FilmProgress") -> None:
    """Show the remaining time under the node, if a browser is connected."""
    server = host.PromptServer.instance if host.PRESENT else None
    if server is not None and node is not None and progress.seconds_left is not None:
        server.send_progress_text(progress.text(), str(node))
