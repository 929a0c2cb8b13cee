"""Runs the nodes that make the help pictures, with the embedded model, a photograph, few frames and few steps."""

import inspect
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from svd_core.pictures import open_picture
from tools.workflows.library import ROOT, load_pack

PHOTOGRAPH = ROOT / "svd_core" / "assets" / "demo.png"
FRAMES, STEPS = 8, 8
CALM = 10  # motion bucket under which a control shows best


class Studio:
    """Runs nodes as a graph would; results shared by several pictures are cached."""

    def run(self, node_id: str, **given: Any) -> tuple:
        """Execute a node with the defaults of its widgets, except for what is given."""
        node = load_pack().NODE_CLASS_MAPPINGS[node_id]
        groups = node.INPUT_TYPES()
        inputs = {**groups.get("required", {}), **groups.get("optional", {})}
        values = {name: spec[1]["default"] for name, spec in inputs.items() if "default" in spec[1]} | given
        known = inspect.signature(node.execute).parameters
        result = node().execute(**{name: value for name, value in values.items() if name in known})
        return result["result"] if isinstance(result, dict) else result

    @cached_property
    def model(self):
        """The embedded model."""
        return self.run("SVDReelLoadModel", precision="fp32")[0]

    @cached_property
    def photograph(self) -> Tensor:
        """IMAGE [1, 384, 384, 3] that the model has not seen in training."""
        return open_picture(PHOTOGRAPH)

    @cached_property
    def sigmas(self) -> Tensor:
        """A schedule with few steps."""
        return self.run("SVDReelSchedule", steps=STEPS)[0]

    def prepared(self, bucket: int = 127, frames: int = FRAMES) -> tuple:
        """Return positive, negative and latent of the photograph."""
        motion = self.run("SVDReelMotion", motion_bucket_id=bucket)[0]
        return self.run("SVDReelCondition", model=self.model, image=self.photograph, frames=frames, motion=motion)

    def sampled(self, bucket: int = 127, frames: int = FRAMES, model=None, **given: Any) -> dict:
        """Return the LATENT of a clip of the photograph."""
        positive, negative, latent = self.prepared(bucket, frames)
        given = {"model": model or self.model, "sigmas": self.sigmas, **given}
        return self.run("SVDReelSampler", positive=positive, negative=negative, latent=latent, **given)[0]

    def decoded(self, latent: dict) -> Tensor:
        """Return the IMAGE [T, H, W, 3] of a LATENT."""
        return self.run("SVDReelDecode", vae=self.model.vae, latent=latent)[0]

    def clip(self, bucket: int = 127, frames: int = FRAMES, **given: Any) -> Tensor:
        """Return the IMAGE of a clip of the photograph."""
        return self.decoded(self.sampled(bucket, frames, **given))

    @cached_property
    def lively(self) -> Tensor:
        """A clip with much motion."""
        return self.clip(200)


def some(frames: Tensor, count: int) -> list[Tensor]:
    """Return `count` frames from the first to the last."""
    places = torch.linspace(0, len(frames) - 1, count).round().long().tolist()
    return [frames[place] for place in places]
