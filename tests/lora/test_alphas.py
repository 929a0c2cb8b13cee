"""The strength that a LoRA file asks for: alphas among the tensors of every spelling, and in settings beside them."""

import json
from pathlib import Path

import pytest
import torch

import svd_core as svd
from svd_core.lora import LoraError, load_lora, match_lora
from svd_core.lora.apply import parameter_shapes
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from tests.helpers.lora_files import alpha_key, layer_shapes, random_layers, spellings, write

DATA = Path(__file__).parents[1] / "data" / "hostile"
NETWORK = UNetConfig(model_channels=32, head_channels=16, context_channels=48)
SHAPES = layer_shapes(UNet(NETWORK, device="meta"))
PARAMETERS = parameter_shapes(UNet(NETWORK, device="meta"))
LAYER = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
EVERY = spellings(random_layers({LAYER: SHAPES[LAYER]}, rank=4))
FOLDER_NAME = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
         "float16", "bfloat16", "float32", "float64"]  # fmt: skip


def with_alpha(kind: str, alpha: torch.Tensor) -> dict[str, torch.Tensor]:
    """The layer in one spelling, with this alpha in place of what the spelling writes."""
    return EVERY[kind] | {alpha_key(EVERY[kind]): alpha}


def adapter(folder, config: bytes | str, name: str = f"base_model.model.{FOLDER_NAME}"):
    """A PEFT folder of one layer of rank 4 and of these settings."""
    pair = {f"{name}.lora_A.weight": torch.ones(4, 32), f"{name}.lora_B.weight": torch.ones(32, 4)}
    write(folder / "adapter_model.safetensors", pair)
    (folder / "adapter_config.json").write_bytes(config.encode() if isinstance(config, str) else config)
    return folder


def scale_of(path) -> float:
    (stored,) = load_lora(path).layers.values()
    return stored.layer.scale


@pytest.mark.parametrize("kind", EVERY)
def test_an_alpha_beside_the_tensors_counts_in_every_spelling(kind, tmp_path):
    lora = load_lora(write(tmp_path / "a.safetensors", with_alpha(kind, torch.tensor(2.0))))
    assert [stored.layer.scale for stored in lora.layers.values()] == [0.5]
    assert match_lora(lora, PARAMETERS, NETWORK)[1].warning() is None


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_alpha_counts_whatever_number_type_it_is_stored_as(dtype, shape, tmp_path):
    alpha = torch.full(shape, 2, dtype=getattr(torch, dtype))
    lora = load_lora(write(tmp_path / "a.safetensors", with_alpha("trainers, unet.", alpha)))
    assert [stored.layer.scale for stored in lora.layers.values()] == [0.5]
    assert not lora.skipped


def test_integers_are_no_weights_of_a_lora(tmp_path):
    tensors = EVERY["single file, peft"] | {"unet.conv_in.lora_A.weight": torch.ones(2, 8, dtype=torch.int64)}
    assert list(load_lora(write(tmp_path / "a.safetensors", tensors)).skipped) == ["no tensor of a LoRA"]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_stored_alpha_that_is_not_finite_is_refused_with_its_name_and_value(value, dtype, tmp_path):
    path = write(tmp_path / "a.safetensors", with_alpha("kohya, folder names", torch.tensor(float(value), dtype=dtype)))
    with pytest.raises(LoraError, match=rf"attn1_to_q\.alpha' of .*a\.safetensors is {value}; .*download it again"):
        load_lora(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('{"lora_alpha": NaN}', "NaN is not a finite number"),
        ('{"lora_alpha": -Infinity}', "-Infinity is not a finite number"),
        ('{"lora_alpha": 1e400}', "1e400 is too large"),
        ('{"lora_alpha": 1e39}', r"1e\+39; an alpha is a number up to 1,000,000"),
        ('{"lora_alpha": true}', "True; an alpha is a number"),
        (f'{{"lora_alpha": 1{"0" * 400}}}', "1000.* is too large"),
        ('{"lora_alpha": "much"}', "much; an alpha is a number"),
        ('{"lora_alpha": 4, "alpha_pattern": {"to_q": Infinity}}', "Infinity is not a finite number"),
        ('{"alpha_pattern": {"to_q": null}}', "None; an alpha is a number"),
        ('{"alpha_pattern": 3}', "3, not a JSON object"),
    ],
)
@pytest.mark.parametrize("place", ["folder", "metadata"])
def test_settings_without_a_finite_alpha_are_refused_with_the_file_and_the_value(settings, words, place, tmp_path):
    path, file = adapter(tmp_path, settings), "adapter_config.json"
    if place == "metadata":
        prefixed = settings.replace('"lora_', '"unet.lora_').replace('"alpha_', '"unet.alpha_')
        file = "a.safetensors"
        path = write(tmp_path / file, EVERY["peft, unet."], {"lora_adapter_metadata": prefixed})
    with pytest.raises(LoraError, match=rf"{file}.*{words}.*(so|;) ") as caught:
        load_lora(path)
    assert len(str(caught.value)) < 250 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff{}", "not valid JSON.*can't decode byte 0xff"),
        ('{"lora_alpha": 4, "note": "größer"}'.encode("latin-1"), "not valid JSON.*can't decode"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        (f"[{'[' * 80}{']' * 80}]", "nested deeper than 64 levels"),
        (f'{{"note": "{"x" * 2_000_001}"}}', "at most 2,000,000 are read"),
        (r'{"note": "\ud800"}', "lone surrogate"),
        ("[4]", r"are \[4\], not a JSON object"),
        ("null", "are None, not a JSON object"),
    ],
)
def test_settings_that_cannot_be_read_are_answered_with_the_name_of_their_file(content, words, tmp_path):
    with pytest.raises(LoraError, match=rf"settings in .*adapter_config\.json .*{words}.*; ") as caught:
        load_lora(adapter(tmp_path, content))
    assert "\n" not in str(caught.value)


