"""Whether both passes of guidance share a batch: decided by size and memory, undone if memory runs out."""

import logging

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.cli.main import main
from svd_core.memory import PeakMemory
from svd_core.model.guidance_modes import LARGEST, LARGEST_ON_CPU, best_mode, gains
from svd_core.model.guidance_passes import set_guidance_mode
from svd_core.model.model import SVDModel
from svd_core.networks.activation_bytes import unet_activation_bytes
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.networks.unet import UNet
from svd_core.plan import make_plan
from svd_core.plan.memory_plan import GIB, PLACEMENTS
from svd_core.plan.page import draw_plan
from svd_core.plan.placed import place
from tests.helpers.nodes_pack import part
from tests.helpers.nodes_pack import run as run_node
from tests.helpers.tiny_unets import FRAMES, SIDE, TINY, condition_for, random, tiny_model

XT = SVDConfig(variant="svd_xt", frames=25)
SVD = SVDConfig(variant="svd", frames=14)


@pytest.fixture
def tiny() -> SVDModel:
    return tiny_model()


CHOICES = [
    # frames, width, height, GB, options: way
    (14, 576, 320, 24, {}, "together"),
    (14, 576, 320, 8, {}, "together"),
    (25, 512, 320, 24, {}, "together"),  # 64,000 latent pixels
    (25, 576, 320, 24, {}, "in turn"),  # 72,000
    (14, 1024, 576, 24, {}, "in turn"),
    (25, 1024, 576, 80, {}, "in turn"),
    (14, 576, 320, 24, {"guided": False}, "in turn"),
    (14, 576, 320, 24, {"reuse": (2, 2)}, "in turn"),
    (14, 576, 320, 24, {"guidance": "in turn"}, "in turn"),
    (25, 1024, 576, 24, {"guidance": "together"}, "together"),
    (25, 1024, 576, 24, {"guidance": "together", "guided": False}, "in turn"),
    (14, 576, 320, 2, {}, "in turn"),  # does not fit at all
]


@pytest.mark.parametrize(("frames", "width", "height", "memory", "options", "way"), CHOICES)
def test_the_plan_chooses_by_size_and_memory(frames, width, height, memory, options, way):
    plan = make_plan(XT, frames, width, height, memory * GIB, **options)
    assert plan.guidance == way
    assert f"CFG passes: {way}" in plan.text()
    assert draw_plan(plan).ndim == 4


def test_sharing_a_pass_never_costs_another_choice_of_the_plan():
    size, ways = (SVD, 14, 576, 320), set()
    step = GIB // 4
    for memory in range(3 * GIB, 12 * GIB, step):
        plan, apart = make_plan(*size, memory), make_plan(*size, memory, guidance="in turn")
        assert plan.fits == apart.fits
        for name in ("placement", "strategy", "chunk_elements", "flops"):
            assert getattr(plan, name) == getattr(apart, name)
        ways.add((plan.guidance, plan.placement))
    # The decode limits this plan, not the sampling, so that both passes fit wherever the weights are.
    assert {way for way, placement in ways if placement == "resident"} == {"together"}


