"""The form of the nodes: what ComfyUI, its pack managers and its users rely on."""

import ast
import inspect
import json
import re
import shutil
import subprocess

import pytest

from tests.helpers.nodes_pack import ROOT, defaults, pack, part, run
from tools.nodes import NodeFileError, find_nodes, render

NODES = pack().NODE_CLASS_MAPPINGS
IDS = list(NODES)
# Nodes of version 0.1.0. Stored workflows refer to them by id, to their widgets and outputs by position.
RELEASED = json.loads((ROOT / "tests" / "data" / "released_nodes.json").read_text(encoding="utf-8"))
# Written by tools; a new node is not added there by hand.
GENERATED = re.compile(
    r"nodes/__init__\.py|docs/nodes\.md|locales/\w+/nodeDefs\.json|tools/help/text/\w+/sources\.json"
)
GENERATED_FOLDERS = ("web/docs/", "workflows/", "subgraphs/")
WIDGETS = ("INT", "FLOAT", "STRING")


def entries(node: type) -> dict:
    groups = node.INPUT_TYPES()
    assert set(groups) <= {"required", "optional", "hidden"}
    return {**groups.get("required", {}), **groups.get("optional", {})}


@pytest.mark.parametrize("name", RELEASED)
def test_released_nodes_keep_id_inputs_and_outputs_in_their_order(name):
    inputs, outputs = RELEASED[name]["inputs"], RELEASED[name]["outputs"]
    assert list(entries(NODES[name]))[: len(inputs)] == inputs, "append new inputs at the end"
    assert list(NODES[name].RETURN_TYPES)[: len(outputs)] == outputs, "append new outputs at the end"


def test_the_mappings_are_what_the_node_files_declare():
    """Literal, for tools that read them without importing the pack."""
    assert (ROOT / "nodes" / "__init__.py").read_text(encoding="utf-8") == render(find_nodes()), "python -m tools.nodes"
    assert {name: node.DISPLAY_NAME for name, node in NODES.items()} == pack().NODE_DISPLAY_NAME_MAPPINGS
    assert all(name.isascii() for name in pack().NODE_DISPLAY_NAME_MAPPINGS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class SVDReelNew:\n    FUNCTION = 'execute'\n\nNODES = [SVDReelNew]\n", "SVDReelNew.*DISPLAY_NAME"),
        ("class SVDReelNew:\n    DISPLAY_NAME = 'New'\n", "SVDReelNew.*NODES"),
    ],
)
def test_a_node_without_a_name_or_outside_the_list_is_reported(tmp_path, text, message):
    (tmp_path / "new.py").write_text(text, encoding="utf-8")
    with pytest.raises(NodeFileError, match=message):
        find_nodes(tmp_path)


