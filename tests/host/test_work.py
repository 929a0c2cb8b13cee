"""Long-running nodes in a real ComfyUI: train, sweep settings, film a storyboard, save a model."""

import json

import av
from safetensors import safe_open

from tests.helpers.nodes_pack import ROOT
from tests.host.graphs import Builder
from tools.workflows.library import library
from tools.workflows.prompt import to_prompt


def texts(result, node: str) -> str:
    """What a Preview Any node of a run shows."""
    return "\n".join(result.outputs[node]["text"])


def test_the_training_workflow_trains_animates_and_saves(server, object_info, run, images):
    """As shipped, but for the number of steps and clips; the saved LoRA then changes a clip."""
    workflow = json.loads((ROOT / "workflows" / "train_camera_lora.json").read_text(encoding="utf-8"))
    prompt = to_prompt(workflow, library())
    kinds = {node["class_type"]: node["inputs"] for node in prompt.values()}
    kinds["SVDReelTrainingSet"]["clips_per_picture"] = 2
    kinds["SVDReelTrainLora"] |= {"steps": 3, "rank": 2, "validate_every": 3, "learning_rate": 0.01}
    kinds["SVDReelAnimate"]["steps"] = 2
    kinds["SVDReelSaveLora"]["name"] = "of_the_host_test"
    result = server.run(prompt)
    assert result.ended == "execution_success", result.error()
    node = next(key for key, value in prompt.items() if value["class_type"] == "SVDReelTrainLora")
    assert {1, 2, 3} <= set(result.progress(node)), "a bar of its own steps; validation clips show theirs"
    loras = server.base / "output" / "loras"
    assert (loras / "of_the_host_test.NOTICE.txt").exists()
    build = Builder(server.get("/object_info"))
    loader = build("SVDReelLoadModel")
    strong = {"lora_name": "of_the_host_test.safetensors", "strength": 20.0, "temporal_strength": 20.0}
    changed = build("SVDReelLoadLora", model=loader(), **strong)
    shown = [
        build.show(build("SVDReelAnimate", model=model(), image=build.picture(), steps=2)())
        for model in (loader, changed)
    ]
    result = run(build)
    plain, trained = (images(result, node) for node in shown)
    assert plain.shape == trained.shape and not bool((plain == trained).all())


def test_the_motion_lab_hands_on_the_best_clip_and_its_settings(build, run, images):
    loader = build.load()
    lab = build(
        "SVDReelSweep", model=loader(), image=build.picture(), buckets="20, 200", seeds="5", steps=2, full_steps=2
    )
    sheet, best = build.show(lab(0)), build.show(lab(1))
    table = build("PreviewAny", source=lab(6)).id
    build("PreviewAny", source=lab(5))
    result = run(build)
    cells = json.loads(texts(result, table))
    assert len(cells["cells"]) == 2
    assert len(result.outputs[sheet]["images"]) == 1 and len(images(result, best)) == 4


def test_a_storyboard_of_two_pictures_lasts_its_seconds(server, build, run):
    loader, picture = build.load(), build.picture()
    both = build("ImageBatch", image1=picture, image2=picture)
    board = build("SVDReelStoryboard", model=loader(), images=both(), seconds=1.0, steps=1, transition="cross-fade")
    video = build("CreateVideo", images=board(0), fps=board(3))
    saved = build("SaveVideo", video=video(), filename_prefix="board", format="auto", codec="auto").id
    timing = build("PreviewAny", source=board(4)).id
    result = run(build)
    (entry,) = result.outputs[saved]["images"]
    with av.open(str(server.file(entry))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2 * 7
    assert len(texts(result, timing).strip().splitlines()) == 3, "a head and a line for each panel"


def test_a_model_is_described_and_saved_in_half_precision(server, run):
    build = Builder(server.get("/object_info"))
    name = "svd_xt_tiny.safetensors"
    info = build("SVDReelModelInfo", model_name=name, fix="save as fp16", new_name="of_the_host_test")
    result = run(build)
    assert "licen" in texts(result, info.id).lower()
    path = server.base / "output" / "svd" / "of_the_host_test.safetensors"
    with safe_open(path, "pt") as file:
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} == {"torch.float16"}  # noqa: SIM118  no dict
    build = Builder(server.get("/object_info"))
    loader = build("SVDReelLoadModel", model_name=path.name)
    build.show(build("SVDReelAnimate", model=loader(), image=build.picture(), steps=1)())
    run(build)


def test_a_model_that_is_missing_is_refused_with_what_to_do(server, object_info):
    build = Builder(object_info)
    loader = build("SVDReelLoadModel", model_name="svd_xt.safetensors")
    build.show(build("SVDReelAnimate", model=loader(), image=build.picture())())
    status, answer = server.post("/prompt", {"prompt": build.graph})
    text = json.dumps(answer)
    assert status == 400 and "svd_xt.safetensors" in text and "models/checkpoints" in text


def test_a_plan_is_shown_before_anything_runs(build, run):
    loader = build("SVDReelLoadModel")
    plan = build("SVDReelPlan", model=loader(), memory="8 GB", measure_time=False)
    shown, page = build("PreviewAny", source=plan(0)).id, build.show(plan(1))
    result = run(build)
    assert "8 GB" in texts(result, shown) and len(result.outputs[page]["images"]) == 1
