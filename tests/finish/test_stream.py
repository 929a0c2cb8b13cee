"""The stream of a film: bit-equal to the stage-by-stage film, in the memory of a few frames, with the planned count."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F

from svd_core.finish import Reel, batch_of, film_size, plan_duration, to_size
from svd_core.finish.stream import RemainingTime, format_duration
from svd_core.flow.between import frames_between
from svd_core.pictures.fitting import resize

STEP = 1e-7  # of float32 in 0..1


def clip(frames: int = 5, height: int = 24, width: int = 40, speed: float = 2.0) -> torch.Tensor:
    """[T, H, W, 3]: soft noise that runs to the left."""
    generator = torch.Generator().manual_seed(3)
    wide = F.interpolate(
        torch.rand(1, 3, height // 4, width // 2, generator=generator), (height, 2 * width), mode="bicubic"
    )
    shifts = [round(speed * index) for index in range(frames)]
    return torch.stack([wide[0, :, :, s : s + width].clamp(0, 1).movedim(0, -1) for s in shifts])


def upscale(frame: torch.Tensor) -> torch.Tensor:
    """A stand-in for an upscale model: four times as large, not linear."""
    large = F.interpolate(frame.movedim(-1, 0)[None], scale_factor=4, mode="bicubic")
    return large.clamp(0, 1).sqrt()[0].movedim(0, -1)


def plain_way(source: torch.Tensor, factor: int, ending: str) -> torch.Tensor:
    """All frames through one stage after the other, as a graph of single nodes does it."""
    large = torch.stack([upscale(frame) for frame in source])
    sized = resize(large.movedim(-1, 1), 100, 60).movedim(1, -1)
    times = [step / factor for step in range(1, factor)]
    frames = []
    pairs = list(zip(sized, sized[1:], strict=False))
    if ending == "loop":
        pairs.append((sized[-1], sized[0]))
    for earlier, later in pairs:
        frames += [earlier, *frames_between(earlier, later, times)]
    if ending != "loop":
        frames.append(sized[-1])
    if ending == "ping-pong":
        frames += frames[-2:0:-1]
    return torch.stack(frames)


@pytest.mark.parametrize("ending", ["open", "loop", "ping-pong"])
@pytest.mark.parametrize("factor", [1, 3])
def test_streamed_frames_are_those_of_the_plain_way_bit_for_bit(ending, factor):
    source = clip()
    reel = Reel(source, (upscale, to_size(100, 60, "stretch")), factor, ending=ending)
    expected = plain_way(source, factor, ending)
    assert reel.count == len(expected)
    assert torch.equal(batch_of(reel), expected)


@pytest.mark.parametrize(("ending", "count"), [("open", 121), ("loop", 125), ("ping-pong", 240)])
def test_twenty_five_frames_at_factor_five(ending, count):
    reel = Reel(torch.zeros(25, 8, 8, 3), factor=5, ending=ending)
    assert reel.count == count == sum(1 for _ in reel.frames())


def test_a_limit_ends_the_film_and_nothing_more_is_made():
    made = []

    def note(frame: torch.Tensor) -> torch.Tensor:
        made.append(1)
        return frame

    reel = Reel(torch.zeros(25, 8, 8, 3), (note,), limit=4)
    assert reel.count == 4 == sum(1 for _ in reel.frames())
    assert len(made) <= 5


def test_nothing_leads_over_a_cut():
    source = torch.cat([torch.zeros(2, 16, 16, 3), torch.ones(2, 16, 16, 3)])
    frames = batch_of(Reel(source, factor=4, cuts=frozenset({2})))
    assert len(frames) == 4 + 1 + 4 + 1
    assert set(frames.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("ending", ["open", "loop", "ping-pong"])
def test_no_more_than_a_few_frames_are_alive(ending):
    alive: list[weakref.ref] = []
    most = 0

    def track(frame: torch.Tensor) -> torch.Tensor:
        nonlocal most
        frame = frame * 1.0
        alive.append(weakref.ref(frame))
        most = max(most, sum(reference() is not None for reference in alive))
        return frame

    for frame in Reel(clip(12), (track,), 2, ending=ending).frames():
        del frame
        gc.collect(0)
    # Two neighbours, the one being made, and the one in the hands of the reader.
    assert most <= 4


def test_each_frame_is_upscaled_once_forwards():
    calls = []
    reel = Reel(clip(6), (lambda frame: calls.append(1) or frame,), 3)
    batch_of(reel)
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("size", "asked", "fit", "wanted"),
    [
        ((1024, 576), (3840, 2160), "inside", (3840, 2160)),
        ((4096, 2304), (3840, 2160), "inside", (3840, 2160)),
        ((128, 128), (3840, 2160), "inside", (2160, 2160)),
        ((128, 128), (3840, 2160), "crop", (3840, 2160)),
        ((128, 128), (3840, 2160), "pad", (3840, 2160)),
        ((1024, 576), (0, 1080), "crop", (1920, 1080)),
        ((101, 57), (0, 0), "crop", (101, 57)),
        ((101, 57), (640, 0), "inside", (640, 362)),
    ],
)
def test_film_sizes(size, asked, fit, wanted):
    found = film_size(*size, *asked, fit)
    assert (found.width, found.height) == wanted
    frame = found.apply(torch.rand(size[1] // 8, size[0] // 8, 3)) if max(wanted) < 700 else None
    assert frame is None or frame.shape == (found.height, found.width, 3)


def test_cropping_keeps_the_middle_and_padding_adds_black():
    frame = torch.ones(20, 20, 3)
    frame[:, 9:11] = 0.5
    cropped, padded = to_size(40, 80, "crop")(frame), to_size(80, 40, "pad")(frame)
    assert cropped.shape == (80, 40, 3) and padded.shape == (40, 80, 3)
    assert torch.allclose(cropped[:, 20], torch.tensor(0.5), atol=0.05)
    assert float(padded[:, :18].abs().max()) == 0.0 and float(padded[:, 62:].abs().max()) == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Reel(torch.zeros(0, 4, 4, 3)), "at least 1 frame"),
        (lambda: Reel(torch.zeros(2, 4, 4, 3), factor=0), "1 to 32"),
        (lambda: Reel(torch.zeros(2, 4, 4, 3), ending="round"), "ping-pong"),
        (lambda: to_size(5, 5), "16 to 16384"),
        (lambda: to_size(640, 360, "squeeze"), "inside, crop"),
        (lambda: plan_duration(0, 24), "0.1 to 3600"),
        (lambda: plan_duration(5, 24, factor=40), "1 to 16"),
    ],
)
def test_what_makes_no_film_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("seconds", "fps", "own", "wanted"),
    [
        (5, 24, 25, (25, 5, 121)),
        (2, 24, 14, (13, 4, 49)),
        (1, 7, 25, (7, 1, 7)),
        (10, 24, 25, (41, 6, 241)),
    ],
)
def test_durations(seconds, fps, own, wanted):
    plan = plan_duration(seconds, fps, clip_frames=own)
    assert (plan.frames, plan.factor, plan.count) == wanted
    assert plan.seconds >= seconds
    assert plan.count == Reel(torch.zeros(plan.frames, 2, 2, 3), factor=plan.factor).count
    exact = plan_duration(seconds, fps, clip_frames=own, keep_frames=False)
    assert exact.count == seconds * fps and exact.frames == plan.frames


def test_the_plan_explains_itself():
    assert "(25 - 1) x 5 + 1 = 121" in plan_duration(5, 24).text(25)
    assert "Extend SVD Clip" in plan_duration(15, 24).text(25)


class Clock:
    """Seconds that the test decides."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_right_for_an_even_pace_and_unknown_before_one_part_is_done():
    clock = Clock()
    remaining = RemainingTime(121, 5, clock)
    guesses = []
    for done in range(1, 122):
        clock.now += 11.0 if done % 5 == 1 else 1.0  # the upscaling comes with every fifth
        guesses.append(remaining.after(done).seconds_left)
    assert guesses[:4] == [None] * 4
    left = clock.now - 15.0 * 10 - 11.0
    assert guesses[49] == pytest.approx(left, rel=0.05)
    assert guesses[-1] == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize(("seconds", "words"), [(45.2, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_times_are_said_as_people_do(seconds, words):
    assert format_duration(seconds) == words
