"""The closed-form weights behind tests/data/golden (its README states the rule), and the key tables beside them."""

import gzip
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).parents[1] / "data"
CONDITIONER, FIRST_STAGE = re.compile(r"conditioner\.embedders\.\d+\.encoder\."), "first_stage_model."


def fill_by_rule(shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Tensor]:
    """Float32 tensors of the given shapes (single-file key -> shape) with the values that seed and key determine."""
    tensors: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        named = CONDITIONER.sub(FIRST_STAGE, key, count=1)
        tensors[key] = rule(named if named in shapes else key, tuple(shape), seed)
    return tensors


def rule(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """One tensor of the weight rule."""
    random = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode()))
    values = torch.from_numpy(np.asarray(random.standard_normal(shape), dtype=np.float32))
    if key.endswith("mix_factor"):
        return values
    if len(shape) <= 1:
        return 1 + 0.1 * values if key.endswith("weight") else 0.05 * values
    return values / math.sqrt(math.prod(shape[1:]))


def key_table(name: str) -> dict:
    """A table of tests/data/keys by its name, for example `svd_xt`: key -> shape, or the mapping between layouts."""
    with gzip.open(DATA / "keys" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def golden_shapes(name: str) -> dict[str, list[int]]:
    """Key -> shape of the tiny checkpoint behind a golden file: `svd_xt_tiny` or `image_decoder_tiny`."""
    return json.loads((DATA / "golden" / f"{name}.keys.json").read_text(encoding="utf-8"))
