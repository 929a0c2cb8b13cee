"""Loading: layouts, prefixes, dtypes, mapping, metadata, completion from another checkpoint."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from svd_core.checkpoints import CheckpointError, inspect_checkpoint, load_model, read_state_dict, split_state_dict
from tests.helpers.checkpoint_files import (
    SMALL,
    SMALL_METADATA,
    TINY,
    folder_tensors,
    only_unet,
    same_weights,
    small_tensors,
    tiny_tensors,
    write_folder,
    write_hollow,
)
from tests.helpers.golden_rule import key_table

PARTS = ("unet", "vae", "image_encoder")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Files of a small model of odd sizes: whole, and its UNet alone under every prefix."""
    root, tensors = tmp_path_factory.mktemp("small"), small_tensors()
    save_file(tensors, root / "whole.safetensors", metadata=SMALL_METADATA)
    save_file(only_unet(tensors), root / "unet.safetensors", metadata=SMALL_METADATA)
    save_file(only_unet(tensors, "diffusion_model."), root / "unet_short_prefix.safetensors", metadata=SMALL_METADATA)
    save_file(only_unet(tensors, ""), root / "unet_no_prefix.safetensors", metadata=SMALL_METADATA)
    return root


@pytest.fixture(scope="module")
def model(files):
    return load_model(files / "whole.safetensors")


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    """The golden tiny model, with SVD's own topology, as a file and as a diffusers folder."""
    root = tmp_path_factory.mktemp("golden")
    save_file(tiny_tensors(), root / "tiny.safetensors", metadata=TINY)
    write_folder(root / "folder", folder_tensors(tiny_tensors()))
    return root


@pytest.fixture(scope="module")
def golden_model(golden):
    return load_model(golden / "tiny.safetensors")


def test_every_size_is_read_from_the_shapes(model):
    assert model.config == SMALL and model.variant == "custom"


def test_sizes_of_the_golden_model_are_read(golden_model):
    unet, vae, tower = golden_model.config.unet, golden_model.config.vae, golden_model.config.image_encoder
    assert (unet.model_channels, unet.channel_mult, unet.attention_levels) == (32, (1, 2, 4, 4), (0, 1, 2))
    assert (unet.head_channels, unet.context_channels, unet.vector_channels) == (16, 64, 768)
    assert (tower.width, tower.layers, tower.head_channels, tower.image_size) == (64, 3, 16, 224)
    assert (vae.encoder.channels, vae.temporal, vae.quant_conv, vae.post_quant_conv) == (32, True, True, False)
    assert (golden_model.config.frames, golden_model.config.width, golden_model.config.height) == (4, 64, 64)


def test_networks_hold_the_stored_values(model):
    tensors = small_tensors()
    assert torch.equal(model.unet.state_dict()["out.2.weight"], tensors["model.diffusion_model.out.2.weight"])
    stored = tensors["conditioner.embedders.3.encoder.quant_conv.weight"]
    assert torch.equal(model.vae.state_dict()["quant_conv.weight"], stored)
    networks = [getattr(model, part) for part in PARTS]
    assert not any(t.is_meta for network in networks for t in [*network.buffers(), *network.parameters()])


