"""A ControlNet under the host's memory management: the clip of the chain beside that of the plain core."""

from pathlib import Path

import torch
from helpers.nodes_pack import outputs as run
from helpers.nodes_pack import part

SIDE, FRAMES = 64, 3


def compare_controlnet(folder: Path) -> dict[str, float]:
    """Return the difference between the host's clip and the core's, and the effect of the control."""
    core = {name: part(f"svd_core.{name}") for name in ("checkpoints.controlnet", "checkpoints.load")}
    core |= {name: part(f"svd_core.{name}") for name in ("pipelines.controlled", "sampling.sampler", "sampling.noise")}
    settings, clips = part("svd_core.pipelines.settings"), part("nodes.shared.clips")
    plain = core["checkpoints.load"].load_model("nano")
    torch.manual_seed(0)
    network = part("svd_core.networks.controlnet").ControlNet(plain.config.unet)
    for layer in (*network.zero_convs, network.middle_conv):
        torch.nn.init.normal_(layer.weight, std=0.05)
    path = folder / "svd_lines.safetensors"
    core["checkpoints.controlnet"].save_controlnet(network, path, dtype=torch.float32)
    host, before = part("nodes.host.comfy"), part("nodes.host.comfy").model_path
    host.model_path = lambda *_: str(path)
    loaded = run("SVDReelLoadControlNet", control_net_name=path.name)[0]
    host.model_path = before
    model = run("SVDReelLoadModel", model_name="nano (embedded)", precision="fp32")[0]
    picture = torch.rand(1, 80, 100, 3, generator=torch.Generator().manual_seed(1))
    positive, negative, latent = run(
        "SVDReelCondition", model=model, image=picture, width=SIDE, height=SIDE, frames=FRAMES
    )
    lines = run("SVDReelLineArt", images=picture)[0]
    chain = run("SVDReelControlNet", model=model, control_net=loaded, images=lines, latent=latent)[0]
    sigmas = torch.tensor([20.0, 2.0, 0.0])
    given = {"model": model, "positive": positive, "negative": negative, "latent": latent, "sigmas": sigmas}
    made, without = (run("SVDReelSampler", **given, **more)[0]["samples"] for more in ({"control": chain}, {}))
    own = core["pipelines.controlled"].control_by_pictures(
        network.requires_grad_(False), lines,
        settings.AnimateSettings(width=SIDE, height=SIDE, frames=FRAMES).resolve(plain.config), plain.config.unet,
    )  # fmt: skip
    condition = clips.read_conditioning(positive, 0, FRAMES, (SIDE // 8, SIDE // 8))
    noise = core["sampling.noise"].start_noise(FRAMES, SIDE // 8, SIDE // 8, 23)
    expected = core["sampling.sampler"].sample(plain.denoise, noise, sigmas, 1.0, condition, controls=(own,)) / 0.18215
    return {
        "controlnet": float((made.cpu() - expected).norm() / expected.norm()),
        "controlnet effect": float((made - without).norm() / without.norm()),
    }
