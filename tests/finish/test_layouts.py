"""A film does not depend on how its frames lie in memory: upscalers give views, files give contiguous frames."""

from pathlib import Path

import pytest
import torch

from svd_core.finish import FilmOptions, Reel, batch_of, to_size, write_film
from svd_core.flow.between import frames_between
from tests.helpers.layouts import other_layouts


def moving(frames: int = 3, height: int = 48, width: int = 72) -> torch.Tensor:
    """[T, H, W, 3]: noise of a few pixels that runs to the left."""
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, height // 4, width // 2, generator=torch.Generator().manual_seed(3)), (height, 2 * width)
    )
    return torch.stack([wide[0, :, :, 3 * t : 3 * t + width].movedim(0, -1) for t in range(frames)])


LAYOUTS = list(other_layouts(moving()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_between_are_the_same_bits(layout: str):
    first, last = moving(2)
    expected = list(frames_between(first, last, [0.3, 0.5]))
    for pair in ((other_layouts(first)[layout], last), (first, other_layouts(last)[layout])):
        found = list(frames_between(*pair, [0.3, 0.5]))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_frame_given_at_a_cut_is_contiguous():
    first, last = moving(1)[0], torch.rand(48, 72, 3, generator=torch.Generator().manual_seed(1))
    for view in other_layouts(first).values():
        (found,) = frames_between(view, last, [0.3])
        assert torch.equal(found, first) and found.is_contiguous()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(100, 60, "crop"), (100, 60, "pad"), (0, 0, "inside"), (40, 0, "inside")])
def test_sized_frames_are_the_same_bits_and_contiguous(layout: str, size: tuple):
    step, frame = to_size(*size), moving(1)[0]
    found = step(other_layouts(frame)[layout])
    assert torch.equal(found, step(frame)) and found.is_contiguous()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_that_gives_views_gives_the_same_film(layout: str):
    source = moving()
    reel = Reel(source, (lambda frame: frame.sqrt(),), 3, ending="loop")
    views = Reel(other_layouts(source)[layout], (lambda frame: other_layouts(frame.sqrt())[layout],), 3, ending="loop")
    assert torch.equal(batch_of(views), batch_of(reel))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_written_film_is_the_same_file(tmp_path: Path, layout: str):
    frames = moving()
    for name, given in (("plain", frames), ("views", other_layouts(frames)[layout])):
        write_film(iter(given), tmp_path / f"{name}.mp4", FilmOptions(7))
    assert (tmp_path / "plain.mp4").read_bytes() == (tmp_path / "views.mp4").read_bytes()