def test_folder_layout_loads_to_the_same_model(golden, golden_model):
    folder = load_model(golden / "folder")
    for part in PARTS:
        assert getattr(folder.config, part) == getattr(golden_model.config, part)
        assert same_weights(getattr(folder, part), getattr(golden_model, part))
    assert folder.config.frames == 4  # from unet/config.json
    image, latent = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(2, 4, 8, 8)
    inputs = (torch.randn(2, 8, 8, 8), torch.tensor([0.3, 0.3]), torch.randn(2, 1, 64), torch.randn(2, 768), 2)

    def outputs(model):
        with torch.no_grad():
            return model.encode_image(image), model.encode_latent(image), model.decode(latent), model.unet(*inputs)

    # Not bit-equal: mapped weights keep their file's alignment, and matrix kernels choose their summation order by it.
    for one, other in zip(outputs(folder), outputs(golden_model), strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


def test_fp16_files_of_a_folder_are_read_when_asked_for_or_alone(golden, tmp_path):
    parts = {"unet": folder_tensors(tiny_tensors())["unet"]}
    half = {"unet": {key: value.half() for key, value in parts["unet"].items()}}
    alone = load_model(write_folder(tmp_path / "alone", half, half=".fp16"))
    assert alone.dtype == torch.float32
    both = write_folder(tmp_path / "both", half, half=".fp16")
    write_folder(both, parts)
    assert inspect_checkpoint(both).dtypes == {"float32": 1428}
    assert set(read_state_dict(both, half=True).dtypes.values()) == {"F16"}
    assert same_weights(load_model(both, dtype=torch.float16).unet, load_model(tmp_path / "alone", dtype=None).unet)
    assert same_weights(load_model(both).unet, load_model(golden / "folder").unet)


INDEXES = ["diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.fp16.json"]


@pytest.mark.parametrize("index_name", INDEXES)
def test_sharded_folder_is_read_through_its_index(golden_model, tmp_path, index_name):
    unet = folder_tensors(tiny_tensors())["unet"]
    folder = write_folder(tmp_path / "sharded", {"unet": {}})
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    keys = sorted(unet)
    shards = {"diffusion_pytorch_model-00001-of-00002.safetensors": keys[:700], "shard-two.safetensors": keys[700:]}
    for name, members in shards.items():
        save_file({key: unet[key] for key in members}, folder / "unet" / name)
    index = {"weight_map": {key: name for name, members in shards.items() for key in members}}
    (folder / "unet" / index_name).write_text(json.dumps(index))
    assert same_weights(load_model(folder).unet, golden_model.unet)
    only = load_model(folder / "unet")  # the folder of one part
    assert same_weights(only.unet, golden_model.unet) and only.vae is None
    (folder / "unet" / "shard-two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards \(shard-two\.safetensors\)"):
        load_model(folder)


def test_a_shard_whose_name_no_file_can_have_is_one_sentence(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "a" * 5000}}))
    with pytest.raises(CheckpointError, match=r"lacks 1 of 1 shards \(a+\.\.\.\)") as caught:
        read_state_dict(index)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["unet", "unet_short_prefix", "unet_no_prefix"])
def test_unet_only_files_are_completed_from_another_checkpoint(files, model, name):
    path = files / f"{name}.safetensors"
    alone = load_model(path)
    assert alone.vae is None and alone.image_encoder is None and alone.config.vae is None
    with pytest.raises(ValueError, match="no vae.*complete_from"):
        alone.encode_latent(torch.zeros(1, 3, 64, 64))
    whole = load_model(path, complete_from=files / "whole.safetensors")
    assert all(same_weights(getattr(whole, part), getattr(model, part)) for part in PARTS)
    assert whole.config == model.config
    with pytest.raises(CheckpointError, match="has no VAE and no image encoder to complete"):
        load_model(path, complete_from=path)


def test_unet_of_a_folder_is_completed_from_a_single_file(golden, golden_model, tmp_path):
    path = tmp_path / "AnimateLCM-SVD-xt.safetensors"
    save_file(folder_tensors(tiny_tensors())["unet"], path, metadata=TINY)
    whole = load_model(path, complete_from=golden / "tiny.safetensors")
    assert all(same_weights(getattr(whole, part), getattr(golden_model, part)) for part in PARTS)
    assert whole.variant == "animatelcm" and whole.config.frames == 4
    assert inspect_checkpoint(path).layout == "UNet only, folder naming"


def test_half_a_vae_is_completed_with_the_other_half(files, model, tmp_path):
    tensors = {key: t for key, t in small_tensors().items() if not key.startswith("conditioner.embedders.3.")}
    save_file(tensors, tmp_path / "no_encoder.safetensors", metadata=SMALL_METADATA)
    alone = load_model(tmp_path / "no_encoder.safetensors")
    assert alone.config.vae.encoder is None
    whole = load_model(tmp_path / "no_encoder.safetensors", complete_from=files / "whole.safetensors")
    assert same_weights(whole.vae, model.vae) and whole.config == model.config


def test_first_stage_encoder_serves_where_the_conditioners_is_absent():
    tensors = {key: t for key, t in tiny_tensors().items() if not key.startswith("conditioner.embedders.3.")}
    short = split_state_dict(tensors, TINY)
    assert short.config.vae.encoder and not short.config.vae.quant_conv
    assert "first_stage_model.encoder.conv_in.weight" in short.vae.sources()
    frame = tiny_tensors("image_decoder_tiny", 3)
    own = split_state_dict({k: t for k, t in frame.items() if not k.startswith("conditioner.embedders.3.")}, TINY)
    assert own.config.vae.quant_conv and own.config.vae.post_quant_conv and not own.config.vae.temporal


