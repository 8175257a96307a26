"""Names that a Python program uses and nothing gives it: what a linter calls errors, found without running anything."""

import ast
import builtins
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What every module and class has, beside the builtins.
_THERE = frozenset(dir(builtins)) | {
    "__annotations__", "__builtins__", "__class__", "__doc__", "__file__", "__loader__", "__module__", "__name__",
    "__package__", "__path__", "__qualname__", "__spec__",
}  # fmt: skip


def parsed_python(source: str) -> ast.Module | SyntaxError:
    """The program's tree, or why the compiler would not take it; nothing of it runs."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
            compile(tree, "<program>", "exec", dont_inherit=True)
            return tree
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return SyntaxError(str(error) or type(error).__name__)


def missing_names(tree: ast.Module) -> set[tuple[int, str]]:
    r"""(line from 1, name) of every use of a name that no scope in its reach binds, or binds only further below.

    Also ``.name`` for an attribute of ``self`` that a class without bases never gets. Control flow is not followed: a
    name bound in one branch counts as bound.

    >>> sorted(missing_names(ast.parse("def f(a):\n    return a + b\nprint(f(c))\nc = 1")))
    [(2, 'b'), (3, 'c')]
    """
    found = _Names()
    found.visit_all(tree.body)
    return {(use.line, use.name) for use in found.uses if not _given(use)} | set(_absent_attributes(tree))


@dataclass
class _Scope:
    """What a module, class, function or comprehension binds: the first line by name."""

    kind: str
    above: "_Scope | None" = None
    bound: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)  # name → global | nonlocal
    open: bool = False  # a star import: any name may be there

    def home(self, name: str) -> "_Scope":
        """Where a binding of this name made here lands."""
        scope = self
        if self.elsewhere.get(name) == "global":
            while scope.above:
                scope = scope.above
        return scope

    def bind(self, name: str, line: int) -> None:
        """Record a binding."""
        if self.elsewhere.get(name) != "nonlocal":
            bound = self.home(name).bound
            bound[name] = min(line, bound.get(name, line))


@dataclass(frozen=True)
class _Use:
    name: str
    line: int
    scope: _Scope
    own: bool = False  # an augmented assignment: only the scope's own binding helps


def _given(use: _Use) -> bool:
    start = use.scope.home(use.name)
    scope: _Scope | None = start
    while scope:
        if scope.kind != "class" or scope is use.scope:
            if scope.open:
                return True
            line = scope.bound.get(use.name)
            ordered = scope is use.scope and scope.kind != "comprehension"
            if line is not None and not (ordered and use.line < line):
                return True
            if line is not None and scope.kind in ("function", "module"):
                return use.name in _THERE
        if use.own and use.name not in use.scope.elsewhere:
            return False
        scope = scope.above
    return use.name in _THERE


class _Names(ast.NodeVisitor):
    """Walks a module, scope by scope."""

    def __init__(self) -> None:
        self.scope = _Scope("module")
        self.uses: list[_Use] = []

    def visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.uses.append(_Use(node.id, node.lineno, self.scope))
        elif isinstance(node.ctx, ast.Store):
            self.scope.bind(node.id, node.lineno)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            self.uses.append(_Use(node.target.id, node.lineno, self.scope, own=True))
        else:
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        scope = self.scope
        while scope.kind == "comprehension" and scope.above:
            scope = scope.above
        scope.bind(node.target.id, node.lineno)
        self.visit(node.value)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.elsewhere.update(dict.fromkeys(node.names, "global"))

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.elsewhere.update(dict.fromkeys(node.names, "nonlocal"))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.scope.bind(alias.asname or alias.name.split(".")[0], node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.scope.open |= alias.name == "*"
            self.scope.bind(alias.asname or alias.name, node.lineno)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.scope.bind(node.name, node.lineno)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.scope.bind(node.name, node.lineno)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.scope.bind(node.name, node.lineno)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.scope.bind(node.rest, node.lineno)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scope.bind(node.name, node.lineno)
        self.visit_all(node.decorator_list)
        self._function(node, node.args, [node.returns], node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node, node.args, [], [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.bind(node.name, node.lineno)
        self.visit_all(node.decorator_list)
        outside = self.scope
        self.scope = _Scope("function", outside)  # type parameters, where there are any
        self._type_parameters(node)
        self.visit_all([*node.bases, *node.keywords])
        self.scope = _Scope("class", self.scope)
        self.visit_all(node.body)
        self.scope = outside

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.visit(node.generators[0].iter)
        self.scope = _Scope("comprehension", self.scope)
        for i, part in enumerate(node.generators):
            self.visit_all([part.target, *([part.iter] if i else []), *part.ifs])
        self.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        assert self.scope.above is not None
        self.scope = self.scope.above

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def _function(self, node: Any, args: ast.arguments, returns: list[Any], body: Sequence[ast.AST]) -> None:
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
        self.visit_all([*args.defaults, *args.kw_defaults])
        outside = self.scope
        self.scope = _Scope("function", outside)
        self._type_parameters(node)
        for one in every:
            self.scope.bind(one.arg, 0)
        inside, self.scope = self.scope, outside
        parameters, before = {p.name for p in getattr(node, "type_params", ())}, len(self.uses)
        self.visit_all([*(one.annotation for one in every), *returns])
        self.uses[before:] = [use for use in self.uses[before:] if use.name not in parameters]
        self.scope = inside
        self.visit_all(body)
        self.scope = outside

    def _type_parameters(self, node: Any) -> None:
        for one in getattr(node, "type_params", ()):
            self.scope.bind(one.name, 0)


def _absent_attributes(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """``self.x`` read in a class that stands alone and never gets an ``x``."""
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if kind.bases or kind.keywords or kind.decorator_list:
            continue
        methods = [n for n in kind.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        has = {n.name for n in ast.walk(kind) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        has |= {n.id for n in ast.walk(kind) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        has |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        if has & {"__getattr__", "__getattribute__", "__slots__", "__dict__"} or _reflects(tree):
            continue
        for method in methods:
            own = method.args.args[0].arg if method.args.args and not method.decorator_list else None
            for n in ast.walk(method):
                if not (isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and isinstance(n.ctx, ast.Load)):
                    continue
                if n.value.id == own and n.attr not in has and not hasattr(object, n.attr):
                    yield n.lineno, f".{n.attr}"


def _reflects(tree: ast.Module) -> bool:
    """Whether attributes may come from somewhere that a reader of names does not see."""
    return any(isinstance(n, ast.Name) and n.id in ("setattr", "vars") for n in ast.walk(tree)) or any(
        isinstance(n, ast.Attribute) and n.attr == "__dict__" for n in ast.walk(tree)
    )
