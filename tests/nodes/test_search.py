"""Where ComfyUI's node search ranks our nodes, by the rule of its editor since it reads SEARCH_ALIASES.

The editor finds a node by a text of its own: its id, its name in the menu, or an alias. A node whose id or name holds
the query ranks before all others: whole text, start, whole word, any place; aliases have no part in that. The rest
ranks by how near to its start each text has the words, multiplied over all texts that have them. Words with typing
errors, which the editor finds as well, are left out here.
"""

import math
import re

import pytest

from tests.helpers.nodes_pack import pack

NODES = pack().NODE_CLASS_MAPPINGS
FARTHEST = 0.3  # the largest score of a found word; a hundred characters from the start are 1


def word_score(word: str, text: str) -> float | None:
    place = text.find(word)
    return None if place < 0 or place > 100 * FARTHEST else max(0.001, place / 100)


def found_score(query: str, texts: list[str]) -> float | None:
    """The product over texts with all words; each counts by the root of its number of words, with a weight of 1/3."""
    total, found = 1.0, False
    for text in texts:
        scores = [word_score(word, text.lower()) for word in query.split()]
        if None not in scores:
            norm = round(1 / math.sqrt(len(text.split(" "))), 3)
            total, found = total * (sum(scores) / len(scores)) ** (norm / 3), True
    return total if found else None


def place(query: str, text: str, score: float) -> tuple[float, ...]:
    """Sorting key of one name of a node: the class of its match, its place and length, then the score."""
    words = [word.lower() for word in re.split(r" |\b|(?<=[a-z])(?=[A-Z])|(?=[A-Z][a-z])", text)]
    text = text.lower()
    near, parts = (text.find(query) + len(text) / 2, len(text)), query.split(" ")
    ends = [len(text), len(query)]
    score += 0.2 * (1 - min(ends) / max(ends))
    if text == query:
        return (0, 0, 0, score)
    if text.startswith(query):
        return (1, 0, len(text), score)
    if query in text:
        return (2 if query in words else 3, *near, score)
    assert not all(part in text for part in parts), "classes 4 and 5 are not in this model"
    return (9, 0, 0, score)


def ranked(query: str) -> list[str]:
    """Ids of our nodes in the order in which the editor shows them."""
    keys = {}
    for name, node in NODES.items():
        score = found_score(query, [name, node.DISPLAY_NAME, *node.SEARCH_ALIASES])
        if score is not None:
            keys[name] = min(place(query, text, score) for text in (name, node.DISPLAY_NAME))
    return sorted(keys, key=keys.get)


@pytest.mark.parametrize("query", ["image to video", "stable video", "stable video diffusion"])
def test_general_searches_find_the_one_node_for_all_and_the_loader_first(query):
    assert set(ranked(query)[:2]) == {"SVDReelAnimate", "SVDReelLoadModel"}


@pytest.mark.parametrize("name", NODES)
def test_svd_finds_every_node(name):
    assert name in ranked("svd")


def test_svd_ranks_by_the_length_of_the_id():
    """Seen in ComfyUI 0.33 and 0.3.64: all ids start with it, no name in the menu does, and aliases do not rank."""
    lengths = [len(name) for name in ranked("svd")]
    assert lengths == sorted(lengths)
