"""What there is to set: every setting by its TOML name and its variable, as ``--help`` and the docs tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from tintype.runtime.settings import ENV_PREFIX, Settings


def describe(settings_class: type[Settings]) -> str:
    """Every setting: its TOML name, its environment variable, type, default and meaning."""
    lines: list[str] = []
    for path, settings in _tables(settings_class):
        lines.append(f"[{'.'.join(path)}]")
        for name, setting in settings.items():
            variable = ENV_PREFIX + "__".join((*path, name)).upper()
            lines += [f"  {name} ({_type_name(setting.annotation)}; {_default(setting)})", f"      {variable}"]
            lines.append(f"      {setting.description}")
        lines.append("")
    return "\n".join(lines)


def settings_of(settings_class: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield ``section.setting`` and its definition for every setting."""
    for path, settings in _tables(settings_class):
        for name, setting in settings.items():
            yield ".".join((*path, name)), setting


def _tables(
    model: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, FieldInfo]]]:
    """Every table of the file with what is set in it, then the tables within it; users choose each ``NAME``."""
    within = {name: kinds for name, field in model.model_fields.items() if (kinds := _kinds_of(field.annotation))}
    if path:
        yield path, {name: field for name, field in model.model_fields.items() if name not in within}
    for name, kinds in within.items():
        is_named = get_origin(model.model_fields[name].annotation) is Mapping
        for kind in kinds:
            yield from _tables(kind, (*path, name, "NAME") if is_named else (*path, name))


def _kinds_of(annotation: Any) -> tuple[type[BaseModel], ...]:
    """The models that a table, or each of several with names, may be of; none for a plain setting."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is Mapping:
        return _kinds_of(get_args(annotation)[1])
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return tuple(kind for option in get_args(annotation) for kind in _kinds_of(option))
    return ()


def _type_name(annotation: Any) -> str:
    options = get_args(annotation)
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, options))
    if get_origin(annotation) is Annotated:
        return _type_name(options[0])
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_type_name, options))
    if get_origin(annotation) is dict:
        return "table"
    return _TYPE_NAMES[annotation]


_TYPE_NAMES: Mapping[object, str] = {
    tuple[str, ...]: "list",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text",
    NoneType: "unset",
}


def _default(setting: FieldInfo) -> str:
    if setting.is_required():
        return "required"
    default = setting.get_default(call_default_factory=True)
    if isinstance(default, dict):
        default = ",".join(f"{key}={value}" for key, value in default.items())
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    if isinstance(default, bool):
        default = str(default).lower()
    if default is None:
        return "default unset"
    return f"default {'empty' if default == '' else default}"
