"""Every rule against torch's own autograd, from one table of small modules that covers every operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unconv
from cases.rules import BATCH_NORMS, CASES, ELSEWHERE, UNDECIDED, Calls
from oracles.reverse import Replaced
from unconv.reverse.methods import DECONVNET, GRADIENT, GUIDED, METHODS, Rules
from unconv.reverse.rewriting.channels_first import channels_first
from unconv.reverse.rewriting.freeze import freeze
from unconv.reverse.rules import KEEPERS, RULES
from unconv.reverse.rules.norm import SCALED
from unconv.reverse.rules.pointwise import SQUARED_RELU, SWISH
from unconv.reverse.tape.barriers import FUNCTION, OVERLAID, STALE, WRITTEN
from unconv.reverse.tape.record import record
from unconv.reverse.tape.step import Step, Tape, Value
from unconv.reverse.walking.walk import Route, walk
from unconv.reverse.window import Window

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch's own, where it copies

aten = torch.ops.aten
OPERATIONS = set(RULES)  # as shipped: an example in the docs may add to it while the tests run


FORMULAS = {SCALED, SWISH, SQUARED_RELU}  # that stand for formulas


@cache
def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build().double().eval().requires_grad_(False)


@cache
def image(name: str) -> Tensor:
    return torch.randn(1, *CASES[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@cache
def recorded(name: str) -> Tape:
    return channels_first(record(model(name), image(name), KEEPERS))


@cache
def frozen(name: str, skip: bool) -> Tape:
    return freeze(recorded(name), skip).tape


def gone(name: str, method: Rules) -> Tape:
    """The tape that a method walks: its gates frozen, if it freezes them."""
    if not method.freeze:
        return recorded(name)
    if name in UNDECIDED:
        pytest.skip("a product of two signals neither of which is a gate is refused")
    return frozen(name, method.skip)


def arrived(tape: Tape, seed: Window, method=GRADIENT) -> Tensor:
    """(B, C, samples..): what the seed, at the model's result, sends to the image."""
    return walk(tape, tape.modules[""], seed, method).full_map(tape.image.shape).values


def differentiated(run: nn.Module, x: Tensor, cotangents: Tensor) -> Tensor:
    """The same by torch's own backward pass, one unit at a time."""
    x = x.clone().requires_grad_(True)
    result = run(x.clone())
    rows = [torch.autograd.grad(result, x, row[None], retain_graph=True, allow_unused=True)[0] for row in cotangents]
    return torch.cat(rows)


