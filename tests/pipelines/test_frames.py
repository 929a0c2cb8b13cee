"""The straight way: few of our own stack frames lie between a caller and the network.

Counted are the frames of the Python stack whose code lies in svd_core or nodes, without the caller itself and without
`UNet.forward`; torch's own frames (`__call__`, `no_grad`) are not ours. Comprehensions count where Python gives them a
frame.
"""

import sys
from pathlib import Path

import pytest
import torch

from svd_core import AnimateSettings, animate
from svd_core.networks.unet import UNet
from tests.helpers.nodes_pack import part, run

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(str(ROOT / room) for room in ("svd_core", "nodes"))
FAST = AnimateSettings(steps=2, max_guidance=2.0)


def watch(monkeypatch, network: type) -> list[list[str]]:
    """Note the functions of ours that are on the stack, the innermost first, whenever `network.forward` is entered."""
    seen, original = [], network.forward

    def forward(self, *given, **more):
        frame, stack = sys._getframe(1), []
        while frame is not None:
            if frame.f_code.co_filename.startswith(OURS):
                stack.append(frame.f_code.co_name)
            frame = frame.f_back
        seen.append(stack)
        return original(self, *given, **more)

    monkeypatch.setattr(network, "forward", forward)
    return seen


def picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]  # [1, 48, 80, 3]


def between(stack: list[str], caller: str) -> list[str]:
    """The functions between `caller` and the network."""
    assert caller in stack, stack
    return stack[: stack.index(caller)]


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m", "lcm"])
@pytest.mark.parametrize("scale", [1.0, 2.0], ids=["plain", "guided"])
def test_at_most_6_functions_lie_between_animate_and_the_unet(model, monkeypatch, solver, scale):
    seen = watch(monkeypatch, UNet)
    settings = AnimateSettings(steps=2, solver=solver, min_guidance=scale, max_guidance=scale)
    animate(model, torch.cat([picture(), picture().flip(2)]), settings)
    assert len(seen) >= 4
    for stack in seen:
        assert len(between(stack, "animate")) <= 6, stack


def test_a_node_adds_one_function_and_the_hosts_keywords(loaded, monkeypatch):
    """`sample_latent` reads the sockets, `HostUNet.forward` takes the host's keywords: two above the pipeline's 6."""
    seen = watch(monkeypatch, part("svd_core.networks.unet").UNet)
    positive, negative, latent = run("SVDReelCondition", model=loaded[0], image=picture())
    sigmas = run("SVDReelSchedule", steps=2)[0]
    run("SVDReelSampler", model=loaded[0], positive=positive, negative=negative, latent=latent, sigmas=sigmas)
    run("SVDReelAnimate", model=loaded[0], image=picture(), steps=2)
    assert len(seen) == 4  # 2 samplings of 2 steps, both guidance passes of so small a clip as one
    for stack in seen:
        assert len(between(stack, "execute")) <= 8, stack
