"""The tape: what it calls things, what it refuses, and that the model is as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import torch.nn.modules.module as torch_hooks
from torch import Tensor, nn

from cases.calls import Calls
from unconv.errors import ModelError, NonFinite, NoRule
from unconv.reverse.methods import DECONVNET, GRADIENT
from unconv.reverse.places import find
from unconv.reverse.rules import KEEPERS
from unconv.reverse.tape.record import record
from unconv.reverse.tape.step import Tape
from unconv.reverse.walking.walk import path, refuse_unknown, walk
from unconv.reverse.window import Window


def picture(*shape: int) -> Tensor:
    return torch.randn(1, *(shape or (3, 8, 7)), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def ready(module: nn.Module) -> nn.Module:
    return module.double().eval().requires_grad_(False)


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3, padding=1)


def recorded(function: Callable[..., object], keep: tuple[str, ...] = (), **layers: nn.Module | Tensor) -> Tape:
    return record(ready(Calls(function, **layers)), picture(), KEEPERS, keep)


def kept(tape: Tape, name: str) -> Tensor:
    """The output of a place that the tape kept."""
    return tape.kept[find(tape, name)[1].index]


def names(tape: Tape) -> list[str]:
    return [step.place for step in tape.steps]


def gradient(tape: Tape) -> Tensor:
    """What ones at the model's result send to the image."""
    value = tape.modules[""]
    return walk(tape, value, Window(torch.ones(value.shape, dtype=torch.float64)), GRADIENT).values


def assert_is_autograd(function: Callable[..., Tensor], **layers: nn.Module | Tensor) -> None:
    """The walk equals the derivative of what the model computes."""
    mine = gradient(recorded(function, **layers))
    x = picture().requires_grad_(True)
    (right,) = torch.autograd.grad(ready(Calls(function, **layers))(x.clone()).sum(), x)
    torch.testing.assert_close(mine, right, rtol=1e-12, atol=1e-12)


# -- names ----------------------------------------------------------------------------------------


def test_places_are_named_as_modules_and_operations_outside_one_by_the_module_around_and_themselves():
    block = Calls(lambda m, x: F.relu(m.conv(x)) + x, conv=conv())
    tape = recorded(lambda m, x: -F.max_pool2d(m.block(x), 2), block=block)
    assert names(tape) == ["block.conv", "block.relu", "block.add", "max_pool2d", "neg"]


def test_repeats_are_numbered_in_order():
    tape = recorded(lambda m, x: F.relu(-F.relu(m.relu(m.conv(m.relu(m.conv(x)))))), conv=conv(), relu=nn.ReLU())
    assert names(tape) == ["conv", "relu", "conv_1", "relu_1", "relu_2", "neg", "relu_3"]


def test_a_module_that_really_has_a_repeats_name_keeps_it():
    tape = recorded(
        lambda m, x: m.relu_2(m.relu_1(m.relu(m.relu(m.relu(x))))), relu=nn.ReLU(), relu_1=nn.ReLU(), relu_2=nn.ReLU()
    )
    assert names(tape) == ["relu", "relu_3", "relu_4", "relu_1", "relu_2"]


def test_each_name_of_two_for_one_module_is_told_apart_by_number():
    shared = nn.ReLU()
    assert names(recorded(lambda m, x: m.second(-m.first(x)), first=shared, second=shared)) == ["first", "neg", "first_1"]


def test_of_a_leaf_with_several_operations_the_last_has_its_name():
    leaf = Calls(lambda m, x: 2 * F.relu(-x))
    tape = recorded(lambda m, x: m.leaf(x) + 1, leaf=leaf)
    assert names(tape) == ["leaf.neg", "leaf.relu", "leaf", "add"]


def test_a_leafs_name_stands_for_what_it_returned_not_for_what_it_ran_last():
    def logging(m: nn.Module, x: Tensor) -> Tensor:
        result = 2 * x
        m.seen = float(result.mean(1, keepdim=True).sum())
        return result

    tape = recorded(lambda m, x: m.leaf(x) + 1, keep=("leaf",), leaf=Calls(logging))
    assert find(tape, "leaf")[0].kind == "mul"
    assert torch.equal(kept(tape, "leaf"), 2 * picture())


def test_of_a_leaf_that_returns_several_the_first_has_its_name():
    tape = recorded(lambda m, x: m.leaf(x)[0] + 1, keep=("leaf",), leaf=Calls(lambda m, x: (3 * x, F.relu(x))))
    assert torch.equal(kept(tape, "leaf"), 3 * picture())


