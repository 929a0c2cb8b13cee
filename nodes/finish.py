"""The node that makes a video file from a clip.

`svd_core.finish` is imported on first use, because ComfyUI imports every pack at start-up.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .decode import decode_latent
from .host import comfy as host
from .host import film as host_film
from .host.names import file_prefix
from .host.preview import proxy
from .shared import inputs
from .shared.clips import CLIP_KEY, check_samples, clip_length

if TYPE_CHECKING:
    from ..svd_core.finish import FilmOptions, FilmProgress, Reel, Sound

SIZES = {
    "as it comes": (0, 0),
    "3840x2160 (4K)": (3840, 2160),
    "2560x1440": (2560, 1440),
    "1920x1080": (1920, 1080),
    "1280x720": (1280, 720),
    "640x360": (640, 360),
}
CUSTOM = "width and height"
UNPLAYED = ("h265", "prores")  # codecs that browsers do not play everywhere
CANCELLED = ("nothing is left", "keep the frames so far")


class SVDReelFinish:
    """Stream frames into a video file."""

    DISPLAY_NAME = "Finish Film (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Makes a video file from a clip: decodes, upscales, resizes, adds frames in between and encodes, a few "
        "frames at a time. 5 seconds of 4K need no more memory than a few frames."
    )
    SEARCH_ALIASES = [
        "4k",
        "upscale video",
        "save video",
        "video combine",
        "frame interpolation",
        "rife",
        "prores",
        "h265",
        "ping-pong",
    ]
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "path")
    OUTPUT_TOOLTIPS = (
        "The video, already saved, for nodes that take VIDEO.",
        "The full path of the file.",
    )
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        from ..svd_core.finish.codecs import BIT_DEPTHS, CODECS
        from ..svd_core.finish.stream import ENDINGS, FITS, LARGEST, MOST_FACTOR

        return {
            "required": {
                "fps": inputs.decimal(
                    24.0,
                    1.0,
                    120.0,
                    "Frame rate of the file. With added frames, fps / interpolate of the clip's own frames play per "
                    "second; 24 / 4 = 6 suits a clip made with fps 7.",
                    step=1.0,
                ),
                "interpolate": inputs.whole(
                    4,
                    1,
                    MOST_FACTOR,
                    "Frame rate multiplier: 1 adds no frames, 5 turns 25 frames into 121. The added frames follow "
                    "the motion without a model; connect interp_model for ComfyUI's RIFE or FILM.",
                ),
                "size": inputs.choice(
                    [*SIZES, CUSTOM],
                    "Size of the video. Upright clips swap its sides. Frames are first enlarged by upscale_model, if "
                    "connected, then resized to this size.",
                ),
                "fit": inputs.choice(
                    FITS,
                    "How a clip of another aspect ratio fits the size. inside keeps the aspect within the size. crop "
                    "fills it and cuts off the rest. pad adds black bars. stretch distorts.",
                ),
                "codec": inputs.choice(
                    CODECS,
                    "Video codec. h264 plays everywhere. h265 makes smaller files but is slow. vp9 writes a webm for "
                    "browsers. prores writes a large mov with 10 bits for editing.",
                ),
                "quality": inputs.whole(
                    90,
                    0,
                    100,
                    "Quality from 0 to 100. 90 shows no loss; 70 is good for the web at a third of the size.",
                ),
                "bit_depth": inputs.choice(
                    [str(bits) for bits in BIT_DEPTHS],
                    "Bits per colour. 8 plays everywhere. 10 avoids bands in skies and shadows, but some old players "
                    "and browsers cannot show it. prores always has 10.",
                    advanced=True,
                ),
                "ending": inputs.choice(
                    ENDINGS,
                    "open plays once from first to last. loop also adds frames from the last to the first, for clips "
                    "that loop. ping-pong plays back and forth, which repeats without a jump.",
                ),
                "filename_prefix": inputs.text(
                    "video/film",
                    "Folder and start of the file name, inside the output folder. Tokens such as %date:yyyy-MM-dd%, "
                    "%width% and %NODE.WIDGET% are replaced, as in ComfyUI's own save nodes.",
                ),
            },
            "optional": {
                "images": inputs.socket("IMAGE", "The frames of the clip. Leave it open if latent is connected."),
                "latent": inputs.socket("LATENT", "The clip as latents from a sampler, instead of images. Needs vae."),
                "vae": inputs.socket("VAE", "The VAE that decodes latent, from Load SVD Model or any other loader."),
                "upscale_model": inputs.socket(
                    "UPSCALE_MODEL",
                    "An upscale model from Load Upscale Model, such as RealESRGAN x4. Without it, frames are "
                    "only resized.",
                ),
                "interp_model": inputs.socket(
                    "INTERP_MODEL",
                    "A model from Load Frame Interpolation Model (ComfyUI 0.20 and newer) that makes the added "
                    "frames. Without it, the built-in method is used; it needs no model and works well for small "
                    "motion.",
                ),
                "audio": inputs.socket("AUDIO", "Sound of the video. The file ends with the shorter of the two."),
                "width": inputs.whole(
                    0, 0, LARGEST, f"Width in pixels if size is '{CUSTOM}'. 0 follows the height.", advanced=True
                ),
                "height": inputs.whole(
                    0, 0, LARGEST, f"Height in pixels if size is '{CUSTOM}'. 0 follows the width.", advanced=True
                ),
                "most_frames": inputs.whole(
                    0,
                    0,
                    100000,
                    "Maximum number of frames in the file, such as film_frames of Plan Duration. 0 keeps all.",
                    advanced=True,
                ),
                "when_cancelled": inputs.choice(
                    CANCELLED,
                    "What a cancelled run leaves: no file, or a shorter video with the frames so far.",
                    advanced=True,
                ),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO", "unique_id": "UNIQUE_ID"},
        }

    def execute(
        self,
        fps: float,
        interpolate: int,
        size: str,
        fit: str,
        codec: str,
        quality: int,
        bit_depth: str,
        ending: str,
        filename_prefix: str,
        images: Tensor | None = None,
        latent: dict | None = None,
        vae=None,
        upscale_model=None,
        interp_model=None,
        audio: dict | None = None,
        width: int = 0,
        height: int = 0,
        most_frames: int = 0,
        when_cancelled: str = CANCELLED[0],
        prompt=None,
        extra_pnginfo=None,
        unique_id=None,
    ) -> dict:
        from ..svd_core.finish import CODECS, FilmOptions, Reel, check_film, to_size
        from ..svd_core.finish.stream import film_size

        asked = (width, height) if size == CUSTOM else SIZES[size]
        depth = max(int(bit_depth), min(CODECS[codec].formats))
        settings = {"interpolate": interpolate, "ending": ending, "size": size}
        film = FilmOptions(
            fps, codec, quality, depth, _sound(audio), settings, host_film.workflow_texts(prompt, extra_pnginfo),
            keep_partial=when_cancelled == CANCELLED[1],
        )  # fmt: skip
        columns, rows = _size_of(images, latent, vae)
        if size != CUSTOM and rows > columns:
            asked = asked[::-1]
        scale = getattr(upscale_model, "scale", 1)
        shown = film_size(round(columns * scale), round(rows * scale), *asked, fit)
        prefix = file_prefix(filename_prefix, prompt, extra_pnginfo)
        path, entry = host_film.film_target(prefix, CODECS[codec].suffix, shown.width, shown.height)
        check_film(path, film)
        frames, cuts = _frames(images, latent, vae)
        rows, columns = frames.shape[1:3]
        between = {} if interp_model is None else {"between": host_film.interpolator(interp_model)}
        with ExitStack() as stack:
            steps = [to_size(*asked, fit)]
            if upscale_model is not None:
                steps.insert(0, stack.enter_context(host_film.upscaler(upscale_model, columns, rows)))
            reel = Reel(
                frames, tuple(steps), interpolate, ending=ending, cuts=cuts, limit=most_frames or None, **between
            )
            _write(reel, path, film, unique_id)
        return {"ui": _player(entry, path, film), "result": (host_film.video_of(path), str(path))}


def _player(entry: dict, path: Path, film: "FilmOptions") -> dict:
    """Return what the browser plays: the film itself, or a small copy where browsers lack the codec."""
    small = proxy(path, film.fps) if film.codec in UNPLAYED else {}
    shown = small or {"images": [entry], "animated": (True,)}
    return {**shown, "svd_path": [str(path)]}


def _size_of(images: Tensor | None, latent: dict | None, vae) -> tuple[int, int]:
    """Return width and height of the clip's frames before they are decoded."""
    if images is not None:
        return images.shape[2], images.shape[1]
    if latent is None or vae is None:
        raise ValueError("there is nothing to make a film of; connect images, or latent and vae")
    note = latent.get(CLIP_KEY)
    if note is not None and note.placement is not None:
        return note.placement.inner_width, note.placement.inner_height
    rows, columns = check_samples(latent).shape[-2:]
    return 8 * columns, 8 * rows


def _frames(images: Tensor | None, latent: dict | None, vae) -> tuple[Tensor, frozenset[int]]:
    """Return frames [T, H, W, 3], and the indices at which further clips of a batch begin."""
    if images is not None:
        return images, frozenset()
    frames, length = decode_latent(vae, latent, on_decode=host.Progress().decoded), clip_length(latent)
    return frames, frozenset(range(length, len(frames), length))


def _sound(audio: dict | None) -> "Sound | None":
    from ..svd_core.finish import Sound

    return None if audio is None else Sound(audio["waveform"][0], int(audio["sample_rate"]))


def _write(reel: "Reel", path: Path, film: "FilmOptions", node) -> None:
    from ..svd_core.finish import with_progress, write_film

    progress = host.Progress(reel.count)

    def show(state: "FilmProgress") -> None:
        progress.update(state.done)
        host_film.show_time_left(node, state)

    write_film(with_progress(reel.frames(), reel.count, reel.factor, show), path, film)


NODES = [SVDReelFinish]
