"""The training loop learns its target, changes only the chosen weights, and reports its progress."""

import pytest
import torch
from PIL import Image

from svd_core.networks.config import UNetConfig
from svd_core.training import TrainingSample, TrainSettings, adapted, read_log
from svd_core.training.adapters import TEMPORAL, adapter_paths
from svd_core.training.memory_estimate import training_memory
from tests.helpers.training_runs import CONFIG, FRAMES, FULL, SIDE, NoiseClips, settings, small_unet, train


def changed(before, after):
    """Names of the tensors that differ."""
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def state(unet):
    return {name: value.clone() for name, value in unet.state_dict().items()}


class OneClip(NoiseClips):
    """The same clip always, whose velocity at high noise is a constant picture."""

    def sample(self, index, generator):
        return TrainingSample(
            torch.ones(FRAMES, 4, SIDE, SIDE), torch.ones(4, SIDE, SIDE), torch.ones(8), torch.ones(24)
        )


@pytest.mark.parametrize(
    ("changes", "share"),
    # Adapters on a random network have little to work with.
    [(FULL | {"optimizer": "muon", "rate": 5e-3}, 0.8), ({"targets": "all", "rank": 8, "rate": 5e-2}, 0.95)],
    ids=["full", "lora"],
)
def test_the_loss_falls(tmp_path, changes, share):
    chosen = {"steps": 45, "batch": 4, "log_every": 5, "save_every": 100, "ema": 0.0, "p_mean": 3.0, "p_std": 0.5}
    rows = train(tmp_path, source=OneClip(), **chosen | changes).rows
    assert rows[-1].loss < share * rows[0].loss


@pytest.mark.parametrize("targets", ["temporal", "spatial", "both", "all"])
def test_a_lora_trains_its_layers_and_leaves_the_model_as_it_was(tmp_path, targets):
    unet = small_unet()
    before, asked = state(unet), [part.requires_grad for part in unet.parameters()]
    result = train(tmp_path, unet=unet, steps=2, targets=targets)
    assert list(unet.state_dict()) == list(before) and not changed(before, state(unet))
    assert [part.requires_grad for part in unet.parameters()] == asked
    assert list(result.adapters) == adapter_paths(unet, targets)
    assert {".time_stack." in path for path in result.adapters} == {
        "temporal": {True}, "spatial": {False}, "both": {True, False}, "all": {True, False}
    }[targets]  # fmt: skip
    assert any(".ff." in path for path in result.adapters) == (targets == "all")
    for path, (down, up, alpha) in result.adapters.items():
        rows, columns = unet.get_submodule(path).weight.shape
        assert down.shape == (2, columns) and up.shape == (rows, 2) and alpha == 2
        assert up.any(), f"{path} learned nothing"


def test_adapters_act_as_the_sum_of_their_matrices_and_come_off_again(tmp_path):
    unet, merged = small_unet(), small_unet()
    before = state(unet)
    weights = train(tmp_path, steps=3, targets="all", alpha=6.0).adapters
    with torch.no_grad():
        for path, (down, up, alpha) in weights.items():
            merged.get_submodule(path).weight += alpha / 2 * up @ down
        inputs = (torch.randn(4, 8, SIDE, SIDE), torch.zeros(4), torch.randn(4, 1, 8), torch.randn(4, 24))
        plain = unet(*inputs, num_frames=FRAMES)
        with adapted(unet, weights):
            with_adapters = unet(*inputs, num_frames=FRAMES)
            assert torch.allclose(unet.get_submodule(path).weight, merged.get_submodule(path).weight)
        expected = merged(*inputs, num_frames=FRAMES)
        assert torch.equal(unet(*inputs, num_frames=FRAMES), plain) and not changed(before, state(unet))
    # Two thin products round otherwise than one sum of weights.
    assert torch.allclose(with_adapters, expected, atol=1e-5)
    assert not torch.allclose(with_adapters, plain, atol=1e-4)


def test_adapters_that_do_not_fit_are_refused_and_training_goes_on_from_those_that_do(tmp_path):
    weights = train(tmp_path / "a", steps=1).adapters
    unet = small_unet()
    path, (down, up, alpha) = next(iter(weights.items()))
    for wrong, words in (
        ({"nowhere": (down, up, alpha)}, "nowhere.*use the model"),
        ({path: (down, up.T, 1)}, path),
    ):
        with pytest.raises(ValueError, match=words), adapted(unet, wrong):
            pass
    with adapted(unet, weights), pytest.raises(ValueError, match="already has an adapter"), adapted(unet, weights):
        pass
    with pytest.raises(ValueError, match="rank must be at most .*got 33"):
        train(tmp_path / "b", rank=33)


@pytest.mark.parametrize(("targets", "temporal"), [("temporal", {True}), ("spatial", {False}), ("all", {True, False})])
def test_full_training_changes_the_layers_named_and_no_other(tmp_path, targets, temporal):
    unet = small_unet()
    before = state(unet)
    result = train(tmp_path, unet=unet, steps=2, **FULL | {"targets": targets})
    touched = changed(before, state(unet))
    assert {bool(TEMPORAL.search(name)) for name in touched} == temporal
    assert touched <= set(result.weights) and not result.adapters
    # Only keys and queries that meet a single token have no gradient; decay moves them all the same.
    assert len(touched) > 0.9 * len(result.weights)


