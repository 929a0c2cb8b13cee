"""`python -m tools.mutants`: which places it draws, and which tests it runs for a change."""

import ast
import importlib.util

import pytest

from tools.mutants import Mutant, left_out_spans, sample_mutants, sources_of
from tools.trials import IMPORTED, SHARED, Coverage, ImportTimeChange, exchange_functions, statement_lines

CODE = """\
LIMIT = (
    3 +
    4
)

def scaled(x: "int | None" = 2 - 1) -> "int | float":
    if x > (
        0
    ):
        return x * 2
    return 0
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(2, range(1, 5), id="a statement over several lines"),
        pytest.param(8, range(7, 10), id="the head of a compound statement"),
        pytest.param(10, range(10, 11), id="the body of it"),
        pytest.param(6, range(6, 7), id="the head of a function"),
    ],
)
def test_a_line_counts_as_the_statement_it_is_part_of(line: int, expected: range) -> None:
    assert statement_lines(ast.parse(CODE), line) == expected


TEXTS = """\
@dataclass(frozen=True)
class Size:
    width: int | None = 2 - 1

def checked(x: "int | None" = 2 - 1) -> "int | float":
    log.warning("%d of 7", x + 3)
    if x > 4:
        raise ValueError(f"{x + 5} is above 6")
    return list(zip([x, 8], [9], strict=False))
"""


def test_annotations_messages_and_keywords_that_only_forbid_are_left_out() -> None:
    spans = left_out_spans(ast.parse(TEXTS))
    left_out, kept = [], []
    for node in ast.walk(ast.parse(TEXTS)):
        if isinstance(node, ast.Constant):
            inside = any(first <= (node.lineno, node.col_offset) < last for first, last in spans)
            (left_out if inside else kept).append(node.value)
    assert {True, False, 3, 5, "int | None", "int | float"} < set(left_out)
    assert sorted(kept) == [1, 1, 2, 2, 4, 8, 9]


def test_a_sample_has_one_mutant_a_place_and_follows_the_seed() -> None:
    kinds = ("core/ReplaceBinaryOperator_Add_Sub", "core/ReplaceBinaryOperator_Add_Mul", "core/NumberReplacer")
    mutants = [Mutant("a.py", line, kind, number) for line in range(30) for number, kind in enumerate(kinds)]
    drawn = sample_mutants(mutants, 20, 3)
    places = {(mutant.line, mutant.operator.split("_")[0]) for mutant in drawn}
    assert len(drawn) == len(places) == 20
    assert drawn == sample_mutants(mutants, 20, 3) != sample_mutants(mutants, 20, 4)
    assert len(sample_mutants(mutants, 1000, 0)) == 60


def test_tests_of_a_line_run_file_by_file_and_shared_work_runs_them_all() -> None:
    slow, fast, other, last, never = "a::slow", "b::fast", "b::other", "c::last", "c::never"
    contexts = {"a.py": {1: {slow, fast, other}, 2: {slow, SHARED}, 3: {IMPORTED}, 4: {last}}, "b.py": {1: {SHARED}}}
    seen = Coverage(contexts, {slow: 3.0, fast: 0.5, other: 1.0, last: 9.0, never: 0.1})
    assert seen.tests_of("a.py", range(1, 2)) == [fast, other, slow]
    assert seen.tests_of("a.py", range(2, 3)) == [slow, fast, other, last]
    assert seen.tests_of("a.py", range(3, 4)) == [fast, other, slow, last]
    assert seen.tests_of("b.py", range(1, 2)) == [fast, other, slow, never, last]
    assert seen.tests_of("a.py", range(7, 8)) == seen.tests_of("c.py", range(1, 2)) == []


def test_a_test_may_take_longer_than_before_and_make_what_its_file_shares() -> None:
    seen = Coverage(seconds={"a::first": 4.0, "a::second": 0.5, "b::only": 0.0})
    assert seen.limits_of(["a::second", "b::only"]) == {"a::second": 8 + 5 * 0.5 + 2 * 4, "b::only": 8}


BEFORE = """\
LIMIT = 3

def limited(x):
    return min(x, LIMIT)

def scaled(by):
    def inner(x):
        return by * x
    return inner

class Box:
    side = 2

    @property
    def area(self):
        return self.side * self.side
"""


@pytest.fixture
def module(tmp_path):
    """BEFORE as a module, with a closure and an object that were made before the change."""
    path = tmp_path / "boxes.py"
    path.write_text(BEFORE)
    spec = importlib.util.spec_from_file_location("boxes", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.twice, made.box = made.scaled(2), made.Box()
    return made


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("min(x", "max(x"), (7, 14, 4)),
        (("by * x", "by + x"), (3, 9, 4)),
        (("self.side * self.side", "self.side ** 3"), (3, 14, 8)),
        (("return inner", "return  inner"), (3, 14, 4)),
    ],
)
def test_a_change_reaches_functions_that_others_hold_already(module, change, expected) -> None:
    limited, area = module.limited, type(module.box).area.fget
    exchange_functions(module.__file__, BEFORE, BEFORE.replace(*change))
    assert (limited(7), module.twice(7), area(module.box)) == expected


@pytest.mark.parametrize("change", [("LIMIT = 3", "LIMIT = 4"), ("side = 2", "side = 3"), ("    @property\n", "")])
def test_a_change_of_import_time_needs_a_new_process(module, change) -> None:
    with pytest.raises(ImportTimeChange):
        exchange_functions(module.__file__, BEFORE, BEFORE.replace(*change))
    assert (module.limited(7), module.box.area) == (3, 4)


def test_rooms_are_folders_or_single_files_and_unknown_ones_are_named() -> None:
    assert [path.as_posix() for path in sources_of("memory")] == ["svd_core/memory.py"]
    assert len(sources_of("controls")) > 5
    with pytest.raises(SystemExit, match="'motion'.*controls"):
        sources_of("motion")
