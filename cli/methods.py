"""What `provender methods` lists: every member of every folder's union, from its own docstring and fields."""

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas import method as base
from schemas.errors import UsageError
from schemas.union import members_in, tag_of

STAGES = {
    "generate": base.GenerateMethod,
    "filter": base.FilterMethod,
    "dedup": base.DedupMethod,
    "decontaminate": base.DecontaminateMethod,
    "rank": base.RankMethod,
    "select": base.SelectMethod,
    "mix": base.MixMethod,
}


class FieldDescription(BaseModel):
    """One field of a method."""

    name: str
    type: str
    default: Any
    description: str


class MethodDescription(BaseModel):
    """One method as its file describes it."""

    stage: str
    name: str
    summary: str
    doc: str
    needs: list[str]
    per_example: bool
    version: int
    fields: list[FieldDescription]


def described(name: str | None = None) -> list[MethodDescription]:
    """All methods, or those called ``name``; ``UsageError`` with the choices if there is none."""
    found = [_describe(stage, kind) for stage, kind in all_methods()]
    if name is None:
        return found
    wanted = [m for m in found if m.name == name or f"{m.stage}/{m.name}" == name]
    if not wanted:
        raise UsageError(f"no method {name!r}; methods: {', '.join(f'{m.stage}/{m.name}' for m in found)}")
    return wanted


def all_methods() -> list[tuple[str, type[base.Method]]]:
    """(stage, class) of every method."""
    return [
        (stage, kind) for stage, parent in STAGES.items() for kind in members_in(f"methods.{stage}", parent, "method")
    ]


def _describe(stage: str, kind: type[base.Method]) -> MethodDescription:
    doc = inspect.cleandoc(kind.__doc__ or "")
    fields = [
        FieldDescription(
            name=name,
            type=values_of(field),
            default=None if field.is_required() else _plain(field.get_default(call_default_factory=True)),
            description=field.description or "",
        )
        for name, field in kind.model_fields.items()
        if name != "method"
    ]
    return MethodDescription(
        stage=stage,
        name=tag_of(kind, "method"),
        summary=doc.splitlines()[0] if doc else "",
        doc=doc,
        needs=sorted(kind.needs),
        per_example=kind.per_example,
        version=kind.version,
        fields=fields,
    )


def values_of(field: FieldInfo) -> str:
    """What a field may hold, for a person: choices, names of sub-fields, a type and its bounds.

    >>> values_of(FieldInfo.from_annotation(Literal["mask", "reject"])), values_of(FieldInfo.from_annotation(float | None))
    ('mask or reject', 'number or null')
    """
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(one, name):g}"
        for one in field.metadata
        for name, sign in signs.items()
        if isinstance(getattr(one, name, None), int | float)
    ]
    return ", ".join([_values(field.annotation), *bounds])


def _values(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " or ".join(_values(part) for part in parts)
    if origin is not None and parts:
        inner = [_values(part) for part in parts if part is not Ellipsis]
        if issubclass(origin, dict | Mapping):
            return "{" + ": ".join(inner) + "}"
        return f"list of ({inner[0]})" if " or " in inner[0] else f"list of {inner[0]}"
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return f"{{{', '.join(kind.model_fields)}}}"
    simple: dict[Any, str] = {NoneType: "null", str: "text", bool: "true or false", int: "integer", float: "number"}
    return simple.get(kind, str(getattr(kind, "__name__", kind)))


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def methods_text(listed: list[MethodDescription], whole: bool) -> str:
    """One line each, or everything about each."""
    if not whole:
        width = max(len(m.stage) + len(m.name) for m in listed) + 3
        return "\n".join(f"{m.stage + '/' + m.name:<{width}}{m.summary}" for m in listed)
    blocks = []
    for m in listed:
        needs = f"needs: {', '.join(m.needs)}" if m.needs else "needs no engine"
        lines = [f"{m.stage}/{m.name}  (version {m.version}, {needs})", "", m.doc, ""]
        lines += [f"  {f.name}: {f.type} = {_one_line(f.default)}   {f.description}" for f in m.fields]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _one_line(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def methods_markdown() -> str:
    """``docs/methods.md``: every method from its own file. `tests/test_docs.py` holds the file to this text."""
    lines = [
        "# Methods",
        "",
        "Generated from the methods' own files (`python -m cli.methods > docs/methods.md`). A new file in",
        "`methods/<stage>/` appears here, in YAML, on the command line and in Prefect's form with no other edit.",
        "",
    ]
    for m in described():
        needs = f"needs {', '.join(m.needs)}" if m.needs else "needs no engine"
        alone = ", shards may be judged apart" if m.per_example else ""
        lines += [f"## {m.stage}: {m.name}", "", f"Version {m.version}; {needs}{alone}.", "", m.doc, ""]
        if m.fields:
            lines += ["| field | values | default | meaning |", "|---|---|---|---|"]
            lines += [
                f"| `{f.name}` | {_cell(f.type)} | {_cell(_one_line(f.default))} | {_cell(f.description)} |"
                for f in m.fields
            ]
            lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(methods_markdown())
