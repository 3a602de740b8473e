"""Frozen values with named fields: cheap to define, read from JSON with every fault named.

A dataclass builds its methods from source text when it is defined: forty of them cost three
interpreter starts. A `Record` has its methods once, here, and looks at its annotations only when
the first value is read from JSON.

    class Memory(Record):
        limit: int | None = None

    Memory.from_json({"limit": "1"}, "linux.resources.memory")
    # InvalidArgument: linux.resources.memory.limit: expected a whole number, got "1"
"""

from __future__ import annotations

import os
import types

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform

    Read = Callable[[Any, str], Any]
else:

    def dataclass_transform(**_: object) -> object:  # its home, typing, costs 15 ms to import
        """Pass a class through: type checkers alone act on this mark."""
        return lambda cls: cls


# The default of fields that hold a dictionary: one for all, and nobody can put anything into it.
NO_ENTRIES: dict[str, Any] = types.MappingProxyType({})  # type: ignore[assignment]  # read like one


def camel(name: str) -> str:
    """Turn a field's name into the one the OCI specifications use: `oom_score_adj`, oomScoreAdj."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def pascal(name: str) -> str:
    """Turn a field's name into the one Docker's API uses: `port_bindings`, PortBindings."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A frozen value; its fields are the annotated names of its class.

    Class arguments:
        names: the function that makes the JSON name of a field (`camel`).
        json: JSON names that do not follow that rule, by field.
    See: runtime-spec config.md, "Extensibility": unknown fields are passed over.
    """

    _fields: ClassVar[dict[str, Any]] = {}
    _json_names: ClassVar[dict[str, str]] = {}
    _readers: ClassVar[dict[str, Read] | None] = None

    def __init_subclass__(
        cls,
        names: Callable[[str], str] = camel,
        json: dict[str, str] | None = None,
        **rest: Any,
    ) -> None:
        """Note the fields; look at their types only when JSON is first read."""
        super().__init_subclass__(**rest)
        own = _own_annotations(cls)
        cls._fields = {**cls._fields, **own}
        irregular = json or {}
        own_names = {field: irregular.get(field) or names(field) for field in own}
        cls._json_names = {**cls._json_names, **own_names}
        cls._readers = None

    def __init__(self, **values: Any) -> None:
        """Take the fields by name; those left out keep their class's default."""
        for field in values:
            if field not in self._fields:
                raise TypeError(f"{type(self).__name__} has no field {field!r}")
        for field in self._fields:
            if field not in values and not hasattr(type(self), field):
                raise TypeError(f"{type(self).__name__} needs the field {field!r}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a record does not change; `replace` makes another."""
        raise AttributeError(f"{type(self).__name__} is frozen: use replace({name}=…)")

    def __eq__(self, other: object) -> bool:
        """Compare by type and fields."""
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        """Hash by what is printed: fields may hold dictionaries."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """Show the fields that differ from their default."""
        told = (
            f"{field}={value!r}"
            for field, value in self._values().items()
            if not hasattr(type(self), field) or getattr(type(self), field) != value
        )
        return f"{type(self).__name__}({', '.join(told)})"

    def _values(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self._fields}

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """List the names of the fields."""
        return tuple(cls._fields)

    @classmethod
    def json_names(cls) -> tuple[str, ...]:
        """List the names of the fields as JSON has them."""
        return tuple(cls._json_names.values())

    @classmethod
    def json_types(cls) -> dict[str, Any]:
        """Give the types of the fields by their JSON names."""
        return {cls._json_names[field]: kind for field, kind in cls._types().items()}

    def replace(self, **changes: Any) -> Self:
        """Make a copy with some fields changed."""
        return type(self)(**{**self._values(), **changes})

    def to_json(self) -> dict[str, Any]:
        """Give the value as JSON would hold it; fields that are None are left out."""
        return {
            self._json_names[field]: _plain(value)
            for field, value in self._values().items()
            if value is not None
        }

    @classmethod
    def from_json(cls, value: Any, path: str = "") -> Self:
        """Read the record from parsed JSON.

        Args:
            value: what the JSON parser gave.
            path: where *value* stands in the whole document, for messages.
        Raises:
            InvalidArgument: a field is missing or of the wrong type; the JSON path is named.
        """
        if not isinstance(value, dict):
            raise _unexpected(path or "the document", "an object", value)
        if cls._readers is None:
            cls._readers = {
                field: _reader(annotation) for field, annotation in cls._types().items()
            }
        taken = {}
        for field, read in cls._readers.items():
            name = cls._json_names[field]
            where = f"{path}.{name}" if path else name
            if name in value and not (value[name] is None and hasattr(cls, field)):
                taken[field] = read(value[name], where)
            elif not hasattr(cls, field):
                raise InvalidArgument(f"{where}: is required")
        return cls(**taken)

    @classmethod
    def _types(cls) -> dict[str, Any]:
        """Turn annotations kept as text into types, each in the module that wrote it."""
        import sys  # here: only documents that are read need it

        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if issubclass(base, Record) and base is not Record:
                names = vars(sys.modules[base.__module__])
                for field in _own_annotations(base):
                    note = cls._fields[field]
                    found[field] = eval(note, names) if isinstance(note, str) else note
        return found


def _own_annotations(cls: type) -> dict[str, Any]:
    # Without those of its bases. inspect.get_annotations says the same, for 10 ms of imports.
    own: dict[str, Any] | None = cls.__dict__.get("__annotations__")  # noqa: RUF063
    if own is None:  # Python 3.14 makes annotations when they are asked for
        own = cls.__annotations__
    return own


def _plain(value: Any) -> Any:
    """Turn records inside *value* into dictionaries, and tuples into lists."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (dict, types.MappingProxyType)):
        return {key: _plain(item) for key, item in value.items()}
    return value


_EXPECTED = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    dict: "an object",
}


def _unexpected(path: str, expected: str, value: Any) -> InvalidArgument:
    import json  # here: only to show what was wrong

    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return InvalidArgument(f"{path}: expected {expected}, got {shown}")


def _passable(text: str, path: str) -> str:
    """Refuse what JSON can write and no system call takes: NUL, and half a surrogate pair."""
    try:
        passable = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        passable = False
    if not passable:
        raise InvalidArgument(f"{path}: holds a character that no system call takes: {text!a}")
    return text


def _reader(annotation: Any) -> Read:
    """Make the function that reads a value of type *annotation*: (value, path) to value."""
    if isinstance(annotation, types.UnionType):
        inner = [_reader(kind) for kind in annotation.__args__ if kind is not types.NoneType]
        return lambda value, path: None if value is None else inner[0](value, path)
    if isinstance(annotation, types.GenericAlias):
        return _container_reader(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return annotation.from_json
    if annotation in _EXPECTED:
        return lambda value, path: _checked(annotation, value, path)
    return lambda value, path: value


def _container_reader(annotation: types.GenericAlias) -> Read:
    if annotation.__origin__ is dict:
        read = _reader(annotation.__args__[1])
        return lambda value, path: {
            key: read(item, f"{path}.{key}") for key, item in _checked(dict, value, path).items()
        }
    read = _reader(annotation.__args__[0])

    def read_list(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _unexpected(path, "a list", value)
        return tuple(read(item, f"{path}[{i}]") for i, item in enumerate(value))

    return read_list


def _checked(kind: type, value: Any, path: str) -> Any:
    if kind is str and isinstance(value, str):
        return _passable(value, path)
    # JSON's true is not a number, though Python's True is an int
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    raise _unexpected(path, _EXPECTED[kind], value)