def test_a_new_node_needs_four_hand_written_files():
    """Its module, its English page, its Chinese page, a workflow: no other hand-written file lists all nodes."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    naming: dict[str, set[str]] = {name: set() for name in IDS}
    for path in filter(None, listed.split("\0")):
        if path.startswith(GENERATED_FOLDERS) or GENERATED.fullmatch(path) or path.endswith("/released_nodes.json"):
            continue
        text = path + (ROOT / path).read_text(encoding="utf-8", errors="ignore") if (ROOT / path).is_file() else path
        for name in set(re.findall(r"SVDReel[A-Z]\w*", text)) & set(IDS):
            naming[name].add(path.replace(name, "NODE"))
    everywhere = set.intersection(*naming.values())
    assert everywhere == {"tools/help/text/en/NODE.md", "tools/help/text/zh/NODE.md"}
    for name, paths in naming.items():
        assert len({path for path in paths if re.fullmatch(r"nodes/\w+\.py", path)}) == 1, name


@pytest.mark.parametrize("name", IDS)
def test_node_declares_what_the_host_reads(name):
    node = NODES[name]
    assert node.CATEGORY in ("SVD Reel", "SVD Reel/Motion", "SVD Reel/Control", "SVD Reel/Training")
    assert node.FUNCTION == "execute"
    assert node.DESCRIPTION.endswith(".")
    assert len(node.SEARCH_ALIASES) >= 3
    assert isinstance(node.RETURN_TYPES, tuple)
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    assert "__init__" not in vars(node), "nodes keep no state"


@pytest.mark.parametrize("name", IDS)
def test_inputs_are_the_parameters_of_execute_in_the_same_order(name):
    node = NODES[name]
    groups = node.INPUT_TYPES()
    parameters = list(inspect.signature(node.execute).parameters.values())[1:]
    hidden = groups.get("hidden", {})
    assert [p.name for p in parameters] == [*groups["required"], *groups.get("optional", {}), *hidden]
    # The host leaves optional inputs out of the call where nothing is connected.
    assert [p.name for p in parameters if p.default is not inspect.Parameter.empty] == [
        *groups.get("optional", {}),
        *hidden,
    ]


@pytest.mark.parametrize("name", IDS)
def test_every_input_explains_itself_and_starts_in_its_range(name):
    for key, (kind, options) in entries(NODES[name]).items():
        assert len(options["tooltip"]) > 20, f"{name}.{key} needs a tooltip"
        if isinstance(kind, list):
            assert options["default"] in kind
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"]
            whole = kind == "INT"
            assert isinstance(options["default"], int) == whole, f"{name}.{key}"
        elif kind not in WIDGETS:
            assert kind == kind.upper(), f"{name}.{key} has the socket type {kind}"


@pytest.mark.parametrize("name", IDS)
def test_defaults_of_optional_widgets_are_those_of_execute(name):
    node = NODES[name]
    parameters = inspect.signature(node.execute).parameters
    for key, value in defaults(node).items():
        if parameters[key].default is not inspect.Parameter.empty and key not in ("sigmas", "points"):
            assert parameters[key].default == value, f"{name}.{key}"


def test_custom_socket_types_carry_the_prefix_of_the_pack():
    core = {
        "IMAGE",
        "LATENT",
        "CONDITIONING",
        "VAE",
        "CLIP_VISION",
        "MASK",
        "SIGMAS",
        "MODEL",
        "INT",
        "FLOAT",
        "STRING",
        "BOOLEAN",
        "BOUNDING_BOX",
        "CURVE",
        "UPSCALE_MODEL",
        "INTERP_MODEL",
        "AUDIO",
        "VIDEO",
    }
    kinds = {kind for node in NODES.values() for kind in node.RETURN_TYPES}
    kinds |= {kind for node in NODES.values() for kind, _ in entries(node).values() if isinstance(kind, str)}
    assert {kind for kind in kinds - core if not kind.startswith("SVD_")} == set()


def test_only_host_py_knows_the_host():
    forbidden = ("comfy", "folder_paths", "latent_preview", "nodes", "server", "execution")
    for path in sorted((ROOT / "nodes").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            foreign = [name for name in names if name.split(".")[0] in forbidden]
            assert not foreign or path == ROOT / "nodes/host/comfy.py", f"{path.name} imports {foreign}"


def test_light_nodes_run_with_their_defaults():
    motion = run("SVDReelMotion")[0]
    assert (motion.motion_bucket_id, motion.fps, motion.augmentation_level) == (127, 7, 0.02)
    sigmas = run("SVDReelSchedule")[0]
    assert len(sigmas) == 26 and float(sigmas[0]) == 700.0 and float(sigmas[-1]) == 0.0
    guidance, curve = run("SVDReelGuidance")
    assert guidance.low is None and guidance.high is None
    assert curve.shape[0] == 1 and curve.shape[-1] == 3 and 0 <= float(curve.min()) <= float(curve.max()) <= 1


@pytest.mark.parametrize("preset", list(part("nodes.condition").PRESETS))
def test_motion_presets_give_numbers(preset):
    motion = run("SVDReelMotion", preset=preset, motion_bucket_id=33)[0]
    assert (motion.motion_bucket_id == 33) == (preset == "from the widgets")


@pytest.mark.parametrize("shape", part("nodes.guidance").SVDReelGuidance.INPUT_TYPES()["required"]["shape"][0])
@pytest.mark.parametrize(("low", "high"), [(-1.0, -1.0), (1.0, 3.0), (-1.0, 0.5), (4.0, -1.0), (2.0, 2.0), (3.0, 1.0)])
def test_any_guidance_curve_can_be_drawn(shape, low, high):
    guidance, curve = run("SVDReelGuidance", shape=shape, low=low, high=high)
    assert curve.shape[0] == 1 and curve.shape[-1] == 3
    assert float(curve.std()) > 0.01


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        ("SVDReelGuidance", {"shape": "custom", "points": "one, two"}, "one, two"),
        ("SVDReelGuidance", {"low": -0.5}, "-0.5"),
        ("SVDReelGuidance", {"sigma_low": 5.0, "sigma_high": 1.0}, "interval"),
        ("SVDReelSchedule", {"kind": "custom", "sigmas": ""}, "custom sigma list.*numbers separated"),
        ("SVDReelSchedule", {"kind": "custom", "sigmas": "1, 2, 0"}, "decrease"),
        ("SVDReelSchedule", {"sigma_min": 5.0, "sigma_max": 1.0}, "sigma"),
        ("SVDReelLoadModel", {"model_name": "absent.safetensors"}, "models/svd"),
    ],
)
def test_bad_widgets_are_answered_with_a_sentence(node, values, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        run(node, **values)
