"""One front door: everything by name in Python, the same clips as from the command line and from batch rows."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.batch.jobs import ModelSpec, make_clip, plan_jobs
from svd_core.batch.rows import read_rows
from svd_core.checkpoints.networks_by_name import load_networks
from svd_core.checkpoints.source import CheckpointError
from svd_core.cli.main import main
from svd_core.controls.camera.weights import LoadedCameraWeights
from svd_core.pictures import as_batch, as_image
from svd_core.pipelines.between import inbetween, loop
from svd_core.pipelines.steered import FILES, open_steering, steered_clip
from svd_core.video import read_clip
from tests.helpers.steering_networks import write_networks

QUICK = {"frames": 3, "width": 64, "height": 64, "steps": 1}


@pytest.fixture(scope="module")
def model() -> svd.SVDModel:
    return svd.load_model("nano")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two pictures of 64x64, and masks of the left and of the right half."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    for name in ("first", "last"):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for name, part in (("left", slice(None, 32)), ("right", slice(32, None))):
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[:, part] = 255
        Image.fromarray(mask).save(folder / f"{name}.png")
    pictures = {path.stem: str(path) for path in folder.iterdir()}
    return pictures | write_networks(folder, svd.load_model("nano").config.unet)


def levels(clip: torch.Tensor) -> torch.Tensor:
    """A clip in the 256 steps of files."""
    return (clip * 255).round().to(torch.uint8)


STEERED = {
    "camera": {"camera": "pan right 0.15", "camera_mode": "dual clock"},
    "camera with depth": {"camera": "dolly in 0.3", "depth": "left"},
    "end picture": {"end_image": "last"},
    "two end pictures": {"end_image": ["last", "left"], "between_mode": "blend"},
    "loop": {"loop": True, "between_mode": "roll"},
    "motion mask": {"motion_mask": "left", "mask_strength": 0.5, "still_bucket": 5, "keep_still": False},
    "drag": {"drag": "0.3,0.5; 0.5,0.5", "drag_mask": "left", "drag_scale": "1.2", "drag_strength": 1.5},
    "two drags": {"drag": "0.3,0.5; 0.2,0.5 | 0.7,0.5; 0.8,0.5", "drag_mask": ["left", "right"]},
    "controlnet": {
        "controlnet": "controlnet",
        "controlnet_images": "last",
        "controlnet_lines": True,
        "controlnet_detail": 2.0,
        "controlnet_strength": "1, 0.5",
        "controlnet_mask": "left",
        "controlnet_end": 0.9,
    },
    "camera weights": {
        "camera_weights": "camera_weights",
        "camera": "dolly in 0.3",
        "camera_speed": 2.0,
        "camera_end": 0.8,
    },
    "fine-tuned in-between": {"end_image": "last", "between_weights": "between_weights", "between_repeats": 1},
    "mask and drag": {"motion_mask": "left", "drag": "0.3,0.5; 0.5,0.5", "drag_mask": "left"},
}


def with_files(given: dict, files: dict[str, str]) -> dict:
    """The values with names of pictures replaced by their paths."""
    named = {}
    for name, value in given.items():
        if name in FILES:
            value = [files[one] for one in value] if isinstance(value, list) else files[value]
        named[name] = value
    return named


def as_words(given: dict) -> list[str]:
    """The values as options of the command line."""
    words = []
    for name, value in given.items():
        if name == "keep_still":
            words.append("--no-keep-still")
        elif value is True:
            words.append(f"--{name.replace('_', '-')}")
        else:
            several = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, several)]
    return words


@pytest.mark.parametrize("name", STEERED)
def test_python_the_command_line_and_batch_rows_make_the_same_clip(name, model, files, tmp_path):
    given = with_files(STEERED[name], files)
    made = levels(svd.animate(model, files["first"], **QUICK, **given))
    assert len(made) >= 2 and made.float().std() > 0

    words = ["animate", files["first"], "--output", str(tmp_path / "clip"), "--quiet"]
    words += as_words(QUICK | given)
    assert main(words) == 0
    assert torch.equal(levels(read_clip(tmp_path / "clip")[0]), made)

    table = tmp_path / "rows.csv"
    cells = {"image": files["first"], **QUICK, **given}
    texts = ["|".join(value) if isinstance(value, list) else str(value) for value in cells.values()]
    table.write_text(",".join(cells) + "\n" + ",".join(f'"{text}"' for text in texts) + "\n")
    (tmp_path / "out").mkdir()
    (job,) = plan_jobs(read_rows(table), ModelSpec("nano"), tmp_path / "out", "")
    assert torch.equal(levels(read_clip(make_clip(model, job, "nano"))[0]), made)


NETWORKS_OFF = {
    "controlnet": {"controlnet": "controlnet", "controlnet_images": "last", "controlnet_strength": 0.0},
    "camera weights": {"camera_weights": "camera_weights", "camera": "dolly in 0.3", "camera_strength": 0.0},
}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("camera weights", "camera_start", 0.5),
        ("camera weights", "camera_end", 0.0),
        ("controlnet", "controlnet_detail", 0.3),
        ("controlnet", "controlnet_start", 0.5),
    ],
)
def test_a_share_of_the_sampling_and_the_detail_of_lines_change_the_clip(name, field, value, model, files):
    given = with_files(STEERED[name], files)
    plain = svd.animate(model, files["first"], **QUICK, **given)
    assert not torch.equal(svd.animate(model, files["first"], **QUICK, **(given | {field: value})), plain)


@pytest.mark.parametrize("name", NETWORKS_OFF)
def test_networks_at_strength_0_leave_the_clip_bit_equal(name, model, files):
    plain = svd.animate(model, files["first"], **QUICK)
    assert torch.equal(svd.animate(model, files["first"], **QUICK, **with_files(NETWORKS_OFF[name], files)), plain)
    on = with_files(STEERED[name], files)
    assert not torch.equal(svd.animate(model, files["first"], **QUICK, **on), plain)


def test_a_network_is_loaded_once_for_many_clips_and_again_when_its_file_changes(model, files, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(Path(files["controlnet"]).read_bytes())
    loaded = load_networks({"controlnet": str(path), "seed": 1}, model)
    assert loaded["seed"] == 1 and load_networks({"controlnet": path}, model)["controlnet"] is loaded["controlnet"]
    steering = open_steering({"controlnet": loaded["controlnet"], "controlnet_images": files["last"]})
    settings = svd.AnimateSettings(**QUICK)
    by_path = svd.animate(model, files["first"], settings, controlnet=path, controlnet_images=files["last"])
    assert torch.equal(steered_clip(model, as_image(files["first"]), settings, steering), by_path)
    os.utime(path, (1, 1))
    assert load_networks({"controlnet": path}, model)["controlnet"] is not loaded["controlnet"]


def test_a_changed_mask_is_another_clip_of_a_batch(files, tmp_path):
    mask = tmp_path / "mask.png"
    rows = tmp_path / "rows.csv"
    rows.write_text(f"image,motion_mask\n{files['first']},mask.png\n")
    keys = []
    for name in ("left", "left", "right"):
        mask.write_bytes(Path(files[name]).read_bytes())
        (job,) = plan_jobs(read_rows(rows), ModelSpec("nano"), tmp_path, ".mp4")
        keys.append(job.key)
    assert keys[0] == keys[1] != keys[2]


def test_the_front_door_leads_to_the_pipelines(model, files):
    settings = svd.AnimateSettings(**QUICK)
    pictures = [Image.open(files[name]) for name in ("first", "last")]
    ended = svd.animate(model, pictures[0], settings, end_image=pictures[1])
    assert torch.equal(ended, inbetween(model, pictures, settings))
    assert torch.equal(svd.animate(model, pictures[0], settings, loop=True), loop(model, pictures[0], settings))


def pictures_of(path: str) -> dict[str, object]:
    """One picture in every form that is accepted."""
    picture = Image.open(path)
    array = np.asarray(picture)
    return {
        "path": Path(path),
        "text": path,
        "PIL": picture,
        "uint8 array": array,
        "float array": array.astype(np.float32) / 255,
        "double array": array / 255,
        "turned view": np.ascontiguousarray(array[:, ::-1])[:, ::-1],
        "uint8 tensor": torch.from_numpy(array.copy()),
        "IMAGE": torch.from_numpy(array.copy())[None].float() / 255,
        "list": [picture],
        "official": torch.from_numpy(array.copy())[None].movedim(-1, 1).float() / 255 * 2 - 1,
    }


def test_pictures_in_any_form_are_the_same_batch(files):
    forms = {name: as_batch(picture) for name, picture in pictures_of(files["first"]).items()}
    for name, batch in forms.items():
        assert batch.shape == (1, 3, 64, 64) and (batch - forms["path"]).abs().max() < 2e-7, name
    pair = as_batch([files["first"], Image.open(files["last"])])
    assert pair.shape == (2, 3, 64, 64) and torch.equal(pair[:1], forms["path"])


WRONG = [
    (
        {"image": [np.zeros((8, 8, 3)), np.zeros((8, 9, 3))]},
        ValueError,
        "several sizes .8x8, 9x8.; give pictures of one",
    ),
    ({"image": []}, ValueError, "empty; give at least 1"),
    ({"image": 7}, ValueError, "image is a int; give a path"),
    ({"image": "absent.png"}, FileNotFoundError, "absent.png does not exist"),
    ({"motion_buckets": 7}, TypeError, "no option 'motion_buckets'"),
    ({"steps": 1, "num_inference_steps": 2}, TypeError, "are the same; give one"),
    ({"depth": np.zeros((8, 8))}, ValueError, "depth has no effect without camera"),
    ({"loop": True, "camera": "pan right"}, ValueError, "loop and camera cannot be combined"),
    ({"mask_strength": 0.0}, ValueError, "mask_strength has no effect without motion_mask"),
    ({"motion_mask": [np.ones((8, 8))] * 2}, ValueError, "motion_mask takes 1 picture .got 2."),
    (
        {"controlnet": "absent.safetensors", "controlnet_images": np.ones((8, 8, 3))},
        CheckpointError,
        "absent.safetensors",
    ),
    ({"controlnet_images": np.ones((8, 8, 3))}, ValueError, "controlnet_images has no effect without controlnet;"),
    ({"controlnet_strength": 1.0}, ValueError, "controlnet_strength has no effect without controlnet;"),
    (
        {"camera_weights": LoadedCameraWeights(None, "motionctrl", "net")},
        ValueError,
        "no effect without camera or camera_poses",
    ),
    ({"camera_poses": "absent.txt"}, FileNotFoundError, "camera poses absent.txt does not exist"),
    ({"camera_speed": 2.0}, ValueError, "camera_speed has no effect without camera_weights"),
    ({"camera_end": 0.5}, ValueError, "camera_end has no effect without camera_weights"),
    (
        {"camera_weights": LoadedCameraWeights(None, "motionctrl", "net"), "camera": "dolly in", "camera_end": 2.0},
        ValueError,
        "1",
    ),
    ({"controlnet_detail": 2.0}, ValueError, "controlnet_detail has no effect without controlnet"),
    (
        {"end_image": np.ones((8, 8, 3)), "between_mode": "fine-tuned"},
        ValueError,
        "fine-tuned needs backward motion weights",
    ),
    ({"between_repeats": 2}, ValueError, "between_repeats has no effect without between_weights"),
    ({"loras": "absent.safetensors"}, ValueError, "absent.safetensors"),
]


@pytest.mark.parametrize(("given", "kind", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_wrong_arguments_end_in_a_sentence(given, kind, words, model, files):
    given = {"image": files["first"], **QUICK} | given
    with pytest.raises(kind, match=words):
        svd.animate(model, **given)


def test_names_of_other_programs_are_accepted(model, files):
    own = {"steps": 1, "motion_bucket": 60, "augmentation": 0.1, "min_guidance": 1.0, "max_guidance": 2.0}
    theirs = {"num_inference_steps": 1, "motion_bucket_id": 60, "noise_aug_strength": 0.1}
    theirs |= {"min_guidance_scale": 1.0, "max_guidance_scale": 2.0, "num_frames": 3}
    size = {"width": 64, "height": 64}
    clips = [svd.animate(model, files["first"], **size, **given) for given in (own | {"frames": 3}, theirs)]
    assert torch.equal(*clips)


@pytest.mark.parametrize(
    "loras", ["nano_pan_left:0.5", ("nano_pan_left", 0.5), [("nano_pan_left", 0.5, 0.5)], ["nano_pan_left:0.5"]]
)
def test_loras_are_given_in_any_form(loras, model, files):
    pan = svd.apply_loras(model, [(svd.load_lora("nano_pan_left"), 0.5, 0.5)])
    expected = svd.animate(pan, files["first"], **QUICK)
    assert torch.equal(svd.animate(model, files["first"], loras=loras, **QUICK), expected)
    assert not torch.equal(svd.animate(model, files["first"], **QUICK), expected)


def test_a_model_is_pickled_and_moved(model, files):
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(svd.animate(twin, files["first"], **QUICK), svd.animate(model, files["first"], **QUICK))
    assert twin.to("cpu", "bfloat16") is twin and twin.dtype == torch.bfloat16
    assert twin.to(dtype="float32").dtype == torch.float32 and str(twin.device) == "cpu"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": "cuda:99"}, "device cuda:99 is not available; use cpu"),
        ({"device": "warp"}, "device warp is not available; use cpu"),
        ({"dtype": "float12"}, "dtype 'float12' is unknown; use one of float32, float16"),
        ({"dtype": torch.int8}, "cannot be cast to torch.int8; use"),
    ],
)
def test_devices_and_dtypes_that_cannot_be_end_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        svd.load_model("nano", **given)


def test_dtypes_by_name_are_those_of_torch():
    assert svd.load_model("nano", device="auto", dtype="float16").dtype == torch.float16
    assert svd.load_model("nano", dtype="bf16").dtype == torch.bfloat16