def test_a_leaf_that_does_nothing_has_no_place_and_names_nobody_elses():
    tape = recorded(lambda m, x: m.drop(m.conv(x)), conv=conv(), drop=nn.Dropout())
    assert names(tape) == ["conv"]
    assert find(tape, "drop")[0].place == "conv"


def test_a_containers_name_stands_for_what_it_returned():
    tape = recorded(lambda m, x: m.body(x) * 2, body=nn.Sequential(conv(), nn.ReLU(), conv()))
    assert names(tape) == ["body.0", "body.1", "body.2", "mul"]
    assert find(tape, "body")[0].place == "body.2"
    assert find(tape, "")[0].place == "mul"


def test_places_asked_for_are_kept_as_they_were_when_computed():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.conv(x)
        x = m.relu(x).add_(1)
        return m.conv(x).flatten(1).neg_()

    tape = recorded(forward, keep=("conv", "relu", "add", "conv_1", ""), conv=conv(), relu=nn.ReLU(inplace=True))
    layer = ready(conv())
    first = layer(picture())
    second = layer(F.relu(first) + 1)
    right = {"conv": first, "relu": F.relu(first), "add": F.relu(first) + 1, "conv_1": second, "": -second.flatten(1)}
    assert len(tape.kept) == len(right)
    assert all(torch.equal(kept(tape, name), right[name]) for name in right)


# -- the model is untouched -----------------------------------------------------------------------


def fails_half_way(m: nn.Module, x: Tensor) -> Tensor:
    raise ValueError(f"no good: {m.conv(x).shape}")


ENDINGS = {
    "well": (lambda m, x: m.norm(F.relu_(m.conv(x))), None),
    "half way": (fails_half_way, ValueError),
    "without a rule": (lambda m, x: torch.i0(m.conv(x)), NoRule),
    "refused": (lambda m, x: F.dropout(m.conv(x), 0.5), ModelError),
}


