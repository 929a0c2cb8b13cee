"""A second load of the same files shares the first model's memory, and only while that memory is as it was read."""

import copy
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from svd_core import SVDModel, load_model
from svd_core.checkpoints import CheckpointError, remembered
from svd_core.checkpoints.source import TensorSource
from svd_core.lora.apply import with_terms
from svd_core.lora.delta import LoraLayer
from svd_core.model.retry import limit_chunks
from svd_core.networks.joined_weights import join_groups, joined_view
from tests.helpers.checkpoint_files import (
    SMALL_METADATA,
    folder_tensors,
    only_unet,
    same_weights,
    small_tensors,
    tiny_tensors,
    write_folder,
)
from tests.helpers.training_runs import FULL, small_unet, train

PARTS = ("unet", "vae", "image_encoder")
SIDE = 8


@pytest.fixture
def file(tmp_path) -> Path:
    """A file that no other test has loaded."""
    save_file(small_tensors(), tmp_path / "whole.safetensors", metadata=SMALL_METADATA)
    return tmp_path / "whole.safetensors"


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """Names of the tensors that are read from disk from now on."""
    names: list[str] = []
    for method in ("fetch", "__getitem__"):
        original = getattr(TensorSource, method)

        def counted(self, key, *rest, original=original):
            names.append(key)
            return original(self, key, *rest)

        monkeypatch.setattr(TensorSource, method, counted)
    return names


def places(model: SVDModel) -> list[int]:
    return [p.data_ptr() for part in PARTS if getattr(model, part) for p in getattr(model, part).parameters()]


def denoised(model: SVDModel) -> torch.Tensor:
    unet, draw = model.config.unet, torch.Generator().manual_seed(3)
    inputs = [torch.randn(2, *size, generator=draw) for size in ((8, SIDE, SIDE), (), (1, 24), (768,))]
    assert (unet.context_channels, unet.vector_channels) == (24, 768)
    with torch.no_grad():
        return model.unet(*inputs, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, None], ids=str)
def test_a_second_load_reads_no_tensor_and_shares_the_memory(file, fetched, dtype):
    first = load_model(file, dtype=dtype)
    assert fetched
    fetched.clear()
    second = load_model(str(file), dtype=dtype)
    assert not fetched and places(second) == places(first)
    assert second.config == first.config and second.dtype == first.dtype
    assert all(same_weights(getattr(first, part), getattr(second, part)) for part in PARTS)
    if first.dtype == torch.float32:
        assert torch.equal(denoised(first), denoised(second))


def test_modules_and_parameters_of_the_second_are_its_own(file):
    first = load_model(file)
    first.unet.register_forward_pre_hook(lambda *given: None)
    limit_chunks(first.unet, 1000)
    second = load_model(file)
    assert not any(module._forward_pre_hooks for module in second.unet.modules())
    fresh = load_model(file, dtype=torch.float64)  # read from disk
    for one, other in zip(second.unet.modules(), fresh.unet.modules(), strict=True):
        assert type(one) is type(other) and vars(one).keys() == vars(other).keys()
    for part in PARTS:
        ours, theirs = ({*map(id, getattr(model, part).parameters())} for model in (first, second))
        assert ours.isdisjoint(theirs)
    before = places(first)
    second.unet.to(torch.float16)
    second.unet.out["2"].bias.requires_grad_(True)
    assert places(first) == before and not first.unet.out["2"].bias.requires_grad


def touch(file: Path) -> None:
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def put_new_values(file: Path) -> None:
    tensors = {key: value + 1 for key, value in small_tensors().items()}
    save_file(tensors, file.with_name("new"), metadata=SMALL_METADATA)
    state = file.stat()
    file.with_name("new").rename(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))


def lengthen(file: Path) -> None:
    tensors = small_tensors() | {"model_ema.decay": torch.zeros(1)}
    save_file(tensors, file, metadata=SMALL_METADATA)


@pytest.mark.parametrize("change", [touch, put_new_values, lengthen])
def test_a_changed_file_is_read_anew(file, fetched, change):
    first = load_model(file)
    fetched.clear()
    change(file)
    second = load_model(file)
    assert fetched and set(places(first)).isdisjoint(places(second))
    assert same_weights(first.unet, second.unet) == (change is not put_new_values)


