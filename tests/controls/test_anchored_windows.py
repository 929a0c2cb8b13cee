"""Windows led by frame 0, against the plans of the public code, and what each window sees."""

import json

import pytest
import torch

from svd_core.condition import Condition
from svd_core.controls.adapters import attached
from svd_core.controls.anchored_windows import AnchoredWindows, DropFirstFrame
from svd_core.controls.poses import ControlNeXtAdapter
from svd_core.networks.controlnext import ControlNeXt
from svd_core.sampling.controls import Inputs, Run
from svd_core.sampling.guidance import as_guidance
from tests.helpers.family_windows import wrong_plans
from tests.helpers.golden_rule import DATA

PLANS = json.loads((DATA / "family" / "windows.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in PLANS for key in PLANS[kind]])
def test_plans_are_those_of_the_public_code(kind, key):
    assert wrong_plans({kind: {key: PLANS[kind][key]}}) == {f"{kind} {key}": 0}


def test_a_wrong_number_of_a_plan_is_counted():
    plan = json.loads(json.dumps(PLANS["mimicmotion"]["17,16,6"]))
    plan["windows"][-1][-1] += 1
    plan["weights"][3] += 0.01
    assert wrong_plans({"mimicmotion": {"17,16,6": plan}}) == {"mimicmotion 17,16,6": 2}


@pytest.mark.parametrize("anchor", ["mimicmotion", "controlnext"])
def test_every_estimate_is_an_average_and_each_window_sees_its_own_rows(anchor):
    frames, seen = 9, []
    drawings = torch.arange(float(frames)).reshape(-1, 1, 1, 1).expand(-1, 3, 64, 64)
    plain = Condition(torch.zeros(1, 1, 4), torch.zeros(1, 4, 8, 8), torch.zeros(1, 6))
    condition = attached(plain, ControlNeXtAdapter(ControlNeXt(32, device="meta"), drawings))
    inputs = Inputs(condition, plain, as_guidance(torch.ones(frames)))
    control = AnchoredWindows(4, 2, anchor)

    def evaluate(x, sigma, part):
        seen.append((x[:, 0, 0, 0].tolist(), part.condition.adapters[0].drawings[:, 0, 0, 0].tolist()))
        return x

    x = torch.arange(float(frames)).reshape(-1, 1, 1, 1).expand(-1, 4, 8, 8).contiguous()
    made = control.wrap(Run(x, (1.0,), inputs, lambda: x), evaluate)(x, 1.0, inputs)
    assert torch.allclose(made, x)
    assert seen == [(window.frames, window.poses) for window in control.plan(frames)]
    assert all(rows[0] == 0 for _, rows in seen)


def test_a_clip_of_one_window_is_evaluated_at_once():
    noise = torch.zeros(4, 4, 8, 8)
    inputs = Inputs(None, None, as_guidance(1.0))

    def evaluate(x, sigma, part):
        return x

    control = AnchoredWindows(16, 6)
    assert control.wrap(Run(noise, (1.0,), inputs, lambda: noise), evaluate) is evaluate
    assert control.edit_noise(noise, 0) is noise


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, 0), "at least 2 frames .got 1.; use 16"),
        ((16, 15), "overlap by 0 to 14 .got 15."),
        ((16, 16, "controlnext"), "overlap by 0 to 15 .got 16."),
        ((16, 6, "other"), "'other' is unknown; use one of mimicmotion, controlnext"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AnchoredWindows(*arguments)


def test_the_first_frame_is_left_out_of_the_clip():
    frames = torch.rand(5, 4, 4, 3)
    assert torch.equal(DropFirstFrame().edit_frames(frames), frames[1:])
    assert len(DropFirstFrame().edit_frames(frames[:1])) == 1
