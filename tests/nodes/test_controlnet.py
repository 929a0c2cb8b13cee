"""The ControlNet nodes: a clip of the chain, what the loader says of other files, and the same clip as Python's."""

import pytest
import torch
from safetensors.torch import save_file

import svd_core as svd
from svd_core.checkpoints.controlnet import save_controlnet
from svd_core.networks.config import UNetConfig
from svd_core.networks.controlnet import ControlNet
from svd_core.pipelines.controlled import check_fits
from tests.helpers.nodes_pack import part, run

FILE, OTHER = "svd_lines_tiny.safetensors", "sd15_canny.safetensors"
SIDE, FRAMES = 64, 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A ControlNet for nano with random weights, and one for images."""
    folder = tmp_path_factory.mktemp("controlnet")
    torch.manual_seed(0)
    network = ControlNet(svd.load_model("nano").config.unet)
    for layer in (*network.zero_convs, network.middle_conv):
        torch.nn.init.normal_(layer.weight, std=0.05)
    save_controlnet(network, folder / FILE, dtype=torch.float32)
    save_file({"controlnet_cond_embedding.conv_in.weight": torch.zeros(16, 3, 3, 3)}, folder / OTHER)
    return folder


@pytest.fixture(autouse=True)
def listed(files, monkeypatch):
    host = part("nodes.host.comfy")
    monkeypatch.setattr(host, "model_files", lambda folder: [OTHER, FILE] if folder == "controlnet" else [])
    found = {name: str(files / name) for name in (FILE, OTHER)}
    monkeypatch.setattr(host, "model_path", lambda folder, name: found.get(name) if folder == "controlnet" else None)


@pytest.fixture(scope="module")
def model():
    return run("SVDReelLoadModel", model_name="nano (embedded)")[0]


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 80, 100, 3, generator=torch.Generator().manual_seed(1))


def clip(model, picture, control=None):
    given = run("SVDReelCondition", model=model, image=picture, width=SIDE, height=SIDE, frames=FRAMES)
    positive, negative, latent = given
    more = {} if control is None else {"control": control}
    sigmas = torch.tensor([20.0, 2.0, 0.0])
    guidance = run("SVDReelGuidance", low=2.0, high=2.0)[0]
    return run("SVDReelSampler", model=model, positive=positive, negative=negative, latent=latent, sigmas=sigmas,
               guidance=guidance, **more)[0]["samples"]  # fmt: skip


def control(model, picture, **given):
    latent = run("SVDReelCondition", model=model, image=picture, width=SIDE, height=SIDE, frames=FRAMES)[2]
    lines = run("SVDReelLineArt", images=picture)[0]
    network = run("SVDReelLoadControlNet", control_net_name=FILE)[0]
    return run("SVDReelControlNet", model=model, control_net=network, images=lines, latent=latent, **given)


def test_a_controlled_clip_is_that_of_python_and_strength_zero_changes_nothing(model, picture, files):
    made, pictures = control(model, picture, strength=0.8)
    steered = clip(model, picture, made)
    plain = clip(model, picture)
    assert pictures.shape == (1, SIDE, SIDE, 3)
    assert (steered - plain).norm() / plain.norm() > 1e-3
    assert torch.equal(clip(model, picture, control(model, picture, strength=0.0)[0]), plain)
    # The pack imports the core under a name of its own.
    load = part("svd_core.checkpoints.controlnet").load_controlnet
    settings = part("svd_core.pipelines.settings").AnimateSettings(width=SIDE, height=SIDE, frames=FRAMES)
    lines = run("SVDReelLineArt", images=picture)[0]
    own = part("svd_core.pipelines.controlled").control_by_pictures(
        load(files / FILE).network, lines, settings.resolve(model.config), model.config.unet, strength=0.8
    )
    assert torch.equal(clip(model, picture, type(made)(((own,),))), steered)


def test_files_that_look_like_svd_come_first_and_others_are_named(model):
    names = part("nodes.controlnet").controlnet_names()
    assert names == [FILE, OTHER, part("nodes.controlnet").EMBEDDED]
    with pytest.raises(ValueError, match="sd15_canny.*ControlNet for image models"):
        run("SVDReelLoadControlNet", control_net_name=OTHER)
    with pytest.raises(FileNotFoundError, match="'gone'.*models/controlnet"):
        run("SVDReelLoadControlNet", control_net_name="gone")
    node = part("nodes.controlnet").SVDReelLoadControlNet
    assert node.VALIDATE_INPUTS(FILE) is True and "models/controlnet" in node.VALIDATE_INPUTS("gone")


def test_a_controlnet_of_another_size_is_refused(model, picture):
    latent = run("SVDReelCondition", model=model, image=picture, width=SIDE, height=SIDE, frames=FRAMES)[2]
    network = run("SVDReelLoadControlNet", control_net_name=FILE)[0]
    with pytest.raises(ValueError, match="model channels 64, the model has 320"):
        check_fits(network.network, UNetConfig())
    with pytest.raises(ValueError, match="strength_curve"):
        run("SVDReelControlNet", model=model, control_net=network, images=picture, latent=latent, strength_curve="up")


def test_an_exported_model_carries_controlnets_and_refuses_other_controls(model, picture):
    """KSampler calls the network with both passes of guidance in one, the unconditional first or last."""
    adapters, host_unet = part("nodes.host.adapters"), model.unet.model.diffusion_model
    chain = control(model, picture, unconditional=False)[0]
    (made,) = part("nodes.export").adapter_controls(chain)
    x, c_noise = torch.randn(2 * FRAMES, 8, 8, 8), torch.full((2 * FRAMES,), 0.3)
    token = torch.randn(2, 1, 64).repeat_interleave(FRAMES, 0)
    given = (x, c_noise, token, torch.randn(1, 768).repeat(2 * FRAMES, 1))
    options = {"sigmas": torch.tensor([3.3]), "cond_or_uncond": [1, 0]}
    with torch.no_grad():
        plain = host_unet(*given, num_video_frames=FRAMES, transformer_options=dict(options))
        shared = {**options, adapters.KEY: adapters.HostAdapters([made])}
        steered = host_unet(*given, num_video_frames=FRAMES, transformer_options=shared)
    change = [(a - b).norm() / b.norm() for a, b in zip(steered.chunk(2), plain.chunk(2), strict=True)]
    assert change[0] < 1e-5 < 1e-3 < change[1], "only the conditional clip is controlled"
    reuse = run("SVDReelReuseFeatures", control=chain)[0]
    with pytest.raises(ValueError, match="ReuseFeatures.*Sample SVD Clip"):
        run("SVDReelExportModel", model=model, control=reuse)
    assert run("SVDReelExportModel", model=model, control=chain)[0] is not None