def test_the_choice_takes_exactly_the_memory_that_the_estimate_says():
    size = (UNetConfig(), 14, 40, 72, 2)
    needed = unet_activation_bytes(*size, videos=2)
    assert [best_mode(*size, free) for free in (needed, needed - 1, None)] == ["together", "in turn", "in turn"]
    assert gains(1, 256, LARGEST // 256) and not gains(1, 256, LARGEST // 256 + 1)
    with pytest.raises(ValueError, match="in turn, together"):
        set_guidance_mode(torch.nn.Module(), "both")


def test_on_a_cpu_the_size_alone_decides(tiny, monkeypatch):
    branches = svd.model.guidance_passes
    monkeypatch.setattr(branches, "available_bytes", lambda device: pytest.fail("the memory was asked for"))
    for frames, shared in ((LARGEST_ON_CPU // 64, True), (LARGEST_ON_CPU // 64 + 1, False)):
        x = torch.empty(frames, 4, 8, 8)
        assert branches.shares_a_pass(tiny.unet, x, torch.float32) is shared
        assert branches.fixed_mode(x.device, frames, 8, 8) == ("together" if shared else "in turn")


@torch.no_grad()
def test_the_estimate_of_two_clips_is_within_a_tenth_of_the_count():
    frames, height, width = 14, 40, 72
    place = {"device": "meta", "dtype": torch.float16}
    unet = UNet(UNetConfig(), **place)
    given = {
        "x": torch.empty(2 * frames, 8, height, width, **place),
        "c_noise": torch.empty(1, device="meta").expand(2 * frames),
        "context": tuple(torch.empty(1, 1, 1024, **place).expand(frames, -1, -1) for _ in range(2)),
        "vector": torch.empty(1, 768, device="meta").expand(2 * frames, -1),
        "num_frames": frames,
    }
    unet(**given)
    with PeakMemory() as memory:
        unet(**given)
    stage = next(s for s in make_plan(SVD, frames, 8 * width, 8 * height, 24 * GIB).stages if s.network == "unet")
    assert stage.passes == 25
    assert memory.peak <= stage.activations <= 1.1 * memory.peak


def test_free_memory_decides_where_nothing_else_does(tiny, monkeypatch):
    size = (FRAMES, SIDE, SIDE)
    needed = unet_activation_bytes(TINY, *size, 4, videos=2)
    branches = svd.model.guidance_passes
    x = torch.empty(FRAMES, 4, SIDE, SIDE, device="meta")  # any device but the CPU
    for free, shared in ((needed, True), (needed - 1, False), (None, False)):
        monkeypatch.setattr(branches, "available_bytes", lambda device, free=free: free)
        assert branches.shares_a_pass(tiny.unet, x, torch.float32) is shared
    monkeypatch.setattr(branches, "available_bytes", lambda device: needed)
    set_guidance_mode(tiny.unet, "in turn")
    assert not branches.shares_a_pass(tiny.unet, x, torch.float32)


@pytest.mark.parametrize("placed", [False, True], ids=["model", "placed model"])
def test_memory_that_runs_out_takes_the_branches_apart_first_and_for_good(tiny, monkeypatch, caplog, placed):
    condition, x = condition_for(tiny), random(FRAMES, 4, SIDE, SIDE)
    both = (condition.unconditional(), condition)
    set_guidance_mode(tiny.unet, "in turn")
    expected = tiny.denoise(x, 1.5, both)
    set_guidance_mode(tiny.unet, "together")
    model = tiny
    if placed:
        plan = make_plan(tiny.config, FRAMES, 64, 64, 24 * GIB)
        assert plan.guidance == "together"
        model = place(tiny, plan, "cpu")
    original, sizes = svd.model.model.denoise_with, []

    def too_large_for_two(network, x, sigma, condition, **options):
        sizes.append(len(condition) if isinstance(condition, tuple) else 1)
        if sizes[-1] > 1:
            raise torch.cuda.OutOfMemoryError("injected")
        return original(network, x, sigma, condition, **options)

    monkeypatch.setattr("svd_core.model.model.denoise_with", too_large_for_two)
    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        assert torch.equal(model.denoise(x, 1.5, both), expected)
        assert torch.equal(model.denoise(x, 1.5, both), expected)
    assert sizes == [2, 1, 1, 1, 1]
    assert [record.getMessage() for record in caplog.records] == ["out of memory; retrying with guidance in turn"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_wherever_the_weights_lie_the_estimates_are_the_same(tiny, placement):
    condition, x = condition_for(tiny), random(FRAMES, 4, SIDE, SIDE)
    expected = tiny.denoise(x, 1.5, (condition.unconditional(), condition))
    model = place(tiny, make_plan(tiny.config, FRAMES, 64, 64, 24 * GIB), "cpu")
    model.move(placement)
    assert model.unet.clips_per_pass is None  # a CPU decides by the size alone
    together = model.denoise(x, 1.5, (condition.unconditional(), condition))
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("frames", "share", "device", "clips"),
    [(4, 1.0, "cuda", 2), (4, 0.99, "cuda", 1), (4, 9.0, "cpu", None), (1025, 1.0, "cuda", 1)],
)
def test_nodesshares_a_pass_where_the_host_has_the_memory_left(monkeypatch, frames, share, device, clips):
    model = run_node("SVDReelLoadModel", model_name="nano (embedded)")[0]
    needed = unet_activation_bytes(model.config.unet, frames, 8, 8, model.compute_dtype.itemsize, videos=2)
    host = part("nodes.host.comfy")
    asked = []
    monkeypatch.setattr(host, "use", lambda patcher, size, others=(): asked.append(size) or torch.device(device))
    monkeypatch.setattr(host, "free_bytes", lambda *given: int(needed * share))
    model.prepare_unet(frames, 8, 8)
    assert model.unet.model.diffusion_model.clips_per_pass == clips
    # Nothing is moved off the device to make room for the second pass.
    assert asked == [unet_activation_bytes(model.config.unet, frames, 8, 8, model.compute_dtype.itemsize)]
    plan = make_plan(model.config, 4, 64, 64, 24 * GIB, itemsize=model.compute_dtype.itemsize)
    model.following(plan).prepare_unet(4, 8, 8)
    assert model.unet.model.diffusion_model.clips_per_pass == (None if device == "cpu" else 2)
    assert asked[1] == next(stage for stage in plan.stages if stage.network == "unet").activations


@pytest.mark.parametrize(
    ("words", "clips"),
    [
        ((), [2]),  # small enough for a CPU to gain
        (("--guidance-branches", "together"), [2]),
        (("--guidance-branches", "in-turn"), [1, 1]),
        (("--memory", "8"), [2]),  # planned or not
        (("--memory", "8", "--guidance-branches", "together"), [2]),
        (("--memory", "8", "--guidance-branches", "in-turn"), [1, 1]),
    ],
)
def test_the_command_line_may_choose(monkeypatch, tmp_path, words, clips):
    picture = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    seen, original = [], UNet.forward

    def counted(unet, x, *given, num_frames, **more):
        seen.append(len(x) // num_frames)
        return original(unet, x, *given, num_frames=num_frames, **more)

    monkeypatch.setattr(UNet, "forward", counted)
    size = ("--width", "64", "--height", "64", "--frames", "2", "--steps", "1", "--max-guidance", "2")
    output = ("--output", str(tmp_path / "clip"), "--device", "cpu", "--quiet")
    assert main(["animate", str(picture), *size, *output, *words]) == 0
    assert seen == clips
