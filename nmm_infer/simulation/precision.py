"""Write a model's functions anew in one floating-point precision.

A literal such as ``2`` or ``0.5`` is a 64-bit number to Numba and would turn a float32 kernel into
a float64 one. Here every literal becomes a number of the kernel's type, ``np.exp`` and ``np.log``
become functions that LLVM can vectorise, and helper functions come along.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import textwrap
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from nmm_infer.errors import InputError
from nmm_infer.models import Model

__all__ = ["digest", "translate"]

_VECTORISED = {np.exp: "exp", math.exp: "exp", np.log: "log", math.log: "log"}
_PLAIN = {np.sqrt: "sqrt", math.sqrt: "sqrt", np.tanh: "tanh", math.tanh: "tanh"}
_FUNCTIONS = {**_VECTORISED, **_PLAIN, abs: "abs", min: "min", max: "max"}


class _Rewrite(ast.NodeTransformer):
    def __init__(self, function: Callable[..., Any], helpers: dict[Any, str]) -> None:
        self.function, self.helpers = function, helpers
        closure = inspect.getclosurevars(function)
        self.known = {**closure.builtins, **closure.globals, **closure.nonlocals}
        # getclosurevars counts attributes among the unbound names.
        arguments = set(inspect.signature(function).parameters)
        self.missing = set(closure.unbound) - arguments - set(function.__code__.co_varnames)
        self.pending: list[Callable[..., Any]] = []

    def _fail(self, text: str) -> None:
        raise InputError(f"{self.function.__module__}.{self.function.__qualname__}: {text}")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return ast.Call(ast.Name("F", ast.Load()), [ast.Constant(float(node.value))], [])

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.known:
            owner, text = self.known[node.value.id], ast.unparse(node)
            if not hasattr(owner, node.attr):
                self._fail(f"there is no {text!r}")
            return self._resolve(getattr(owner, node.attr), text)
        self._fail(f"{ast.unparse(node)!r} cannot be compiled")
        raise AssertionError

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self.known:
            if node.id in self.missing:
                self._fail(f"{node.id!r} is not defined")
            return node
        return self._resolve(self.known[node.id], node.id)

    def visit_For(self, node: ast.For) -> ast.AST:
        self._fail("'for' cannot be compiled")
        raise AssertionError

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.Pow):
            power = node.right
            if not (isinstance(power, ast.Constant) and power.value in (2, 3, 4)):
                self._fail("only the powers 2, 3 and 4 can be compiled")
            name = f"power_{power.value}"  # type: ignore[attr-defined]
            return ast.Call(ast.Name(name, ast.Load()), [self.visit(node.left)], [])
        return self.generic_visit(node)

    def _resolve(self, value: Any, text: str) -> ast.AST:
        if isinstance(value, int | float | np.number):
            return ast.Call(ast.Name("F", ast.Load()), [ast.Constant(float(value))], [])
        known = isinstance(value, Hashable) and value in _FUNCTIONS
        if isinstance(value, np.ufunc) or known:
            if not known:
                self._fail(f"{text!r} cannot be compiled; there are exp, log, sqrt and tanh")
            return ast.Name(_FUNCTIONS[value], ast.Load())
        if inspect.isfunction(value):
            if value not in self.helpers:
                self.helpers[value] = f"{value.__name__}_{len(self.helpers)}"
                self.pending.append(value)
            return ast.Name(self.helpers[value], ast.Load())
        self._fail(f"{text!r} is neither a number nor a function")
        raise AssertionError


def _rewrite(function: Callable[..., Any], name: str, helpers: dict[Any, str]) -> list[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, IndentationError) as error:
        raise InputError(
            f"{function.__qualname__}: its source cannot be read: define it with def in a file"
        ) from error
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise InputError(f"{function.__qualname__}: define the functions of a model with def")
    rewrite = _Rewrite(function, helpers)
    body = definition.body[1:] if ast.get_docstring(definition) else definition.body
    definition.body = [rewrite.visit(statement) for statement in body]
    if definition.args.defaults or definition.args.kw_defaults:
        raise InputError(
            f"{function.__qualname__}: arguments with a default cannot be compiled: use a number "
            "of the module instead"
        )
    definition.name, definition.decorator_list, definition.returns = name, [], None
    for argument in definition.args.args:
        argument.annotation = None
    parts = []
    for helper in rewrite.pending:
        parts += _rewrite(helper, helpers[helper], helpers)
    return [*parts, "@njit\n" + ast.unparse(ast.fix_missing_locations(definition))]


def translate(functions: dict[str, Callable[..., Any]]) -> str:
    """Return Python source for some functions and everything that they call.

    Parameters
    ----------
    functions : dict of str to callable
        Plain functions, by the name that they shall have in the source.

    Returns
    -------
    str
        Source that needs ``F`` (the floating-point type), ``njit``, ``exp``, ``log``, ``sqrt``,
        ``tanh``, ``power_2``, ``power_3`` and ``power_4`` in its namespace.

    Raises
    ------
    InputError
        If a function uses what cannot be compiled; the message names it.
    """
    helpers: dict[Any, str] = {}
    parts: list[str] = []
    for name, function in functions.items():
        parts += _rewrite(function, name, helpers)
    return "\n\n".join(parts)


def digest(model: Model) -> str:
    """Return a hash of everything that a declaration says: a changed model is another study.

    Parameters
    ----------
    model : Model
        The declaration.

    Returns
    -------
    str
        Hexadecimal digest of equations, outputs, constants, targets and equilibrium.
    """
    functions = {"derivative": model.derivative}
    functions |= {f"output_{output.name}": output.function for output in model.outputs}
    parts = [translate(functions), repr((model.states, model.constants, model.targets))]
    parts += [f"{output.name} {output.unit}" for output in model.outputs]
    if model.equilibrium is not None:
        parts.append(inspect.getsource(model.equilibrium))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
