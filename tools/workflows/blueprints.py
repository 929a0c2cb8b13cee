"""Subgraph blueprints: several of our nodes as one node, which ComfyUI 0.3.67 and newer offers and can unpack.

A file of `subgraphs/` is a workflow that holds a single node and the definition of what is inside it; the interface
shows it under the file's name.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .graph import Graph
from .library import ROOT, NodeType, library
from .node import NODE_WIDTH, Node, Output, Start
from .pieces import SVD_XT, load_model, sample
from .prompt import NOTES
from .subgraphs import definition

FOLDER = ROOT / "subgraphs"
CATEGORY = "SVD Reel"


@dataclass
class Blueprint:
    """One node made of several.

    `inputs` are pairs (name, type); `outputs` pairs (name, output inside); `shown` pairs (node, widget) that the outer
    node shows.
    """

    graph: Graph
    description: str
    aliases: list[str]
    inputs: list[tuple[str, str]]
    outputs: list[tuple[str, Output]] = field(default_factory=list)
    shown: list[tuple[Node, str]] = field(default_factory=list)

    def entry(self, name: str) -> Output:
        """Return an input as what nodes inside link to."""
        slot = [label for label, _ in self.inputs].index(name)
        return Output(Start(), slot, self.inputs[slot][1])

    def to_json(self) -> dict[str, Any]:
        """Return the file: the outer node and what is inside."""
        name = self.graph.name
        drawn = self.graph.to_json()
        drawn["nodes"] = [node for node in drawn["nodes"] if node["type"] not in NOTES]
        ends = [(label, output.node.number, output.slot, output.type) for label, output in self.outputs]
        inside = definition(f"blueprint/{name}", name, self.description, drawn, self.inputs, ends)
        height = 40 + 22 * max(len(self.inputs), len(self.outputs)) + 26 * len(self.shown)
        outer = {
            "id": 1,
            "type": inside["id"],
            "pos": [0, 0],
            "size": [NODE_WIDTH, height],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [{"name": label, "type": kind, "link": None} for label, kind in self.inputs],
            "outputs": [{"name": label, "type": output.type, "links": []} for label, output in self.outputs],
            "title": name,
            "properties": {"proxyWidgets": [[str(node.number), widget] for node, widget in self.shown]},
            "widgets_values": [],
        }
        return {
            "revision": 0,
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [outer],
            "links": [],
            "version": 0.4,
            "definitions": {"subgraphs": [{**inside, "category": CATEGORY}]},
            "extra": {"BlueprintSearchAliases": self.aliases},
        }


def image_to_video(nodes: dict[str, NodeType]) -> Blueprint:
    """Return the blueprint from a picture to frames."""
    made = Blueprint(
        Graph("Image to Video (SVD)", nodes),
        "Turns an image into a short clip with Stable Video Diffusion. Inside: model, motion, conditioning, steps, "
        "guidance, sampling, decoding.",
        ["svd", "animate", "stable video diffusion", "i2v"],
        [("image", "IMAGE")],
    )
    model = load_model(made.graph.stage("Model"), SVD_XT)
    prepare = made.graph.stage("Motion and conditioning")
    motion = prepare.add("SVDReelMotion")
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=made.entry("image"), motion=motion["SVD_MOTION"]
    )
    plan = made.graph.stage("Steps and guidance")
    sigmas, guidance = plan.add("SVDReelSchedule"), plan.add("SVDReelGuidance")
    make = made.graph.stage("Sample and decode")
    latent = sample(make, model, condition, guidance=guidance["SVD_GUIDANCE"], sigmas=sigmas["SIGMAS"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    made.outputs = [("frames", frames["IMAGE"]), ("latent", latent["LATENT"]), ("vae", model["VAE"])]
    made.shown = [
        (model, "model_name"),
        (motion, "motion_bucket_id"),
        (motion, "fps"),
        (condition, "width"),
        (condition, "height"),
        (condition, "frames"),
        (sigmas, "steps"),
        (latent, "seed"),
    ]
    return made


def clip_to_film(nodes: dict[str, NodeType]) -> Blueprint:
    """Return the blueprint from frames to a film file."""
    made = Blueprint(
        Graph("Clip to Film (SVD)", nodes),
        "Finishes a clip: matches the colours to the first frame, upscales, resizes, adds frames in between and writes "
        "a video file of up to 4K, a few frames at a time.",
        ["finish", "4k", "upscale video", "interpolate", "save video"],
        [("frames", "IMAGE"), ("upscale_model", "UPSCALE_MODEL"), ("audio", "AUDIO")],
    )
    matched = made.graph.stage("Colours").add("SVDReelColorMatch", frames=made.entry("frames"))
    film = made.graph.stage("Film").add(
        "SVDReelFinish",
        images=matched["IMAGE"],
        upscale_model=made.entry("upscale_model"),
        audio=made.entry("audio"),
    )
    made.outputs = [("video", film["VIDEO"]), ("path", film["STRING"])]
    made.shown = [
        (matched, "strength"),
        *((film, name) for name in ("fps", "interpolate", "size", "fit", "codec", "quality", "ending")),
        (film, "filename_prefix"),
    ]
    return made


def build_blueprints() -> dict[str, dict[str, Any]]:
    """Return every blueprint's JSON by file stem."""
    nodes = library()
    return {made.graph.name: made.to_json() for made in (image_to_video(nodes), clip_to_film(nodes))}


def write_blueprints(folder: Path = FOLDER) -> list[Path]:
    """Write every blueprint; return the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, blueprint in build_blueprints().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(blueprint, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    return written
