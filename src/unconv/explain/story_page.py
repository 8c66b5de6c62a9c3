"""Stories as HTML: one file to open in a browser, where a slider goes through the frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from unconv.errors import ShapeError
from unconv.explain.kinds_of_cells import KINDS
from unconv.explain.language import saying
from unconv.explain.layout import TALL, WIDE, Plan, first_of, plan
from unconv.explain.sheet import Rect, colours, compose, crop_words, map_of, svg
from unconv.explain.story import Frame, Panel, Story, counted_from, legend
from unconv.render.page import page, stylesheet
from unconv.version import __version__

_FRAMES = 1600  # the most frames of a page
_CELLS = 3_000_000  # the most cells in all cards of a page
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_LABELS = {
    "play": "Play",
    "pause": "Pause",
    "step": "Step {step} of {count}",
    "slider": "Step",
    "legend": "Colours",
    "hint": "Move the slider, or press the arrow keys, Home or End; the space bar plays. A click on a cell of “{panel}” jumps "
    "to its step.",
    "all": "All steps in words",
    "made": "Made by unconv {version}.",
}


def story_page(story: Story, at: int) -> bytes:
    """Return the page of a story; it begins with frame number `at`.

    It has two drawings, one for a wide screen and one for a tall one. Without JavaScript that frame is shown, with all
    captions below it.
    """
    if len(story.frames) > _FRAMES:
        raise ShapeError(
            f"page: {len(story.frames)} frames are more than the {_FRAMES} that a page may have. Explain a smaller input, or "
            "save the text of one position (.txt)."
        )
    frames, say = list(story.frames), saying(story.language)
    plans = {"wide": plan(story, WIDE), "tall": plan(story, TALL)}
    _refuse_many(story, frames, list(plans.values()))
    # Every frame gets as many rectangles as the one with the most marks: the script moves them and never makes new ones.
    most = max(len(frame.marks) for frame in frames)
    drawings = []
    for name, layout in plans.items():
        sheet = compose(story, frames[at], layout)
        drawing = replace(sheet, marks=[*sheet.marks, *[Rect(0, 0, 0, 0, "mark")] * (most - len(sheet.marks))])
        drawings.append(Markup(svg(drawing, name, story.title, style="")))
    # The script fills in {step} at each frame; the other values are known now.
    values = {"step": "{step}", "count": len(frames), "version": __version__}
    values["panel"] = [*story.panels, *frames[0].cards][frames[0].marks[-1][0]].title
    labels = {name: say(sentence, **values) for name, sentence in _LABELS.items()}
    data = {
        "frames": _script_json([_frame_data(story, frame, list(plans.values())) for frame in frames]),
        "plans": _script_json([_plan_data(story, frames, layout) for layout in plans.values()]),
        "panels": _script_json(_cropped_data(story, list(plans.values()))),
        "kinds": _script_json(list(KINDS)),
        "labels": _script_json({name: labels[name] for name in ("play", "pause", "step")}),
    }
    return page(
        "story.html",
        story=story,
        drawings=drawings,
        frames=frames,
        at=at,
        columns=_columns(frames),
        longest=max((frame.caption for frame in frames), key=len),
        legend=legend(story),
        counted=counted_from(story),
        labels=labels,
        style=Markup(stylesheet().decode() + colours()),
        data={name: Markup(words) for name, words in data.items()},
    )


def _refuse_many(story: Story, frames: Sequence[Frame], plans: Sequence[Plan]) -> None:
    cells = sum(rows * columns for layout in plans for rows, columns in layout.shows[len(story.panels) :])
    if cells * len(frames) > _CELLS:
        raise ShapeError(
            f"page: {len(frames)} frames of {cells} cells are more than the {_CELLS} that a page may have. Explain a smaller "
            "input, or save the picture of one position (.png)."
        )


def _cropped_data(story: Story, plans: Sequence[Plan]) -> list[dict[str, Any] | None]:
    """Return the complete grids of the panels that some drawing crops, and None for the others."""
    return [
        _grid_data(panel) if any(layout.cropped(number, panel) for layout in plans) else None
        for number, panel in enumerate(story.panels)
    ]


def _columns(frames: Sequence[Frame]) -> int:
    """Return the number of frames in a row of positions: up to where the last mark's row changes."""
    rows = [frame.marks[-1][1] for frame in frames]
    return next((number for number, row in enumerate(rows) if row != rows[0]), len(rows))


def _frame_data(story: Story, frame: Frame, plans: Sequence[Plan]) -> dict[str, Any]:
    """Return what the script changes at a frame: marks, caption, and the part of each card that some drawing shows."""
    cards = []
    for number, card in enumerate(frame.cards, len(story.panels)):
        boxes = [(*layout.origin(number, card, frame), *layout.shows[number]) for layout in plans]
        top, left = (min(box[axis] for box in boxes) for axis in (0, 1))
        bottom, right = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
        cards.append(_grid_data(card, (top, left, bottom, right)))
    return {"marks": frame.marks, "cards": cards, "caption": frame.caption}


def _grid_data(panel: Panel, box: tuple[int, int, int, int] | None = None) -> dict[str, Any]:
    """Return the cells of a grid, or of a box (top, left, bottom, right) in it, for the script."""
    top, left, bottom, right = box or (0, 0, *panel.size)
    rows = range(top, bottom)
    exact = [word for row in rows for word in panel.exact[row][left:right]] if panel.exact else []
    return {
        "at": [top, left],
        "columns": right - left,
        "size": panel.size,
        "words": [word for row in rows for word in panel.cells[row][left:right]],
        "kinds": [_NUMBERS[kind] for row in rows for kind in panel.kinds[row][left:right]],
        "exact": {number: word for number, word in enumerate(exact) if word},
    }


def _plan_data(story: Story, frames: Sequence[Frame], layout: Plan) -> dict[str, Any]:
    """Return where a drawing has its cells, and which part of each cropped grid it shows at each frame."""
    panels, say = [*story.panels, *frames[0].cards], saying(story.language)
    cropped = {number: panel for number, panel in enumerate(panels) if layout.cropped(number, panel)}
    crops = {}
    for number, panel in cropped.items():
        names = ("top", "bottom", "left", "right")
        crops[number] = {
            "origins": [layout.origin(number, panel, frame) for frame in frames],
            "first": first_of(panel),
            "words": say(crop_words(panel), **{name: f"{{{name}}}" for name in names}),
            "map": map_of(panel, number, layout, (0, 0))[0],
        }
    corners = [layout.cells_at(number, panel) for number, panel in enumerate(panels)]
    return {"cell": layout.cell, "corners": corners, "shows": layout.shows, "crops": crops}


def _script_json(data: object) -> str:
    """Return JSON that is safe within a script element."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
