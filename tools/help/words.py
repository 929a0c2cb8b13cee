"""The few words that the tables of the help pages have themselves, in each language."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """`span` and `step` take numbers as they are to be read, `listed` the texts of a choice."""

    inputs: str
    outputs: str
    values: str
    meaning: str
    span: Callable[[str, str], str]
    step: Callable[[str], str]
    listed: Callable[[list[str]], str]
    files: str
    default: Callable[[str], str]
    empty: str
    on_or_off: str
    on: str
    off: str
    link: str
    optional: str
    advanced: str


ENGLISH = Words(
    inputs="Input",
    outputs="Output",
    values="Type and values",
    meaning="What it does",
    span=lambda low, high: f"{low} to {high}",
    step=lambda size: f"in steps of {size}",
    listed=", ".join,
    files="files found",
    default=lambda value: f"default {value}",
    empty="empty",
    on_or_off="on or off",
    on="on",
    off="off",
    link="link",
    optional="optional",
    advanced="advanced",
)
CHINESE = Words(
    inputs="输入",
    outputs="输出",
    values="类型与取值",
    meaning="作用",
    span=lambda low, high: f"{low} 到 {high}",
    step=lambda size: f"步长 {size}",
    listed="、".join,
    files="找到的文件",
    default=lambda value: f"默认 {value}",
    empty="空",
    on_or_off="开或关",
    on="开",
    off="关",
    link="连线",
    optional="可选",
    advanced="高级",
)
WORDS = {"en": ENGLISH, "zh": CHINESE}