def other_type(model: SVDModel, file: Path) -> SVDModel:
    return load_model(file, dtype=torch.bfloat16)


def as_stored(model: SVDModel, file: Path) -> SVDModel:
    return load_model(file, dtype=None)


def other_device(model: SVDModel, file: Path) -> SVDModel:
    return load_model(file, device="meta")


def other_layers(model: SVDModel, file: Path) -> SVDModel:
    class Ops:
        Linear, Conv2d, Conv3d, GroupNorm, LayerNorm = nn.Linear, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm

    return load_model(file, ops=Ops)


def other_lender(model: SVDModel, file: Path) -> SVDModel:
    return load_model(file, complete_from=file)


def other_name(model: SVDModel, file: Path) -> SVDModel:
    (file.parent / "svd_xt_1_1.safetensors").symlink_to(file)  # names tell variants
    return load_model(file.parent / "svd_xt_1_1.safetensors")


@pytest.mark.parametrize("load", [other_type, as_stored, other_device, other_layers, other_lender, other_name])
def test_another_request_is_read_from_disk(file, fetched, load):
    first = load_model(file)
    fetched.clear()
    second = load(first, file)
    assert fetched and set(places(first)).isdisjoint(places(second))


@torch.no_grad()
def written(model: SVDModel) -> None:
    model.vae.decoder.conv_in.weight.mul_(2)


def written_through_its_state(model: SVDModel) -> None:
    model.unet.state_dict()["out.2.bias"].fill_(7.0)


def moved(model: SVDModel) -> None:
    model.image_encoder.to("meta")


def laid_out_anew(model: SVDModel) -> None:
    weight = model.vae.decoder.conv_in.weight
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def rounded_in_between(model: SVDModel) -> None:
    model.unet.half().float()


def replaced(model: SVDModel) -> None:
    model.unet.out["2"].bias = nn.Parameter(torch.zeros(4), requires_grad=False)


def wrapped(model: SVDModel) -> None:
    model.unet.out["2"] = nn.Sequential(model.unet.out["2"])


def brought_together(model: SVDModel) -> None:
    join_groups(model.unet)


def about_to_be_trained(model: SVDModel) -> None:
    model.unet.requires_grad_(True)


CHANGES = [written, written_through_its_state, moved, laid_out_anew, rounded_in_between, replaced, wrapped]
CHANGES += [brought_together, about_to_be_trained]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_lends_nothing(file, fetched, change):
    first = load_model(file)
    expected = small_tensors()["model.diffusion_model.out.2.bias"]
    change(first)
    fetched.clear()
    second = load_model(file)
    assert fetched
    assert torch.equal(second.unet.state_dict()["out.2.bias"], expected)
    # What was read for the second serves the third.
    fetched.clear()
    third = load_model(file)
    assert not fetched and places(third) == places(second)


@torch.no_grad()
def test_a_write_to_either_is_seen_from_both_sides(file, fetched):
    first = load_model(file)
    second = load_model(file)
    second.unet.out["2"].bias.add_(1)
    fetched.clear()
    assert not torch.equal(load_model(file).unet.out["2"].bias, first.unet.out["2"].bias) and fetched
    apart = copy.deepcopy(second.unet)
    apart.out["2"].bias.add_(1)
    assert torch.equal(first.unet.out["2"].bias, second.unet.out["2"].bias)


def test_a_lora_on_the_first_is_not_in_the_second(file, fetched):
    first = load_model(file)
    before = denoised(first)
    path = next(
        name.removesuffix(".weight") for name, p in first.unet.named_parameters() if "attn1.to_q.weight" in name
    )
    rows, columns = first.unet.get_submodule(path).weight.shape
    layer = LoraLayer(torch.ones(2, columns), torch.ones(rows, 2), 1.0)
    changed = with_terms(first.unet, {path: ((layer, 1.0),)})
    fetched.clear()
    second = load_model(file)
    assert not fetched and not same_weights(changed, second.unet)
    assert torch.equal(denoised(second), before) and torch.equal(denoised(first), before)