CASTS = [
    (torch.float16, torch.float32),
    (torch.float16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, None),
    (torch.float64, torch.float32),
    (torch.float8_e4m3fn, torch.float16),
    (torch.float8_e4m3fn, None),
    (torch.float8_e5m2, torch.float32),
]


@pytest.mark.parametrize(("stored", "asked"), CASTS, ids=str)
def test_any_float_type_is_cast_to_the_one_asked_for(tmp_path, stored, asked):
    tensors = {key: value.to(stored) for key, value in small_tensors().items()}
    save_file(tensors, tmp_path / "cast.safetensors", metadata=SMALL_METADATA)
    loaded = load_model(tmp_path / "cast.safetensors", dtype=asked)
    # Nothing computes in 8 bits, so "as stored" widens those.
    wanted = asked or (stored if stored.itemsize > 1 else torch.float32)
    for part in PARTS:
        assert {p.dtype for p in getattr(loaded, part).parameters()} == {wanted}
    source = tensors["model.diffusion_model.middle_block.1.proj_in.weight"].to(wanted)
    assert torch.equal(loaded.unet.state_dict()["middle_block.1.proj_in.weight"].float(), source.float())


def test_types_may_differ_from_tensor_to_tensor(tmp_path):
    types = [torch.float32, torch.float16, torch.float8_e5m2]
    tensors = {key: value.to(types[index % 3]) for index, (key, value) in enumerate(small_tensors().items())}
    save_file(tensors, tmp_path / "mixed.safetensors", metadata=SMALL_METADATA)
    for asked in (torch.float32, None):
        loaded = load_model(tmp_path / "mixed.safetensors", dtype=asked)
        assert {p.dtype for p in loaded.unet.parameters()} == {torch.float32}
    info = inspect_checkpoint(tmp_path / "mixed.safetensors")
    assert set(info.dtypes) == {"float32", "float16", "float8_e5m2"}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the process's memory map")
