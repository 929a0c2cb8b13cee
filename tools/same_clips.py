"""Show that two checkouts make the same clips: run every command in both with nano, and compare what they make.

    python -m tools.same_clips OLD [NEW] [--only CASE ...]

OLD and NEW are folders of this repository at two commits; NEW is this one if it is left out. The clips are compared
as floats, before they are encoded, and the files as a player decodes them. The table has the largest difference of
each case: 0 means equal bit for bit. The exit code is 1 if a case differs by more than 0. It takes about ten minutes.

The model is nano with a control scale of 1, and controls say their motion bucket, so that the defaults of controls may
change from one checkout to the other.
"""

import argparse
import difflib
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageSequence
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "svd_core" / "assets"
VIDEOS, PICTURES, TEXTS = (".mp4", ".webm", ".mov"), (".png", ".webp", ".gif", ".jpg"), (".json", ".csv")

NANO = "--model nano.safetensors --quiet --device cpu"
SMALL = f"--width 64 --height 64 --frames 6 --steps 3 {NANO}"
LARGE = f"--width 128 --height 128 --frames 5 --steps 2 {NANO}"
# The same, for what moves the frames.
MOVED, MOVED_LARGE = f"{SMALL} --motion-bucket 127", f"{LARGE} --motion-bucket 127"
ROWS = "image,name,motion_bucket,seed\na.png,one,60,1\nb.png,two,200,5\n"
BOARD = """image,seconds,move,bucket,seed,transition,fade,title
a.png,1,zoom in 1.2,100,3,cut,,A
b.png,1.5,,127,4,cross-fade,0.4,B
c.png,2,pan left,127,5,cut,,C
"""

# What `animate a.png` makes of these options; `--output` is the name of the case.
ANIMATE = {
    "plain": SMALL,
    "plain, 128 pixels": LARGE,
    "guidance": f"{SMALL} --min-guidance 1.2 --max-guidance 2.5 --guidance-shape triangle",
    "constant guidance": f"{SMALL} --min-guidance 2 --max-guidance 2 --guidance-shape constant",
    "passes together": f"{SMALL} --max-guidance 2 --guidance-branches together",
    "motion": f"{SMALL} --motion-bucket 220 --fps 12 --augmentation 0.1 --seed 18446744073709551615",
    "heun": f"{SMALL} --solver heun --max-guidance 2",
    "dpmpp_2m": f"{LARGE} --solver dpmpp_2m --schedule align_your_steps --max-guidance 2",
    "lcm": f"{SMALL} --schedule lcm",
    "exponential": f"{SMALL} --schedule exponential --sigma-min 0.01 --sigma-max 200",
    "reuse": f"{SMALL} --steps 6 --reuse 2 --max-guidance 2",
    "reuse with heun and a camera": f"{MOVED} --steps 5 --solver heun --reuse 2 --reuse-depth 1 --camera 'pan right'",
    "camera": f"{MOVED} --camera 'pan right 0.15, zoom in 1.2 ease then hold 1 then roll cw 4' --max-guidance 2",
    "camera, dual clock": f"{MOVED} --camera 'tilt up 0.2 ease-in' --camera-mode 'dual clock' --camera-strength 1.5",
    "camera, replace estimate": f"{MOVED_LARGE} --camera 'orbit left 12 ease' --camera-mode 'replace estimate' "
    "--depth depth.png",
    "camera with a foreground": f"{MOVED} --camera 'dolly in 0.2, handheld 0.02' --foreground mask.png",
    "camera with depth": f"{MOVED} --camera 'arc right 16, truck left 0.1, pedestal up 0.1' --depth depth.png "
    "--foreground mask.png",
    "camera through points": f"{MOVED} --camera 'through 0 0; 0.1 0 1.1; 0.2 0.05 1 5'",
    "motion mask": f"{SMALL} --motion-mask mask.png --still-bucket 5 --moving-bucket 200",
    "motion mask, soft": f"{LARGE} --motion-mask mask.png --mask-strength 0.7 --mask-feather 5 --no-keep-still",
    "drag": f"{MOVED} --drag '0.5,0.5; 0.7,0.6; 0.6,0.4' --drag-mask mask.png --drag-scale 1.2,0.9 "
    "--drag-rotation 20 --drag-easing ease",
    "drag, strict": f"{MOVED_LARGE} --drag '0.5,0.5; 0.3,0.5' --drag-mask mask.png --drag-background 0.9 "
    "--drag-strength 1.3",
    "drag and motion mask": f"{MOVED} --drag '0.5,0.5; 0.3,0.5' --drag-mask mask.png --motion-mask mask.png",
    "windows": f"{SMALL} --frames 20 --windows 8 --window-overlap 3 --max-guidance 2",
    "extend": f"{SMALL} --extend 9 --extend-overlap 3 --max-guidance 2",
    "extend with a camera": f"{MOVED} --extend 5 --camera 'pan left 0.1'",
    "between": f"{SMALL} --end-image b.png --max-guidance 2",
    "between, blend": f"{SMALL} --end-image b.png --between-mode blend",
    "between, take turns": f"{SMALL} --end-image b.png --between-mode 'take turns'",
    "between, a closed chain": f"{SMALL} --end-image b.png c.png --loop",
    "loop": f"{SMALL} --loop --max-guidance 2",
    "loop, take turns": f"{SMALL} --loop --between-mode 'take turns'",
    "loop, roll": f"{SMALL} --loop --between-mode roll",
    "decode in chunks": f"{SMALL} --decode 3",
    "memory limit": f"{SMALL} --memory 1 --max-guidance 2",
    "fit pad": f"{MOVED} --width 96 --fit pad --camera 'zoom out 1.3'",
    "fit stretch": f"{SMALL} --width 96 --fit stretch",
    "keep aspect": f"--keep-aspect --frames 4 --steps 2 {NANO}",
    "lora": f"{SMALL} --lora lora.safetensors:0.8:1.2",
}

