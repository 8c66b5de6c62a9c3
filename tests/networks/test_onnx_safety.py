"""An ONNX file is data: its names run nothing, its data files are its own, and it takes no more memory than it has bytes."""

from __future__ import annotations

import ast
import copy
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

import unconv
from unconv.errors import DtypeError, ModelError, ShapeError, UnconvError, WeightsError

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: pip install onnx")

from oracles.onnx_written import node, write  # noqa: E402

SOURCE = Path(unconv.__file__).parent / "networks" / "onnx"
KERNEL = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)

NAMES = [
    "__import__('os').system('touch ran')",
    'a")(image) if getattr(__import__("os"),"system")("touch ran") else getattr(self, "a',
    "x); import os; os.system('touch ran') #",
    "a\n__import__('os').system('touch ran')\n",
    "{__import__('os').system('touch ran')}",
    "forward",
    "__class__",
    "__deepcopy__",
    "__reduce_ex__",
    "__getattr__",
    "__call__",
    "_modules",
    "_parameters",
    "_lines",
    "_repr_html_",
    "training",
    "eval",
    "image",
    "out",
    "self",
    "<img src=x onerror=alert(1)>",
    "[red]x[/b]",
    "\x1b[31mred",
    "nul\0byte",
    "quotes ' and \" and `",
    "back\\slash",
    "///",
    ".",
    "..",
    "名前 é \u202e",
    "x" * 10_000,
    "",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_nodes_name_is_data(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    nodes = [node("Conv", "image weight", "maps", name), node("Relu", "maps", "out", name), node("Neg", "out", "end", name)]
    network = unconv.load(write(tmp_path / "net.onnx", nodes, {"weight": KERNEL}))
    first = (name or "maps").lstrip("/").replace(".", "_") or "Conv"
    others = [first + "_", first + "__"] if name.strip("/") else ["Relu", "Neg"] if name else ["out", "end"]
    assert [place.name for place in network.places()] == [first, *others]
    module, image = network.module, torch.rand(1, 3, 8, 8)
    expected = -torch.conv2d(image, torch.from_numpy(KERNEL)).relu()
    for same in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(image), expected)
    assert module.double()(image.double()).dtype == torch.float64
    assert set(module.state_dict()) == {f"{first}.weight"}
    assert network.project(image, others[0]).pixels().isfinite().all()
    assert isinstance(repr(module), str) and not hasattr(module, "_repr_html_")
    assert not (tmp_path / "ran").exists()


def test_the_package_makes_no_code():
    forbidden = {"exec", "eval", "compile", "__import__", "fx", "pickle", "marshal", "import_module", "system", "popen"}
    for path in SOURCE.rglob("*.py"):
        for part in ast.walk(ast.parse(path.read_text())):
            names = {
                ast.Name: lambda part: [part.id],
                ast.Attribute: lambda part: [part.attr],
                ast.Import: lambda part: [word for alias in part.names for word in alias.name.split(".")],
                ast.ImportFrom: lambda part: [*(part.module or "").split("."), *(alias.name for alias in part.names)],
            }.get(type(part), lambda part: [])(part)
            called = [name for name in names if name in forbidden]
            assert not called or (called == ["eval"] and isinstance(part, ast.Attribute)), (path, called)  # module.eval()


def external(name="weight", location="net.data", dims=(2, 3, 3, 3), **entries):
    proto = onnx.TensorProto(name=name, data_type=1, dims=dims, data_location=1)
    for key, value in {"location": location, **entries}.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def with_data(folder, **entries):
    """A file with its weight in net.data beside it."""
    (folder / "net.data").write_bytes(KERNEL.tobytes())
    return write(folder / "net.onnx", [node("Conv", "image weight")], {"weight": external(**entries)})


@pytest.mark.parametrize("entries", [{}, {"offset": 0}, {"length": KERNEL.nbytes}, {"location": "./net.data"}])
def test_data_beside_the_file_is_read(tmp_path, entries):
    network = unconv.load(with_data(tmp_path, **entries))
    assert torch.equal(network.module.get_submodule("out")._parameters["weight"], torch.from_numpy(KERNEL))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "../net.data"}, "not a file in the model's own folder"),
        ({"location": "/etc/passwd"}, "not a file in the model's own folder"),
        ({"location": "a/../../net.data"}, "not a file in the model's own folder"),
        ({"location": ""}, "not a file in the model's own folder"),
        ({"location": "nul\0byte"}, "not a file in the model's own folder"),
        ({"location": "."}, "not a file in the model's own folder"),
        ({"location": "absent.data"}, "Its data files are missing"),
        ({"location": "folder"}, "cannot be opened|is no regular file"),
        ({"location": "fifo"}, "is no regular file"),
        ({"location": "link"}, "not a file in the model's own folder"),
        ({"location": "linked/secret"}, "not a file in the model's own folder"),
        ({"location": "hard"}, "has a second name"),
        ({"offset": 4}, "ends at 216"),
        ({"offset": -4}, "a number of bytes was needed"),
        ({"offset": "1e3"}, "a number of bytes was needed"),
        ({"offset": 10**30}, "a number of bytes was needed"),
        ({"length": 100}, "but its shape and type need 216"),
        ({"length": 10**12}, "but its shape and type need 216"),
        ({"dims": (2**20, 3, 1000, 1000)}, "ends at 216"),
        ({"dims": (-2, 3, -3, 3)}, "which no tensor can have|cannot be read as ONNX"),
        ({"dims": (2**62, 2**62, 3, 3)}, "which no tensor can have"),
    ],
)
def test_data_that_is_not_the_files_own_is_refused(tmp_path, entries, words):
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(KERNEL.tobytes())
    (tmp_path / "net.data").write_bytes(KERNEL.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    os.link(tmp_path / "secret", folder / "hard")
    os.mkfifo(folder / "fifo")
    with pytest.raises(WeightsError, match=words):
        unconv.load(with_data(folder, **entries))


@pytest.mark.parametrize("spelled", [lambda k: "net.data", lambda k: "./" * k + "net.data", lambda k: f"link{k}"], ids="123")
def test_tensors_that_share_bytes_cannot_be_more_than_the_file(tmp_path, spelled):
    (tmp_path / "net.data").write_bytes(bytes(KERNEL.nbytes + 64))
    for k in range(16):
        (tmp_path / f"link{k}").symlink_to("net.data")
    weights = {f"w{k}": external(f"w{k}", spelled(k), offset=k, length=KERNEL.nbytes) for k in range(16)}
    nodes = [node("Conv", f"image w{k}", f"m{k}") for k in range(16)] + [node("Sum", [f"m{k}" for k in range(16)])]
    with pytest.raises(WeightsError, match=r"shares bytes of '.*' with other tensors"):
        unconv.load(write(tmp_path / "net.onnx", nodes, weights))


@pytest.mark.parametrize("bytes_there", [0, 1, 215, 217, 100_000])
def test_bytes_that_do_not_fit_the_shape_are_refused(tmp_path, bytes_there):
    proto = onnx.TensorProto(name="weight", data_type=1, dims=(2, 3, 3, 3), raw_data=bytes(bytes_there))
    with pytest.raises(WeightsError, match=rf"takes 216 bytes, but {bytes_there:,} are there"):
        unconv.load(write(tmp_path / "net.onnx", [node("Conv", "image weight")], {"weight": proto}))


@pytest.mark.parametrize("kind", [8, 14, 15, 17, 19, 23])
def test_a_type_that_torch_cannot_compute_with_is_named(tmp_path, kind):
    proto = onnx.TensorProto(name="weight", data_type=kind, dims=(2,))
    with pytest.raises((DtypeError, WeightsError), match=r"the tensor 'weight' is (string|complex|float8|float4)"):
        unconv.load(write(tmp_path / "net.onnx", [node("Add", "image weight")], {"weight": proto}))


def long(*numbers):
    return np.array(numbers, np.int64)


HUGE = 10**9
BOMBS = {
    "ConstantOfShape": ([node("ConstantOfShape", "n", "c"), node("Add", "image c")], {"n": long(HUGE, HUGE)}),
    "a constant": ([node("ConstantOfShape", "n", "c"), node("Neg", "c", "d"), node("Add", "image d")], {"n": long(2**32)}),
    "Expand": ([node("Expand", "image n")], {"n": long(HUGE, 3, 8, 8)}),
    "Tile": ([node("Tile", "image n")], {"n": long(1, 1, HUGE, HUGE)}),
    "Range": (
        [node("Range", "a n b", "r"), node("Cast", "r", "f", to=1), node("ReduceSum", "f", "s"), node("Add", "image s")],
        {"a": np.int64(0), "n": np.int64(10**15), "b": np.int64(1)},
    ),
    "Resize": ([node("Resize", ["image", "", "", "n"])], {"n": long(1, 3, HUGE, HUGE)}),
    "Resize of one axis": (
        [node("Resize", ["image", "", "", "n"], mode="linear", coordinate_transformation_mode="asymmetric")],
        {"n": long(1, 3, 1, 2**26)},
    ),
    "Resize by scales": ([node("Resize", ["image", "", "n"])], {"n": np.float32([1, 1, 1e9, 1e9])}),
    "antialias": ([node("Resize", ["image", "", "n"], mode="linear", antialias=1)], {"n": np.float32([1, 1, 1e-9, 1])}),
    "Pad": ([node("Pad", "image n")], {"n": long(0, 0, HUGE, HUGE, 0, 0, 0, 0)}),
    "Pad reflect": ([node("Pad", "image n", mode="reflect")], {"n": long(0, 0, HUGE, 0, 0, 0, 0, 0)}),
    "Conv": ([node("Conv", "image w", pads=[HUGE, HUGE, 0, 0])], {"w": KERNEL}),
    "ConvTranspose": ([node("ConvTranspose", "image w", strides=[HUGE, HUGE])], {"w": np.ones((3, 2, 3, 3), np.float32)}),
    "MaxPool": ([node("MaxPool", "image", kernel_shape=[2, 2], pads=[HUGE] * 4)], {}),
    "AveragePool": ([node("AveragePool", "image", kernel_shape=[2, 2], pads=[0, HUGE, HUGE, HUGE])], {}),
    "LRN": ([node("LRN", "image", size=2**40 + 1)], {}),
    "OneHot": ([node("ArgMax", "image", "a"), node("OneHot", "a n v")], {"n": np.int64(HUGE), "v": np.float32([0, 1])}),
    "an outer product": (
        [
            node("Flatten", "image", "f"),
            node("Reshape", "f n", "c"),
            node("Mul", "f c", "square"),
            node("Reshape", "square n", "column"),
            node("Reshape", "square m", "row"),
            node("Mul", "column row"),
        ],
        {"n": long(-1, 1), "m": long(1, -1)},
    ),
    "constants": (
        [node("Mul", "a b", "c"), node("ReduceSum", "c", "s"), node("Add", "image s")],
        {"a": np.ones((2**15, 1), np.float32), "b": np.ones((1, 2**15), np.float32)},
    ),
    "many": (
        [
            *(node("Expand", "image n", f"e{k}") for k in range(32)),
            *(node("Add", f"e{k} e{k}", f"a{k}") for k in range(32)),
            node("Sum", [f"a{k}" for k in range(32)]),
        ],
        {"n": long(2**20, 3, 8, 8)},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_too_much_memory_is_refused_before_it_is_taken(tmp_path, name):
    nodes, weights = BOMBS[name]
    spec = write(tmp_path / "net.onnx", nodes, weights)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnconvError, match=r"samples (were|was) expected|samples at one time|at most"):
        unconv.load(spec)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_an_image_too_large_is_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"at most 268,435,456 samples were expected"):
        unconv.load(write(tmp_path / "net.onnx", [node("Relu", "image")], shape=(1, 3, 100_000, 100_000)))


def test_functions_that_multiply_are_refused(tmp_path):
    functions = [
        onnx.helper.make_function(
            "mine", f"f{k}", ["x"], ["z"],
            [onnx.helper.make_node(f"f{k + 1}", [name], [out], domain="mine") for name, out in (("x", "y"), ("y", "z"))]
            if k < 30 else [onnx.helper.make_node("Relu", ["x"], ["z"])],
            [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)],
        )
        for k in range(31)
    ]  # fmt: skip
    spec = write(tmp_path / "net.onnx", [node("f0", "image", domain="mine")], functions=functions, domains=["mine"])
    with pytest.raises(ModelError, match="has more than 200,000 nodes once functions are inlined"):
        unconv.load(spec)


