"""Whether a value from JSON is what a type hint of an official package says, to the letter.

Pydantic checks what those types call Iterable only while it is read, and lets unknown members of a
TypedDict pass; here lists are looked into and a member that the type does not have is a problem.
"""

import collections.abc
import types
import typing

from pydantic import BaseModel, ValidationError
from typing_extensions import NotRequired, Required, TypeAliasType, is_typeddict

LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)
MAPS = (dict, collections.abc.Mapping)


def problems(value, hint, at="body"):
    """A list of texts; empty when the value conforms."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, TypeAliasType):
        return problems(value, hint.__value__, at)
    if hint in (typing.Any, object):
        return []
    if origin in (typing.Annotated, Required, NotRequired):
        return problems(value, args[0], at)
    if origin in (typing.Union, types.UnionType):
        tried = [problems(value, a, at) for a in args]
        return min(tried, key=_how_far)
    if origin is typing.Literal:
        return [] if value in args else [f"{at} is {value!r}, not one of {args}"]
    if is_typeddict(hint):
        return _members(value, hint, at)
    if origin in MAPS or hint in MAPS:
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        return [p for k, v in value.items() if args for p in problems(v, args[1], f"{at}.{k}")]
    if origin in LISTS or getattr(origin, "__name__", "") == "SequenceNotStr":
        if not isinstance(value, list):
            return [f"{at} is no array"]
        return [p for i, v in enumerate(value) for p in problems(v, args[0], f"{at}[{i}]")]
    return _scalar(value, hint, at)


def _how_far(found):
    """Of a union's members, the one that fits best is the one that was meant."""
    return len(found), any(" is not one of " in p or "not one of" in p for p in found), any(" is no " in p for p in found)


def _members(value, hint, at):
    if not isinstance(value, dict):
        return [f"{at} is no object"]
    hints = typing.get_type_hints(hint, include_extras=True)
    found = [f"{at} has no member {k!r} in {hint.__name__}" for k in value if k not in hints]
    found += [f"{at} lacks {k!r}" for k, h in hints.items() if k not in value and _is_required(hint, k, h)]
    return found + [p for k, v in value.items() if k in hints for p in problems(v, hints[k], f"{at}.{k}")]


def _is_required(hint, name, member):
    """Not by __required_keys__ alone: it does not see into annotations that are still text."""
    origin = typing.get_origin(member)
    return origin is Required or (name in hint.__required_keys__ and origin is not NotRequired)


def _scalar(value, hint, at):
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        try:
            hint.model_validate(value, strict=True)
            return []
        except ValidationError as e:
            return [f"{at}: {e}"]
    if hint in (None, type(None)):
        return [] if value is None else [f"{at} is not null"]
    if hint is float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif hint is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(hint, type) and hint in (str, bool) and isinstance(value, hint)
    return [] if good else [f"{at} is {value!r}, not {hint}"]
