"""Clips inside other Ray programs: a class for `ray.data` and an application for Ray Serve.

clips = ray.data.read_images("photos").map_batches(SVDClips, fn_constructor_kwargs={"model": "svd_xt.safetensors"},
                                                   batch_size=1, num_gpus=1, concurrency=4)
serve.run(clip_application("svd_xt.safetensors", num_gpus=1))
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..checkpoints import load_model
from ..checkpoints.networks_by_name import load_networks
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options
from ..model.devices import pick_device
from ..pictures import as_image
from ..pipelines.settings import SETTINGS, AnimateSettings
from ..pipelines.steered import FILES, STEERING, open_steering, steered_clip
from ..video import write_clip
from .dispatch import BatchError
from .rows import parse_setting

IMAGE, CLIP = "image", "clip"
"""Columns of `ray.data`: the pictures that come in, and the clips that go out."""


class SVDClips:
    """A loaded model that makes clips; Ray keeps one instance in each of its actors.

    model, complete_from: what `load_model` takes. device: "auto", "cuda" or "cpu"; dtype None is float16 on CUDA, else
    float32. loras: texts FILE[:STRENGTH[:TEMPORAL]]. settings: fields of AnimateSettings or Steering for all clips.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        device: str = "auto",
        dtype: str | None = None,
        complete_from: str | None = None,
        loras: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        place = pick_device(device)
        kind = dtype or ("float16" if place.type == "cuda" else "float32")
        loaded = load_model(model, device=place, dtype=kind, complete_from=complete_from)
        self.model = apply_loras(loaded, read_lora_options(loras))
        self.settings = {name: parse_setting(name, value, "SVDClips") for name, value in settings.items()}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with a column `clip`: [T, H, W, 3] uint8 for every picture in its column `image`.

        A picture is an array [H, W, C] in 0..1 or uint8, a path, or the bytes of a file. Columns named like settings,
        such as `seed`, apply to their row.
        """
        columns = [name for name in batch if name in SETTINGS or name in STEERING]
        clips = []
        for row, picture in enumerate(batch[IMAGE]):
            own = {name: parse_setting(name, _plain(batch[name][row]), f"row {row}") for name in columns}
            clips.append(self.clip(picture, own))
        same = len({clip.shape for clip in clips}) == 1
        return {**batch, CLIP: np.stack(clips) if same else _ragged(clips)}

    def clip(self, picture: Any, own: Mapping[str, Any]) -> np.ndarray:
        """Return the clip [T, H, W, 3] uint8 of one picture, with settings of its own."""
        given = {**self.settings, **own}
        settings = AnimateSettings(**{name: value for name, value in given.items() if name in SETTINGS})
        steered = {name: value for name, value in given.items() if name in STEERING}
        steering = open_steering(load_networks(steered, self.model))
        image = as_image(_decoded(picture)) if isinstance(picture, bytes) else as_image(picture)
        frames = steered_clip(self.model, image, settings, steering)
        return (frames * 255).round().byte().numpy()

    def movie(self, content: bytes, texts: Mapping[str, str]) -> bytes:
        """Return an mp4 of the picture in the bytes of a file, with settings as texts by name."""
        own = {name: parse_setting(name, text, "the request") for name, text in texts.items()}
        files = [name for name in own if name in FILES]
        if files:
            # A path of the caller would be read on this machine.
            raise ValueError(f"{files[0]} cannot be given in a request; give it to clip_application")
        frames = self.clip(content, own)
        fps = {**self.settings, **own}.get("fps") or AnimateSettings.fps
        with TemporaryDirectory(prefix="svd_reel") as folder:
            path = write_clip(as_image(frames), Path(folder) / "clip.mp4", fps=fps)
            return Path(path).read_bytes()


def clip_application(model: str = "nano", *, num_gpus: float = 0, replicas: int = 1, **settings: Any) -> Any:
    """Return a Ray Serve application of SVDClips, for `serve.run`.

    POST the bytes of a picture to its address; the answer is an mp4. Settings are the query, such as
    `?seed=7&motion_bucket=80`. A bad picture or setting is answered with 400 and a sentence.
    """
    try:
        from ray import serve
        from starlette.responses import Response
    except ImportError:
        raise BatchError('Ray Serve is not installed; run `pip install "ray[serve]"`') from None

    class ClipService(SVDClips):
        async def __call__(self, request: Any) -> Any:
            try:
                made = self.movie(await request.body(), dict(request.query_params))
            except (ValueError, TypeError, OSError) as error:
                return Response(f"{error}\n", status_code=400, media_type="text/plain; charset=utf-8")
            return Response(made, media_type="video/mp4")

    options = {"num_replicas": replicas, "ray_actor_options": {"num_gpus": num_gpus}}
    return serve.deployment(ClipService).options(**options).bind(model, **settings)


def _decoded(content: bytes) -> Any:
    try:
        return Image.open(io.BytesIO(content))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError):
        raise ValueError("the picture cannot be read; send the bytes of a PNG, JPEG or WebP file") from None


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number; missing values as None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and value != value else value


def _ragged(clips: Sequence[np.ndarray]) -> np.ndarray:
    column = np.empty(len(clips), dtype=object)
    column[:] = clips
    return column
