"""Films in a real ComfyUI: from latents and from images, with its upscale and interpolation models, cancelled."""

from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import save_file

from tests.host.graphs import Builder

SIDE = 64  # of the tiny model's frames


def film(result, node: str) -> Path:
    """Return the file that a Finish Film node reported to the interface, which may play a small copy of it."""
    (path,) = result.outputs[node]["svd_path"]
    return Path(path)


def test_latents_become_a_film_with_the_workflow_inside(server, build, run):
    loader = build.load()
    latent = build.sampled(loader, build.condition(loader), sigmas=build("SVDReelSchedule", steps=2)())
    plan = build("SVDReelDuration", model=loader(), seconds=0.5)
    node = build(
        "SVDReelFinish", latent=latent(), vae=loader(2), fps=plan(2), interpolate=plan(1), size="640x360", fit="crop"
    )
    result = run(build)
    path = film(result, node.id)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        context = stream.codec_context
        assert (len(frames), context.width, context.height, stream.average_rate) == (13, 640, 360, 24)
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        assert "SVDReelFinish" in container.metadata["prompt"]


def test_the_film_goes_on_as_the_hosts_own_video(server, build, run):
    loader = build.load()
    clip = build("SVDReelAnimate", model=loader(), image=build.picture(), steps=2)
    video = build("SVDReelFinish", images=clip(), interpolate=2, fps=14.0)
    parts = build("GetVideoComponents", video=video())
    shown = build.show(parts(0))
    result = run(build)
    assert len(result.outputs[shown]["images"]) == 7


def write_upscaler(path) -> None:
    """The smallest ESRGAN: one block, twice as large."""
    torch.manual_seed(0)
    features, growth = 8, 32
    layers = {"conv_first": (features, 12), "conv_body": (features, features)}
    for block in (1, 2, 3):
        for step in range(1, 6):
            out = growth if step < 5 else features
            layers[f"body.0.rdb{block}.conv{step}"] = (out, features + (step - 1) * growth)
    layers |= {name: (features, features) for name in ("conv_up1", "conv_up2", "conv_hr")} | {
        "conv_last": (3, features)
    }
    weights = {}
    for name, (out, into) in layers.items():
        weights[f"{name}.weight"] = torch.randn(out, into, 3, 3) / (3 * into**0.5)
        weights[f"{name}.bias"] = torch.full((out,), 0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)


def test_an_upscale_model_works_as_in_the_hosts_own_node(server, run, images):
    write_upscaler(server.base / "models" / "upscale_models" / "tiny_x2.safetensors")
    build = Builder(server.get("/object_info"))
    loader = build.load()
    clip = build("SVDReelAnimate", model=loader(), image=build.picture(), steps=2)
    model = build("UpscaleModelLoader", model_name="tiny_x2.safetensors")
    theirs = build.show(build("ImageUpscaleWithModel", upscale_model=model(), image=clip())())
    node = build("SVDReelFinish", images=clip(), upscale_model=model(), interpolate=1, codec="prores", quality=100)
    result = run(build)
    expected = images(result, theirs)
    with av.open(str(film(result, node.id))) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) / 255 for frame in container.decode(video=0)]
    found = torch.stack(frames)
    assert found.shape == expected.shape and found.shape[1] == 2 * SIDE
    # Ten bits, halved chroma of noisy pictures, and swscale's own rounding.
    assert float((found.mean(-1) - expected.mean(-1)).abs().mean()) < 0.03


def test_a_cancelled_film_leaves_no_file(server, build):
    loader = build.load()
    clip = build("SVDReelAnimate", model=loader(), image=build.picture(), steps=2, seed=4)
    build(
        "SVDReelFinish", images=clip(), interpolate=32, size="1920x1080", ending="ping-pong", filename_prefix="cut/off"
    )
    at = []

    def cancel(message) -> None:
        if isinstance(message, dict) and message["type"] == "progress" and message["data"]["max"] == 192 and not at:
            at.append(message["data"]["value"])
            server.post("/interrupt", {})

    result = server.run(build.graph, on_message=cancel)
    assert result.ended == "execution_interrupted" and at
    assert list((server.base / "output" / "cut").iterdir()) == []


def test_the_hosts_interpolation_model_gives_the_frames_of_its_own_node(server, object_info, run, images):
    if "FrameInterpolationModelLoader" not in object_info:
        pytest.skip("this host has no interpolation models")
    folder = server.base / "models" / "frame_interpolation"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(rife_weights(), folder / "tiny_rife.safetensors")
    build = Builder(server.get("/object_info"))
    loader = build.load()
    clip = build("SVDReelAnimate", model=loader(), image=build.picture(), steps=2)
    model = build("FrameInterpolationModelLoader", model_name="tiny_rife.safetensors")
    theirs = build.show(build("FrameInterpolate", interp_model=model(), images=clip(), multiplier=3)())
    node = build("SVDReelFinish", images=clip(), interp_model=model(), interpolate=3, codec="prores", quality=100)
    result = run(build)
    expected = images(result, theirs)
    with av.open(str(film(result, node.id))) as container:
        found = torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) / 255 for f in container.decode(video=0)])
    assert found.shape == expected.shape
    assert float((found.mean(-1) - expected.mean(-1)).abs().mean()) < 0.03


def rife_weights() -> dict[str, torch.Tensor]:
    """Random weights of a small IFNet, in the shapes that the host recognises."""
    torch.manual_seed(1)
    head, channels = 4, 8
    shapes = {"encode.cnn0": (16, 3, 3, 3), "encode.cnn1": (16, 16, 3, 3), "encode.cnn2": (16, 16, 3, 3)}
    shapes["encode.cnn3"] = (16, head, 4, 4)
    for block in range(5):
        into = 7 + 2 * head if block == 0 else 20 + 2 * head
        shapes[f"blocks.{block}.conv0.0.0"] = (channels // 2, into, 3, 3)
        shapes[f"blocks.{block}.conv0.1.0"] = (channels, channels // 2, 3, 3)
        for layer in range(8):
            shapes[f"blocks.{block}.convblock.{layer}.conv"] = (channels, channels, 3, 3)
        shapes[f"blocks.{block}.lastconv.0"] = (channels, 52, 4, 4)
    weights = {}
    for name, shape in shapes.items():
        transposed = name.endswith(("cnn3", "lastconv.0"))
        weights[f"{name}.weight"] = torch.randn(shape) * 0.05
        weights[f"{name}.bias"] = torch.zeros(shape[1] if transposed else shape[0])
    for block in range(5):
        for layer in range(8):
            weights[f"blocks.{block}.convblock.{layer}.beta"] = torch.ones(1, channels, 1, 1)
    return weights
