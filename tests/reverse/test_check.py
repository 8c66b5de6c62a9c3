"""`Network.check`: what it lists is what is there, and a broken rule is found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision import models

import unconv
from cases import zoo
from cases.rules import Calls
from unconv.reverse.rules import KEEPERS
from unconv.reverse.rules.pool import max_pool
from unconv.reverse.rules.table import FREEZERS

POOL = torch.ops.aten.max_pool2d_with_indices.default
GROUP_NORM = torch.ops.aten.native_group_norm.default


def gates(size=(3, 21, 19)):
    torch.manual_seed(0)
    return unconv.Network(zoo.Gates().eval(), input_size=size)


def conv(*settings):
    return nn.Conv2d(*settings).eval()


def test_a_network_of_gates_is_reversible_and_all_that_is_frozen_is_listed():
    found = gates().check()
    assert found.reversible
    assert dict(found.rectifiers) == {"silu": 1, "relu": 2}
    assert any(words.startswith("1 of 1 silu: rectified; the paper defines ReLU only") for words in found.rectified)
    ((kind, places),) = found.frozen.items()
    assert kind.startswith("gates") and len(places) == 4
    assert found.places[0] == found.places[1] == len(gates().places())
    assert {law.name for law in found.laws} == {
        "gradient = autograd",
        "windows = full walk",
        "zero seed",
        "support",
        "frozen = constants",
        "recording = model",
        "model untouched",
    }
    assert max(law.error for law in found.laws) < 1e-12
    assert found.verdict.startswith("Reversible: all ") and "through all 3 rectifiers" in found.verdict


def test_operations_are_counted():
    model = Calls(lambda m, x: F.max_pool2d(F.relu(m.conv(F.relu(m.conv(x)))), 3, 2) * 2, conv=nn.Conv2d(3, 3, 3))
    found = unconv.Network(model.eval(), input_size=(3, 17, 17)).check()
    counts = {row.name: row.count for row in found.operations}
    assert counts == {"conv": 2, "relu": 2, "max_pool2d": 1, "mul": 1}
    (pool,) = found.pools
    assert pool.overlaps and 0 < pool.collisions < 1


def test_the_share_of_switches_that_meet_is_counted():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1  # seen by all four windows of 3 x 3, stride 2
    (pool,) = unconv.Network(nn.MaxPool2d(3, 2), input_size=(1, 5, 5)).check(image).pools
    assert (pool.overlaps, pool.collisions) == (True, 0.75)
    (pool,) = unconv.Network(nn.MaxPool2d(2), input_size=(1, 4, 4)).check().pools
    assert (pool.overlaps, pool.collisions) == (False, 0.0)


@pytest.mark.slow
def test_a_transformer_is_refused_with_the_reason_but_for_its_stem():
    model = models.VisionTransformer(32, 8, 2, 2, 16, 32).eval()
    network = unconv.Network(model, input_size=(3, 32, 32))
    found = network.check()
    assert not found.reversible
    assert "self-attention mixes positions by weights that the picture makes" in found.verdict
    assert "the last is encoder.layers.encoder_layer_0.self_attention" in found.verdict  # its queries, keys and values
    assert found.operations[0].refused and found.operations[0].name == "attention"
    assert len(network.project(torch.rand(3, 32, 32), "conv_proj", "top:3")) == 3
    with pytest.raises(unconv.NoRule, match="self-attention"):
        network.project(torch.rand(3, 32, 32), "heads")


def test_a_wrong_rule_is_found():
    rules = unconv.Rules("gradient")

    @rules.rule(POOL, keep=KEEPERS[POOL])
    def shifted(step, r, switches):
        """A rule that adds."""
        return max_pool(step, r, switches).map(lambda values: values + 1e-3)

    model = nn.Sequential(conv(3, 4, 3), nn.MaxPool2d(2), conv(4, 2, 3))
    found = unconv.Network(model, input_size=(3, 20, 20)).check(method=rules)
    broken = {law.name for law in found.laws if not law.holds}
    assert "zero seed" in broken
    assert not found.reversible and found.verdict.startswith("Not to be trusted: ")
    assert "A rule that adds." in {row.rule for row in found.operations}


def test_a_gate_or_norm_that_is_frozen_wrongly_is_found(monkeypatch):
    model = nn.Sequential(conv(3, 4, 3), nn.GroupNorm(2, 4), conv(4, 2, 3)).eval()
    network = unconv.Network(model, input_size=(3, 10, 10))
    (law,) = (law for law in network.check().laws if law.name == "frozen = constants")
    assert law.error < 1e-12 and "1 norm as constants" in law.words
    right = FREEZERS[GROUP_NORM]

    def slightly_wrong(step, freezing):
        kind, (product,) = right.rewrite(step, freezing)
        return kind, [replace(product, args=(product.args[0], product.args[1] * 1.001))]

    monkeypatch.setitem(FREEZERS, GROUP_NORM, replace(right, rewrite=slightly_wrong))
    found = network.check()
    assert [law.name for law in found.laws if not law.holds] == ["frozen = constants"]
    assert found.verdict.startswith("Not to be trusted: frozen = constants")


@pytest.mark.parametrize(
    "norm",
    [
        nn.LocalResponseNorm(3, alpha=0.5),
        nn.InstanceNorm2d(4, affine=True),
        nn.LayerNorm([8, 8]),
        Calls(lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(4)),
        Calls(lambda m, x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()),
        Calls(lambda m, x: F.glu(x, 1)),
        Calls(lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    ],
    ids=["response", "instance", "layer", "channels", "written out", "linear unit", "squeeze and excite"],
)
def test_what_is_frozen_is_tried_against_a_second_run(norm):
    torch.manual_seed(0)
    for weight in norm.parameters():
        nn.init.normal_(weight)
    network = unconv.Network(nn.Sequential(conv(3, 4, 3), norm, nn.LazyConv2d(2, 3)).eval(), input_size=(3, 10, 10))
    network.module(torch.rand(1, 3, 10, 10))
    found = network.check(method="guided")
    (law,) = (law for law in found.laws if law.name == "frozen = constants")
    assert law.error < 1e-12 and found.reversible
    assert not any(law.name == "frozen = constants" for law in network.check(method="gradient").laws)


def test_a_module_that_also_runs_on_another_argument_is_checked_on_the_image():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(conv(3, 4, 3), nn.ReLU())

        def forward(self, x, other):
            return self.body(x) - self.body(other)

    others = {"other": torch.rand(1, 3, 9, 9)}
    found = unconv.Network(Siamese().eval(), input_size=(3, 9, 9), others=others).check()
    assert found.reversible and found.laws[0].name == "gradient = autograd"


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_are_checked_but_for_autograd():
    block = nn.Sequential(conv(4, 4, 3), nn.ReLU())
    model = Calls(lambda m, x: checkpoint(m.block, m.conv(x), use_reentrant=True), conv=conv(3, 4, 3), block=block)
    found = unconv.Network(model.eval(), input_size=(3, 9, 9)).check()
    assert found.reversible and "through its one rectifier" in found.verdict


class Meddler(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.register_buffer("seen", torch.zeros(()))

    def __deepcopy__(self, memo):
        raise RuntimeError("is one of a kind")

    def forward(self, x):
        self.seen += 1
        return self.conv(x).relu()


def test_torch_s_own_slip_at_gradients_that_lie_channels_last_is_not_taken_for_ours():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

        def forward(self, x):
            return self.last(F.gelu(self.norm(self.stem(x)).flatten(2).transpose(1, 2)).mean(1))

    model = Tokens().eval()
    nn.init.normal_(model.norm.weight)
    assert unconv.Network(model, input_size=(3, 9, 9)).check(method="gradient").reversible


def test_a_model_that_changes_itself_is_put_back_and_one_that_cannot_be_copied_is_checked_as_it_is():
    model = Meddler().eval()
    found = unconv.Network(model, input_size=(3, 12, 12)).check()
    assert found.reversible and model.seen == 0
    assert "in float32" in found.laws[0].words


def test_activations_that_shall_be_errors_make_a_network_irreversible():
    found = gates().check(method=unconv.Rules("deconvnet", activations="error"))
    assert not found.reversible
    assert "the paper defines the rectifier ReLU, and silu is a silu" in found.verdict


def test_the_text_is_plain_and_the_numbers_are_json():
    found = gates().check(torch.rand(3, 21, 19), "guided")
    text, numbers = found.text(), json.loads(json.dumps(found.numbers()))
    assert numbers["method"] == "guided" and numbers["reversible"] is True
    assert numbers["laws"][0]["holds"] is True
    assert "\x1b" not in text and found.verdict in text and str(found) == text
    assert all(row.name in text for row in found.operations)


def test_the_command_checks_and_its_status_tells(tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from unconv.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Odd(nn.Module):\n    def forward(self, x):\n        return torch.special.i0(x)\n"
        "def good():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.SiLU())\n"
        "def bad():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), Odd())\n"
    )
    good = CliRunner().invoke(app, ["check", "made.py:good", "--size", "16"])
    assert good.exit_code == 0 and "Reversible: all 2 places" in good.output
    bad = CliRunner().invoke(app, ["check", "made.py:bad", "--size", "16", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.output)["places"] == {"all": 2, "projectable": 1}
    refused = CliRunner().invoke(app, ["check", "made.py:good", "--size", "16", "--activations", "error"])
    assert refused.exit_code == 1


class Square(nn.Module):
    """Channels last at the end, of a map whose sides are as many as its channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 6)

    def forward(self, x):
        return F.relu(self.linear(self.conv(x).permute(0, 2, 3, 1)))


def test_maps_as_large_as_their_channels_are_many_are_not_turned_by_their_shape():
    torch.manual_seed(0)
    network = unconv.Network(Square().eval(), input_size=(3, 6, 6))
    assert network.check().reversible
    image = torch.randn(3, 6, 6)
    (found,) = network.trust(image, "linear", channels=2, unit=(3, 1))
    corner, side = found.occlusion.corners[10].tolist(), found.occlusion.side
    hidden = image.clone()
    hidden[:, max(corner[0], 0) : corner[0] + side[0], max(corner[1], 0) : corner[1] + side[1]] = image.mean((1, 2)).view(
        3, 1, 1
    )
    before, after = (float(network.record(i, ["linear"]).activation("linear")[2, 3, 1]) for i in (image, hidden))
    assert float(found.occlusion.drops[10]) == pytest.approx(1 - after / before, abs=1e-5)


def test_a_module_made_in_inference_mode_is_checked():
    with torch.inference_mode():
        model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    assert unconv.Network(model, input_size=(3, 9, 9)).check().places == (2, 2)
