"""Malicious files: each is refused at once with one short sentence."""

import json
import struct
from pathlib import Path

import pytest

from svd_core.checkpoints import CheckpointError, inspect_checkpoint, load_model
from svd_core.lora import LoraError, load_lora
from tests.helpers.checkpoint_files import SMALL_METADATA, UNET, only_unet, small_tensors, write_hollow

DATA = Path(__file__).parents[1] / "data" / "hostile"
FILES = sorted(
    path for path in DATA.iterdir() if path.name.startswith(("st_", "fuzz_safetensors", "fuzz_lora", "lora"))
)
CONFIGS = sorted(DATA.glob("fuzz_configs*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hostile_files_are_one_sentence_for_models_and_for_loras(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    file.write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError) as model:
        load_model(file)
    with pytest.raises((CheckpointError, LoraError)) as lora:
        load_lora(file)
    for error in (model, lora):
        assert "\n" not in str(error.value) and len(str(error.value)) < 500 + 2 * len(str(tmp_path))
        assert str(error.value).isprintable() and "; " in str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_hostile_configs_are_one_sentence(path: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    write_hollow(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", {"a": (1,)})
    for name in ("config.json", "diffusion_pytorch_model.safetensors.index.json"):
        (tmp_path / "unet" / name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + 2 * len(str(tmp_path))


def written(folder: Path, header: object, data: int = 0) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * data)
    return path


def tensor(shape: object, begin: object = 0, end: object = 0, dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


HEADERS = [
    ({"a": tensor([2**62, 4])}, "does not fill 0 bytes"),
    ({"a": tensor([2**63 + 1])}, "not a type, a shape and two offsets"),
    ({"a": tensor([-1])}, "not a type, a shape and two offsets"),
    ({"a": tensor([1.0])}, "not a type, a shape and two offsets"),
    ({"a": tensor([True], 0, 4)}, "not a type, a shape and two offsets"),
    ({"a": tensor("11", 0, 4)}, "not a type, a shape and two offsets"),
    ({"a": tensor([0] * 17)}, "not a type, a shape and two offsets"),
    ({"a": tensor([1], 0, 4, dtype=["F32"])}, "not a type, a shape and two offsets"),
    ({"a": tensor([1], "0", 4)}, "not a type, a shape and two offsets"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, "not a type, a shape and two offsets"),
    ({"a": 1}, "not a type, a shape and two offsets"),
    ({"a": tensor([1], 4, 8)}, "'a' begins at byte 4, the tensor before it ends at 0"),
    ({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, "'b' begins at byte 0, the tensor before it ends at 4"),
    ({"a": tensor([1], 8, 4)}, "does not fill -4 bytes"),
    ({"__metadata__": [1], "a": tensor([1], 0, 4)}, "metadata is not a JSON object"),
    ({"\x1b[31m": 1}, r"'\\x1b\[31m' is not a type"),
    ({"n" * 2000: tensor([1], 0, 4)}, "name of 2,000 characters"),
    (b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 0]}}', "1e400 is too large"),
    (b'{"\\ud800": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}', "lone surrogate"),
    (b'{"a":' + b"[" * 100_000, "nested deeper than 64 levels"),
]


@pytest.mark.parametrize(("header", "words"), HEADERS, ids=[words for _, words in HEADERS])
def test_headers_that_make_no_sense_are_refused(header: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=rf"header of .*x\.safetensors is damaged \(.*{words}.*\); download"
    ) as caught:
        inspect_checkpoint(written(tmp_path, header, 8))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_header_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 90_000_000) + b"{" + b" " * 100)
    with path.open("r+b") as file:
        file.truncate(100_000_000)
    with pytest.raises(CheckpointError, match="header of 90,000,000 bytes; at most 20,000,000 are read"):
        inspect_checkpoint(path)


STEP = "conditioner.embedders.0.open_clip.model.visual.transformer.resblocks."
SIZES = [
    ({f"{STEP}9999.ln_1.weight": (32,)}, r"layers up to 9999, but 3 in all"),
    ({f"{UNET}input_blocks.9999.0.in_layers.0.weight": (32,)}, "lacks all of input_blocks"),
    ({f"{UNET}input_blocks.{'9' * 5000}.0.x": (32,)}, "tensors"),
    ({f"{UNET}input_blocks.0.0.weight": (10**6, 8, 3, 3)}, r"has the shape \[1000000, 8, 3, 3\]"),
    ({f"{UNET}input_blocks.0.0.weight": (0, 8, 3, 3)}, r"has the shape \[0, 8, 3, 3\]"),
    ({f"{UNET}label_emb.0.0.weight": ()}, r"has the shape \[\]"),
]


@pytest.mark.parametrize(("shapes", "words"), SIZES, ids=[words for _, words in SIZES])
def test_sizes_out_of_names_and_shapes_are_checked_before_a_network_is_made(shapes, words, tmp_path: Path) -> None:
    known = {key: tuple(value.shape) for key, value in small_tensors().items()} | shapes
    metadata = SMALL_METADATA
    with pytest.raises(CheckpointError, match=words):
        inspect_checkpoint(write_hollow(tmp_path / "x.safetensors", known, "F32", metadata))


@pytest.mark.parametrize(
    ("key", "value"), [("frames", "999999"), ("width", "99992"), ("height", "1" * 5000), ("head_channels", "2000")]
)
def test_metadata_cannot_ask_for_any_amount_of_memory(key: str, value: str, tmp_path: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in only_unet(small_tensors()).items()}
    path = write_hollow(tmp_path / "x.safetensors", shapes, "F32", SMALL_METADATA | {f"svd.{key}": value})
    with pytest.raises(
        CheckpointError, match=rf"svd\.{key} is '.*'; it must be a whole number from 1 to \d+"
    ) as caught:
        inspect_checkpoint(path)
    assert len(str(caught.value)) < 300
