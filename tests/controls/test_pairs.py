"""Every pair of controls, on a model with a closed-form answer."""

import itertools

import pytest
import torch

from svd_core.controls.amount import BucketGuidance, LowPassStart, MotionCurves, SoftenedCondition
from svd_core.controls.between import Blend, TakeTurns
from svd_core.controls.brush import MotionBrush
from svd_core.controls.drag import drag_signal, parse_drag
from svd_core.controls.extend import HoldFrames
from svd_core.controls.inversion import InvertedSource
from svd_core.controls.loop import LatentRoll
from svd_core.controls.matched import MatchedBetween
from svd_core.controls.signal import DualClock, PartialRenoise, ReplaceEstimate, Signal
from svd_core.controls.skip_guidance import SkipGuidance
from svd_core.controls.source_clip import source_control
from svd_core.controls.steady import ColourAnchor, FirstFrame, SteadyGuidance
from svd_core.controls.windows import Windows
from tests.helpers.motion_models import FRAMES, H, W, condition, run, still

SIGNAL = Signal(still().roll(3, -1).expand(FRAMES, -1, -1, -1).clone(), torch.ones(FRAMES, 1, H, W))
ENDS = (condition(picture=still(seed=8)), still(), still(seed=8))


def dragged():
    """A square dragged to the right in a picture whose latents are its pixels, shrunk."""
    picture, mask = (
        torch.rand(1, 3, 8 * H, 8 * W, generator=torch.Generator().manual_seed(2)),
        torch.zeros(1, 1, 8 * H, 8 * W),
    )
    mask[..., 40:90, 40:90] = 1.0
    path = parse_drag("0.2,0.4; 0.6,0.5", "1.2", "15")
    return drag_signal(lambda x: torch.cat([x, x[:, :1]], 1)[..., 4::8, 4::8], picture, [(mask, path)], FRAMES).signal


LEFT = torch.cat([torch.ones(1, 1, H, W // 2), torch.zeros(1, 1, H, W - W // 2)], dim=3)
HALF = torch.cat([torch.ones(1, 1, H, W), LEFT.expand(FRAMES - 1, -1, -1, -1)])  # holes after frame 0
CONTROLS = {
    "brush": MotionBrush(LEFT, still_bucket=1.0, moving_bucket=200.0),
    "brush per frame": MotionBrush(LEFT * torch.linspace(0, 1, FRAMES).reshape(-1, 1, 1, 1)),
    "drag": DualClock(dragged()),
    "partial re-noise": PartialRenoise(SIGNAL),
    "dual clock": DualClock(SIGNAL),
    "replace estimate": ReplaceEstimate(SIGNAL, repeats=2),
    "refined estimate": ReplaceEstimate(Signal(SIGNAL.latents, HALF), refine=2),
    "changed clip": source_control(SIGNAL),
    "inverted clip": InvertedSource(SIGNAL),
    "match": MatchedBetween(SIGNAL),
    "take turns": TakeTurns(*ENDS),
    "blend": Blend(*ENDS),
    "roll": LatentRoll(),
    "windows": Windows(3, 1),
    "held frames": HoldFrames(still().repeat(2, 1, 1, 1), repeats=2),
    "low-pass start": LowPassStart(),
    "softened": SoftenedCondition(),
    "skip guidance": SkipGuidance(0.5),
    "curves": MotionCurves(bucket=((0.0, 60.0), (1.0, 180.0)), fps=((0.0, 7.0), (1.0, 9.0))),
    "other bucket": BucketGuidance(0.0),
    "rescale": SteadyGuidance(rescale=0.7),
    "projection": SteadyGuidance(parallel=0.0, limit=0.06, momentum=-0.5),
    "first frame": FirstFrame(),
    "anchor": ColourAnchor(0.3),
}
# Pairs that change the clip of a model with independent frames by rounding only prove nothing here.
FRAMEWISE = {"roll", "windows"}


@pytest.fixture(scope="module")
def plain():
    return run(steps=8)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(CONTROLS, CONTROLS)))
def test_every_two_controls_run_together(plain, first, second):
    clip = run([CONTROLS[first], CONTROLS[second]], steps=8)
    assert torch.isfinite(clip).all() and clip.shape == plain.shape
    assert clip.std() < 1.5 * plain.std(), "no pair works itself up"
    if not {first, second} <= FRAMEWISE:
        assert (clip - plain).abs().max() > 1e-3


OFF = {
    "partial re-noise": PartialRenoise(SIGNAL, 0.0),
    "drag": DualClock(SIGNAL, 0.0),
    "replace estimate": ReplaceEstimate(SIGNAL, 0.0),
    "brush": MotionBrush(LEFT, 0.0, still_bucket=1.0, moving_bucket=200.0),
    "changed clip": source_control(SIGNAL, 1.0),
    "match": MatchedBetween(SIGNAL, 0.0),
    "take turns": TakeTurns(*ENDS, 0.0),
    "blend": Blend(*ENDS, 0.0),
    "roll": LatentRoll(0.0),
    "low-pass start": LowPassStart(0.0),
    "softened": SoftenedCondition(0.0),
    "skip guidance": SkipGuidance(0.0),
    "curves": MotionCurves(),
    "other bucket": BucketGuidance(None),
    "guidance": SteadyGuidance(),
    "first frame": FirstFrame(0.0),
    "anchor": ColourAnchor(0.0),
}


@pytest.mark.parametrize("name", OFF)
def test_a_control_at_zero_strength_is_bit_equal_to_none_also_beside_others(plain, name):
    assert torch.equal(run([OFF[name]], steps=8), plain)
    beside = run([CONTROLS["brush"], CONTROLS["rescale"]], steps=8)
    assert torch.equal(run([CONTROLS["brush"], OFF[name], CONTROLS["rescale"]], steps=8), beside)


def test_every_method_that_has_a_strength_is_switched_off_here():
    kinds = {type(control) for control in OFF.values()}
    assert {type(control) for control in CONTROLS.values()} - kinds == {Windows, HoldFrames, InvertedSource}, (
        "no strength"
    )


@pytest.mark.parametrize("guidance", ["rescale", "projection"])
@pytest.mark.parametrize("other", ["roll", "take turns", "blend"])
def test_guidance_is_corrected_inside_what_moves_frames_in_either_order(guidance, other):
    one, two = (run(order, steps=8) for order in itertools.permutations([CONTROLS[guidance], CONTROLS[other]]))
    assert torch.equal(one, two)
    assert not torch.allclose(one, run([CONTROLS[other]], steps=8), atol=1e-3)