TINY = f"--width 64 --height 64 --steps 2 {NANO}"
FILM = f"storyboard board.csv {TINY}"
# Whole commands. They run after ANIMATE, in this order: some read the clips of others.
COMMANDS = {
    "several pictures": f"animate a.png b.png {SMALL} --output {{name}}.mp4",
    "mp4": f"animate a.png {SMALL} --output clip.mp4",
    "webm": f"animate a.png {SMALL} --output clip.webm",
    "webp": f"animate a.png {SMALL} --output clip.webp",
    "gif": f"animate a.png {SMALL} --output clip.gif",
    "finish": "finish clip.mp4 --output finished.mp4 --height 128 --interpolate 3 --quiet",
    "finish, ping-pong": "finish plain --output pong.webm --seconds 2 --ending ping-pong --fit pad "
    "--width 100 --height 80 --quiet",
    "finish, loop": "finish loop --output closed.mov --ending loop --interpolate 2 --quiet",
    "finish, 10 bit": "finish plain --output ten.mp4 --codec h265 --bit-depth 10 --fit crop "
    "--width 90 --height 50 --quiet",
    "report": "report plain --image a.png --json report.json --mask mask.png --model nano --seams 3",
    "report on a camera move": "report camera --json camera.json",
    "lab": f"lab a.png {TINY} --buckets 60,200 --seeds 1,2 --frames 4 --output lab.png --json lab.json "
    "--csv lab.csv --clip best --full-steps 3",
    "storyboard": f"{FILM} --output film.mp4 --sheet sheet.png --timing timing.csv --panels panels",
    "storyboard, extended": f"{FILM} --output longer.mp4 --longer extend --panels longer",
    "storyboard, slower": f"{FILM} --output slower.mp4 --longer slower --panels slower",
    "batch": f"batch rows.csv --output batch --kind frames --workers 1 --threads 1 {NANO} "
    "--set width=64 --set height=64 --set steps=2 --set frames=4",
    "train": f"train a.png {SMALL} --steps 2 --stills 'pan left' --clips-per-still 2 --validate-every 0 "
    "--output trained.safetensors",
    "convert": "convert nano converted.safetensors --dtype fp16 --quiet",
    "convert to diffusers": "convert nano converted --quiet",
}


