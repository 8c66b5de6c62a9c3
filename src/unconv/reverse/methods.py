"""Methods of going back: a rule for each operation, and what to freeze. Two methods differ in a few rows of `method_table`.

The paper defines what a deconvnet does at a ReLU. `activations` says what a method does at the other rectifiers
(ReLU6, LeakyReLU, PReLU, ELU, Softplus, SiLU, GELU, Hardswish, Mish).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TypeVar, cast, get_args

from torch._ops import OpOverload

from unconv.errors import DtypeError, UnconvError, counted
from unconv.kinds import checks_kinds_but, shown
from unconv.reverse.method_table import METHODS as TABLE
from unconv.reverse.method_table import Activations, Method, Row
from unconv.reverse.rules import REACHES, ROLES, RULES, Rule
from unconv.reverse.rules.pointwise import RELU, by_slope, pass_on, rectify, rectify_by_slope, rectify_passed
from unconv.reverse.rules.spectral import goes_back
from unconv.reverse.rules.table import FREEZERS, PREPARERS, Preparing, Reaching, everything, is_rectifier
from unconv.reverse.tape.barriers import refusal_of_barrier, refusal_of_gradient
from unconv.reverse.tape.schema import kind
from unconv.reverse.tape.step import Before, Keeper, Step

_R = TypeVar("_R", bound=Rule)

ACTIVATIONS = get_args(Activations)
_RENAMED = "Rules: hold is now called freeze, and will go. Write freeze."


class Rules(Mapping[OpOverload, Rule]):
    """A method: for each operation, the rule that runs it backwards.

    Args:
        method: a name from `Method`; or Rules to start from.
        activations: what to do at rectifiers other than ReLU, about which the paper says nothing: "rectify" the signal, as
            at a ReLU (in guided and desalinet also multiply it by the slope); multiply it by the slope, as the
            "gradient" does; "pass" it on; or stop with an "error". The method "gradient" always multiplies by the slope.
        freeze: whether gates, and statistics that a norm took from the picture, are constants. None: in all methods
            except the gradient.
        gates: factors of products that are the gate, if their history does not show it or shows it wrongly: names of places
            or modules, or kinds of operations ("tanh").
        hold: the name of `freeze` before 0.2; it warns.

    Raises:
        UnconvError: there is no such method or choice.
    """

    name: Method
    activations: Activations
    freeze: bool
    gates: tuple[str, ...]

    @checks_kinds_but("method", "activations")
    def __init__(
        self,
        method: Method | Rules = "deconvnet",
        activations: Activations | None = None,
        freeze: bool | None = None,
        gates: Sequence[str] | None = None,
        *,
        hold: bool | None = None,
    ):
        if hold is not None:
            warnings.warn(_RENAMED, DeprecationWarning, stacklevel=3)  # 3: past `checks_kinds_but`
            freeze = hold if freeze is None else freeze
        base = method if isinstance(method, Rules) else None
        name = base.name if base is not None else method
        if not isinstance(name, str):
            raise DtypeError(f"method: {shown(name)} came, but a name or Rules was needed. Pass one of {', '.join(TABLE)}.")
        if name not in TABLE:
            raise UnconvError(f"method: {name!r} is not a method. Pass one of {', '.join(TABLE)}.")
        row = TABLE[name]
        choice = activations if activations is not None else base.activations if base else "rectify"
        if not isinstance(choice, str):
            raise DtypeError(f"activations: {shown(choice)} came, but a name was needed. Pass one of {', '.join(ACTIVATIONS)}.")
        if choice not in ACTIVATIONS:
            raise UnconvError(f"activations: {choice!r} is not a choice. Pass one of {', '.join(ACTIVATIONS)}.")
        self.name = name
        self.activations = "gradient" if name == "gradient" else cast(Activations, choice)
        self.freeze = freeze if freeze is not None else base.freeze if base else row.freeze
        self.gates = tuple(gates) if gates is not None else base.gates if base else ()
        self.skip, self.words = row.skip, row.words
        self._rows = _rules_of(row)
        self._other_rectifier = self._activation()
        self._own: dict[OpOverload, Rule] = dict(base._own) if base else {}
        self._reaches: dict[OpOverload, Reaching] = dict(base._reaches) if base else {}
        self._keepers: dict[OpOverload, Keeper | Before] = dict(base._keepers) if base else {}

    def _activation(self) -> Rule:
        both = self._rows.get(RELU) is rectify_passed
        return {"rectify": rectify_by_slope if both else rectify, "pass": pass_on}.get(self.activations, by_slope)

    def __getitem__(self, operation: OpOverload) -> Rule:
        for rows in (self._own, self._rows):
            if operation in rows:
                return rows[operation]
        return self._other_rectifier if is_other_rectifier(operation) else RULES[operation]

    def __iter__(self) -> Iterator[OpOverload]:
        return iter({**RULES, **self._rows, **self._own})

    def __len__(self) -> int:
        return len({**RULES, **self._rows, **self._own})

    def __repr__(self) -> str:
        added = f", {counted(len(self._own), 'rule')} of its own" if self._own else ""
        return f"Rules({self.name!r}, activations={self.activations!r}, freeze={self.freeze}{added})"

    def rule(
        self, *operations: OpOverload, reach: Reaching = everything, keep: Keeper | Before | None = None
    ) -> Callable[[_R], _R]:
        """Register a function as the rule of `operations` in this method only; arguments as in `reverse.rules.rule`."""

        def register(function: _R) -> _R:
            for operation in operations:
                self._own[operation] = function
                self._reaches[operation] = reach
                if keep is not None:
                    self._keepers[operation] = keep
            return function

        return register

    @property
    def hold(self) -> bool:
        """The name of `freeze` before 0.2; it warns."""
        warnings.warn(_RENAMED, DeprecationWarning, stacklevel=2)
        return self.freeze

    @property
    def own(self) -> frozenset[OpOverload]:
        """The operations that have a rule in this method only."""
        return frozenset(self._own)

    @property
    def own_reaches(self) -> frozenset[tuple[OpOverload, Reaching]]:
        """What a unit sees of the map below, for the rules of this method only."""
        return frozenset(self._reaches.items())

    @property
    def keepers(self) -> Mapping[OpOverload, Keeper | Before]:
        """How to keep what the rules of this method only need, by operation."""
        return self._keepers

    def reach(self, operation: OpOverload) -> Reaching | None:
        """Return the function that says what a unit sees of the map below an operation."""
        return self._reaches.get(operation) or REACHES.get(operation)

    def preparing(self, operation: OpOverload) -> Preparing | None:
        """Return the function that prepares a step once for the operation's rule."""
        return PREPARERS.get(self[operation])

    def notes(self, steps: Sequence[Step]) -> Iterator[str]:
        """Yield, in words, what this method does at rectifiers about which the paper says nothing."""
        if self.name != "gradient":
            words = {"rectify": "rectified", "gradient": "multiplied by the slope", "pass": "passed"}
            kinds = Counter(step.kind for step in steps if is_other_rectifier(step.operation))
            for kind, count in kinds.items():
                yield f"{count} {kind} {words[self.activations]}; the paper defines ReLU only"
            slopes = Counter(step.kind for step in steps if ROLES.get(step.operation) in ("slope", "choice"))
            for kind, count in slopes.items():
                yield f"{count} {kind} multiplied by the slope"

    def refusal(self, step: Step) -> str | None:
        """Return why the step cannot be run backwards; None if it can."""
        # What the user asked to be an error comes first, then barriers, which no rule can pass.
        if self.activations == "error" and is_other_rectifier(step.operation) and step.operation not in self._own:
            return (
                f"{self.name}: the paper defines the rectifier ReLU, and {step.place} is a {step.kind}. Pass activations="
                "'rectify', 'gradient' or 'pass'"
            )
        barrier = refusal_of_gradient(step) if self.name == "gradient" else refusal_of_barrier(step)
        if barrier:
            return barrier
        values = (*step.inputs, *(output for output in step.outputs if output))
        if any(value.dtype.is_complex for value in values) and not goes_back(step):
            return f"no reverse rule for {step.operation} on complex numbers (at {step.place})"
        # Freezing leaves operations alone that have a rule of the user's own.
        if step.operation in self._own:
            return None
        if step.operation in self:
            freezer = FREEZERS.get(step.operation) if self.freeze else None
            return freezer.refusal(step) if freezer else None
        if "attention" in step.operation._schema.name:
            return (
                f"no reverse rule for {step.operation} (at {step.place}): self-attention mixes positions by weights that the "
                "picture makes, so that a transformer has no filters to run backwards; places before it can be projected"
            )
        return f"no reverse rule for {step.operation} (at {step.place}); write one with @rule, see docs/adding-an-operation.md"


def is_other_rectifier(operation: OpOverload) -> bool:
    """Whether an operation is a rectifier other than ReLU."""
    return is_rectifier(operation) and operation is not RELU


def _rules_of(row: Row) -> dict[OpOverload, Rule]:
    """Return the rules that a row of the table names, by operation."""
    rules: dict[OpOverload, Rule] = {}
    for name, where in row.rules.items():
        module, function = where.split(":")
        rule = getattr(import_module(f"unconv.reverse.rules.{module}"), function)
        rules |= dict.fromkeys((operation for operation in RULES if kind(operation) == name), rule)
    return rules


METHODS: dict[Method, Rules] = {name: Rules(name) for name in TABLE}
DECONVNET, GRADIENT, GUIDED = METHODS["deconvnet"], METHODS["gradient"], METHODS["guided"]


def method_named(method: Method | Rules) -> Rules:
    """Return the rules of a method."""
    if isinstance(method, Rules):
        return method
    return METHODS[method] if isinstance(method, str) and method in METHODS else Rules(method)
