"""Weights files are data: types that would be cast, and bytes that contradict their description, are refused."""

from __future__ import annotations

import json
import resource
import struct
import zipfile

import pytest
import torch
import torchvision
from torch import nn

import unconv
from cases.weights import folder, refused, rewritten, state_of, tiny, written
from unconv.errors import ModelError, WeightsError
from unconv.networks.weights import read_weights

# -- what is read ----------------------------------------------------------------------------------

READ = {
    "transposed": lambda: torch.rand(3, 4).t(),
    "a part of a larger tensor": lambda: torch.rand(10, 6)[2:7, 1:4],
    "a number": lambda: torch.tensor(3.0),
    "nothing": lambda: torch.rand(0, 3),
    "a parameter": lambda: nn.Parameter(torch.rand(3)),
    "channels last": lambda: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "complex": lambda: torch.rand(3, dtype=torch.complex64),
    "one long axis of one": lambda: torch.rand(1, 5).as_strided((1, 5), (1000, 1)),
    **{
        str(dtype): (lambda dtype=dtype: torch.ones(3, dtype=dtype)) for dtype in (torch.float64, torch.float16, torch.bfloat16)
    },
    **{str(dtype): (lambda dtype=dtype: torch.ones(3, dtype=dtype)) for dtype in (torch.int64, torch.uint8, torch.bool)},
    "torch.uint16": lambda: torch.ones(3, dtype=torch.uint16),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", READ)
def test_a_tensor_is_read_as_torch_reads_it(tmp_path, name, legacy):
    if legacy and name == "torch.uint16":
        pytest.skip("torch does not read its own")
    value = READ[name]()
    path = written(tmp_path / "one.pth", {"key": value, "other": torch.rand(2)}, legacy)
    ours, theirs = read_weights(path)["key"], torch.load(path, weights_only=True)["key"]
    assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
    assert torch.equal(ours, value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_a_network_of_torchvisions_is_read_as_torch_reads_it(tmp_path, name, legacy):
    state = torchvision.models.get_model(name, weights=None).state_dict()
    read = read_weights(written(tmp_path / "net.pth", state, legacy))
    assert list(read) == list(state)
    assert all(torch.equal(value, state[key]) and value.dtype == state[key].dtype for key, value in read.items())


def test_a_checkpoint_of_training_is_opened_and_only_its_weights_are_read(tmp_path):
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    rest = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "epoch": 3, "best": 0.5, "arch": "tiny"}
    rest["shape"], rest["device"], rest["type"] = torch.Size([3]), torch.device("cpu"), torch.float32
    path = written(tmp_path / "checkpoint.pth", {"state_dict": model.state_dict(), **rest})
    loaded = unconv.load(tiny(), path).module.state_dict()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.items())


def test_tensors_of_one_storage_that_share_nothing_are_read(tmp_path):
    whole = torch.rand(6, 4)
    state = {"left": whole[:, :2], "right": whole[:, 2:], "flat": torch.rand(9)[:4]}
    read = read_weights(written(tmp_path / "views.pth", state))
    assert all(torch.equal(read[key], state[key]) for key in state)


class Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        if tied:
            self.two.weight = self.one.weight

    def forward(self, x):
        """Two convolutions, one after the other."""
        return self.two(self.one(x))


def test_tied_weights_are_read_into_a_network_that_ties_them_and_no_other(tmp_path):
    state = {key: torch.rand_like(value) for key, value in Tied().state_dict().items()}
    state["two.weight"] = state["one.weight"]
    path = written(tmp_path / "tied.pth", state)
    assert torch.equal(unconv.load(Tied(), path).module.two.weight, state["one.weight"])
    assert "two.weight shares its bytes with one.weight, but each has its own in the network" in refused(path, Tied(False))


def test_the_file_may_have_any_ending_that_is_not_another_kinds(tmp_path):
    state = state_of(tiny())
    for name in ("net.pth.tar", "net.bin", "net.ckpt", "模型 é.pth", "..net.pth", "net"):
        path = tmp_path / name
        torch.save(state, path)
        assert torch.equal(unconv.load(tiny(), path).module[0].weight, state["0.weight"])


# -- kinds -----------------------------------------------------------------------------------------

