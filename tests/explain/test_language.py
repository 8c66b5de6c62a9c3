"""Explanations in Chinese: every sentence has one, with the same values in it."""

from __future__ import annotations

import re
from string import Formatter

import pytest
import torch

from unconv import explain, ops
from unconv.explain.chinese import CHINESE
from unconv.explain.choices import VIEW_WORDS
from unconv.explain.kinds_of_cells import KINDS


def counting(*shape):
    values = torch.arange(1.0, 1 + torch.tensor(shape).prod().item())
    return values.reshape(*shape)


def conv(inside=1, size=4, view="steps", **more):
    arguments = {"strides": 2, "padding": "SAME"} | more
    filters = counting(3, 3, 1, inside)
    return ops.explain_conv2d_transpose(counting(1, 2, 2, inside), filters, (1, size, size, 1), **arguments, view=view)


def row(view="steps"):
    return explain.explain_exercise("digits", view=view)


CASES = {
    **{f"two axes, {view}": lambda view=view: conv(view=view) for view in VIEW_WORDS},
    **{f"one axis, {view}": lambda view=view: row(view) for view in VIEW_WORDS},
    "two channels": lambda: conv(2),
    "three channels": lambda: conv(3),
    "stamps of three channels": lambda: conv(3, view="scatter"),
    "many channels": lambda: conv(9, view="channels"),
    "nothing cut off": lambda: conv(size=5, padding="VALID", view="scatter"),
    "residual": lambda: conv(size=6, padding="VALID"),
    "cropped": lambda: ops.explain_conv2d_transpose(
        counting(1, 3, 4, 1), torch.ones(2, 1, 1, 1), (1, 2, 4, 1), 1, [(2, 0), (0, 0)]
    ),
    "dilated": lambda: conv(size=4, dilations=2),
    "uneven": lambda: ops.explain_conv2d_transpose(counting(1, 3, 3, 1), counting(4, 3, 1, 1), (1, 6, 3, 1), (2, 1)),
    "gaps": lambda: ops.explain_conv2d_transpose(counting(1, 2, 2, 1), counting(1, 1, 1, 1), (1, 4, 4, 1), 2, view="matrix"),
    "long sums": lambda: ops.explain_conv2d_transpose(counting(1, 6, 6, 1), counting(6, 6, 1, 1), (1, 6, 6, 1), 1),
    "large stamps": lambda: ops.explain_conv2d_transpose(
        counting(1, 9, 9, 1), counting(5, 5, 1, 1), (1, 18, 18, 1), 2, view="scatter"
    ),
    "long stamps": lambda: explain.explain_conv1d_transpose(
        counting(1, 30, 1), counting(5, 1, 1), (1, 60, 1), 2, view="scatter"
    ),
    "large": lambda: ops.explain_conv2d_transpose(counting(1, 1, 60, 1), counting(1, 3, 1, 1), (1, 1, 60, 1), 1),
    "maxima": lambda: ops.explain_unpool_max(torch.ones(1, 3, 3, 2), 2, 1, "SAME"),
    "last maxima": lambda: ops.explain_unpool_max(torch.ones(1, 3, 3, 1), 2, 1, "SAME", "overwrite"),
    "averages": lambda: ops.explain_unpool_avg(counting(1, 3, 3, 1), 2, 1, "SAME", "mean"),
}
ENGLISH = re.compile(r"[A-Za-z]{2,}")
ALLOWED = {"SAME", "VALID", "Home", "End", "unconv"}


@pytest.mark.parametrize("name", CASES)
def test_nothing_english_is_left_in_a_chinese_explanation(name):
    explanation = CASES[name]().in_language("zh")
    story = explanation.story()
    said = [explanation.text(), *(frame.caption for frame in story.frames)]
    page = explanation.page().decode()
    body = re.sub(r"<script>.*?</script>|<style>.*?</style>|<[^>]*>", " ", page[page.index("<body>") :], flags=re.S)
    labels = re.search(r"const labels = (.*);\n", page)[1]
    said += [body, *re.findall(r':"([^"]*)"', labels.replace("{step}", "").replace("{count}", ""))]
    assert not [word for text in said for word in ENGLISH.findall(text) if word not in ALLOWED]
    assert '<html lang="zh-CN">' in page


def test_sentences_have_the_same_values_in_both_languages():
    def names(sentence):
        return {name for _, name, *_ in Formatter().parse(sentence) if name}

    assert not [english for english, chinese in CHINESE.items() if names(chinese) != names(english)]
    assert {kind.words for kind in KINDS.values() if kind.words} <= set(CHINESE)


def test_the_numbers_are_the_same_in_both_languages():
    english, chinese = (conv(3).in_language(language).story() for language in ("en", "zh"))
    for one, other in zip(english.frames, chinese.frames, strict=True):
        assert [card.cells for card in one.cards] == [card.cells for card in other.cards]
        assert one.marks == other.marks


def test_a_sentence_is_as_a_lecturer_says_it():
    assert "输出第 2 行第 2 列：1 · 9 + 2 · 7 + 3 · 3 + 4 · 1 = 36。" in conv().in_language("zh").text()
    assert "转置卷积，3 → 6，卷积核大小 3，步幅 2，填充 SAME" in row().in_language("zh").text()