def record(root: Path, folder: Path, only: list[str]) -> None:
    """Run the commands of the checkout `root` and save what they make as `folder`/CASE.npz."""
    torch.set_num_threads(1)
    import svd_core.video

    write_clip = svd_core.video.write_clip
    clips: list[np.ndarray] = []

    def recorded(frames, path, *arguments, **options):
        frames = frames if torch.is_tensor(frames) else torch.stack(list(frames))
        clips.append(frames.float().contiguous().numpy().copy())
        return write_clip(frames, path, *arguments, **options)

    # Before the commands import it.
    svd_core.video.write_clip = recorded
    for name, command in commands(only).items():
        before, start = set(files(Path())), time.process_time()
        clips.clear()
        error = run_command(command)
        made = {f"frames {number}": clip for number, clip in enumerate(clips)}
        for path in sorted(set(files(Path())) - before):
            made |= {f"{path.as_posix()} {part}".strip(): value for part, value in read(path)}
        np.savez(folder / f"{name}.npz", error=np.array(error), **made)
        print(f"{root.name}: {name}, {time.process_time() - start:.1f} s {error}", flush=True)


def commands(only: list[str]) -> dict[str, str]:
    """Return the commands to run, all or those of the cases `only`."""
    chosen = {name: f"animate a.png {options} --output '{name}'" for name, options in ANIMATE.items()} | COMMANDS
    unknown = sorted(set(only) - set(chosen))
    if unknown:
        raise SystemExit(f"no case {', '.join(unknown)}; the cases are {', '.join(chosen)}")
    # Commands that read a clip need the case that makes it.
    needed = {"plain", "loop", "camera", "mp4"} if only else set()
    return {name: command for name, command in chosen.items() if not only or name in {*only, *needed}}


def run_command(command: str) -> str:
    """Run one command in this process and return what went wrong, or an empty text."""
    sys.argv = ["svd_core", *shlex.split(command)]
    try:
        runpy.run_module("svd_core", run_name="__main__")
    except SystemExit as stopped:
        return f"exit code {stopped.code}" if stopped.code else ""
    except Exception:
        return traceback.format_exc(limit=-1).strip().splitlines()[-1]
    return ""


def files(folder: Path) -> Iterator[Path]:
    """Yield the files that commands made, without the state that training keeps of a run."""
    yield from (path for path in folder.rglob("*") if path.is_file() and ".run" not in path.as_posix())