def test_tensors_of_the_asked_type_stay_in_the_mapped_file(golden):
    path = (golden / "tiny.safetensors").resolve()
    before = anonymous_bytes()
    model = load_model(path)
    added = anonymous_bytes() - before
    parameters = [p for part in PARTS for p in getattr(model, part).parameters()]
    ranges = [
        tuple(int(edge, 16) for edge in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    assert ranges
    for p in parameters:
        assert any(begin <= p.data_ptr() and p.data_ptr() + p.nbytes <= end for begin, end in ranges)
    # Modules and dictionaries of 1846 tensors take some 10 MB; a second copy of the weights would take 86 MB.
    assert added < 0.4 * sum(p.nbytes for p in parameters)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads the process's memory map")
def test_what_is_cast_does_not_stay_in_memory_as_stored(golden, monkeypatch):
    monkeypatch.setattr("svd_core.checkpoints.source.RELEASED_AFTER", 2**22)
    path = (golden / "tiny.safetensors").resolve()
    parts = split_state_dict(read_state_dict(path)).present()

    def mapped_bytes() -> int:
        entries = Path("/proc/self/smaps").read_text().split(str(path) + "\n")[1:]
        return sum(int(re.search(r"Rss:\s+(\d+) kB", entry)[1]) * 1024 for entry in entries)

    before = mapped_bytes()
    cast = [part.fetch(key, dtype=torch.float16) for part in parts.values() for key in part]
    assert mapped_bytes() - before < 0.1 * 2 * sum(tensor.nbytes for tensor in cast)
    for part in parts.values():
        for key in part:
            part.fetch(key).sum()
    assert mapped_bytes() - before > 0.9 * 2 * sum(tensor.nbytes for tensor in cast)


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="needs files with holes")
def test_full_size_file_loads_without_reading_it(tmp_path):
    path = write_hollow(tmp_path / "svd_xt.safetensors", key_table("svd_xt"))
    try:
        model = load_model(path)
    except CheckpointError as error:
        if "cannot be mapped" in str(error):
            pytest.skip("this machine does not grant 9.5 GB of address space")
        raise
    assert sum(p.numel() for p in model.unet.parameters()) == 1_524_623_082
    assert (model.variant, model.config.frames, model.dtype) == ("svd_xt", 25, torch.float32)


def test_unused_tensors_are_never_read(golden, monkeypatch):
    source = read_state_dict(golden / "tiny.safetensors")
    parts, read = split_state_dict(source), set()
    fetch = type(source)._read
    monkeypatch.setattr(type(source), "_read", lambda self, key, opened: read.add(key) or fetch(self, key, opened))
    for part in parts.present().values():
        dict(part)
    unused = {key for keys in parts.report.unused.values() for key in keys}
    assert len(unused) == 252 and read == source.keys() - unused


def test_writing_to_a_loaded_weight_leaves_the_file_alone(files, tmp_path):
    path = tmp_path / "copy.safetensors"
    path.write_bytes((files / "unet.safetensors").read_bytes())
    before = load_file(path)["model.diffusion_model.out.2.bias"].clone()
    load_model(path).unet.state_dict()["out.2.bias"].fill_(7.0)
    assert torch.equal(load_file(path)["model.diffusion_model.out.2.bias"], before)


def test_loaded_weights_can_be_saved_again(files, tmp_path):
    model = load_model(files / "unet.safetensors")
    tensors = {f"diffusion_model.{key}": value for key, value in model.unet.state_dict().items()}
    save_file(tensors, tmp_path / "again.safetensors", SMALL_METADATA)
    assert same_weights(load_model(tmp_path / "again.safetensors").unet, model.unet)


def test_data_that_is_not_aligned_is_read(files, model, tmp_path):
    raw = (files / "unet.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)  # an odd length, as old writers may have left it
    (tmp_path / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    assert len(header) % 2 == 1
    odd = load_model(tmp_path / "odd.safetensors").unet
    assert same_weights(odd, model.unet) and all(p.data_ptr() % p.element_size() == 0 for p in odd.parameters())


def test_blend_factors_without_an_axis_are_taken(model, tmp_path):
    tensors = {k: t.reshape(()) if k.endswith("mix_factor") else t for k, t in only_unet(small_tensors()).items()}
    save_file(tensors, tmp_path / "scalar.safetensors", metadata=SMALL_METADATA)
    assert same_weights(load_model(tmp_path / "scalar.safetensors").unet, model.unet)


def test_a_network_is_constructed_once_per_load(files, monkeypatch):
    made = []
    for module in ("split", "load"):
        original = sys.modules[f"svd_core.checkpoints.{module}"].skeleton
        record = lambda network, *args, original=original, **kw: made.append(network) or original(network, *args, **kw)  # noqa: E731
        monkeypatch.setattr(f"svd_core.checkpoints.{module}.skeleton", record)
    load_model(files / "whole.safetensors")
    assert len(made) == len(set(made)) == 3


def test_layers_come_from_the_injected_ops(files):
    class Linear(nn.Linear):
        pass

    names = ("Conv2d", "Conv3d", "GroupNorm", "LayerNorm")
    ops = SimpleNamespace(Linear=Linear, **{name: getattr(nn, name) for name in names})
    model = load_model(files / "unet.safetensors", ops=ops)
    assert {type(m) for m in model.unet.modules() if isinstance(m, nn.Linear)} == {Linear}


def test_layers_are_those_of_torch_and_keep_their_methods(files):
    model = load_model(files / "whole.safetensors")
    kinds = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
    layers = [layer for part in PARTS for layer in getattr(model, part).modules()]
    for kind in kinds:
        named = {type(layer) for layer in layers if type(layer).__name__ in (kind.__name__, "Blank")}
        assert kind in {type(layer) for layer in layers} and "Blank" not in {found.__name__ for found in named}
    linear = next(layer for layer in model.unet.modules() if type(layer) is nn.Linear)
    before = linear.weight.clone()
    linear.reset_parameters()  # loading skips the initial weights of its own layers alone
    assert not torch.equal(linear.weight, before)


def test_split_works_on_tensors_that_a_host_loaded(model):
    parts = split_state_dict(dict(small_tensors()), SMALL_METADATA, name="whole.safetensors")
    assert parts.config == model.config
    assert all(torch.equal(parts.unet[key], value) for key, value in model.unet.state_dict().items())
    assert parts.unet.shapes == {key: tuple(value.shape) for key, value in model.unet.state_dict().items()}
