"""Weights files to write, to bend and to have refused."""

from __future__ import annotations

import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import unconv
from unconv.errors import WeightsError


def tiny():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


def state_of(model):
    torch.manual_seed(7)
    state = model.state_dict().items()
    return {key: torch.rand_like(value) if value.is_floating_point() else value + 123_456_789 for key, value in state}


def written(path, state, legacy=False):
    if path.suffix == ".safetensors":
        # safetensors 0.4.3 writes no uint16: its bytes are written as int16's, and renamed.
        save_file(
            {key: value.view(torch.int16) if value.dtype == torch.uint16 else value for key, value in state.items()}, path
        )
        path.write_bytes(path.read_bytes().replace(b'"I16"', b'"U16"'))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def refused(path, model=None):
    """The words with which a file is refused for a model, which it leaves alone."""
    model = tiny() if model is None else model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        unconv.load(model, path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    words = str(error.value)
    assert words.startswith("load: ") and words.endswith(".") and "\n" not in words and words.isprintable()
    assert not any(advice in words for advice in ("weights_only", "safe_mode", "safe_globals", "allow_pickle"))
    return words


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """An archive of torch's, written anew with other members."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in change(members):
            archive.writestr(name, content)
    return path


def folder(members):
    return members[0][0].partition("/")[0]
