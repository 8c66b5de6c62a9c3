"""Lengths along one axis: integers only, no torch."""

from __future__ import annotations

from dataclasses import dataclass


def kernel_extent(kernel: int, dilation: int = 1) -> int:
    """Return the number of samples from the first to the last tap of a dilated kernel, both included."""
    return dilation * (kernel - 1) + 1


def pool_length(n: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Return the number of windows of a torch pool over `n` samples, along one axis.

    Ceil mode adds a last window that hangs over the end, if it begins before the padding there.

    Source:
        `torch.nn.MaxPool2d`, PyTorch 2.6.
    """
    room = n + 2 * padding - kernel
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= n + padding else out


def pool_divisor(out: int, n: int, kernel: int, stride: int, padding: int, count_include_pad: bool) -> list[int]:
    """Return the divisors of the `out` windows of an average pool, along one axis.

    A window that ceil mode lets hang over the padded end counts only what lies before that end.

    Source:
        `torch.nn.AvgPool2d`, PyTorch 2.6: ceil_mode and count_include_pad.
    """
    lengths = []
    for i in range(out):
        start = i * stride - padding
        end = min(start + kernel, n + padding)
        lengths.append(end - start if count_include_pad else min(end, n) - max(start, 0))
    return lengths


def adaptive_windows(n: int, out: int) -> tuple[int, int] | None:
    """Return (kernel, stride) of an adaptive pool of `n` samples into `out`; None where its windows are uneven."""
    return (n // out, n // out) if n % out == 0 else None


@dataclass(frozen=True)
class Axis:
    """How the windows of a convolution, a pool or their reverse lie along one axis, with TensorFlow's padding.

    The large side is the input of a convolution, with `large` samples; the small side is its output, with `small` samples.
    A transposed convolution goes from small to large.

    Args:
        kernel, stride, dilation: samples, at least 1.
        padding: samples before the first and after the last; None is TensorFlow's SAME, which makes
            `ceil(large / stride)` windows and so depends on the large side.
    """

    kernel: int
    stride: int = 1
    padding: tuple[int, int] | None = (0, 0)
    dilation: int = 1

    @property
    def extent(self) -> int:
        """The number of samples from the kernel's first tap to its last, both included."""
        return kernel_extent(self.kernel, self.dilation)

    def small(self, large: int) -> int:
        """Return the number of windows on `large` samples; 0 where none fits."""
        if self.padding is None:
            return -(-large // self.stride)
        return max((large + sum(self.padding) - self.extent) // self.stride + 1, 0)

    def legal(self, small: int) -> range:
        """Return every `large` that has `small` windows; an empty range where padding leaves no samples."""
        least = (small - 1) * self.stride + (1 if self.padding is None else self.extent - sum(self.padding))
        return range(max(least, 0), max(least + self.stride, 0))

    def span(self, small: int) -> int:
        """Return the number of samples from the first window's start to the last one's end."""
        return (small - 1) * self.stride + self.extent

    def pads(self, large: int) -> tuple[int, int]:
        """Return the padding before and after `large` samples. If SAME pads an odd number, the extra one comes after."""
        if self.padding is not None:
            return self.padding
        total = max(self.span(self.small(large)) - large, 0)
        return total // 2, total - total // 2

    def rest(self, large: int) -> int:
        """Return the number of padded samples at the end that no window reaches (r), by which the legal sizes differ."""
        return large + sum(self.pads(large)) - self.span(self.small(large))

    def transposed_pads(self, large: int) -> tuple[int, int]:
        """Return the zeros before and after the zero-inserted small side; below zero, samples are cut off instead.

        A convolution of stride 1 over the result has `large` samples.
        """
        before, after = self.pads(large)
        return self.extent - 1 - before, self.extent - 1 - after + self.rest(large)

    def unstrided(self, large: int) -> tuple[Axis, int]:
        """Return the axis without its stride where it has one window, and the number of samples that the window can see.

        With one window a stride means nothing, and some of oneDNN's kernels get it wrong: see `ops.conv`.
        """
        if self.stride == 1 or self.small(large) != 1:
            return self, large
        before = min(self.pads(large)[0], self.extent)
        visible = min(large, self.extent - before)
        return Axis(self.kernel, 1, (before, self.extent - before - visible), self.dilation), visible

    def torch_settings(self, large: int) -> tuple[int, int, int]:
        """Return (padding, output_padding, first) for torch's transposed convolution.

        `large` samples of its result, from `first` on, are TensorFlow's. torch pads both sides alike and TensorFlow does not;
        the slice makes up for that.

        Source:
            `torch.nn.ConvTranspose2d`, PyTorch 2.6: output_padding below the stride.
        """
        before, after = self.pads(large)
        rest = self.rest(large)
        padding = min(before, after - rest + self.stride - 1)
        return padding, max(padding + rest - after, 0), before - padding
