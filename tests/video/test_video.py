"""Clips as files: colours, timing, settings, odd sizes, streaming, and no broken file left behind."""

import os
import threading
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from svd_core.video import check_output, read_clip, write_clip
from svd_core.video.clip import frame_times, parse_fps

NAMES = ["clip.mp4", "clip.webm", "clip.webp", "clip.gif", "frames"]
SETTINGS = {"seed": 23, "name": "naïve", "guidance": [1.0, 3.0], "fps": None}


def ramp(frames: int = 8, height: int = 48, width: int = 64) -> torch.Tensor:
    """[T, H, W, 3]: red runs across, green down, blue over time, so a swap or a wrong matrix shows everywhere."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([torch.stack([across, down, torch.full_like(across, t / frames)], -1) for t in range(frames)])


# Mean error in levels of 255, and mean shift per channel. Lossy 8-bit 4:2:0 leaves about 1 level on a smooth ramp; the
# BT.601 matrix on BT.709 data would leave 7, full range taken as limited 10. The ramp is wide because half a pixel of
# chroma siting, on which decoders differ, is a constant shift on it. gif is dithered to 256 colours, but must not
# drift on average; PNG only rounds.
COLOURS = [("clip.mp4", 2, 1), ("clip.webm", 2, 1.5), ("clip.webp", 2, 1), ("clip.gif", 5, 1), ("frames", 0.5, 0.1)]


@pytest.mark.parametrize("name, error, shift", COLOURS, ids=NAMES)
def test_colours_and_settings_come_back(tmp_path: Path, name: str, error: float, shift: float):
    clip = ramp(8, 64, 256)
    path = write_clip(clip, tmp_path / name, fps=7, metadata=SETTINGS)
    frames, fps, metadata = read_clip(path)
    assert path == tmp_path / name and fps == 7 and metadata == SETTINGS
    assert frames.shape == clip.shape and frames.dtype == torch.float32
    difference = (frames - clip) * 255
    assert difference.abs().mean() < error
    assert difference.mean((0, 1, 2)).abs().max() < shift


@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes_come_back_as_they_were(tmp_path: Path, name: str):
    clip = ramp(3, 33, 47)
    frames, _, _ = read_clip(write_clip(clip, tmp_path / name, fps=7))
    assert frames.shape == clip.shape
    assert (frames - clip).abs().mean() * 255 < 6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 5])
def test_equal_frames_are_not_merged(tmp_path: Path, name: str, count: int):
    frames, fps, _ = read_clip(write_clip(torch.full((count, 16, 16, 3), 0.5), tmp_path / name, fps=12.5))
    assert len(frames) == count and fps == 12.5


def test_mp4_and_webm_are_tagged_for_every_player(tmp_path: Path):
    for name, codec in (("clip.mp4", "h264"), ("clip.webm", "vp9")):
        with av.open(str(write_clip(ramp(), tmp_path / name, fps=Fraction(30000, 1001)))) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name.removeprefix("lib") in (codec, "vpx-vp9")
            assert stream.codec_context.pix_fmt == "yuv420p" and stream.average_rate == Fraction(30000, 1001)
            frame = next(container.decode(video=0))
            # 1 = BT.709 for matrix, primaries and transfer, and limited range, in FFmpeg's numbers.
            assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)
            context = stream.codec_context
            assert (int(context.color_primaries), int(context.color_trc)) == (1, 1)


@pytest.mark.parametrize("fps", [7, 6.5, 24, Fraction(30000, 1001)])
def test_webp_and_gif_timing_never_drifts(tmp_path: Path, fps):
    for name, tick in (("clip.webp", 1), ("clip.gif", 10)):
        write_clip(torch.full((15, 16, 16, 3), 0.5), tmp_path / name, fps=fps)
        end = 0
        with Image.open(tmp_path / name) as picture:
            assert picture.n_frames == 15 and picture.info["loop"] == 0
            for index in range(15):
                picture.seek(index)
                picture.load()
                end += picture.info["duration"]
                # Each frame ends at its true time rounded to a tick, half a tick off at most.
                assert abs(end - 1000 * (index + 1) / fps) <= tick / 2 + 1e-9


def test_a_clip_may_play_once(tmp_path: Path):
    for name in ("clip.webp", "clip.gif"):
        write_clip(ramp(2), tmp_path / name, fps=7, loop=False)
        with Image.open(tmp_path / name) as picture:
            assert picture.info.get("loop", 1) == 1  # one round; gif says so by saying nothing


def test_frame_times_add_up():
    assert [frame_times(Fraction(7), 100, index) for index in range(7)] == [14, 15, 14, 14, 14, 15, 14]


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_taken_one_at_a_time(tmp_path: Path, name: str):
    alive, most = 0, 0

    def release() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[torch.Tensor]:
        nonlocal alive, most
        for index in range(20):
            frame = torch.full((16, 16, 3), index / 20)
            weakref.finalize(frame, release)
            alive += 1
            most = max(most, alive)
            yield frame

    write_clip(frames(), tmp_path / name, fps=7)
    # The one at work, the one that this generator makes next, and the first, which tells the size.
    assert most <= 3


def test_quality_changes_the_size(tmp_path: Path):
    clip = torch.rand(4, 64, 64, 3)
    for suffix in ("mp4", "webm", "webp"):
        sizes = [
            write_clip(clip, tmp_path / f"{quality}.{suffix}", fps=7, quality=quality).stat().st_size
            for quality in (20, 60, 95)
        ]
        assert sizes[0] < sizes[1] < sizes[2], suffix


def test_equal_clips_make_equal_files(tmp_path: Path):
    for name in NAMES[:4]:
        write_clip(ramp(), tmp_path / name, fps=7, metadata=SETTINGS)
        write_clip(ramp(), tmp_path / f"again_{name}", fps=7, metadata=SETTINGS)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again_{name}").read_bytes()


GOOD = torch.full((2, 16, 16, 3), 0.5)
BAD_CLIPS = [
    ("no frames", GOOD[:0], {}, "0 frames; give at least 1"),
    ("no frames streamed", iter([]), {}, "0 frames; give at least 1"),
    ("one frame unbatched", GOOD[0], {}, r"shape \[16, 16, 3\]; give \[frames, height, width, 3\]"),
    ("alpha", torch.zeros(2, 16, 16, 4), {}, r"frame 0 is \[16, 16, 4\]"),
    ("bytes", torch.zeros(2, 16, 16, 3, dtype=torch.uint8), {}, "torch.uint8; give .* floats"),
    ("NaN", GOOD / 0 * 0, {}, "frame 0 has NaN or infinite values; decode it again"),
    ("sizes differ", [GOOD[0], torch.zeros(16, 24, 3)], {}, "frame 1 is 24x16 but frame 0 is 16x16"),
    ("no fps", GOOD, {"fps": 0}, "fps 0 is outside 0.01 to 1000"),
    ("NaN fps", GOOD, {"fps": float("nan")}, "fps nan is not a number"),
    ("quality", GOOD, {"quality": 101}, "quality 101 is outside 0 to 100"),
    ("metadata", GOOD, {"metadata": {"a": object()}}, "cannot be written as JSON"),
]


@pytest.mark.parametrize("frames, options, message", [row[1:] for row in BAD_CLIPS], ids=[row[0] for row in BAD_CLIPS])
@pytest.mark.parametrize("name", ["clip.mp4", "frames"])
def test_bad_clips_leave_nothing_behind(tmp_path: Path, name: str, frames, options, message: str):
    if not isinstance(frames, torch.Tensor):
        frames = list(frames)
    with pytest.raises(ValueError, match=message):
        write_clip(frames, tmp_path / name, **{"fps": 7, **options})
    assert list(tmp_path.iterdir()) == []


def test_gif_refuses_rates_that_viewers_slow_down(tmp_path: Path):
    with pytest.raises(ValueError, match="fps 60 is beyond gif's 50"):
        write_clip(GOOD, tmp_path / "clip.gif", fps=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limit", [0, 0.5, -1])
def test_a_full_disk_keeps_the_old_clip_and_no_half_one(tmp_path: Path, name: str, limit: float):
    """The file size limit of the process makes writes fail where a full disk would: at once, half way, on the end."""
    resource = pytest.importorskip("resource", reason="file size limits exist on POSIX only")
    noise = torch.rand(4, 32, 32, 3)
    path = write_clip(noise, tmp_path / name, fps=7)
    before = read_clip(path)[0]
    first = path if path.is_file() else path / "frame_00000.png"
    size = first.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1 if limit < 0 else int(size * limit), hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*\(File too large\); free space or choose another folder"):
            write_clip(noise, path, fps=7)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(read_clip(path)[0], before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_keeps_the_old_clip_and_no_half_one(tmp_path: Path, name: str, stop: type[BaseException]):
    path = write_clip(GOOD, tmp_path / name, fps=7)
    before = read_clip(path)[0]

    def frames():
        yield GOOD[0]
        yield GOOD[1]
        raise stop

    with pytest.raises(stop):
        write_clip(frames(), path, fps=7)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(read_clip(path)[0], before)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_clip_is_replaced(tmp_path: Path, name: str):
    write_clip(torch.zeros(4, 16, 16, 3), tmp_path / name, fps=7)
    frames, fps, _ = read_clip(write_clip(torch.ones(2, 24, 16, 3), tmp_path / name, fps=9))
    assert frames.shape == (2, 24, 16, 3) and fps == 9 and frames.mean() > 0.9
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_folders_of_other_things_are_never_replaced(tmp_path: Path):
    for name in ("notes.txt", "frame_00000.png", "frame_00007.png"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match="is not a folder of our frames; choose another name"):
            write_clip(GOOD, folder, fps=7)
        assert (folder / name).read_text() == "mine"
    ours = write_clip(GOOD, tmp_path / "ours", fps=7)
    (ours / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a folder of our frames"):
        check_output(ours)
    (tmp_path / "empty").mkdir()
    assert len(list(write_clip(GOOD, tmp_path / "empty", fps=7).iterdir())) == 2


def test_unusable_places_are_named_before_the_work(tmp_path: Path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="asks for a .avi file; use .mp4, .webm, .webp, .gif, or a name without"):
        check_output(tmp_path / "clip.avi")
    with pytest.raises(ValueError, match="folder.mp4 is a folder"):
        check_output(tmp_path / "folder.mp4")
    with pytest.raises(ValueError, match="file exists and is not a folder of our frames"):
        check_output(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="folder .*absent does not exist; create it first"):
        check_output(tmp_path / "absent" / "clip.mp4")
    assert check_output(tmp_path / "CLIP.MP4") == "mp4"
    assert check_output(f"{tmp_path}/clip.v1/") == "folder"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named_before_the_work(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot write .*Permission denied.*choose another folder"):
        check_output(tmp_path / "clip.mp4")


def test_a_refused_probe_reads_as_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path, exist_ok: bool = True) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OSError, match=r"cannot write .*clip.mp4 \(Permission denied\); choose another folder"):
        check_output(tmp_path / "clip.mp4")


def test_bad_files_are_refused_with_a_sentence(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_clip(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="holds no frames"):
        read_clip(tmp_path)
    for name in NAMES[:4]:
        (tmp_path / name).write_bytes(b"not a clip")
        with pytest.raises(ValueError, match="cannot be read"):
            read_clip(tmp_path / name)


def test_clips_from_elsewhere_have_no_settings(tmp_path: Path):
    Image.new("RGB", (16, 16)).save(
        tmp_path / "other.gif", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")], duration=250
    )
    frames, fps, metadata = read_clip(tmp_path / "other.gif")
    assert (len(frames), fps, metadata) == (2, 4.0, {})


@pytest.mark.parametrize("fps, expected", [(7, "7"), (7.5, "15/2"), (29.97, "2997/100"), (1 / 3, "1/3")])
def test_frame_rates_become_fractions(fps: float, expected: str):
    assert str(parse_fps(fps)) == expected


def test_clips_are_written_in_threads_without_a_clash(tmp_path: Path):
    def write() -> None:
        write_clip(ramp(3), tmp_path / "clip.webp", fps=7)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.webp"]
    assert read_clip(tmp_path / "clip.webp")[0].shape[0] == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [FileNotFoundError("picture gone.png does not exist"), OSError(5, "unreadable")])
def test_an_error_of_the_frames_is_not_taken_for_one_of_writing(tmp_path: Path, name: str, error: OSError):
    def frames():
        yield GOOD[0]
        raise error

    with pytest.raises(OSError) as raised:
        write_clip(frames(), tmp_path / name, fps=7)
    assert raised.value is error and list(tmp_path.iterdir()) == []
