"""Fuzz every reader of files and texts that anybody may have made.

    python -m tests.hostile.fuzz --cases 1000000 [--reader NAME ...] [--seed N] [--save FOLDER]

Files of cases lie in memory where the system has a folder there: on a disk, nine tenths of the time is the disk's.

A case passes if the reader returns, or raises ValueError or OSError with one short, printable sentence, within
MOST_SECONDS, or longer where it returns many pixels. The command prints the cases, and the distinct faults with an
input that causes each.
"""

import argparse
import json
import logging
import os
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import wave
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

MOST_SECONDS = 2.0
PIXELS_PER_SECOND = 4e6  # that a decoder may need besides: a few bytes can hold a valid picture of any size
MOST_MESSAGE = 600  # characters, without the path of the file
MEMORY = Path("/dev/shm")  # files here are in memory, on Linux
ODD_VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 1e308, -0.0, 0.1, "", "x", "1", "-1", "1e999", "nan",
    "\u0000", "\ud800", "\x1b[31m", "../..", "/etc/passwd", "x" * 300, [], {}, [[]], [None], {"a": {}}, [1, 2, 3],
    "F32", "svd", [0, 0], [4, 4], [2**62, 4],
)  # fmt: skip
ODD_TEXTS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" * 30, b"[" * 200, b"{\"a\":" * 100, b"\\ud800", b"\xff\xfe",
    b"\0", b"\xef\xbb\xbf", b",", b";", b"\"", b"\n", b"\r", b"%", b"-", b"0", b" ",
)  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader: the name of its file, valid contents to change, the function that reads it, and what is beside it.

    read: may return the number of pixels that it decoded. share: of the cases, beside those of the other readers;
    quick readers have most.
    """

    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = Path.exists
    share: int = 8


def readers() -> dict[str, Reader]:
    """Return all readers by name; imports the core on the first call."""
    from svd_core.batch.manifest import Manifest
    from svd_core.batch.rows import read_rows
    from svd_core.checkpoints import inspect_checkpoint
    from svd_core.checkpoints.camera_weights import load_camera_weights
    from svd_core.checkpoints.controlnet import load_controlnet
    from svd_core.checkpoints.diffusers_folder import open_checkpoint
    from svd_core.checkpoints.pose_network import load_pose_network
    from svd_core.cli.finish import read_latent
    from svd_core.cli.pickles import open_pickle
    from svd_core.controls.camera.moves import parse_path
    from svd_core.controls.camera.pose_files import parse_poses
    from svd_core.controls.drag import parse_drags
    from svd_core.finish.sound import read_sound
    from svd_core.lab.grid import parse_list
    from svd_core.lora import load_lora
    from svd_core.networks.config import UNetConfig
    from svd_core.pictures import open_picture
    from svd_core.pictures.strokes import parse_strokes
    from svd_core.storyboard.panels import parse_text
    from svd_core.training.log import COLUMNS, read_log
    from svd_core.training.state import read_state
    from svd_core.video import open_clip
    from svd_core.video.clip import parse_settings
    from tests.helpers.checkpoint_files import folder_tensors, small_tensors, write_folder
    from tests.helpers.nodes_pack import part

    def text(path: Path) -> str:
        return path.read_bytes().decode("utf-8", "surrogateescape")

    def picture(path: Path) -> int:
        return open_picture(path).numel() // 3

    def clip(path: Path) -> int:
        with open_clip(path) as opened:
            # Opening an animation decodes its frames too, for their durations.
            return 2 * sum(frame.numel() // 3 for _, frame in zip(range(3), opened, strict=False))

    def of_text(parse: Callable[[str], object]) -> Callable[[Path], object]:
        return lambda path: parse(text(path))

    motion_amount, inputs, names = (part(f"nodes.{name}") for name in ("motion_amount", "shared.inputs", "host.names"))
    log_rows = ",".join(COLUMNS) + "\n" + ",".join(["1", *["0.5"] * (len(COLUMNS) - 1)]) + "\n"
    latent = {"latent_tensor": {"dtype": "F32", "shape": [1, 4, 2, 2], "data_offsets": [0, 64]}}
    controlnet = {
        "controlnet_cond_embedding.conv_in.weight": {"dtype": "F32", "shape": [16, 3, 3, 3], "data_offsets": [0, 1728]}
    }
    camera = {"cc_projection.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    pose = {"pose_net.conv.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    header = {"out.2.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}, "__metadata__": {"a": "b"}}
    lora = {
        "diffusion_model.out.2.lora_down.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "diffusion_model.out.2.lora_up.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]},
        "diffusion_model.out.2.alpha": {"dtype": "F32", "shape": [], "data_offsets": [8, 12]},
        "__metadata__": {"lora_adapter_metadata": json.dumps({"r": 4, "alpha_pattern": {"out": 2}})},
    }
    record = {
        "step": 1, "seconds": 1.0, "base": "x", "scale": None, "numbers": {},
        "settings": dict.fromkeys(("method", "targets", "rank", "alpha", "optimizer", "ema"), 0),
        "totals": {"loss": 0.0, "steps": 0, "bands": [0.0] * 6, "clips": [0] * 6},
    }  # fmt: skip
    state = {"weights/a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    state["__metadata__"] = {"training": json.dumps(record)}
    config = {
        "_class_name": "UNetSpatioTemporalConditionModel", "block_out_channels": [32, 64], "num_frames": 4,
        "num_attention_heads": [1, 2], "down_block_types": ["CrossAttnDownBlockSpatioTemporal"],
        "addition_time_embed_dim": 32, "layers_per_block": 2,
    }  # fmt: skip
    entry = {"name": "a", "status": "done", "key": "x", "output": "a.mp4", "attempts": 1, "seconds": 1.0, "size": 3}
    settings = {"svd_reel": {"seed": 1, "steps": [1, 2]}, "fps": "7", "size": [64, 64]}
    board = [{"image": "a.png", "seconds": 2, "move": "pan left", "seed": 1, "transition": "cut"}]
    poses = [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]] * 3

    return {
        "safetensors": Reader("x.safetensors", (_tensors(header, 4),), inspect_checkpoint),
        "lora": Reader("x.safetensors", (_tensors(lora, 12),), load_lora),
        "config": Reader(
            "unet/config.json",
            (_json(config),),
            lambda path: inspect_checkpoint(path.parent.parent),
            lambda folder: write_folder(folder, folder_tensors(small_tensors())),
            share=1,
        ),
        "settings": Reader("x.txt", (_json(settings),), lambda path: parse_settings(path.read_bytes())),
        "manifest": Reader(
            "manifest.jsonl", (b'{"format": 2}\n' + _json(entry) + b"\n",), lambda path: Manifest(path.parent)
        ),
        "old manifest": Reader(
            "manifest.json", (_json({"format": 1, "clips": {"a": entry}}),), lambda path: Manifest(path.parent)
        ),
        "training state": Reader("state.safetensors", (_tensors(state, 4),), lambda path: read_state(path.parent)),
        "storyboard": Reader(
            "x.txt",
            (_json(board), b"image,seconds,move,seed\na.png,2,zoom in 1.1,3\nb.png,1,,\n"),
            lambda path: parse_text(text(path)),
        ),
        "batch csv": Reader("x.csv", (b"image,name,frames,seed\na.png,a,4,1\nb.png,,,2\n",), read_rows),
        "batch json": Reader("x.json", (_json({"clips": [{"image": "a.png", "seed": 1}], "settings": {}}),), read_rows),
        "camera path": Reader(
            "x.txt",
            (b"pan left 0.2 ease then zoom in 1.2", b"roll cw 5; hold 3", b"0: 0 0 1 0; 10: 0.1 0 1 2"),
            lambda path: parse_path(text(path)),
        ),
        "camera poses": Reader(
            "x.txt",
            (_json(poses), b"url\n0 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n"),
            lambda path: parse_poses(text(path)),
        ),
        "drag": Reader("x.txt", (b"0.5,0.5; 0.7,0.5 | 0.1,0.1; 0.2,0.2",), lambda path: parse_drags(text(path))),
        "strokes": Reader("x.txt", (b"brush 0.05 60%: 0.3,0.4 0.35,0.42; box: 0,0 1,1",), of_text(parse_strokes)),
        "list": Reader("x.txt", (b"1, 2, 3",), of_text(lambda text: parse_list(text, "seeds", whole=True))),
        "curve": Reader(
            "x.txt", (b"0:60, 0.5:180, 1:127",), of_text(lambda text: motion_amount.parse_points(text, "bucket_curve"))
        ),
        "numbers": Reader("x.txt", (b"1, 2.5, 1",), of_text(lambda text: inputs.parse_numbers(text, "azimuths"))),
        "file prefix": Reader(
            "x.txt", (b"clips/%date:yyyy-MM-dd%/%KSampler.seed%_%width%",), of_text(names.file_prefix)
        ),
        "shard index": Reader(
            "model.safetensors.index.json",
            (_json({"metadata": {"total_size": 4}, "weight_map": {"out.2.weight": "a.safetensors"}}),),
            open_checkpoint,
            lambda folder: (folder / "a.safetensors").write_bytes(_tensors(header, 4)),
        ),
        "training log": Reader("log.csv", (log_rows.encode(),), lambda path: read_log(path.parent)),
        "latent": Reader("x.latent", (_tensors(latent, 64),), read_latent),
        "controlnet": Reader("x.safetensors", (_tensors(controlnet, 1728),), load_controlnet),
        "camera weights": Reader(
            "x.safetensors", (_tensors(camera, 4),), lambda path: load_camera_weights(path, UNetConfig())
        ),
        "pose network": Reader("x.safetensors", (_tensors(pose, 4),), load_pose_network),
        "pickle": Reader("x.pth", (_pickle(),), open_pickle),
        "sound": Reader("x.wav", (_sound(),), read_sound),
        "picture png": Reader("x.png", (_picture("PNG"),), picture, share=2),
        "picture jpeg": Reader("x.jpg", (_picture("JPEG"),), picture, share=2),
        "picture webp": Reader("x.webp", (_picture("WEBP"),), picture, share=2),
        "picture tiff": Reader("x.tiff", (_picture("TIFF"),), picture, share=2),
        "clip webp": Reader("x.webp", (_clip("webp"),), clip, share=2),
        "clip gif": Reader("x.gif", (_clip("gif"),), clip, share=2),
        "clip mp4": Reader("x.mp4", (_clip("mp4"),), clip, share=2),
    }


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _tensors(header: dict, size: int) -> bytes:
    content = _json(header)
    return struct.pack("<Q", len(content)) + content + bytes(size)


def _picture(kind: str) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _clip(suffix: str) -> bytes:
    import torch

    from svd_core.video import write_clip

    frames = torch.rand(3, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        return write_clip(frames, Path(folder) / f"x.{suffix}", fps=7, metadata={"a": 1}).read_bytes()


def _pickle() -> bytes:
    import torch

    buffer = BytesIO()
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, buffer)
    return buffer.getvalue()


def _sound() -> bytes:
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(400))
    return buffer.getvalue()


def changed(content: bytes, source: random.Random) -> bytes:
    """Return content with a few random changes: of a JSON value, or of bytes."""
    for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
        change = source.choice((_json_value, _json_value, _bytes, _odd_text, _cut, _repeat))
        content = change(content, source)
    return content[:200_000]


def _json_value(content: bytes, source: random.Random) -> bytes:
    """Replace, add or remove one value of JSON, in a safetensors header or a whole file."""
    head = b""
    start = content.find(b"{") if content[8:9] == b"{" else 0
    body, tail = content[start:], b""
    if start == 8:
        (length,) = struct.unpack("<Q", content[:8])
        body, tail = content[8 : 8 + length], content[8 + length :]
    try:
        text = json.dumps(_mutated(json.loads(body), source)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return _bytes(content, source)
    head = struct.pack("<Q", len(text)) if start == 8 else b""
    return head + text + tail


def _mutated(value: object, source: random.Random) -> object:
    if isinstance(value, str) and value[:1] in "[{" and source.random() < 0.5:
        try:  # JSON inside a text, as metadata holds it
            return json.dumps(_mutated(json.loads(value), source))
        except (ValueError, RecursionError):
            pass
    if isinstance(value, dict) and value and source.random() < 0.8:
        key = source.choice(list(value))
        roll = source.random()
        if roll < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if roll < 0.2:
            return {**value, str(source.choice(ODD_VALUES)): source.choice(ODD_VALUES)}
        return {**value, key: _mutated(value[key], source)}
    if isinstance(value, list) and value and source.random() < 0.8:
        place = source.randrange(len(value))
        return [*value[:place], _mutated(value[place], source), *value[place + 1 :]]
    return source.choice(ODD_VALUES)


def _bytes(content: bytes, source: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(source.choice((1, 1, 2, 4, 16))):
        changed[source.randrange(len(changed))] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
    return bytes(changed)


def _odd_text(content: bytes, source: random.Random) -> bytes:
    place = source.randrange(len(content) + 1)
    return content[:place] + source.choice(ODD_TEXTS) * source.choice((1, 1, 1, 50)) + content[place:]


def _cut(content: bytes, source: random.Random) -> bytes:
    place, length = source.randrange(len(content) + 1), source.choice((1, 4, 16, 10**6))
    return content[:place] + content[place + length :]


def _repeat(content: bytes, source: random.Random) -> bytes:
    place = source.randrange(len(content) + 1)
    length = source.choice((1, 4, 16, 64))
    return content[: place + length] + content[place:]


def fault_of(reader: Reader, content: bytes, folder: Path) -> str:
    """Return what is wrong with the reader's answer to a content, "" for nothing."""
    (folder / reader.file).write_bytes(content)
    fault, took, pixels = _answer(reader, folder, time.monotonic)
    if not fault and took > MOST_SECONDS + pixels / PIXELS_PER_SECOND:
        # Other programs may have run; the clock of this process takes as long as a quick case, so it is read only now.
        fault, took, pixels = _answer(reader, folder, time.process_time)
    slow = took > MOST_SECONDS + pixels / PIXELS_PER_SECOND
    return fault or (f"took {took:.0f} s for {pixels:,} pixels" if slow else "")


def _answer(reader: Reader, folder: Path, clock: Callable[[], float]) -> tuple[str, float, int]:
    """Return what is wrong with how a reader ends, the seconds that it took, and the pixels that it decoded."""
    begin, fault, pixels = clock(), "", 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader.read(folder / reader.file)
        pixels = found if isinstance(found, int) else 0
    except (ValueError, OSError) as error:
        said, kind = str(error).replace(str(folder), ""), f"{type(error).__name__} of {_place(error)}"
        if not said.isprintable() or not said:
            fault = f"{kind}: not printable: {said[:100]!r}"
        elif len(said) > MOST_MESSAGE:
            fault = f"{kind}: {len(said)} characters"
        elif isinstance(error, UnicodeError):
            fault = kind
    except Exception as error:
        fault = f"{type(error).__name__} of {_place(error)}"
    return fault, clock() - begin, pixels


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def run(name: str, cases: int, seed: int) -> dict[str, bytes]:
    """Return the distinct faults of a reader, each with an input that causes it."""
    reader, source = readers()[name], random.Random(f"{seed} {name}")
    faults: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        reader.prepare(Path(folder))
        for _ in range(cases):
            content = changed(source.choice(reader.seeds), source)
            fault = fault_of(reader, content, Path(folder))
            if fault:
                faults.setdefault(fault, content)
    return faults


def main() -> int:
    """Fuzz the readers and print the figures; the exit code is 1 if a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1_000_000, help="cases of all readers together (1000000)")
    parser.add_argument("--reader", action="append", choices=tuple(readers()), help="only this reader; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other cases (0)")
    parser.add_argument("--save", type=Path, help="write the input of each fault into this folder")
    asked = parser.parse_args()
    logging.disable()
    shares = {name: reader.share for name, reader in readers().items() if not asked.reader or name in asked.reader}

    total = broken = 0
    for name, share in shares.items():
        begin, cases = time.monotonic(), -(-asked.cases * share // sum(shares.values()))
        faults = run(name, cases, asked.seed)
        total, broken = total + cases, broken + len(faults)
        print(f"{name}: {cases:,} cases, {len(faults)} distinct faults, {time.monotonic() - begin:.0f} s", flush=True)
        for number, (fault, content) in enumerate(faults.items()):
            print(f"  {fault}\n    {content[:200]!r}", flush=True)
            if asked.save:
                asked.save.mkdir(parents=True, exist_ok=True)
                (asked.save / f"{name} {number}".replace(" ", "_")).write_bytes(content)
    print(f"{total:,} cases, {broken} distinct faults")
    return int(broken > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