KINDS = {
    "float8": (lambda w: w.to(torch.float8_e4m3fn), "of type float8_e4m3fn"),
    "int8": (lambda w: (w * 100).to(torch.int8), "of type int8"),
    "int64": (lambda w: (w * 100).long(), "of type int64"),
    "uint16": (lambda w: torch.ones(w.shape, dtype=torch.uint16), "of type uint16"),
    "bool": (lambda w: w > 0, "of type bool"),
    "complex": (lambda w: w.to(torch.complex64), "of type complex64"),
    "sparse": (lambda w: w.to_sparse(), "a sparse tensor"),
    "quantised": (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "a quantised tensor"),
    "meta": (lambda w: w.to("meta"), "a tensor on the meta device, without values"),
}


WRITTEN = [(kind, ".pth") for kind in KINDS]
WRITTEN += [(kind, ".safetensors") for kind in KINDS if kind not in ("sparse", "quantised", "meta", "complex")]


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*quantization:DeprecationWarning")
@pytest.mark.parametrize(("kind", "suffix"), WRITTEN)
@pytest.mark.parametrize("key", ["0.weight", "1.running_var"])
def test_a_kind_that_would_be_cast_is_refused_with_its_key(tmp_path, kind, key, suffix):
    make, words = KINDS[kind]
    state = state_of(tiny())
    state[key] = make(state[key])
    text = refused(written(tmp_path / f"odd{suffix}", state))
    assert f"{key} is {words}, but dense floating-point numbers of type float32 were needed. Convert it" in text


@pytest.mark.parametrize("value", [torch.tensor(3.0), torch.tensor(True), torch.tensor(3j)])
def test_a_count_must_be_a_whole_number(tmp_path, value):
    state = state_of(tiny()) | {"1.num_batches_tracked": value}
    assert "1.num_batches_tracked is of type" in (text := refused(written(tmp_path / "odd.pth", state)))
    assert "but whole numbers of type int64 were needed" in text


def test_a_count_of_fewer_bits_is_read(tmp_path):
    state = state_of(tiny()) | {"1.num_batches_tracked": torch.tensor(3, dtype=torch.int32)}
    assert unconv.load(tiny(), written(tmp_path / "a.pth", state)).module[1].num_batches_tracked == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_of_other_precision_is_read(tmp_path, dtype):
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state_of(tiny()).items()}
    assert torch.equal(unconv.load(tiny(), written(tmp_path / "a.pth", state)).module[0].weight, state["0.weight"].float())


def test_a_value_that_the_networks_type_cannot_hold_is_refused(tmp_path):
    state = state_of(tiny())
    state["0.weight"] = state["0.weight"].double() + 1e300
    assert "0.weight holds values too large for float32" in refused(written(tmp_path / "large.pth", state))


def test_a_network_without_memory_takes_no_weights(tmp_path):
    path = written(tmp_path / "a.pth", state_of(tiny()))
    with pytest.raises(ModelError, match=r"0\.weight of Sequential is on the meta device and has no memory"):
        unconv.load(tiny().to("meta"), path)
    with pytest.raises(ModelError, match=r"0\.weight of Sequential has no shape yet, as its layer is lazy"):
        unconv.load(nn.Sequential(nn.LazyConv2d(2, 3)), path)


# -- bytes that lie --------------------------------------------------------------------------------


def test_a_flipped_bit_is_refused(tmp_path):
    state = state_of(tiny())
    path = written(tmp_path / "flipped.pth", state)
    content = bytearray(path.read_bytes())
    content[content.find(state["0.weight"].numpy().tobytes()) + 40] ^= 4
    path.write_bytes(content)
    assert "differs from its checksum" in refused(path)


