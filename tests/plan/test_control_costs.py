"""Costs of controls: the passes equal those of real sampling, and the bytes follow the shapes."""

import importlib
import pkgutil

import pytest
import torch

from svd_core import controls
from svd_core.controls.amount import LowPassStart, MotionCurves
from svd_core.controls.between import Blend, TakeTurns
from svd_core.controls.brush import MotionBrush
from svd_core.controls.loop import LatentRoll
from svd_core.controls.matched import MatchedBetween
from svd_core.controls.signal import DualClock, PartialRenoise, ReplaceEstimate, Signal
from svd_core.controls.steady import FirstFrame, SteadyGuidance
from svd_core.controls.windows import Windows
from svd_core.networks.config import UNetConfig
from svd_core.plan.control_costs import (
    COLUMNS,
    METHODS,
    control_cost,
    controls_text,
    cost_rows,
    cost_text,
    method_costs,
)
from svd_core.sampling.controls import Control
from svd_core.sampling.schedules import karras_sigmas
from tests.helpers.motion_models import FRAMES, Counted, H, W, condition, run, still

STEPS = 8
SIGNAL = Signal(still().expand(FRAMES, -1, -1, -1).clone(), torch.ones(FRAMES, 1, H, W))
ENDS = (condition(picture=still(seed=8)), still(), still(seed=8))
# Largest number of extra passes per step; controls with more than one say so in their tooltip.
CONTROLS = {
    "partial re-noise": (PartialRenoise(SIGNAL), 0.0),
    "dual clock": (DualClock(SIGNAL), 0.0),
    "replace estimate": (ReplaceEstimate(SIGNAL), 0.0),
    "repeats": (ReplaceEstimate(SIGNAL, repeats=3), 2.0),
    "brush": (MotionBrush(torch.zeros(1, 1, H, W), still_bucket=1.0), 0.0),
    "low-pass start": (LowPassStart(), 0.0),
    "curves": (MotionCurves(bucket=((0.0, 60.0),)), 0.0),
    "first frame": (FirstFrame(), 0.0),
    "rescale": (SteadyGuidance(rescale=0.5), 0.0),
    "roll": (LatentRoll(), 0.0),
    "match": (MatchedBetween(SIGNAL), 0.0),
    "take turns": (TakeTurns(*ENDS), 1.0),
    "blend": (Blend(*ENDS), 1.0),
    "windows": (Windows(3, 1), 1.0),
}


def cost(control, frames=FRAMES, height=H, width=W, **more):
    return control_cost(control, UNetConfig(), frames, height, width, karras_sigmas(STEPS), **more)


@pytest.mark.parametrize("name", CONTROLS)
def test_passes_equal_those_of_real_sampling_and_are_bounded(name):
    control, most = CONTROLS[name]
    model = Counted()
    run([control], model=model, steps=STEPS)  # guidance 3: two passes per step
    costs = cost(control)
    assert costs.passes == len(model.sigmas) / 2
    assert costs.frame_passes == sum(len(x) for x in model.states) / 2 / FRAMES
    assert costs.plain_passes == STEPS and costs.relative_time - 1 <= most
    assert costs.frames_at_once == max(len(x) for x in model.states)


def test_a_control_that_is_off_costs_nothing():
    off, none = cost(PartialRenoise(SIGNAL, 0.0)), cost([])
    assert off == none and none.relative_time == 1


def test_skipped_steps_make_it_cheaper_and_two_passes_twice_as_long():
    assert cost(PartialRenoise(SIGNAL)).relative_time < 0.8
    assert cost(Blend(*ENDS)).relative_time > 1.5
    assert cost(TakeTurns(*ENDS), guided=False).passes == cost(TakeTurns(*ENDS)).passes


def test_bytes_follow_the_shapes():
    plain, steered = cost([]), cost(PartialRenoise(SIGNAL))
    signal = 5 * FRAMES * H * W * 4  # four channels and a map, float32
    assert steered.state_bytes - plain.state_bytes >= 0.9 * signal
    assert steered.state_bytes - plain.state_bytes < 3 * signal
    long, short = (cost(Windows(3, 1), frames=frames) for frames in (40, 5))
    assert long.activation_bytes == short.activation_bytes < cost([], frames=40).activation_bytes / 10


@pytest.fixture(scope="module")
def costs():
    """Return the table of methods for a small clip."""
    return method_costs(UNetConfig(), 6, 8 * W, 8 * H, karras_sigmas(STEPS))


def test_every_method_runs_at_most_one_extra_pass_per_step_unless_named_otherwise(costs):
    for one in costs:
        most = {"windows, 60 frames": 1.0}.get(one.name, 2.0 if "repeats" in one.name else 1.0)
        assert one.cost.relative_time - 1 <= most, one.name
    assert sum(one.relative_time < 1 for one in costs) == 6  # those that skip the first steps


def test_every_method_is_in_the_table(costs):
    for module in pkgutil.walk_packages(controls.__path__, f"{controls.__name__}."):
        importlib.import_module(module.name)

    def below(kind):
        return {kind}.union(*(below(more) for more in kind.__subclasses__()))

    listed = {type(make_of(row)) for row in METHODS}
    bases = {Control, *(base for kind in listed for base in kind.__mro__)}
    ours = {kind for kind in below(Control) if kind.__module__.startswith("svd_core.controls")}
    missing = {kind.__name__ for kind in ours - bases}
    frames_only = {"KeptEnds", "EvenJoin", "LookLock", "DropFirstFrame", "ColourMatch"}
    networks = {"FineTunedBetween", "AdapterControl", "ControlNetControl"}  # cost what their own network does
    assert missing == frames_only | networks | {"NoiseMask"}, "a mask is one product per step"


def make_of(row):
    from svd_core.plan.control_costs import _Placeholders

    return row[2](_Placeholders(UNetConfig(), 6, H, W))


def test_the_table_has_aligned_columns(costs):
    rows = cost_rows(costs)
    assert len(rows) == len(METHODS) and all(len(row) == len(COLUMNS) for row in rows)
    lines = cost_text(costs).splitlines()
    assert lines[0].startswith("method") and lines[1].startswith("partial re-noise")
    assert any(line.startswith("windows, 60 frames") for line in lines)


def test_the_text_names_the_active_controls_and_their_cost():
    size = (UNetConfig(), FRAMES, 8 * W, 8 * H, karras_sigmas(STEPS))
    words = controls_text([PartialRenoise(SIGNAL), Windows(3, 1), FirstFrame(0.0)], *size)
    assert words.startswith("with partial re-noise, windows: ") and "passes of 3 frames" in words
    assert controls_text([PartialRenoise(SIGNAL, 0.0)], *size) == "no controls"
