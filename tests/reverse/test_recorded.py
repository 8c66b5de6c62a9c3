"""What runs under a recording is bit for bit what the model computes without it, in every form an operation is written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.rules import CASES, Calls
from unconv.reverse.tape.record import record

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own, where it copies

aten = torch.ops.aten

FACTORS = (1.1, 2, 0.7, (1.3, 0.8))
RESIZED = {
    f"{mode}, {form}": (mode, settings)
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
    for form, settings in {
        **{f"by {factor}": {"scale_factor": factor} for factor in FACTORS},
        **{f"by {factor}, recomputed": {"scale_factor": factor, "recompute_scale_factor": True} for factor in FACTORS},
        "to a size": {"size": (9, 5)},
        "to a size, smaller": {"size": 3},
        "corners aligned": {"scale_factor": 1.7, "align_corners": True},
        "smoothed": {"scale_factor": 0.6, "antialias": True},
    }.items()
    if "corners" not in form or mode in ("bilinear", "bicubic")
    if "smoothed" not in form or mode in ("bilinear", "bicubic")
}
FORMS = {
    "nearest, 1-D": lambda x: F.interpolate(x[:, 0], scale_factor=1.3),
    "nearest exact, 1-D": lambda x: F.interpolate(x[:, 0], scale_factor=1.3, mode="nearest-exact"),
    "linear, 1-D": lambda x: F.interpolate(x[:, 0], scale_factor=1.3, mode="linear"),
    "nearest, 3-D": lambda x: F.interpolate(x[None], scale_factor=(1.0, 1.3, 0.9)),
    "nearest exact, 3-D": lambda x: F.interpolate(x[None], scale_factor=1.3, mode="nearest-exact"),
    "trilinear": lambda x: F.interpolate(x[None], scale_factor=1.3, mode="trilinear"),
    "nearest, the operation, with its own factors": lambda x: aten.upsample_nearest2d.default(x, [9, 8], 1.3, 1.4),
    "nearest, one list of factors": lambda x: aten.upsample_nearest2d.vec(x, None, [1.3, 1.4]),
    "upsample": lambda x: nn.Upsample(scale_factor=1.9)(x),
    "affine grid": lambda x: F.grid_sample(
        x, F.affine_grid(torch.eye(2, 3).to(x)[None] * 0.7, x.shape, False), align_corners=False
    ),
    "matmul, folded": lambda x: x @ torch.ones(x.shape[-1], 3, dtype=x.dtype),
    "matmul of matrices": lambda x: x @ x.mT,
    "einsum": lambda x: torch.einsum("nchw,nchv->nwv", x, x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "stft": lambda x: torch.stft(x.flatten(), 8, return_complex=True, window=torch.ones(8, dtype=x.dtype)).abs(),
    "one hot": lambda x: F.one_hot(x.flatten(2).argmax(2)).to(x),
    "batch norm": lambda x: F.batch_norm(x, x.new_zeros(3), x.new_ones(3)),
    "group norm": lambda x: F.group_norm(x, 3),
    "layer norm": lambda x: F.layer_norm(x, x.shape[2:]),
    "embedding bag": lambda x: F.embedding_bag(x.flatten(2).argmax(2), torch.ones(60, 2).to(x)),
    "pad circular": lambda x: F.pad(x, (2, 1, 1, 3), "circular"),
    "instance norm": lambda x: F.instance_norm(x),
    "local response norm": lambda x: F.local_response_norm(x, 3),
    "linear of channels last": lambda x: F.linear(x.permute(0, 2, 3, 1), torch.ones(2, 3).to(x)),
    "tensor split": lambda x: torch.cat([part.relu() for part in x.tensor_split((1, 4), 2)], 2),
    "multi margin": lambda x: F.cosine_similarity(x, x.flip(1)),
    "under autocast": lambda x: _autocast(x),
    "under inference mode": lambda x: torch.inference_mode()(F.interpolate)(x, scale_factor=1.1).clone(),
    "without gradients": lambda x: torch.no_grad()(F.interpolate)(x, scale_factor=1.1),
}


def _autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.conv2d(x, torch.ones(2, 3, 3, 3).to(x)).float()


def picture(dtype: torch.dtype) -> Tensor:
    return torch.randn(1, 3, 7, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


def outputs(function, image: Tensor) -> tuple[Tensor, Tensor]:
    """What a function returns under a recording, and without one."""
    caught = []

    def call(x: Tensor) -> Tensor:
        result = function(x)
        caught.append(result.detach().clone())
        return result

    record(nn.Identity(), image, {}, call=call)
    with torch.no_grad():
        return caught[0], function(image.clone())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", RESIZED)
def test_a_resized_map_is_the_models(name, dtype):
    mode, settings = RESIZED[name]
    under, plain = outputs(lambda x: F.interpolate(x, mode=mode, **settings), picture(dtype))
    assert torch.equal(under, plain)


@pytest.mark.parametrize("name", FORMS)
def test_an_operation_in_this_form_is_the_models(name):
    image = picture(torch.float32)
    if name in ("lstm", "gru"):
        image = image[:, :, :, :]
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[name](6, 3, bidirectional=True)
        under, plain = outputs(lambda x: layer(x[0])[0], image)
    else:
        under, plain = outputs(FORMS[name], image)
    assert torch.equal(under, plain)


@pytest.mark.parametrize("name", CASES)
def test_the_models_of_all_rules_compute_the_same_under_a_recording(name):
    torch.manual_seed(0)
    module = CASES[name].build().double().eval()
    image = torch.randn(1, *CASES[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    under, plain = outputs(module, image)
    assert torch.equal(under, plain)


def test_check_knows_the_law():
    network = unconv.Network(
        Calls(lambda m, x: F.interpolate(m.conv(x), scale_factor=1.1).relu(), conv=nn.Conv2d(3, 4, 3)).eval()
    )
    network.input_size = (3, 9, 9)
    (law,) = [law for law in network.check().laws if law.name == "recording = model"]
    assert law.holds and law.error == 0.0


def test_a_model_that_runs_otherwise_under_a_recording_is_found_by_check():
    def forward(m, x):
        known = torch.utils._python_dispatch._len_torch_dispatch_stack() > 1
        return F.relu(m.conv(x)) * (
            2 if known or "Recorder" in str(torch.utils._python_dispatch._get_current_dispatch_mode()) else 1
        )

    network = unconv.Network(Calls(forward, conv=nn.Conv2d(3, 4, 3)).eval(), input_size=(3, 9, 9))
    assert "recording = model" in network.check().verdict


def test_a_gate_of_a_nearest_map_is_still_a_gate():
    def forward(m, x):
        return F.relu(m.conv(x)) * F.interpolate(
            torch.sigmoid(F.avg_pool2d(m.conv(x), 2)), scale_factor=2, mode="nearest-exact"
        )

    network = unconv.Network(Calls(forward, conv=nn.Conv2d(3, 4, 3)).eval(), input_size=(3, 10, 10))
    assert network.check().reversible
