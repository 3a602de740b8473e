"""Frozen values with named fields: cheap to define, and read from JSON with every error located.

A dataclass builds its methods from source text when it is defined: forty of them cost three
interpreter starts. A `Record` has its methods once, here, and reads its annotations only when the
first value comes from JSON.

    class Memory(Record):
        limit: int | None = None

    Memory.from_json({"limit": "1"}, "linux.resources.memory")
    # InvalidArgument: linux.resources.memory.limit: expected a whole number, got "1"
"""

from __future__ import annotations

import sys

from minicontainer.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform

    Read = Callable[[Any, str], Any]
else:

    def dataclass_transform(**_: object) -> object:  # typing, which has it, costs 15 ms to import
        """Return the class unchanged: only type checkers act on this mark."""
        return lambda cls: cls


_Frozen = type(vars(type))  # types.MappingProxyType, without importing types
# The default of fields that hold a dictionary: one for all, and read-only.
NO_ENTRIES: dict[str, Any] = _Frozen({})  # type: ignore[assignment]  # read like one


def camel(name: str) -> str:
    """Turn a field's name into the OCI specification's: `oom_score_adj`, oomScoreAdj."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def pascal(name: str) -> str:
    """Turn a field's name into that of Docker's API: `port_bindings`, PortBindings."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record:
    """A frozen value; its fields are the annotated names of its class.

    Class arguments:
        names: the function that makes the JSON name of a field (`camel`).
        json: JSON names that do not follow that rule, by field.
    See: runtime-spec config.md, "Extensibility": unknown fields are ignored.
    """

    _fields: ClassVar[dict[str, str]] = {}  # all fields, with their annotations
    _own: ClassVar[dict[str, str]] = {}  # the fields that this class adds
    _naming: ClassVar[tuple[Callable[[str], str], dict[str, str]]] = camel, {}
    _json_names: ClassVar[dict[str, str]]
    _lower_names: ClassVar[dict[str, tuple[str, str]]]
    _readers: ClassVar[dict[str, Read]] = {}
    _needed: ClassVar[tuple[str, ...] | None] = None  # the fields without a default, once known

    def __init_subclass__(
        cls,
        names: Callable[[str], str] = camel,
        json: dict[str, str] | None = None,
        **rest: Any,
    ) -> None:
        """Collect the fields; their names and types are read when JSON has them."""
        super().__init_subclass__(**rest)
        cls._own = _own_annotations(cls)
        cls._fields = {**cls._fields, **cls._own}
        cls._naming = names, json or {}
        cls._readers = {}
        cls._needed = None

    def __init__(self, **values: Any) -> None:
        """Take the fields by name; a missing one keeps its class's default."""
        kind = type(self)
        fields, needed = kind._fields, kind._needed
        for field in values:
            if field not in fields:
                raise TypeError(f"{kind.__name__} has no field {field!r}")
        if needed is None:
            needed = kind._needed = tuple(field for field in fields if not hasattr(kind, field))
        for field in needed:
            if field not in values:
                raise TypeError(f"{kind.__name__} needs the field {field!r}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a record does not change; `replace` makes another."""
        raise AttributeError(f"{type(self).__name__} is frozen: use replace({name}=…)")

    def __eq__(self, other: object) -> bool:
        """Compare by type and fields."""
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        """Hash the printed form: fields may hold dictionaries."""
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

    def replace(self, **changes: Any) -> Self:
        """Make a copy with some fields changed."""
        return type(self)(**{**self._values(), **changes})

    @classmethod
    def json_names(cls) -> dict[str, str]:
        """Return the fields with their names in JSON."""
        known: dict[str, str] | None = cls.__dict__.get("_json_names")
        if known is None:
            rename, irregular = cls._naming
            above = cls.__mro__[1]
            known = {**above.json_names()} if issubclass(above, Record) else {}
            known |= {field: irregular.get(field) or rename(field) for field in cls._own}
            cls._json_names = known
        return known

    @classmethod
    def json_types(cls) -> dict[str, Any]:
        """Return the types of the fields by their JSON names."""
        return {
            name: eval(cls._fields[field], cls._names_around(field))
            for field, name in cls.json_names().items()
        }

    @classmethod
    def _names_around(cls, field: str) -> dict[str, Any]:
        """Return the names that the annotation of *field* may use: those of its module."""
        owner = next(base for base in cls.__mro__ if field in base.__dict__.get("_own", ()))
        return vars(sys.modules[owner.__module__])

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON holds it; fields that are None are left out."""
        names = self.json_names()
        return {
            names[field]: _plain(value)
            for field, value in self._values().items()
            if value is not None
        }

    @classmethod
    def from_json(cls, value: Any, path: str = "") -> Self:
        """Make the record from parsed JSON.

        Args:
            value: the JSON parser's result.
            path: the place of *value* in the document, for messages.
        Raises:
            InvalidArgument: a field is missing or of the wrong type; the JSON path is named.
        """
        if not isinstance(value, dict):
            raise _unexpected(path or "the document", "an object", value)
        made = cls.__new__(cls)
        for field, name in cls.json_names().items():
            where = f"{path}.{name}" if path else name
            if name in value and not (value[name] is None and hasattr(cls, field)):
                read = cls._readers.get(field) or cls._find_reader(field)
                made.__dict__[field] = read(value[name], where)
            elif not hasattr(cls, field):
                raise InvalidArgument(f"{where}: is required")
        return made

    @classmethod
    def with_exact_names(cls, value: Any) -> Any:
        """Rename what differs from a field's name in JSON only by its case.

        Docker's server, as any in Go, takes `detachKeys` for `DetachKeys`, and clients rely on it.
        """
        if not isinstance(value, dict):
            return value
        known = cls._any_case()
        made = {}
        for told, item in value.items():
            name, field = known.get(told.lower(), (told, ""))
            if field and isinstance(item, (dict, list)):
                item = _with_exact_names(item, cls._fields[field], cls._names_around(field))
            made[name] = item
        return made

    @classmethod
    def _any_case(cls) -> dict[str, tuple[str, str]]:
        """Return the JSON names and the fields, by names in lower case."""
        known: dict[str, tuple[str, str]] | None = cls.__dict__.get("_lower_names")
        if known is None:
            known = {name.lower(): (name, field) for field, name in cls.json_names().items()}
            cls._lower_names = known
        return known

    @classmethod
    def _find_reader(cls, field: str) -> Read:
        read = cls._readers[field] = _reader(cls._fields[field], cls._names_around(field))
        return read


def _own_annotations(cls: type) -> dict[str, str]:
    # Without those of its bases. inspect.get_annotations returns the same, for 10 ms of imports.
    own: dict[str, str] | None = cls.__dict__.get("__annotations__")  # noqa: RUF063
    if own is None:  # Python 3.14 makes annotations on demand
        own = cls.__annotations__
    return own


def _plain(value: Any) -> Any:
    """Turn records inside *value* into dictionaries, and tuples into lists."""
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (dict, _Frozen)):
        return {key: _plain(item) for key, item in value.items()}
    return value


_EXPECTED = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    float: "a number",
    dict: "an object",
}
_KINDS = {kind.__name__: kind for kind in _EXPECTED}


def _unexpected(path: str, expected: str, value: Any) -> InvalidArgument:
    import json  # only needed to show what was wrong

    # A list or an object may hold variables, and is too long to show anyway.
    if isinstance(value, (dict, list)):
        shown = "a list" if isinstance(value, list) else "an object"
    elif _is_secret(path):
        shown = _EXPECTED.get(type(value), "null")
    else:
        shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return InvalidArgument(f"{path}: expected {expected}, got {shown}")


def _is_secret(path: str) -> bool:
    """Report whether a value belongs to an environment: `process.env[3]`, `Env`. It is never
    shown.
    """
    return path.rpartition(".")[2].partition("[")[0].lower() == "env"


_FILE_NAMES = sys.getfilesystemencoding()  # as os.fsencode uses it


def _passable(text: str, path: str) -> str:
    """Refuse text that JSON can hold and no system call takes: NUL, and half a surrogate pair."""
    try:
        passable = b"\0" not in text.encode(_FILE_NAMES, "surrogateescape")
    except UnicodeEncodeError:
        passable = False
    if not passable:
        shown = "" if _is_secret(path) else f": {text!a}"
        raise InvalidArgument(f"{path}: holds a character that no system call takes{shown}")
    return text


def _reader(annotation: str, names: dict[str, Any]) -> Read:
    """Make the function that reads a value of some type: (value, path) to value.

    It is made from the annotation's text, which has few forms; eval() takes three times as long.

    Args:
        annotation: X, X | None, tuple[X, ...] or dict[str, X].
        names: the names that X may use, beside the types of JSON.
    """
    if annotation.endswith(" | None"):
        inner = _reader(annotation.removesuffix(" | None"), names)
        return lambda value, path: None if value is None else inner(value, path)
    if annotation.startswith("tuple["):
        return _list_reader(_reader(annotation[len("tuple[") : -len(", ...]")], names))
    if annotation.startswith("dict["):
        return _object_reader(_reader(annotation[len("dict[str, ") : -len("]")], names))
    kind = _KINDS.get(annotation) or names.get(annotation)
    if kind in _EXPECTED:
        return lambda value, path: _checked(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json
    return lambda value, path: value


def _with_exact_names(value: Any, annotation: str, names: dict[str, Any]) -> Any:
    """Rename the fields of records inside a value of that type."""
    annotation = annotation.removesuffix(" | None")
    if annotation.startswith("tuple[") and isinstance(value, list):
        inner = annotation[len("tuple[") : -len(", ...]")]
        return [_with_exact_names(item, inner, names) for item in value]
    if annotation.startswith("dict[") and isinstance(value, dict):
        inner = annotation[len("dict[str, ") : -len("]")]
        return {key: _with_exact_names(item, inner, names) for key, item in value.items()}
    kind = names.get(annotation)
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.with_exact_names(value)
    return value


def _object_reader(read: Read) -> Read:
    return lambda value, path: {
        key: read(item, f"{path}.{key}") for key, item in _checked(dict, value, path).items()
    }


def _list_reader(read: Read) -> Read:
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
