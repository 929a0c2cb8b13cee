"""Whole clips on simulated devices: nothing meets across devices, nothing is float64, and the device rarely waits."""

import pytest
import torch

import svd_core as svd
from svd_core.finish import Reel
from svd_core.model.model import SVDModel
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.kernels import attention_backends
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE
from svd_core.report import measure
from tests.helpers.checkpoint_files import FEW_LAYERS
from tests.helpers.simulated_device import simulated
from tests.helpers.training_runs import small_unet, train

STEPS = 2


def pictures(count: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 64, 64, 3, generator=torch.Generator().manual_seed(seed))


def half() -> torch.Tensor:
    mask = torch.zeros(1, 64, 64, 1)
    mask[:, 16:48, 16:48] = 1
    return mask


# options of a clip, how often it waits for the device, and its copies to the device, in 2 steps and one decode
# As counted: 21 of the 28 waits are the decoder's checks of its norms.
CLIPS = {
    "plain": ({}, 28, 3),
    "one pass": ({"max_guidance": 1.0}, 28, 3),
    "heun": ({"solver": "heun"}, 28, 3),
    "dpmpp_2m": ({"solver": "dpmpp_2m"}, 28, 3),
    "lcm": ({"solver": "lcm", "schedule": "lcm", "max_guidance": 1.0}, 28, 3),
    "decode in chunks": ({"decode": 2}, 49, 3),
    "two clips": ({"image": pictures(2)}, 56, 5),
    "reuse": ({"reuse": 2, "reuse_depth": 1}, 28, 3),
    "skip guidance": ({"skip_guidance": 1.0}, 28, 3),
    "softened": ({"soften_above": 60.0}, 28, 3),
    "windows": ({"frames": 6, "windows": 4}, 28, 7),
    "extended": ({"extend": 3, "extend_overlap": 2}, 92, 3),
    "camera": ({"camera": "pan right 0.15, zoom in 1.2"}, 28, 7),
    "camera by depth": ({"camera": "orbit right 5", "depth": pictures(seed=4)}, 28, 5),
    "brush": ({"motion_mask": half()}, 28, 4),
    "drag": ({"drag": "0.5,0.5; 0.7,0.5", "drag_mask": half()}, 28, 7),
    "loop": ({"loop": True}, 28, 4),
    "rolled loop": ({"loop": True, "between_mode": "roll"}, 28, 4),
    "matched in-between": ({"end_image": [pictures(seed=3)]}, 28, 6),
    "blended in-between": ({"end_image": [pictures(seed=3)], "between_mode": "blend"}, 28, 6),
    "driving clip": ({"control_clip": pictures(4, seed=7)}, 28, 7),
}


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setattr(attention_backends, "_chosen", {})
    monkeypatch.setattr(attention_backends, "_takes", lambda name, q, k, v: name == "flash" and q.stride(-1) == 1)


@pytest.fixture
def model() -> SVDModel:
    torch.manual_seed(0)
    networks = (
        UNet(FEW_LAYERS.unet),
        VAE(FEW_LAYERS.vae),
        ImageEncoder(FEW_LAYERS.image_encoder),
    )
    return SVDModel(*(network.requires_grad_(False) for network in networks), FEW_LAYERS)


@pytest.mark.parametrize(("kind", "case"), [*(("mps", case) for case in CLIPS), ("cuda", "plain"), ("cuda", "camera")])
def test_a_clip_is_made_on_the_device_with_few_waits(model, monkeypatch, kind, case):
    options, reads, copies = CLIPS[case]
    options = {"image": pictures(), "steps": STEPS, **options}
    image = options.pop("image")
    with simulated(kind, monkeypatch) as device:
        model.to(kind)
        assert model.device == device.device
        device.counts.clear()
        device.names.clear()
        clip = svd.animate(model, image, **options)
    assert clip.device.type == "cpu" and bool(torch.isfinite(clip).all())
    counts = device.counts
    assert counts["float64"] == 0
    assert counts["reads"] + counts["to the host"] <= reads, device.names
    assert counts["to the device"] <= copies, device.names


@pytest.mark.parametrize("strategy", ["store", "recompute", "host"])
def test_every_decode_runs_on_the_device(model, monkeypatch, strategy):
    latents = torch.randn(4, 4, 8, 8)
    with simulated("mps", monkeypatch) as device:
        model.to("mps")
        device.counts.clear()
        frames = model.decode(latents.to("mps"), strategy=strategy)
        assert frames.device == device.device
    # One check per temporal norm and one at the end; "host" moves its frames as well.
    assert device.counts["reads"] <= 30


def test_a_training_step_runs_on_the_device(monkeypatch, tmp_path):
    with simulated("mps", monkeypatch):
        assert train(tmp_path, unet=small_unet().to("mps"), steps=1).steps == 1


def test_frames_on_the_device_are_measured_and_interpolated(monkeypatch):
    with simulated("mps", monkeypatch):
        clip = pictures(4).to("mps")
        assert measure(clip).frames == 4
        assert len(list(Reel(clip, factor=2).frames())) == 7


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (lambda x: x.double(), TypeError),
        (lambda x: x.cpu().double().to(x.device), TypeError),
        (lambda x: x + torch.ones(3), RuntimeError),
        (lambda x: torch.cat([x, torch.ones(3)]), RuntimeError),
    ],
)
def test_the_simulation_refuses_what_the_device_would(monkeypatch, work, error):
    with simulated("mps", monkeypatch) as device, pytest.raises(error):
        work(torch.ones(3, device=device.device))


def test_the_simulation_counts_what_the_device_would_wait_for(monkeypatch):
    with simulated("mps", monkeypatch) as device:
        x = torch.arange(3.0).to("mps")
        assert x.device == device.device and float(x.sum()) == 3 and len(x[x > 0]) == 2 and not bool((x > 5).any())
        assert (x + torch.tensor(1.0)).cpu().device.type == "cpu"
    assert device.counts == {"to the device": 1, "reads": 3, "to the host": 1}