def read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the contents of a file as named arrays: decoded frames, tensors, or text."""
    if path.suffix in VIDEOS:
        with av.open(str(path)) as film:
            yield "", np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    elif path.suffix in PICTURES:
        with Image.open(path) as picture:
            yield "", np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(picture)])
    elif path.suffix == ".safetensors":
        yield from load_file(path).items()
    elif path.suffix in TEXTS:
        yield "", np.array(path.read_text(encoding="utf-8"))


def prepare(folder: Path) -> None:
    """Write the pictures and tables that the commands read."""
    photograph = Image.open(ASSETS / "demo.png").convert("RGB")
    width, height = photograph.size
    for name, box in {"a": (0, 0, 0.85, 0.85), "b": (0.15, 0, 1, 1), "c": (0.1, 0.05, 0.9, 0.9)}.items():
        corners = [round(part * side) for part, side in zip(box, (width, height) * 2, strict=True)]
        photograph.crop(corners).save(folder / f"{name}.png")
    mask = Image.new("L", photograph.size)
    ImageDraw.Draw(mask).ellipse([width * 0.3, height * 0.2, width * 0.7, height * 0.8], fill=255)
    mask.save(folder / "mask.png")
    Image.linear_gradient("L").resize(photograph.size).save(folder / "depth.png")
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    (folder / "board.csv").write_text(BOARD, encoding="utf-8")
    shutil.copy(ASSETS / "loras" / "nano_pan_left.safetensors", folder / "lora.safetensors")
    save_file(load_file(ASSETS / "nano.safetensors"), folder / "nano.safetensors", nano_metadata())


def nano_metadata() -> dict[str, str]:
    """Return the metadata of the embedded model, with a control scale of 1."""
    with safe_open(ASSETS / "nano.safetensors", "numpy") as nano:
        return {**nano.metadata(), "svd.control_scale": "1"}


def run_checkout(root: Path, result: Path, only: list[str]) -> None:
    """Record the checkout `root` in a process that imports nothing but that checkout."""
    result.mkdir(parents=True, exist_ok=True)
    start = f"import runpy, sys; sys.path[0] = {str(root)!r}; runpy.run_path({__file__!r}, run_name='__main__')"
    command = [sys.executable, "-c", start, str(root), "--record", str(result)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as work:
        # Relative paths from here, so that texts which name a file are the same for both.
        prepare(Path(work))
        subprocess.run([*command, *(["--only", *only] if only else [])], cwd=work, env=environment, check=True)


def compare(old: Path, new: Path) -> tuple[float, str]:
    """Return the largest difference between two results of a case, infinite for other kinds, and notes."""
    largest, notes = 0.0, []
    with np.load(old) as before, np.load(new) as after:
        for name in sorted({*before.files, *after.files}):
            if name not in before.files or name not in after.files:
                largest, note = float("inf"), "only in " + ("old" if name in before.files else "new")
            else:
                distance, note = difference(before[name], after[name])
                largest = max(largest, distance)
            if note:
                notes.append(f"{name}: {note}")
    return largest, "; ".join(notes)


def difference(before: np.ndarray, after: np.ndarray) -> tuple[float, str]:
    """Return the largest difference between two arrays or texts, and a note on it, empty for equal ones."""
    if before.shape != after.shape or before.dtype.kind != after.dtype.kind:
        return float("inf"), f"{before.dtype} {list(before.shape)} became {after.dtype} {list(after.shape)}"
    if before.dtype.kind == "U":
        if str(before) == str(after):
            return 0.0, ""
        changed = [line for line in difflib.ndiff(str(before).splitlines(), str(after).splitlines()) if line[0] in "+-"]
        return float("inf"), "text differs: " + " | ".join(changed[:4])[:300]
    if np.array_equal(before, after):
        return 0.0, ""
    distances = np.abs(before.astype(np.float64) - after.astype(np.float64))
    return float(distances.max()), f"differs by up to {distances.max():.3g} in {np.mean(distances > 0):.2%}"


def main(arguments: list[str] | None = None) -> int:
    """Run both checkouts, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="cases to run (default: all)")
    parser.add_argument("--results", type=Path, help="keep what was made here; what OLD made is not made again")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.record:
        record(options.old, options.record, options.only)
        return 0
    with tempfile.TemporaryDirectory() as made:
        results = [(options.results or Path(made)).resolve() / name for name in ("old", "new")]
        if not all((results[0] / f"{name}.npz").exists() for name in commands(options.only)):
            run_checkout(options.old.resolve(), results[0], options.only)
        run_checkout(options.new.resolve(), results[1], options.only)
        worst = 0.0
        for name in commands(options.only):
            largest, notes = compare(*(result / f"{name}.npz" for result in results))
            worst = max(worst, largest)
            print(f"{name:32} {largest:<10.3g} {notes}")
    return int(worst > 0)


if __name__ == "__main__":
    sys.exit(main())