# Expressions that run for ever, or longer than anybody waits, and others that are not names.
@pytest.mark.parametrize("pattern", ["(", "(a+)+$", "(.*)*x", "to_[qk]", "to_q{1,3}", "a?", r"\d+", "to_q*", "a b"])
@pytest.mark.parametrize("place", ["folder", "metadata"])
def test_regular_expressions_of_a_file_are_never_run(pattern, place, tmp_path):
    settings = json.dumps({"alpha_pattern": {pattern: 2}})
    path = adapter(tmp_path, settings)
    if place == "metadata":
        path = write(tmp_path / "a.safetensors", EVERY["peft, unet."], {"lora_adapter_metadata": settings})
    with pytest.raises(LoraError, match=r"only names with \^, \$, \|, \\. and \.\* are read"):
        load_lora(path)


def test_a_lora_that_froze_every_reader_is_one_sentence():
    with pytest.raises(LoraError, match="only names .* are read"):
        load_lora(DATA / "lora_redos.safetensors")


def test_many_wildcards_are_refused_and_many_names_are_not(tmp_path):
    names = {f"block_{index}.to_q": 2 for index in range(2000)}
    assert scale_of(adapter(tmp_path, json.dumps({"alpha_pattern": names | {"to_q": 12}}))) == 3
    settings = json.dumps({"alpha_pattern": {f".*{index}.*": 2 for index in range(21)}})
    with pytest.raises(LoraError, match="21 patterns.*at most 20"):
        load_lora(adapter(tmp_path, settings))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_settings_are_read_in_the_encodings_that_editors_give_them(encoding, tmp_path):
    assert scale_of(adapter(tmp_path, '{"lora_alpha": 8, "note": "größer"}'.encode(encoding))) == 2.0


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [
        ({f"^{FOLDER_NAME}": 12, "to_q": 4}, 12),
        ({"to_q": 12, f"^{FOLDER_NAME}": 4}, 12),
        ({"^to_q": 4}, 8),
        ({"^attn1.to_q": 4}, 8),
        ({r"^down_blocks\..*\.to_q": 12}, 12),
        ({"^down_blocks": 4}, 8),
        ({"o_q": 4}, 8),
        ({"attn1.to_q": 12}, 12),
        ({"to_k|to_q": 12}, 12),
        ({"to_q$": 12}, 12),
        ({r"attn1\.to_q": 12}, 12),
        ({"attentions.*.to_q": 12}, 12),
        ({"^.*to_q": 12}, 12),
        ({"down_blocks.*attn1.*to_q": 12}, 12),
        ({"down_blocks.*attn1.*to_q.*to_q": 12}, 8),
        ({"blocks.*to_q": 12}, 8),
        ({"attentions.*": 12}, 12),
        ({"attentions.*to": 12}, 8),
    ],
)
@pytest.mark.parametrize("prefix", ["", "base_model.model.", "unet.", "base_model.model.unet."])
def test_a_pattern_means_a_whole_name_from_a_dot_or_with_a_caret_from_the_start(patterns, alpha, prefix, tmp_path):
    settings = json.dumps({"lora_alpha": 8, "alpha_pattern": patterns})
    assert scale_of(adapter(tmp_path, settings, prefix + FOLDER_NAME)) == alpha / 4


def test_a_caret_may_begin_with_the_name_of_the_network_in_what_was_trained(tmp_path):
    settings = json.dumps({"alpha_pattern": {f"^unet.{FOLDER_NAME}": 2}})
    assert scale_of(adapter(tmp_path, settings, f"base_model.model.unet.{FOLDER_NAME}")) == 0.5


def test_an_integer_alpha_halves_what_reaches_the_weights(tmp_path):
    model = svd.load_model("nano")
    layers = random_layers({LAYER: tuple(model.unet.get_submodule(LAYER).weight.shape)}, rank=4)
    tensors = spellings(layers)["single file, peft"]
    path = write(tmp_path / "a.safetensors", tensors | {alpha_key(tensors): torch.tensor(2)})
    changed = svd.apply_loras(model, [(load_lora(path), 1.0, 1.0)]).unet.get_submodule(LAYER).weight
    down, up = layers[LAYER]
    plain = model.unet.get_submodule(LAYER).weight
    torch.testing.assert_close(changed, plain + 0.5 * up @ down, rtol=1e-5, atol=1e-5)
