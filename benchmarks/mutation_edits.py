"""Every small mistake that can be made in one node of a Python file: `edits(tree)`.

Left out, since no test should depend on them: docstrings, annotations, messages of errors and warnings, f-strings,
strings with a space in them (prose), `__repr__` and `__str__`, `__all__`, imports, decorators, abstract methods that
raise NotImplementedError, the -1 of a `reshape` (-2 means the same), `copy=False` (it saves time only), `strict=True`
(it only guards against bugs), names of scratch memory, and the tables of cases in `verify/cases` with the functions
that write their rows: they are themselves test data.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Div,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
PAIRS = [("min", "max"), ("any", "all"), ("minimum", "maximum"), ("zeros", "ones"), ("floor", "ceil")]
NAMES = {**dict(PAIRS), **{b: a for a, b in PAIRS}}
DELETED = (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete)


class Edit(NamedTuple):
    """One changed node: `new` for `old` in a field of `parent`."""

    parent: ast.AST
    field: str
    index: int | None  # if the field is a list
    old: ast.AST
    new: ast.AST
    lines: tuple[int, int]  # of the statement; the tests that run one of them may notice
    where: str  # the function or class

    def apply(self) -> None:
        new = ast.copy_location(self.new, self.old)
        if self.index is None:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.index] = new
        ast.fix_missing_locations(self.parent)

    def __str__(self) -> str:
        new = "deleted" if isinstance(self.new, ast.Pass | ast.Expr) else f"`{ast.unparse(self.new)}`"
        return f"`{ast.unparse(self.old)}` -> {new}"


def edits(node: ast.AST, where: str = "", lines: tuple[int, int] = (0, 0)) -> Iterator[Edit]:
    """The edits of all nodes under this one, in the order of the file."""
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _left_out(node, field, child):
                continue
            inner, run = _place(node, field, child, where, lines)
            for new in _mistakes(child, field):
                yield Edit(node, field, index, child, new, run, inner)
            yield from edits(child, inner, run)


def _place(parent: ast.AST, field: str, child: ast.AST, where: str, lines: tuple[int, int]) -> tuple[str, tuple]:
    """The name of the function or class that the child is in, and the lines that run if the child runs."""
    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return f"{where}.{child.name}".lstrip("."), (child.lineno, child.end_lineno)
    simple = isinstance(child, ast.stmt) and not hasattr(child, "body")
    header = isinstance(parent, ast.stmt) and hasattr(parent, "body") and field in ("test", "iter", "items")
    inside_function = not isinstance(parent, ast.Module | ast.ClassDef)  # else it runs when the module is imported
    if (simple or header) and inside_function and hasattr(child, "lineno"):
        return where, (child.lineno, child.end_lineno)
    return where, lines


def _left_out(parent: ast.AST, field: str, child: ast.AST) -> bool:
    match child:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.FunctionDef(name="__repr__" | "__str__"):
            return True
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AnnAssign(target=ast.Name(id="CASES")):
            return True
        case ast.keyword(arg="copy" | "strict"):
            return True
        case ast.FunctionDef(returns=ast.expr() as given) if "Case" in ast.unparse(given):
            return True  # writes rows of a table
        case ast.Call(func=ast.Attribute(attr="warn") | ast.Name(id="cast" | "TypeVar")):
            return True
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute):
        of_reshape = parent.func.attr == "reshape" and isinstance(child, ast.UnaryOp)
        return of_reshape or (parent.func.attr == "scratch" and isinstance(child, ast.Constant))
    return field in ("annotation", "returns", "decorator_list", "exc", "cause")


def _mistakes(node: ast.AST, field: str) -> Iterator[ast.AST]:
    match node:
        case ast.BinOp(left, op, right) if type(op) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in OPERATORS:
            yield ast.AugAssign(target, OPERATORS[type(op)](), value)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(OPERATORS[type(op)](), values)
        case ast.Compare(left, ops, comparators):
            for i, op in enumerate(ops):
                yield ast.Compare(left, [*ops[:i], OPERATORS[type(op)](), *ops[i + 1 :]], comparators)
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.Constant(value=str()) if " " not in node.value:
            yield ast.Constant(node.value + "_")
        case ast.Name(id) if id in NAMES:
            yield ast.Name(NAMES[id], node.ctx)
        case ast.Attribute(value, attr) if attr in NAMES:
            yield ast.Attribute(value, NAMES[attr], node.ctx)
        case ast.Call(func, args, keywords):
            for i, keyword in enumerate(keywords):
                if keyword.arg not in (None, "copy", "strict"):
                    yield ast.Call(func, args, [*keywords[:i], *keywords[i + 1 :]])
    deleted = isinstance(node, DELETED) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    if deleted or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)):
        has_super = any(isinstance(part, ast.Name) and part.id == "super" for part in ast.walk(node))
        yield ast.Expr(ast.Name("__class__", ast.Load())) if has_super else ast.Pass()  # `graft` needs the same cells
    if field in ("test", "ifs") and not isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)
