"""Live models: wrappers, exported programs and compiled parts are opened as the module within; others are refused."""

from __future__ import annotations

import functools

import pytest
import torch
import torchvision
from torch import nn

import unconv
from unconv.errors import DtypeError, ModelError, UnconvError

SIZE = (3, 16, 16)


def small():
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU()]
    return nn.Sequential(nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:])).eval()


def compiled_in_place():
    model = small()
    model.compile()
    return model


def compiled_in_part():
    model = small()
    model[1] = torch.compile(model[1])
    return model


def compiled_forward():
    model = small()
    model.forward = torch.compile(model.forward)
    return model


def image():
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(2))


WRAPPED = {
    "data parallel": lambda: nn.DataParallel(small()),
    "compiled": lambda: torch.compile(small()),
    "compiled in place": compiled_in_place,
    "compiled in part": compiled_in_part,
    "compiled forward": compiled_forward,
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(small()),
    "exported": lambda: torch.export.export(small(), (image()[None],), strict=False),
    "traced by fx": lambda: torch.fx.symbolic_trace(small()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("opened", [unconv.load, unconv.Network], ids=["load", "Network"])
def test_a_wrapped_network_is_the_network(name, opened):
    plain, network = unconv.Network(small(), input_size=SIZE), opened(WRAPPED[name](), input_size=SIZE)
    assert [place.name for place in network.places()] == [place.name for place in plain.places()]
    ours, right = (n.project(image(), "1.1", "top:3") for n in (network, plain))
    assert ours.units == right.units
    torch.testing.assert_close(ours.pixels(), right.pixels(), rtol=1e-6, atol=1e-7)
    assert network.check().reversible


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_an_exported_program_has_the_modules_names_and_its_own_input_size(name):
    model = torchvision.models.get_model(name, weights=None).eval()
    network = unconv.load(torch.export.export(model, (torch.rand(1, 3, 64, 64),)))
    assert network.input_size == (3, 64, 64)
    plain = unconv.Network(model, input_size=(3, 64, 64))
    assert [place.name for place in network.places()] == [place.name for place in plain.places()]


def test_an_exported_program_takes_weights(tmp_path):
    program = torch.export.export(small(), (image()[None],), strict=False)
    state = {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in small().state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    loaded = unconv.load(program, tmp_path / "a.pth").module.state_dict()
    assert {*loaded} >= {"0.0.weight", "0.1.running_var", "1.0.bias"}
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("old", [True, False])
def test_a_normalised_weight_is_the_weight_that_it_makes(norm, old):
    model, plain = small().double(), small().double()
    own = getattr(nn.utils if old else nn.utils.parametrizations, norm)
    with pytest.warns(FutureWarning) if old and norm == "weight_norm" else torch.no_grad():
        own(model[1][0])
    model.eval()
    model(image()[None].double())
    plain[1][0].weight.data = model[1][0].weight.detach().clone()
    ours, right = (unconv.Network(m, input_size=SIZE).project(image(), "1.1", "top:3").pixels() for m in (model, plain))
    torch.testing.assert_close(ours, right, rtol=1e-12, atol=1e-14)
    assert unconv.Network(model, input_size=SIZE).check().reversible


REFUSED = {
    "a class": (nn.Conv2d, "the class Conv2d came.*Create an instance and load its weights: model = Conv2d"),
    "a state dict": (small().state_dict(), "a state dict of 9 tensors came.*build the network they belong to and load them"),
    "an empty dictionary": ({}, "a dict of 0 items came"),
    "a dictionary with the network": ({"model": small(), "epoch": 3}, "a dict of 2 items came.*Pass the module in it"),
    "a list": ([small()], r"a list of 1 item came.*Pass the module in it that takes the image, or nn\.Sequential"),
    "a partial": (
        functools.partial(small),
        r"a functools\.partial came.*If it builds a network, call it and pass the result",
    ),
    "a function": (small, "the function small came.*If it builds a network, call it"),
    "a method": (small().forward, r"the function forward came.*class Mine\(torch\.nn\.Module\)"),
    "a number": (3, r"3 \(int\) came, but a torch\.nn\.Module was needed"),
    "nothing": (None, r"None \(NoneType\) came"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(("opened", "where"), [(unconv.load, "load"), (unconv.Network, "Network")], ids=["load", "Network"])
def test_what_is_no_module_is_refused_at_once(name, opened, where):
    model, words = REFUSED[name]
    with pytest.raises(DtypeError, match=f"{where}: {words}"):
        opened(model)


@pytest.mark.parametrize("name", ["torchvision:vgg16", "net.pth"])
def test_a_name_passed_as_a_network_is_refused_with_how_to_open_it(name):
    with pytest.raises(DtypeError, match=rf"'{name}' \(str\) came.*Open a name with unconv\.load\('{name}'\)"):
        unconv.Network(name)


@pytest.mark.parametrize("name", ["net.pth", "runs/net.safetensors", "last.ckpt"])
def test_weights_without_a_network_ask_for_its_name(name):
    with pytest.raises(UnconvError, match=rf'{name} holds weights: pass it second, as in unconv.load\("torchvision:vgg16"'):
        unconv.load(name)


def lazy():
    return nn.Sequential(nn.LazyConv2d(2, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lazy, "0.weight has no values yet, as its lazy module has not run on an input"),
        (
            lambda: small().to("meta"),
            r"0\.0\.weight is on the meta device and has no values.*to_empty\(device=\"cpu\"\), and load",
        ),
        (lambda: torch.jit.script(small()), "the model is compiled to TorchScript, whose interpreter.*Pass the nn.Module that"),
        (lambda: nn.Sequential(torch.jit.trace(small(), image()[None])), "0 is compiled to TorchScript"),
    ],
    ids=["lazy", "meta", "scripted", "traced"],
)
def test_what_cannot_be_recorded_is_refused_with_what_to_do(make, words):
    network = unconv.Network(make(), input_size=SIZE)
    for asked in (network.places, network.check, lambda: network.project(image(), "0")):
        with pytest.raises(ModelError, match=words):
            asked()


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_network_is_refused_with_what_to_do():
    quantization = torch.ao.quantization
    model = nn.Sequential(quantization.QuantStub(), small(), quantization.DeQuantStub()).eval()
    model.qconfig = quantization.get_default_qconfig(torch.backends.quantized.supported_engines[-1])
    prepared = quantization.prepare(model)
    prepared(image()[None])
    with pytest.raises(ModelError, match=r"is quantised: it computes in integers.*Pass the network of floating-point numbers"):
        unconv.Network(quantization.convert(prepared), input_size=SIZE).places()


@pytest.mark.slow
def test_a_sharded_network_is_refused_with_what_to_do(tmp_path):
    from torch.distributed import destroy_process_group, device_mesh, fsdp, init_process_group

    init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        model = fsdp.fully_shard(small(), mesh=device_mesh.init_device_mesh("cpu", (1,)))
        with pytest.raises(ModelError, match=r"sharded over processes \(FSDP\).*get_model_state_dict\(model, options="):
            unconv.Network(model, input_size=SIZE).places()
        parallel = nn.parallel.DistributedDataParallel(small())
        assert isinstance(unconv.Network(parallel).module, nn.Sequential)
    finally:
        destroy_process_group()


def test_a_module_of_lightnings_keeps_its_names():
    lightning = pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")

    class Trained(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = small()

        def forward(self, x):
            return self.net(x)

    network = unconv.Network(Trained().eval(), input_size=SIZE)
    assert [place.name for place in network.places()][:2] == ["net.0.0", "net.0.1"]
    assert network.check().reversible
