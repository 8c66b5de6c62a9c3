"""Indices of maxima: torch's and TensorFlow's converted into each other, and distinguished."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from unconv import DtypeError, NoSuchUnit, ShapeError, ops
from unconv.ops.arguments import LAYOUTS

POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
BACK = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


def ours(shape=(3, 6, 8, 5), counted=False):
    return ops.max_pool_with_argmax(image(*shape), 2, 2, "VALID", include_batch_in_index=counted)


def torch_s(shape=(3, 6, 8, 5)):
    """The same pool by torch, put into our order."""
    pooled, indices = F.max_pool2d(image(*shape).movedim(-1, 1), 2, return_indices=True)
    return pooled.movedim(1, -1), indices.movedim(1, -1)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("counted", [False, True])
def test_torch_s_indices_become_ours_and_ours_torch_s(name, counted):
    layout = LAYOUTS[name]
    planes = image(3, 5, *(6, 8, 4)[: layout.axes])
    x = layout.back(planes)
    pooled, indices = POOLS[layout.axes](planes, 2, return_indices=True)
    mine, argmax = ops.max_pool_with_argmax(x, 2, 2, "VALID", name, include_batch_in_index=counted)
    assert torch.equal(ops.from_torch_indices(indices, x.shape, counted, name), argmax)
    assert torch.equal(ops.to_torch_indices(argmax, x.shape, counted, name), indices)
    back = ops.unpool_max(mine, argmax, x.shape, counted, data_format=name)
    assert torch.equal(layout.channels_first(back), BACK[layout.axes](pooled, indices, 2))


def test_what_torch_pooled_is_unpooled_as_torch_unpools_it():
    planes = image(2, 3, 7, 9)
    pooled, indices = F.max_pool2d(planes, 3, 2, return_indices=True)
    back = ops.unpool_max(pooled, ops.from_torch_indices(indices, data_format="NCHW"), planes.shape, False, "overwrite", "NCHW")
    assert torch.equal(back, F.max_unpool2d(pooled, indices, 3, 2, output_size=planes.shape[2:]))


def test_torch_s_indices_are_refused_with_the_line_to_write():
    pooled, indices = torch_s()
    with pytest.raises(ShapeError, match=r"If it is torch's, .* pass from_torch_indices\(argmax.movedim\(-1, 1\)\)"):
        ops.unpool_max(pooled, indices, (3, 6, 8, 5))
    with pytest.raises(ShapeError, match=r'from_torch_indices\(argmax, data_format="NCHW"\)'):
        ops.unpool_max(pooled.movedim(-1, 1), indices.movedim(-1, 1), (3, 5, 6, 8), data_format="NCHW")
    with pytest.raises(ShapeError, match=r"argmax holds \d+ in channel \d, but an index there is \(y W \+ x\) 5 \+ \d"):
        ops.to_torch_indices(indices)
    back = ops.unpool_max(pooled, ops.from_torch_indices(indices.movedim(-1, 1)), (3, 6, 8, 5))
    assert torch.equal(back, ops.unpool_max(*ours(), (3, 6, 8, 5)))


def test_one_channel_counts_alike_for_both():
    pooled, indices = torch_s((2, 4, 4, 1))
    assert torch.equal(ops.unpool_max(pooled, indices, (2, 4, 4, 1)), ops.unpool_max(*ours((2, 4, 4, 1)), (2, 4, 4, 1)))


@pytest.mark.parametrize("channels", [1, 5])
def test_indices_of_each_image_are_not_taken_for_the_batch_s_nor_these_for_those(channels):
    shape = (3, 6, 8, channels)
    with pytest.raises(ShapeError, match=r"for image 1, but with include_batch_in_index=True .*include_batch_in_index=False"):
        ops.unpool_max(*ours(shape), shape, include_batch_in_index=True)
    with pytest.raises(NoSuchUnit, match=r"Pass include_batch_in_index=True, if they count through the batch"):
        ops.unpool_max(*ours(shape, counted=True), shape)
    with pytest.raises(ShapeError, match=r"for image 1, .* Pass the shape of the picture that was pooled"):
        ops.unpool_max(*ours(shape, counted=True), (3, 6, 10, channels), include_batch_in_index=True)


@pytest.mark.parametrize("channels_first", [False, True])
def test_in_many_indices_too_they_are_found(channels_first):
    pooled, indices = torch_s((40, 32, 34, 30))
    if channels_first:
        pooled, indices = pooled.movedim(-1, 1).contiguous(), indices.movedim(-1, 1).contiguous()
    name = "NCHW" if channels_first else "NHWC"
    shape = LAYOUTS[name].shape(40, (32, 34), 30)
    with pytest.raises(ShapeError, match="from_torch_indices"):
        ops.unpool_max(pooled, indices, shape, data_format=name)
    planes = indices if channels_first else indices.movedim(-1, 1)
    argmax = ops.from_torch_indices(planes, data_format=name)
    with pytest.raises(ShapeError, match="for image 1, but"):
        ops.unpool_max(pooled, argmax, shape, True, data_format=name)
    assert ops.unpool_max(pooled, argmax, shape, data_format=name).count_nonzero() == pooled.count_nonzero()


def test_conversions_compile_map_and_export():
    _, argmax = ours(counted=True)
    shape, planes = (3, 6, 8, 5), ops.to_torch_indices(argmax, (3, 6, 8, 5), True)

    def there_and_back(indices):
        size = (indices.shape[0], *shape[1:])
        return ops.to_torch_indices(ops.from_torch_indices(indices, size, True), size, True)

    class Program(torch.nn.Module):
        def forward(self, indices):
            return there_and_back(indices)

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 7):  # 2.6 takes the batch for constant, and says so
        program = torch.export.export(Program(), (planes,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
        assert torch.equal(program(planes[:2]), planes[:2])
    assert torch.equal(torch.func.vmap(there_and_back)(planes[None])[0], planes)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(there_and_back, fullgraph=True, backend="eager")(planes), planes)


def test_what_is_no_index_is_refused():
    with pytest.raises(DtypeError, match=r"indices is torch.float32, but int64 or int32 was needed"):
        ops.from_torch_indices(image(1, 2, 3, 3))
    with pytest.raises(ShapeError, match="argmax has 2 axes"):
        ops.to_torch_indices(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(DtypeError, match="output_shape is None, but a shape was needed"):
        ops.from_torch_indices(torch.zeros(1, 2, 3, 3, dtype=torch.int64), include_batch_in_index=True)
    with pytest.raises(ShapeError, match="but the indices have 2 channels"):
        ops.from_torch_indices(torch.zeros(1, 2, 3, 3, dtype=torch.int64), (1, 6, 6, 3), True)