def test_recomputed_blocks_and_accumulation_give_the_gradients_of_one_pass(tmp_path):
    plain = train(tmp_path / "a", steps=3, targets="all").weights
    again = train(tmp_path / "b", steps=3, targets="all", gradient_checkpointing=True).weights
    assert not changed(plain, again)
    unet = small_unet()
    train(tmp_path / "c", unet=unet, steps=1, gradient_checkpointing=True)
    assert not any("forward" in vars(layer) for layer in unet.modules())


def test_half_precision_keeps_float32_weights_and_a_half_model_must_match(tmp_path):
    full = train(tmp_path / "a", steps=1).rows[0].loss
    for number, (precision, dtype) in enumerate([("bf16", None), ("fp16", None), ("bf16", torch.bfloat16)]):
        unet = small_unet() if dtype is None else small_unet().to(dtype)
        result = train(tmp_path / str(number), unet=unet, steps=1, precision=precision)
        assert all(value.dtype == torch.float32 for value in result.weights.values())
        assert result.rows[0].loss == pytest.approx(full, rel=0.02)  # eight bits of precision
    for precision, words in (("float32", "load it as float32"), ("fp16", "change the precision")):
        with pytest.raises(ValueError, match=words):
            train(tmp_path / "x", unet=small_unet().to(torch.bfloat16), precision=precision)


@pytest.mark.parametrize("changes", [{}, FULL], ids=["lora", "full"])
def test_training_works_from_inside_inference_mode(tmp_path, changes):
    plain = train(tmp_path / "a", steps=2, **changes)
    with torch.inference_mode():
        unet = small_unet()
        weight = unet.out["2"].weight
        inside = train(tmp_path / "b", unet=unet, steps=2, **changes)
        assert (unet.out["2"].weight is weight) == (not changes)
    assert not changed(plain.weights, inside.weights)


def test_callbacks_see_every_step_and_validation_the_averaged_weights(tmp_path):
    steps, seen, unet = [], [], small_unet()

    def validate(network, step):
        assert network is unet and not torch.is_grad_enabled()
        seen.append((step, network.out["2"].weight.detach().clone()))

    chosen = {"steps": 4, "validate_every": 2, "ema": 0.9, **FULL}
    run = {"on_step": lambda progress: steps.append((progress.step, progress.loss)), "validate": validate}
    result = train(tmp_path, unet=unet, run=run, **chosen)
    assert [step for step, _ in steps] == [1, 2, 3, 4] and [step for step, _ in seen] == [2, 4]
    assert torch.equal(seen[1][1], result.weights["out.2.weight"])
    assert not torch.equal(unet.out["2"].weight, seen[1][1]), "the trained weights came back"
    assert result.rows[0].loss == pytest.approx((steps[0][1] + steps[1][1]) / 2)


def test_the_log_tells_the_loss_by_noise_level_and_a_plot_is_drawn(tmp_path):
    train(tmp_path, steps=4, batch=4, p_mean=0.0, p_std=1e-3, wide_share=0.0, log_every=4)
    (row,) = read_log(tmp_path)
    filled = [band for band in row.bands if band is not None]
    assert filled[0] == pytest.approx(row.loss, rel=1e-4) or len(filled) == 2  # exp(0) is an edge
    with Image.open(tmp_path / "loss.png") as plot:
        assert plot.size == (960, 480) and len(plot.convert("RGB").getcolors(10_000)) > 3


def test_batches_of_a_source_may_change_shape_from_step_to_step(tmp_path):
    class TwoSizes(NoiseClips):
        def batch(self, step, count, generator):
            first = [self.sample(number, generator) for number in range(count)]
            longer = [
                TrainingSample(s.latent.repeat(2, 1, 1, 1), s.concat, s.token, s.vector, sigma_limit=0.2) for s in first
            ]
            return longer if step % 2 else first

    rows = train(tmp_path, source=TwoSizes(), steps=4, log_every=1, p_mean=2.0, wide_share=0.0).rows
    assert [row.bands[0] is not None for row in rows] == [False, True, False, True]


REAL_SIZE = [  # frames, width, height of the README's figures; bytes within 2 %, for torch versions differ a little
    (False, 17_653_693_844),
    (True, 5_527_639_964),
]


@pytest.mark.parametrize(("checkpointing", "peak"), REAL_SIZE)
def test_memory_at_real_size_rank_16_temporal_14_frames_320x576(checkpointing, peak):
    chosen = TrainSettings(rank=16, targets="temporal", precision="bf16", gradient_checkpointing=checkpointing)
    memory = training_memory(UNetConfig(), chosen, frames=14, width=576, height=320)
    assert memory.trainable == 2_458_624
    assert memory.peak == pytest.approx(peak, rel=0.02)


@pytest.mark.parametrize("changes", [{}, FULL, FULL | {"optimizer": "muon", "ema": 0.0}], ids=["lora", "full", "muon"])
def test_the_memory_estimate_counts_what_a_run_keeps(tmp_path, changes):
    chosen = settings(**changes)
    memory = training_memory(CONFIG, chosen, frames=2, width=64, height=64)
    result = train(tmp_path, steps=1, **changes)
    numbers = sum(value.numel() for value in result.weights.values())
    assert memory.trainable == numbers
    assert memory.gradients <= 4 * numbers and memory.average == (4 * numbers if chosen.ema else 0)
    assert memory.peak >= memory.weights + memory.optimizer + memory.average + memory.activations
    with pytest.raises(ValueError, match="multiples of 64"):
        training_memory(CONFIG, chosen, frames=2, width=60, height=64)