def test_a_function_that_calls_itself_is_refused(tmp_path):
    inner = [onnx.helper.make_node("f", ["x"], ["z"], domain="mine")]
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    function = onnx.helper.make_function("mine", "f", ["x"], ["z"], inner, imports)
    spec = write(tmp_path / "net.onnx", [node("f", "image", domain="mine")], functions=[function], domains=["mine"])
    with pytest.raises(ModelError, match="has a function 'f' that calls itself"):
        unconv.load(spec)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_wrong_bytes_opens_or_is_refused_in_words(tmp_path, seed):
    nodes = [node("Conv", "image weight", "maps", "conv", pads=[1, 1, 1, 1]), node("Relu", "maps", "out", "relu")]
    write(tmp_path / "net.onnx", nodes, {"weight": KERNEL})
    whole, draw = (tmp_path / "net.onnx").read_bytes(), np.random.default_rng(seed)
    for _ in range(100):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), draw.integers(1, 4)):
            damaged[place] = draw.integers(0, 256)
        (tmp_path / "bad.onnx").write_bytes(damaged[: draw.integers(1, len(whole) + 1)] if draw.random() < 0.3 else damaged)
        try:
            unconv.load(f"onnx:{tmp_path / 'bad.onnx'}")
        except UnconvError:
            pass


def test_pads_within_a_convolution_count_with_all_channels(tmp_path):
    settings = {"pads": [0, 0, 2**14 - 10, 2**14 - 10], "strides": [2**13, 2**13]}
    weights = {"weight": np.zeros((2, 3, 1, 1), np.float32)}
    with pytest.raises(UnconvError, match=r"\(1, 3, 16382, 16382\), but at most 268,435,456 samples"):
        unconv.load(write(tmp_path / "net.onnx", [node("Conv", "image weight", **settings)], weights))
