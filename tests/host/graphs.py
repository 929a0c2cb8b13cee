"""Graphs in ComfyUI's API form, written as short as possible."""


class Graph(dict):
    """Node id -> node. `add` returns a function that makes links to the node's outputs."""

    def add(self, kind: str, /, **inputs):
        """Add a node; inputs are widget values or links."""
        key = str(len(self) + 1)
        self[key] = {"class_type": kind, "inputs": inputs}

        def output(index: int = 0) -> list:
            return [key, index]

        output.id = key
        return output


def defaults(object_info: dict, kind: str) -> dict:
    """Widget values of a fresh node as the server declares them."""
    groups = object_info[kind]["input"]
    entries = {**groups.get("required", {}), **groups.get("optional", {})}
    values = {}
    for name, entry in entries.items():
        options = entry[1] if len(entry) > 1 else {}
        if "default" in options:
            values[name] = options["default"]
        elif isinstance(entry[0], list) and entry[0]:
            values[name] = entry[0][0]
    return values


class Builder:
    """Adds nodes with the server's own defaults, so that a graph says only what matters."""

    def __init__(self, object_info: dict):
        self.info, self.graph = object_info, Graph()

    def __call__(self, kind: str, /, **inputs):
        return self.graph.add(kind, **{**defaults(self.info, kind), **inputs})

    def load(self, name: str = "svd_xt_tiny.safetensors", **inputs):
        """Loader of the tiny model, in float32."""
        return self("SVDReelLoadModel", model_name=name, precision="fp32", **inputs)

    def picture(self):
        """The test picture."""
        return self("LoadImage", image="picture.png")()

    def condition(self, loader, **inputs):
        """Our conditioning of the test picture."""
        return self("SVDReelCondition", model=loader(), image=self.picture(), **inputs)

    def sampled(self, loader, condition, **inputs):
        """Our sampler on our conditioning."""
        return self(
            "SVDReelSampler",
            model=loader(), positive=condition(0), negative=condition(1), latent=condition(2), **inputs,
        )  # fmt: skip

    def ksampled(self, model, condition, **inputs):
        """The host's sampler on our conditioning."""
        values = {"seed": 23, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0, **inputs}
        return self(
            "KSampler", model=model, positive=condition(0), negative=condition(1), latent_image=condition(2), **values
        )

    def keep(self, latent):
        """Save a LATENT; returns the node's id."""
        return self("SaveLatent", samples=latent).id

    def show(self, images):
        """Save an IMAGE as PNG files; returns the node's id."""
        return self("PreviewImage", images=images).id


# Training that a user waits minutes for; test_work.py looks at what comes of it.
SHORT_TRAINING = {"steps": 2, "validate_every": 2}


def runnable(prompt: dict, object_info: dict, model: str) -> dict:
    """The prompt of a shipped workflow with our picture; empty if this host cannot run it.

    Workflows for nano stay as they are shipped, but for the steps of training; others get a model that is there, and
    few steps.
    """
    for node in prompt.values():
        if node["class_type"] == "SVDReelTrainLora":
            node["inputs"] |= SHORT_TRAINING
        if node["class_type"] not in object_info:
            return {}
        groups = object_info[node["class_type"]]["input"]
        entries = {**groups.get("required", {}), **groups.get("optional", {})}
        widgets = [name for name, value in node["inputs"].items() if not isinstance(value, list)]
        for name in widgets:
            kind, *more = entries[name]
            options = more[0].get("options") if kind == "COMBO" else kind
            if not isinstance(options, list) or node["inputs"][name] in options:
                continue
            replacement = {"image": "picture.png", "model_name": model}.get(name)
            if replacement not in options:
                return {}
            node["inputs"][name] = replacement
    if any(node["inputs"].get("model_name") == model for node in prompt.values()):
        short = {"class_type": "SVDReelSchedule", "inputs": defaults(object_info, "SVDReelSchedule")}
        for node in prompt.values():
            if node["class_type"] == "SVDReelSampler":
                node["inputs"].setdefault("sigmas", ["short", 0])
        prompt["short"] = short
        for node in prompt.values():
            if not isinstance(node["inputs"].get("steps", []), list):
                node["inputs"]["steps"] = 2
    return prompt