@cache
def seeds(shape: tuple[int, ...]) -> dict[str, Window]:
    """Random signals at all corners, edges and the middle of a map; one of them alone; and regions of two sizes."""
    random = torch.Generator().manual_seed(2)  # torch.manual_seed costs a millisecond: it also seeds devices not there
    channels, size = shape[1], shape[2:]
    if not size:
        return {"vectors": Window(torch.randn(4, channels, dtype=torch.float64, generator=random))}
    corner = torch.tensor(sorted(set(product(*[(0, n // 2, n - 1) for n in size]))))
    one = torch.randn(len(corner), channels, *[1] * len(size), dtype=torch.float64, generator=random)
    last = torch.tensor([[n - min(n, 2) for n in size]])
    region = torch.randn(2, channels, *[min(n, 2) for n in size], dtype=torch.float64, generator=random)
    return {
        "units": Window(one, corner),
        "last unit": Window(one[-1:], corner[-1:]),
        "regions": Window(region, torch.cat([last * 0, last])),
        "regions in one place": Window(region, last.expand(2, -1)),
    }


@cache
def sent(name: str, method: str, seed: str) -> Tensor:
    """What one of the seeds sends to the image of a case; several laws compare with it."""
    tape = gone(name, METHODS[method])
    return arrived(tape, seeds(tape.modules[""].shape)[seed], METHODS[method])


def assert_near(mine: Tensor, right: Tensor, tolerance: float = 1e-12) -> None:
    assert mine.shape == right.shape
    assert float((mine - right).abs().max()) <= tolerance * float(right.abs().max())


@pytest.mark.slow
def test_every_operation_of_the_table_has_a_case():
    steps = [step for name in CASES for step in recorded(name).steps]
    seen = {step.operation for step in steps if any(v.flows for v in step.outputs if v)}
    assert seen <= OPERATIONS
    assert OPERATIONS - seen <= {
        *BATCH_NORMS,
        *ELSEWHERE,
        FUNCTION,
        WRITTEN,
        STALE,
        SCALED,
        SWISH,
        SQUARED_RELU,
        OVERLAID,
    }  # the last three stand for formulas


@pytest.mark.parametrize("operation", ELSEWHERE, ids=str)
def test_what_other_versions_of_torch_do_not_take_apart_passes_the_dot_test(operation):
    axes = ELSEWHERE[operation][0]
    shape = (1, 4, *[5, 3, 2][:axes])
    x = torch.randn(shape, dtype=torch.float64)
    made = operation(x, *ELSEWHERE[operation][1])
    given, out = (Value(k, tuple(t.shape), t.dtype) for k, t in enumerate((x, made)))
    args = (given, *ELSEWHERE[operation][1], *[None] * (len(operation._schema.arguments) - 2))
    y = torch.randn_like(made)
    (back,) = RULES[operation](Step(operation, args, (given,), (out,), "here"), Window(y))
    assert abs(float((made * y).sum() - (x * back.values).sum())) < 1e-12


@pytest.mark.parametrize("operation", BATCH_NORMS, ids=str)
def test_batch_norm_by_a_name_of_another_device_or_version_is_the_same(operation):
    step = recorded("batch norm by its newer name").steps[0]
    args = (*step.args[:5], False, *step.args[5:])
    names = [argument.name for argument in operation._schema.arguments]
    assert names[:6] == ["input", "weight", "bias", "running_mean", "running_var", "training"] and names[7][:3] == "eps"
    r = seeds(step.outputs[0].shape)["units"]
    found = RULES[operation](replace(step, operation=operation, args=args), r, None, None)
    assert torch.equal(found.values, RULES[step.operation](step, r, None, None).values)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.affine])
def test_a_rule_passes_the_dot_test(name):
    x, tape = image(name), recorded(name)
    forward = model(name)(x.clone()) - model(name)(torch.zeros_like(x))
    y = torch.randn(forward.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    back = arrived(tape, Window(y))
    assert abs(float((forward * y).sum() - (x * back).sum())) <= 1e-12 * float(forward.norm() * y.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_from_a_window_equals_autograd(name):
    shape = recorded(name).modules[""].shape
    for kind, seed in seeds(shape).items():
        right = differentiated(model(name), image(name), seed.full_map(shape).values)
        assert_near(sent(name, "gradient", kind), right)


# The other methods differ from these two in rectifiers and pools only.
every_method = pytest.mark.parametrize(
    "method",
    [method if method in ("gradient", "deconvnet") else pytest.param(method, marks=pytest.mark.slow) for method in METHODS],
)


@every_method
@pytest.mark.parametrize("name", CASES)
def test_a_window_and_the_whole_map_send_the_same(name, method):
    tape = gone(name, METHODS[method])
    for kind, seed in seeds(tape.modules[""].shape).items():
        whole = seed.full_map(tape.modules[""].shape)
        assert_near(sent(name, method, kind), arrived(tape, whole, METHODS[method]))


@pytest.mark.slow
@every_method
@pytest.mark.parametrize("name", CASES)
def test_nothing_gives_exactly_nothing_and_the_double_exactly_the_double(name, method):
    tape = gone(name, METHODS[method])
    for kind, seed in seeds(tape.modules[""].shape).items():
        nothing, double = (arrived(tape, seed.map(lambda values, k=k: values * k), METHODS[method]) for k in (0, 2))
        assert not nothing.any()
        assert torch.equal(double, 2 * sent(name, method, kind))


@pytest.mark.parametrize("name", UNDECIDED)
def test_a_product_of_two_signals_without_a_gate_is_refused(name):
    tape = freeze(recorded(name)).tape
    with pytest.raises(unconv.NoRule, match=r"multiplies two signals and neither is a gate|a matrix product of two signals"):
        Route(tape, tape.modules[""], DECONVNET, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_walk_leaves_its_seed_and_the_tape_alone(name):
    tape = gone(name, DECONVNET)
    for seed in seeds(tape.modules[""].shape).values():
        before = seed.values.clone()
        first = arrived(tape, seed, DECONVNET)
        assert torch.equal(seed.values, before)
        assert torch.equal(arrived(tape, seed, DECONVNET), first)


# -- rectifiers, where the methods differ ---------------------------------------------------------


def plain(m, x):
    return m.c(F.relu(m.b(F.relu(m.a(x)))))


def in_place(m, x):
    x = F.relu(m.a(x), inplace=True)
    return m.c(torch.relu_(m.b(x)).relu_())


def shared(m, x):
    x = m.relu(m.a(x))
    return m.c(m.relu(m.b(x)) - m.relu(m.c(x)))


def skip_from_the_input(m, x):
    x = m.a(x)
    x = F.relu(x) - 2 * x
    x = m.b(x)
    return m.c(x + F.relu(x))


def doubled(m, x):
    x = F.relu(m.a(x))
    x = F.relu(m.b(x + x))
    return m.c(x + x)


def used_three_times(m, x):
    x = F.relu(m.a(x))
    return m.c(F.relu(m.b(x)) - 2 * x + F.relu(-x + 0.3))


def pooled(m, x):
    x = F.max_pool2d(F.relu(m.a(x)), 3, 1, 1)
    return m.c(F.relu(F.max_pool2d(m.b(x), 3, 1, 1)))


RECTIFIED = {f.__name__: f for f in (plain, in_place, shared, skip_from_the_input, doubled, used_three_times, pooled)}


def three_convs(function: Callable[..., Tensor]) -> nn.Module:
    torch.manual_seed(4)
    convs = {name: nn.Conv2d(3, 3, 3, padding=1) for name in "abc"}
    return Calls(function, **convs, relu=nn.ReLU(inplace=True)).double().requires_grad_(False)


@pytest.mark.parametrize("guided", [False, True], ids=["deconvnet", "guided"])
@pytest.mark.parametrize("name", RECTIFIED)
def test_rectifiers_of_all_kinds_equal_autograd_with_that_backward_rule(name, guided):
    net = three_convs(RECTIFIED[name])
    x = torch.randn(1, 3, 11, 9, dtype=torch.float64)
    tape = record(net, x, KEEPERS)
    for seed in seeds(tape.modules[""].shape).values():
        with Replaced("guided" if guided else "deconvnet"):
            right = differentiated(net, x, seed.full_map(tape.modules[""].shape).values)
        assert_near(arrived(tape, seed, GUIDED if guided else DECONVNET), right)
        assert float((arrived(tape, seed) - right).norm()) > 0.01 * float(right.norm())


def test_a_rectifier_in_place_changes_what_its_older_name_holds():
    def by_the_older_name(m, x):
        x = m.a(x)
        rectified = F.relu(x, inplace=True)
        return x - 3 * rectified.flip(1)

    def written_out(m, x):
        x = F.relu(m.a(x))
        return x - 3 * x.flip(1)

    x = torch.randn(1, 3, 6, 5, dtype=torch.float64)
    tapes = [record(three_convs(f), x, KEEPERS) for f in (by_the_older_name, written_out)]
    seed = seeds((1, 3, 6, 5))["units"]
    assert torch.equal(*[arrived(tape, seed, DECONVNET) for tape in tapes])


def test_each_consumer_rectifies_for_itself():
    tape = record(Calls(lambda m, x: 2 * F.relu(x) - x), torch.tensor([[[[1.0, -1.0]]]]), KEEPERS)
    up, down = Window(torch.ones(1, 1, 1, 2)), Window(-torch.ones(1, 1, 1, 2))
    assert arrived(tape, up, DECONVNET).tolist() == [[[[1, 1]]]]  # relu(2) - 1
    assert arrived(tape, down, DECONVNET).tolist() == [[[[1, 1]]]]  # relu(-2) + 1
    assert arrived(tape, up, GUIDED).tolist() == [[[[1, -1]]]]
    assert arrived(tape, down, GRADIENT).tolist() == [[[[-1, 1]]]]


@pytest.mark.parametrize("kind", ["scatter", "scatter_add"])
def test_of_a_source_longer_than_its_index_the_rest_gets_nothing(kind):
    """Where torch's own derivative fails."""
    index = torch.tensor([3, 1, 6]).view(1, 1, 3, 1).expand(1, 2, 3, 6)
    shape = (2, 7, 6)
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def sent(take: Callable[[Tensor], Tensor]) -> Tensor:
        model = Calls(lambda m, x: getattr(x * 1, kind)(2, index, take(x.flip(3) * 2)))
        tape = record(model, x, KEEPERS)
        return arrived(tape, Window(torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view(x.shape)))

    assert torch.equal(sent(lambda source: source), sent(lambda source: source[:, :, :3]))


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_power_average_pool_sends_nothing_to_windows_of_zeros(power):
    """Where torch's own derivative is NaN for powers above one."""
    x = torch.rand(1, 2, 4, 6, dtype=torch.float64) + 0.5
    x[..., 2:4] = 0
    pooled = Calls(lambda m, x: F.lp_pool2d(x, power, 2))
    y = torch.linspace(-1, 1, 12, dtype=torch.float64).view(1, 2, 2, 3)
    found = arrived(record(pooled, x, KEEPERS), Window(y))
    assert not found[..., 2:4].any() or power == 1
    right = differentiated(pooled, x, y)
    assert_near(*(torch.cat([part[..., :2], part[..., 4:]], -1) for part in (found, right)))


def test_a_random_leaky_relu_is_recorded_as_the_leaky_relu_that_it_is():
    (step,) = record(nn.RReLU(0.1, 0.5).eval(), torch.randn(1, 2, 3, 3), KEEPERS).steps
    assert (step.operation, step.args[1]) == (aten.leaky_relu.default, pytest.approx(0.3))