SHARED = {
    "one sample for all": lambda: torch.zeros(1).expand(2, 3, 3, 3),
    "rows that overlap": lambda: torch.zeros(40).as_strided((2, 3, 3, 3), (20, 5, 2, 1)),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", SHARED)
def test_a_tensor_whose_samples_share_bytes_is_refused(tmp_path, name, legacy):
    path = written(tmp_path / "shared.pth", state_of(tiny()) | {"0.weight": SHARED[name]()}, legacy)
    assert "several samples of 0.weight share one address" in refused(path)


def test_a_huge_tensor_of_one_byte_takes_no_memory(tmp_path):
    path = written(tmp_path / "huge.pth", {"weight": torch.zeros(1).expand(10**6, 10**6)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match="share one address"):
        read_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000  # kB


def test_tensors_that_share_a_part_of_a_storage_are_refused(tmp_path):
    whole = torch.rand(100)
    state = state_of(tiny()) | {"0.bias": whole[:2], "1.weight": whole[1:3]}
    assert "1.weight shares bytes with another tensor" in refused(written(tmp_path / "shared.pth", state))


ARCHIVES = {
    "an extra member": (lambda m: [*m, (f"{folder(m)}/data/99", bytes(1 << 20))], "bytes belong to no tensor"),
    "another folder": (lambda m: [*m, ("elsewhere", b"1")], "not one that torch.save writes"),
    "a way out": (lambda m: [*m, (f"{folder(m)}/../../out", b"1")], "leads outside the archive"),
    "an absolute name": (lambda m: [*m, ("/out", b"1")], "leads outside the archive"),
    "a short storage": (lambda m: [(n, c[:-4] if n.endswith("data/0") else c) for n, c in m], "samples are announced"),
    "a long storage": (lambda m: [(n, c + bytes(4) if n.endswith("data/0") else c) for n, c in m], "samples are announced"),
    "no storage": (lambda m: [(n, c) for n, c in m if not n.endswith("data/0")], "entry of 0.weight is damaged"),
    "no pickle": (lambda m: [(n, c) for n, c in m if not n.endswith(".pkl")], "not one that torch.save writes"),
    "another machine": (lambda m: [(n, b"big" if n.endswith("byteorder") else c) for n, c in m], "another kind of machine"),
    "a program": (
        lambda m: [*m, (f"{folder(m)}/code/__torch__.py", b"1"), (f"{folder(m)}/constants.pkl", b"1")],
        "TorchScript",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_with_more_or_less_than_torch_writes_is_refused(tmp_path, name):
    change, words = ARCHIVES[name]
    assert words in refused(rewritten(written(tmp_path / "odd.pth", state_of(tiny())), change))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = rewritten(written(tmp_path / "odd.pth", state_of(tiny())), lambda members: [*members, members[0]])
    assert "two members called" in refused(path)


def test_a_compressed_archive_is_refused_before_it_is_expanded(tmp_path):
    path = written(tmp_path / "odd.pth", state_of(tiny()))
    assert "is compressed, which torch does not do" in refused(rewritten(path, lambda m: m, zipfile.ZIP_DEFLATED))
    bomb = rewritten(path, lambda m: [*m, (f"{folder(m)}/data/99", bytes(1 << 27))], zipfile.ZIP_DEFLATED)
    assert "expands from" in refused(bomb)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("where", ["before", "after"])
def test_bytes_around_an_archive_are_refused(tmp_path, suffix, where):
    path = written(tmp_path / f"more{suffix}", state_of(tiny()))
    content = path.read_bytes()
    path.write_bytes(content + bytes(100) if where == "after" else bytes(100) + content)
    refused(path)


def test_bytes_after_an_older_file_are_refused(tmp_path):
    path = written(tmp_path / "more.pth", state_of(tiny()), legacy=True)
    path.write_bytes(path.read_bytes() + b"more")
    assert "but the file at" in refused(path)


def header(path, change):
    """A safetensors file with another header."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = change(json.loads(content[8 : 8 + length]))
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def moved(head, by):
    return {**head, "0.bias": {**head["0.bias"], "data_offsets": [offset + by for offset in head["0.bias"]["data_offsets"]]}}


def with_entry(head, **changes):
    return {**head, "0.bias": {**head["0.bias"], **changes}}


HEADERS = {
    "a hole": lambda head: moved(head, 4),
    "an overlap": lambda head: moved(head, -4),
    "a missing tensor": lambda head: {key: value for key, value in head.items() if key != "0.bias"},
    "a name twice": lambda head: json.dumps(head).replace('"0.bias"', '"1.bias"').encode(),
    "a larger shape": lambda head: with_entry(head, shape=[10**12]),
    "a negative length": lambda head: with_entry(head, shape=[-2]),
    "a length that is no number": lambda head: with_entry(head, shape=["2"]),
    "a length that is true": lambda head: with_entry(head, shape=[2, True]),
    "many axes": lambda head: with_entry(head, shape=[1] * 100_000 + [2]),
    "an unknown type": lambda head: with_entry(head, dtype="X9"),
    "a type that is a list": lambda head: with_entry(head, dtype=["F32"]),
    "a list": lambda head: [head],
    "an entry that is a list": lambda head: {**head, "0.bias": [1]},
    "no text": lambda head: b"\xff" * 40,
    "great depth": lambda head: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_cover_the_file_is_refused(tmp_path, name):
    refused(header(written(tmp_path / "odd.safetensors", state_of(tiny())), HEADERS[name]))


def test_a_header_of_more_bytes_than_the_file_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert "its header announces" in refused(path)


def test_a_file_far_larger_than_the_network_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.pth"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "has 1,099,511,627,776 bytes, but Sequential has weights of" in refused(path)
