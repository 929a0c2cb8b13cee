"""What adapters add to a plan, against the networks at their real size on the meta device."""

import pytest
import torch

from svd_core.cli.main import main
from svd_core.controls.between_weights import BackwardAdapter
from svd_core.controls.controlnet import ControlNetAdapter
from svd_core.controls.poses import ControlNeXtAdapter
from svd_core.memory import PeakMemory
from svd_core.networks.activation_bytes import unet_activation_bytes
from svd_core.networks.backward_motion import BackwardMotion
from svd_core.networks.cameractrl import CameraCtrl, RayFeatures
from svd_core.networks.config import UNetConfig
from svd_core.networks.controlnet import ControlNet
from svd_core.networks.controlnext import ControlNeXt
from svd_core.networks.mimicmotion import AddFirstFeatures, PoseNet
from svd_core.networks.motionctrl import CameraProjection, MotionCtrl
from svd_core.networks.unet import UNet, transformer_places
from svd_core.networks.variants import release_config
from svd_core.plan.adapter_costs import ADAPTERS, adapter_cost
from svd_core.plan.costs import unet_flops
from svd_core.plan.memory_plan import GIB, make_plan
from tests.model.test_budgets import inputs_of

FULL, SIZE = UNetConfig(), (25, 72, 128)
HALF = {"device": "meta", "dtype": torch.float16}
PLACES = transformer_places(FULL)
WIDTHS, LEVELS = {at.place: at.channels for at in PLACES}, {at.place: at.level for at in PLACES}


@pytest.fixture(scope="module")
def unet() -> UNet:
    return UNet(FULL, **HALF)


def network_of(name: str) -> torch.nn.Module:
    if name == "controlnet":
        return ControlNet(FULL, **HALF)
    if name == "motionctrl":
        return MotionCtrl(WIDTHS, FULL.head_channels, FULL.context_channels, **HALF)
    if name == "cameractrl":
        return CameraCtrl(WIDTHS, LEVELS, SIZE[0], **HALF)
    if name == "backward_motion":
        return BackwardMotion(WIDTHS, **HALF)
    return (PoseNet if name == "mimicmotion" else ControlNeXt)(FULL.model_channels, **HALF)


def run(unet: UNet, name: str, network: torch.nn.Module) -> None:
    """Run all passes of the UNet that one evaluation of a condition takes."""
    frames, height, width = SIZE
    inputs, pictures = inputs_of(FULL, *SIZE, **HALF), torch.empty(1, 3, 8 * height, 8 * width, **HALF)
    top = torch.empty(frames, 320, height, width, **HALF)
    if name == "controlnet":
        unet(**inputs, adapters=[(ControlNetAdapter(network, pictures, torch.ones(1)),)])
    elif name == "motionctrl":
        unet(**inputs, hooks=CameraProjection(network, torch.empty(frames, 12, **HALF)))
    elif name == "cameractrl":
        levels = enumerate((320, 640, 1280, 1280))
        features = [torch.empty(frames, c, -(-height // 2**i), -(-width // 2**i), **HALF) for i, c in levels]
        unet(**inputs, hooks=RayFeatures(network, features))
    elif name == "mimicmotion":
        unet(**inputs, hooks=AddFirstFeatures(top))
    elif name == "controlnext":
        unet(**inputs, adapters=[(ControlNeXtAdapter(network, pictures.expand(frames, -1, -1, -1)),)])
    else:
        adapter = BackwardAdapter(network, frames, {}, {})
        unet(**inputs, adapters=[(adapter,)])
        unet(**inputs, adapters=[(BackwardAdapter(network, frames, adapter.maps, {}, backward=True),)])


@pytest.mark.parametrize("name", ADAPTERS)
@torch.no_grad()
def test_costs_are_those_of_the_real_networks(unet, name):
    network, cost = network_of(name), adapter_cost(name, FULL, *SIZE)
    assert cost.parameters == sum(tensor.numel() for tensor in network.state_dict().values())
    with PeakMemory() as memory:
        run(unet, name, network)
    # What is kept for the whole clip may or may not be made within the pass that is counted here.
    made = unet_activation_bytes(FULL, *SIZE) + 2 * cost.tensors
    assert made <= 1.15 * memory.peak and memory.peak <= 1.02 * (made + 2 * cost.kept)


def test_operations_are_those_of_the_layers_that_run():
    tokens = [SIZE[0] * area for area in (9216, 2304, 576, 144)]
    layers = [(0, 320, 5), (1, 640, 5), (2, 1280, 5), (3, 1280, 1)]
    square = sum(2 * tokens[level] * count * width**2 for level, width, count in layers)
    assert adapter_cost("motionctrl", FULL, *SIZE).flops == square
    # 45 % of the weights, and a little less of the operations: the upward half works on joined, wider features.
    assert 0.3 < adapter_cost("controlnet", FULL, *SIZE).flops / unet_flops(FULL, *SIZE) < 0.45


def test_an_adapter_raises_memory_and_time_of_the_plan_and_stays_beside_the_unet():
    config, size = release_config("svd"), (14, 1024, 576, 24 * GIB)
    plain = make_plan(config, *size)
    for name in ADAPTERS:
        plan = make_plan(config, *size, adapters=[name])
        assert plan.flops >= plain.flops and plan.needs >= plain.needs
    tight = make_plan(config, 14, 1024, 576, 5 * GIB, adapters=["motionctrl"])
    assert tight.placement == "streamed"
    sampling = next(stage for stage in tight.stages if stage.network == "unet")
    assert sampling.beside == 2 * 62_929_920 and tight.on_device(sampling) > sampling.beside


def test_the_command_names_what_it_knows(capsys):
    assert main(["plan", "--memory", "16", "--adapter", "controlnet", "--adapter", "motionctrl"]) == 0
    assert "sampling" in capsys.readouterr().out
    with pytest.raises(ValueError, match="adapter 'x' is unknown; use one of controlnet, motionctrl"):
        adapter_cost("x", FULL, *SIZE)
