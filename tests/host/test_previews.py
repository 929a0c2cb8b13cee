"""Moving previews in a real ComfyUI: from our samplers and from its own, in the colours of the decoder."""

import base64
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

STEPS = 6


def previews(result, node: str) -> list[dict]:
    """Return our previews of a node."""
    events = [message["data"] for message in result.messages if message["type"] == "svd_reel.preview"]
    return [event for event in events if event["node"] == node]


def shown(event: dict, height: int, width: int) -> torch.Tensor:
    """Return the frames of a preview [T, 3, height, width] in 0..1."""
    files = [io.BytesIO(base64.b64decode(frame)) for frame in event["frames"]]
    frames = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).float() / 255 for file in files]
    return F.interpolate(torch.stack(frames).movedim(-1, 1), (height, width), mode="area")


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the ratio of the range 0..1 to the error, in decibels."""
    return float(-10 * torch.log10((one - other).square().mean()))


@pytest.mark.parametrize("model", ["nano (embedded)", "svd_xt_tiny.safetensors"])
@pytest.mark.parametrize("sampler", ["ours", "KSampler"])
def test_previews_show_all_frames_in_the_colours_of_the_decoder(build, run, images, model, sampler):
    loader = build.load(model)
    condition = build.condition(loader)
    if sampler == "ours":
        clip = build.sampled(loader, condition, seed=78, sigmas=build("SVDReelSchedule", steps=STEPS)())
    else:
        exported = build("SVDReelExportModel", model=loader())
        clip = build.ksampled(exported(), condition, seed=78, steps=STEPS, cfg=1.0)
    # The temporal layers of the tiny decoder are random and mix frames as no trained decoder does.
    alone = {"frames_per_chunk": 1} if "tiny" in model else {}
    decoded = build.show(build("SVDReelDecode", vae=loader(2), latent=clip(), **alone)())
    result = run(build)
    events = previews(result, clip.id)
    frames = images(result, decoded).movedim(-1, 1)
    assert result.progress(clip.id)[-1] == STEPS
    assert (events[-1]["step"], events[-1]["steps"]) == (STEPS, STEPS), "the last step is always shown"
    assert all(len(event["frames"]) == event["count"] == len(frames) for event in events)
    assert max(Image.open(io.BytesIO(base64.b64decode(events[0]["frames"][0]))).size) >= 256
    if sampler == "ours":
        assert result.previews == [], "the host shows a picture of its own beside ours"
    height, width = (side // 8 for side in frames.shape[-2:])
    small = F.interpolate(frames, (height, width), mode="area")
    assert psnr(shown(events[-1], height, width), small) > 20
