"""Every adapter as a control of a tiny UNet with random weights, made by the public functions."""

from collections.abc import Callable

import torch

from svd_core.controls.adapters import attached
from svd_core.controls.camera.weights import LoadedCameraWeights
from svd_core.controls.controlnet import controlnet_control
from svd_core.controls.poses import LoadedPoseNetwork
from svd_core.networks.cameractrl import CameraCtrl
from svd_core.networks.controlnet import ControlNet
from svd_core.networks.controlnext import ControlNeXt
from svd_core.networks.mimicmotion import PoseNet
from svd_core.networks.motionctrl import MotionCtrl
from svd_core.networks.unet import transformer_places
from svd_core.pipelines.character import CharacterSettings, character_controls
from svd_core.pipelines.settings import AnimateSettings
from svd_core.pipelines.steered import Steering
from svd_core.pipelines.steered_networks import network_controls
from svd_core.sampling.controls import Control
from tests.helpers.steering_networks import drawn
from tests.helpers.tiny_unets import FRAMES, SIDE, TINY, condition_for, random, tiny_model

PIXELS = 8 * SIDE
PLACES = transformer_places(TINY)
WIDTHS, LEVELS = {at.place: at.channels for at in PLACES}, {at.place: at.level for at in PLACES}
DRAWINGS = torch.rand(FRAMES, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(2))


def controlnet(strength: float) -> Control:
    return controlnet_control(drawn(ControlNet(TINY)), DRAWINGS * 2 - 1, FRAMES, strength=strength)


def camera(kind: str, strength: float) -> Control:
    sizes = (TINY.head_channels, TINY.context_channels)
    network = MotionCtrl(WIDTHS, *sizes) if kind == "motionctrl" else CameraCtrl(WIDTHS, LEVELS, FRAMES)
    settings = AnimateSettings(
        width=PIXELS, height=PIXELS, frames=FRAMES, camera="dolly in 0.3", camera_strength=strength
    )
    steering = Steering(camera_weights=LoadedCameraWeights(drawn(network), kind, "net"))
    (control,), _ = network_controls(TINY, settings, steering)
    return control


def character(kind: str, strength: float) -> Control:
    network = drawn((PoseNet if kind == "mimicmotion" else ControlNeXt)(TINY.model_channels))
    loaded = LoadedPoseNetwork(network, kind, "net")
    settings = CharacterSettings(strength=strength, window=FRAMES, overlap=1, width=PIXELS, height=PIXELS)
    return character_controls(loaded, DRAWINGS, settings)[0]


ADAPTERS: dict[str, Callable[[float], Control]] = {
    "controlnet": controlnet,
    "motionctrl": lambda strength: camera("motionctrl", strength),
    "cameractrl": lambda strength: camera("cameractrl", strength),
    "mimicmotion": lambda strength: character("mimicmotion", strength),
    "controlnext": lambda strength: character("controlnext", strength),
}


def passes(unet, adapter, features=None):
    """One pass of the UNet with an adapter."""
    model = tiny_model()
    given = attached(condition_for(model), adapter.begin(torch.device("cpu"))).over_frames(FRAMES)
    x, c_noise = random(FRAMES, 8, SIDE, SIDE, seed=4), torch.full((FRAMES,), 0.4)
    more = {} if features is None else {"features": features}
    with torch.no_grad():
        return unet(x, c_noise, given.token, given.vector, FRAMES, adapters=[given.adapters], **more)