def state(model: nn.Module) -> dict[str, object]:
    """All that a recording could leave behind."""
    modules = dict(model.named_modules())
    return {
        "bytes": {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: [dict(v or {}) for k, v in vars(module).items() if "hook" in k] for name, module in modules.items()},
        "training": {name: module.training for name, module in modules.items()},
        "gradients": {
            name: (p.requires_grad, None if p.grad is None else p.grad.sum()) for name, p in model.named_parameters()
        },
        "everywhere": {name: dict(v) for name, v in vars(torch_hooks).items() if "_global" in name and isinstance(v, dict)},
        "random": torch.get_rng_state().numpy().tobytes(),
        "mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_model_and_torch_are_as_they_were_however_it_ends(ending):
    forward, error = ENDINGS[ending]
    model = Calls(forward, conv=conv(), norm=nn.BatchNorm2d(3)).double().train()
    model.norm.eval()
    model.conv.register_forward_hook(lambda module, args, output: None)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    model.conv.bias.requires_grad_(False)
    before = state(model)
    with pytest.raises(error) if error else nullcontext():
        project(model)
    assert state(model) == before


def project(model: nn.Module) -> None:
    tape = record(model, picture(), KEEPERS)
    refuse_unknown(path(tape, tape.modules[""]), DECONVNET)
    gradient(tape)


def test_an_image_written_in_place_by_the_model_is_the_callers_no_less():
    image = picture()
    tape = record(Calls(lambda m, x: x.mul_(2).relu_()), image, KEEPERS)
    assert torch.equal(image, picture())
    assert torch.equal(tape.image, picture())


def test_a_recording_inside_a_training_loop_makes_no_graph_and_hinders_none():
    model, image = conv().double(), picture().requires_grad_(True)
    with torch.enable_grad():
        tape = record(Calls(lambda m, x: torch.enable_grad()(m.conv)(x), conv=model), image, KEEPERS, ("conv",))
        model(image).sum().backward()
    assert not tape.image.requires_grad and tape.image.grad_fn is None
    assert image.grad is not None and model.weight.grad is not None


# -- refusals -------------------------------------------------------------------------------------


def changes_a_constant_after_its_use(m: nn.Module, x: Tensor) -> Tensor:
    factor = torch.full((3, 1, 1), 2.0, dtype=x.dtype)
    x = x * factor
    factor += 5
    return x * factor


def multiplies_a_constant_in_place(m: nn.Module, x: Tensor) -> Tensor:
    factor = torch.full((1, 3, 8, 7), 14.0, dtype=x.dtype)
    return factor.mul_(x)


@pytest.mark.parametrize(
    "forward", [changes_a_constant_after_its_use, multiplies_a_constant_in_place], ids=lambda f: f.__name__
)
def test_a_constant_that_changes_in_place_counts_as_it_was_when_used(forward):
    assert torch.equal(gradient(recorded(forward)), torch.full((1, 3, 8, 7), 14.0, dtype=torch.float64))


REFUSED = {
    "batch norm norm is in training mode": lambda: Calls(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(3)).train(),
    "batch norm 0 is without running statistics": lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval(),
    "dropout 1 is in training mode": lambda: nn.Sequential(conv(), nn.Dropout(0.3)).train(),
    r"drew random numbers .*Call model.eval\(\)": lambda: Calls(lambda m, x: F.dropout(x, 0.3)),
    r"drew random numbers \(aten.randn": lambda: Calls(lambda m, x: x + torch.randn(3, 1, 1)),
    r"batch norm at \w+ takes its statistics": lambda: Calls(lambda m, x: F.batch_norm(x, None, None, training=True)),
    "no operation on the image": lambda: Calls(lambda m, x: torch.ones(1, 3) * 2),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_recorded_faithfully_is_refused_in_words(words):
    model = REFUSED[words]().double()
    with pytest.raises(ModelError, match=words):
        record(model, picture(), KEEPERS)


def test_a_compiled_module_is_refused_by_name():
    class Scripted(torch.jit.ScriptModule):
        pass

    with pytest.raises(ModelError, match=r"body\.0 is compiled to TorchScript.*Pass the nn.Module"):
        recorded(lambda m, x: m.body(x), body=nn.Sequential(Scripted()))


def broken(value: float) -> nn.Module:
    layer = conv()
    layer.weight.data[1] = value
    return layer


NOT_FINITE = {
    r"body\.1 \(conv\)": lambda m, x: m.body(x),
    r"div \(div\)": lambda m, x: F.relu(m.conv(x) / 0.0),
    r"mul_1 \(mul\)": lambda m, x: x * 1e200 * 1e200 - 1,
    r"log \(log\)": lambda m, x: (m.conv(x) * 0).flatten(1).log_(),
}


@pytest.mark.parametrize("words", NOT_FINITE)
def test_the_first_place_with_a_number_that_is_none_is_named(words):
    with pytest.raises(NonFinite, match=rf"record: {words} gave NaN or infinite values\. Check the weights"):
        recorded(NOT_FINITE[words], conv=conv(), body=nn.Sequential(nn.ReLU(), broken(torch.nan), conv()))


def test_overflow_in_half_precision_is_named():
    model = Calls(lambda m, x: (x * 6e4) * 6e4 - 1).half()
    with pytest.raises(NonFinite, match=r"mul_1 \(mul\) gave"):
        record(model, torch.ones(1, 3, 4, 4, dtype=torch.float16), KEEPERS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_image_with_a_number_that_is_none_is_refused(value):
    image = picture()
    image[0, 1, 2, 3] = value
    with pytest.raises(NonFinite, match=r"the image holds NaN or infinite values\. Check how it was read"):
        record(conv().double(), image, KEEPERS)


def test_an_operation_without_a_rule_is_named_with_its_place_before_the_walk():
    tape = recorded(lambda m, x: m.conv(m.block(x)), conv=conv(), block=Calls(lambda m, x: torch.i0(m.c(x)), c=conv()))
    with pytest.raises(
        NoRule,
        match=r"no reverse rule for aten\.i0\.default \(at block\.i0\); write one with @rule",
    ):
        refuse_unknown(path(tape, tape.modules[""]), DECONVNET)


def test_an_operation_without_a_rule_is_no_matter_beside_the_way():
    tape = recorded(lambda m, x: {"far": torch.i0(m.conv(x)), "near": F.relu(m.conv(x))}["near"], conv=conv())
    refuse_unknown(path(tape, tape.modules[""]), DECONVNET)


FOLDED = {
    r"convolution\.default with a kernel or bias": lambda m, x: F.conv2d(torch.ones(1, 3, 9, 9).double(), x),
}


@pytest.mark.parametrize("words", FOLDED)
def test_what_no_rule_can_take_is_refused_by_operation_and_place(words):
    tape = recorded(FOLDED[words])
    with pytest.raises(NoRule, match=rf"no reverse rule for aten\.{words}.* \(at \w+\)"):
        gradient(tape)


# -- what is harmless and must pass ---------------------------------------------------------------


def rectifies_a_flat_view(m: nn.Module, x: Tensor) -> Tensor:
    return m.conv(x).flatten(1).relu_() * 2


def writes_into_a_view_that_nobody_else_reads(m: nn.Module, x: Tensor) -> Tensor:
    return m.conv(x)[:, 1:].mul_(3).relu_()


def decides_by_a_value(m: nn.Module, x: Tensor) -> Tensor:
    x = m.conv(x)
    if x.mean() > -1e9 and x.max().item() < 1e9:
        x = x * x.shape[1]
    while x.sum().item() > 1e9:
        x = -x
    return x


def counts_by_an_index(m: nn.Module, x: Tensor) -> Tensor:
    strongest = int(m.conv(x).mean((2, 3)).argmax())
    return m.conv(x)[:, strongest : strongest + 1]


def runs_as_that_without_it(m: nn.Module, x: Tensor) -> Tensor:
    return m.norm(m.conv(F.relu_(m.conv(x)))).flatten(1).relu_()


runs_under_inference_mode = torch.inference_mode()(runs_as_that_without_it)


def runs_under_enable_grad(m: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return m.norm(F.max_pool2d(m.conv(x), 2))


def adds_an_image_sized_constant(m: nn.Module, x: Tensor) -> Tensor:
    return (m.conv(x) + torch.ones_like(x)) * torch.linspace(-1, 1, 56, dtype=x.dtype).view(8, 7)


def pads_with_minus_infinity(m: nn.Module, x: Tensor) -> Tensor:
    return F.max_pool2d(F.pad(m.conv(x), (1, 1, 1, 1), value=-torch.inf), 3, 2)


def fills_new_memory_with_constants(m: nn.Module, x: Tensor) -> Tensor:
    mask = torch.zeros(8, 7, dtype=x.dtype)
    mask[2:5, 1:] = 1
    return m.conv(x) * mask


def writes_a_whole_copy(m: nn.Module, x: Tensor) -> Tensor:
    copy = m.conv(x).clone()
    return copy.neg_() + m.conv(x)


HARMLESS = [
    rectifies_a_flat_view,
    writes_into_a_view_that_nobody_else_reads,
    decides_by_a_value,
    counts_by_an_index,
    adds_an_image_sized_constant,
    pads_with_minus_infinity,
    fills_new_memory_with_constants,
    writes_a_whole_copy,
    runs_under_enable_grad,
]


@pytest.mark.parametrize("forward", HARMLESS, ids=lambda f: f.__name__)
def test_harmless_models_are_recorded_rightly(forward):
    assert_is_autograd(forward, conv=conv(), norm=nn.BatchNorm2d(3))


def test_a_model_that_runs_under_inference_mode_is_recorded_the_same():
    functions = (runs_under_inference_mode, runs_as_that_without_it)
    under, right = (recorded(f, conv=conv(), norm=nn.BatchNorm2d(3)) for f in functions)
    assert names(under) == names(right)
    assert torch.equal(gradient(under), gradient(right))


def test_a_caller_under_inference_mode_gets_the_same():
    net = {"conv": conv(), "norm": nn.BatchNorm2d(3)}
    right = recorded(rectifies_a_flat_view, keep=("conv",), **net)
    with torch.inference_mode():
        under = recorded(rectifies_a_flat_view, keep=("conv",), **net)
        assert torch.equal(gradient(under), gradient(right))
    assert torch.equal(kept(under, "conv"), kept(right, "conv"))


def test_a_frozen_batch_norm_in_a_model_in_training_mode_is_recorded():
    net = Calls(lambda m, x: m.norm(m.conv(x)), conv=conv(), norm=nn.BatchNorm2d(3)).double().train()
    net.norm.eval()
    tape = record(net, picture(), KEEPERS)
    assert names(tape) == ["conv", "norm"] and net.training


@pytest.mark.parametrize("result", [dict, tuple, list], ids=lambda kind: kind.__name__)
def test_a_model_may_return_a_collection(result):
    pair = {dict: lambda a, b: {"a": a, "b": [b, None, "words"]}, tuple: lambda a, b: (a, (b,)), list: lambda a, b: [a, b]}
    tape = recorded(lambda m, x: pair[result](m.conv(x), F.relu(x)), keep=("conv", "relu"), conv=conv())
    assert names(tape) == ["conv", "relu"]
    assert torch.equal(kept(tape, "relu"), F.relu(picture()))
