"""The languages of explanations: sentences are written in English, and a table translates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import get_args

from unconv.axis import Axis
from unconv.errors import DtypeError
from unconv.explain.chinese import CHINESE
from unconv.explain.choices import Language

Say = Callable[..., str]

_TABLES: dict[Language, Mapping[str, str] | None] = {"en": None, "zh": CHINESE}


def saying(language: Language) -> Say:
    """Return the function `say(sentence, **values)`, which translates a sentence and fills in the values for its {names}."""
    return partial(_fill_in, _TABLES[language])


def refuse_language(where: str, language: object) -> None:
    """Refuse a language that has no table."""
    if language not in get_args(Language):
        raise DtypeError(f"{where}: language is {language!r}, but 'en' or 'zh' was needed. Pass one of these.")


def _fill_in(table: Mapping[str, str] | None, sentence: str, /, **values: object) -> str:
    return (sentence if table is None else table[sentence]).format(**values)


def by_axis(say: Say, names: Sequence[str], words: Iterable[str], sentence: str = "{name} {words}") -> str:
    """Return the words of each axis joined, or once if all are the same: "2 before", "height 2 before; width 1 before"."""
    parts = list(words)
    if len(set(parts)) == 1:
        return parts[0]
    return say("; ").join(say(sentence, name=say(name), words=part) for name, part in zip(names, parts, strict=True))


def before_and_after(say: Say, names: Sequence[str], pads: Iterable[tuple[int, int]]) -> str:
    """Return in words how each axis is padded."""
    return by_axis(say, names, (say("{before} before, {after} after", before=before, after=after) for before, after in pads))


def settings_words(say: Say, axis: Axis) -> str:
    """Return in words the settings of a kernel along an axis."""
    padding = _padding_word(axis)
    if axis.dilation == 1:
        return say(
            "kernel {kernel}, stride {stride}, padding {padding}", kernel=axis.kernel, stride=axis.stride, padding=padding
        )
    return say(
        "kernel {kernel}, stride {stride}, dilation {dilation}, padding {padding}",
        kernel=axis.kernel,
        stride=axis.stride,
        dilation=axis.dilation,
        padding=padding,
    )


def window_words(say: Say, axis: Axis) -> str:
    """Return in words the settings of a pool's window along an axis; Chinese has another word for it than for a kernel."""
    sentence = "kernel {window}, stride {stride}, padding {padding}"
    return say(sentence, window=axis.kernel, stride=axis.stride, padding=_padding_word(axis))


def _padding_word(axis: Axis) -> str:
    if axis.padding is None:
        return "SAME"
    return "VALID" if axis.padding == (0, 0) else f"{axis.padding[0]} + {axis.padding[1]}"


def sizes_words(say: Say, legal: range) -> str:
    """Return all legal lengths in words."""
    if not legal:
        return say("none")
    if len(legal) == 1:
        return say("only {size}", size=legal[0])
    if len(legal) > 16:
        return say("any from {first} to {last}", first=legal[0], last=legal[-1])
    return say("{others} or {last}", others=say(", ").join(map(str, legal[:-1])), last=legal[-1])
