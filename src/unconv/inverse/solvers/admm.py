"""Total variation by the alternating direction method of multipliers (ADMM), by FFTs also at an unknown boundary."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from unconv.errors import ShapeError
from unconv.inverse.operators.convolution import Convolution
from unconv.inverse.operators.differences import gradient, gradient_adjoint, laplacian
from unconv.inverse.operators.fourier import irfftn, rfftn
from unconv.inverse.operators.operator import Operator, fits
from unconv.inverse.operators.selection import Selection
from unconv.inverse.operators.split import split
from unconv.inverse.solvers.fit import nearest_observed
from unconv.inverse.solvers.iterate import Iterate
from unconv.inverse.solvers.problems import admit, refuse_complex, sizes, spread
from unconv.inverse.solvers.slopes import observed_slope
from unconv.kinds import checks_kinds

_PERIOD = 5  # steps between changes of the penalties
_SETTLED = 20  # before this step residuals depend on the start, and penalties that follow them oscillate
_UNLIKE, _FACTOR = 3.0, 1.5  # square root of the residuals' ratio above which a penalty changes; its largest change
_LEAST = 10  # steps before convergence is accepted
# The largest strength, in units of the noise: it leaves next to nothing of white noise, and more would take the picture. On
# photographs and volumes with noise of 20 to 120 of 255 the best was 0.5 to 0.7 and 0.1 to 0.5, depending on the blur.
_MOST = {1: 2.0, 2: 0.7, 3: 0.35}
_SLOPE = 0.35  # the strength, in units of noise² over the mean length of the gradient; see `admm_tv`


@torch.no_grad()
@checks_kinds
def admm_tv(
    operator: Operator,
    observed: Tensor,
    *,
    noise: float | None = None,
    strength: float | None = None,
    steps: int = 150,
    tolerance: float = 1e-4,
    start: Tensor | None = None,
) -> Iterator[Iterate]:
    """Minimise 1/2 |A x - y|² + strength TV(x) by ADMM, where TV is the sum of the gradient's lengths.

    A is a circular convolution, of which samples may be missing (see `split`). With u = C x and d = D x as split variables,
    each step is two FFT pairs, a quotient for each sample and a shrinkage, without inner iterations. Residual balancing
    sets the two penalties, whatever the picture's scale.

    Args:
        observed: (..., *operator.shape_out), real.
        noise: standard deviation. It sets the strength: a share of noise² over the mean length of the estimate's
            gradient, as for a Laplace prior with that mean, updated as the estimate improves. The mean is taken to be at
            least what the observed samples show beyond their noise.
        strength: in the units of `observed`.
        tolerance: converged once a step changes the estimate by less than this share of it.
        start: the first estimate, (..., *operator.shape_in).

    Raises:
        ShapeError: the operator is not such a convolution; the observed samples do not fit it; not exactly one of noise and
            strength.
        NonFinite: they are not finite.

    Source:
        Almeida & Figueiredo, "Deconvolving images with unknown boundaries using the alternating direction method of
        multipliers" (2013); balance of penalties: Wohlberg, "ADMM penalty parameter selection by residual balancing"
        (2017); strength: Oliveira, Bioucas-Dias & Figueiredo, "Adaptive total variation image deblurring" (2009).
    """
    admit("admm_tv", operator, observed)
    refuse_complex("admm_tv", operator, observed)
    if (noise is None) == (strength is None):
        raise ShapeError(
            f"admm_tv: noise is {noise} and strength {strength}, but exactly one of them was needed. Pass only one."
        )
    circular, selection = split(operator)
    if start is not None:
        fits("admm_tv: start", start, operator.shape_in)
    # Penalties change rarely and only after the start; convergence is not accepted in the first steps, which may be short.
    state = _State(circular, selection, observed, noise, strength, start)
    for step in range(1, steps + 1):
        change = state.advance()
        if step % _PERIOD == 0:
            state.balance(step >= _SETTLED)
        done = step >= _LEAST and bool((change < tolerance).all())
        yield Iterate(operator, observed, state.x, step, done, float(state.strength.mean()))
        if done:
            return


class _State:
    """The estimate x, the split variables u = C x and d = D x, and their scaled multipliers.

    Penalties and strengths are one number for each picture of a batch.
    """

    def __init__(
        self,
        circular: Convolution,
        selection: Selection,
        y: Tensor,
        noise: float | None,
        strength: float | None,
        start: Tensor | None,
    ) -> None:
        self.axes = circular.axes
        self.lengths = circular.shape_in[-self.axes :]
        self.dims = tuple(range(-self.axes, 0))
        self.seen, self.weights = selection.adjoint(y), selection.weights(y)
        self.response = circular.spectrum(y)
        self.adjoint, self.power = circular.conjugate(y), circular.power(y)
        self._smooth = laplacian(self.lengths, y)
        self.noise = noise
        self.x = nearest_observed(self.seen, self.weights, self.axes) if start is None else start
        self.u, self.eta_u = self.x.clone(), torch.zeros_like(self.x)
        self.d = gradient(self.x, self.axes)
        self.eta_d = torch.zeros_like(self.d)
        self.strength = spread(torch.full_like(sizes(self.x, self.axes), strength or 0.0), self.axes)
        self.rho_u = torch.full_like(self.strength, 0.1)
        self._least_length = 0.0 if noise is None else observed_slope(self.seen, self.weights, noise, self.axes)
        self.set_strength(self.d)
        self.rho_d = self.rho_u * 0.1  # only first values: `balance` finds those of the picture's scale
        self.set_factors()

    def set_strength(self, slopes: Tensor) -> None:
        """Set the strength from the mean length of the gradient: _SLOPE noise² / length."""
        if self.noise is not None:
            # A flatter estimate gives a larger strength, which flattens it further. Without the two bounds, strong noise would
            # leave a constant.
            length = torch.maximum(_lengths(slopes).mean(self.dims, keepdim=True), torch.as_tensor(self._least_length))
            strength = _SLOPE * self.noise**2 / length.clamp(min=torch.finfo(length.dtype).tiny)
            self.strength = strength.clamp(max=_MOST[self.axes] * self.noise)

    def set_factors(self) -> None:
        """Compute what depends on the penalties only: the factors of the exact solutions for x and u."""
        self._inverse = (
            (self.rho_u * self.power + self.rho_d * self._smooth).clamp_(min=torch.finfo(self.power.dtype).tiny).reciprocal_()
        )
        self._weighted_adjoint = self.adjoint * self.rho_u
        self._share = (self.weights + self.rho_u).reciprocal_()

    def advance(self) -> Tensor:
        """Make one ADMM step, and return the estimate's relative change for each picture."""
        before = self.x
        # Almeida & Figueiredo (2013): u carries the mask, which is diagonal in the samples, and x the blur, which is diagonal
        # in the Fourier domain. Their product is diagonal in neither, and would need inner conjugate gradients.
        # x solves (rho_u C*C + rho_d D*D) x = rho_u C*(u - eta_u) + rho_d D*(d - eta_d).
        spectrum = rfftn(self.u - self.eta_u, self.lengths, self.dims).mul_(self._weighted_adjoint)
        spectrum += rfftn(gradient_adjoint((self.d - self.eta_d).mul_(self.rho_d), self.axes), self.lengths, self.dims)
        spectrum.mul_(self._inverse)
        self.x = irfftn(spectrum, self.lengths, self.dims)
        self.blurred = irfftn(spectrum.mul_(self.response), self.lengths, self.dims)
        self.slopes = gradient(self.x, self.axes)
        self.u_before, self.d_before = self.u, self.d
        # u solves (W + rho_u) u = W y + rho_u (C x + eta_u), sample by sample.
        self.eta_u += self.blurred
        self.u = torch.addcmul(self.seen, self.eta_u, self.rho_u).mul_(self._share)
        self.eta_u -= self.u
        # d is the prox of the gradient's length: each gradient shrinks by strength / rho_d.
        self.eta_d += self.slopes
        length = _lengths(self.eta_d)
        self.d = self.eta_d * (1 - (self.strength / self.rho_d) / length.clamp_(min=torch.finfo(length.dtype).tiny)).clamp_(
            min=0
        )
        self.eta_d -= self.d
        return sizes(self.x - before, self.axes) / sizes(self.x, self.axes).clamp(min=torch.finfo(length.dtype).tiny)

    def balance(self, settled: bool) -> None:
        """Change each penalty so that its relative primal and dual residuals become equal (Wohlberg 2017)."""
        self.set_strength(self.slopes)
        if not settled:
            return
        change_u = self._change(self.blurred, self.u, self.u_before, self.eta_u, self.dims)
        change_d = self._change(self.slopes, self.d, self.d_before, self.eta_d, (0, *self.dims))
        self.rho_u, self.rho_d = self.rho_u * change_u, self.rho_d * change_d
        # The multipliers are scaled by the penalties, so they change inversely.
        self.eta_u /= change_u
        self.eta_d /= change_d
        self.set_factors()

    def _change(self, image: Tensor, variable: Tensor, before: Tensor, eta: Tensor, dims: tuple[int, ...]) -> Tensor:
        def size(x: Tensor) -> Tensor:
            return spread(torch.linalg.vector_norm(x, dim=dims), self.axes)

        tiny = torch.finfo(image.dtype).tiny
        primal = size(image - variable) / torch.maximum(size(image), size(variable)).clamp(min=tiny)
        dual = size(variable - before) / size(eta).clamp(min=tiny)
        ratio: Tensor = (primal / dual.clamp(min=tiny)).sqrt()
        return torch.where((ratio > _UNLIKE) | (ratio < 1 / _UNLIKE), ratio.clamp(1 / _FACTOR, _FACTOR), 1.0)


def _lengths(slopes: Tensor) -> Tensor:
    """Return the length of each gradient: (..., *n)."""
    # torch.linalg.vector_norm along the first axis takes a hundred times as long.
    squares = slopes[0].square()
    for part in slopes[1:]:
        squares = squares.addcmul_(part, part)
    return squares.sqrt_()