def test_nothing_is_kept_alive(file, fetched):
    first, again = load_model(file), load_model(file)
    memory = first.unet.out["2"].weight.untyped_storage()
    watch = remembered.StorageWeakRef(memory)
    del first, memory
    gc.collect()
    fetched.clear()
    third = load_model(file)  # from the second, which has the memory now
    assert not fetched and places(third) == places(again)
    del again, third
    gc.collect()
    assert watch.expired()
    fetched.clear()
    load_model(file)
    assert fetched


def test_a_folder_is_shared_until_one_of_its_files_changes(tmp_path, fetched):
    folder = write_folder(tmp_path / "folder", folder_tensors(tiny_tensors()))
    first = load_model(folder)
    fetched.clear()
    assert places(load_model(folder)) == places(first) and not fetched
    assert load_model(folder / "unet").vae is None and fetched
    for name in ("unet/config.json", "vae/diffusion_pytorch_model.safetensors"):
        fetched.clear()
        touch(folder / name)
        now = load_model(folder)
        assert fetched and places(now) != places(first)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError):
        load_model(folder)


def test_a_completed_model_depends_on_the_file_that_completes_it(file, fetched):
    unet, lender = file.with_name("unet.safetensors"), file
    save_file(only_unet(small_tensors()), unet, metadata=SMALL_METADATA)
    alone, whole = load_model(unet), load_model(unet, complete_from=lender)
    fetched.clear()
    assert places(load_model(unet)) == places(alone) and load_model(unet).vae is None
    assert places(load_model(unet, complete_from=lender)) == places(whole) and not fetched
    touch(lender)
    assert places(load_model(unet, complete_from=lender)) != places(whole) and fetched


def test_neighbours_stay_neighbours(file):
    """On accelerators weights that are used together are joined; the meta device stands in for one."""
    models = [load_model(file, device="meta") for _ in range(2)]
    for groups in zip(*(model.unet.joinable() for model in models), strict=True):
        assert groups[0][0] is not groups[1][0]
        assert all(joined_view(group) is not None for group in groups)
        assert groups[0][0].untyped_storage()._cdata == groups[1][0].untyped_storage()._cdata


def test_weights_of_inference_mode_are_shared_with_care(file, fetched):
    with torch.inference_mode():
        first = load_model(file)
        fetched.clear()
        load_model(file)
    assert fetched and first.unet.out["2"].bias.is_inference()  # torch does not count writes to those
    outside = load_model(file)
    fetched.clear()
    with torch.inference_mode():
        inside = load_model(file)
    assert not fetched and places(inside) == places(outside) and not inside.unet.out["2"].bias.is_inference()


@pytest.fixture
def trainable(tmp_path) -> Path:
    """A UNet that is trained in no time."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in small_unet().state_dict().items()}
    save_file(tensors, tmp_path / "small.safetensors", metadata={"svd.head_channels": "32"})
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize("method", [FULL, FULL | {"targets": "temporal"}, {"method": "lora"}], ids=str)
def test_training_one_leaves_the_others_alone(trainable, tmp_path, method):
    first, second = load_model(trainable), load_model(trainable)
    assert places(first) == places(second)
    before = copy.deepcopy(second.unet)

    def on_step(progress) -> None:
        assert same_weights(load_model(trainable).unet, before)  # while the second is being trained

    train(tmp_path / "run", unet=second.unet, steps=2, batch=1, run={"on_step": on_step}, **method)
    assert same_weights(second.unet, before) == (method["method"] == "lora")
    assert same_weights(first.unet, before) and same_weights(load_model(trainable).unet, before)


def test_training_leaves_joined_weights_joined(tmp_path):
    unet = small_unet()
    join_groups(unet)
    before = copy.deepcopy(unet)
    train(tmp_path / "run", unet=unet, steps=1, batch=1, **FULL)
    assert all(joined_view(group) is not None for group in unet.joinable()) and not same_weights(unet, before)


def test_many_threads_may_load_at_once(file):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load_model, [file] * 8))
    assert all(same_weights(model.unet, models[0].unet) for model in models)
    assert places(load_model(file)) in [places(model) for model in models]
