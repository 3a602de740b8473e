"""Go templates, as people use them with --format.

A template is text with actions between `{{` and `}}`: fields (`.State.Pid`), variables, functions
and pipes, `if`, `range`, `with`. Not here: `define`, `template` and `block`, which no format needs.

    text ──tokens──> words of actions ──_Parser──> nodes ──_Run──> text

See: pkg.go.dev/text/template; Docker's "Format command and log output".
"""

from __future__ import annotations

from minicontainer.cli.template_functions import (
    FUNCTIONS,
    POINTERS,
    FunctionError,
    Null,
    is_true,
    printed,
    typed,
)
from minicontainer.cli.template_words import TemplateError, Word, actions
from minicontainer.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Text(Record):
    """Text outside of actions."""

    text: str


class Operand(Record):
    """A value: where it begins, and the fields that are looked up in it.

    Args:
        kind: "dot", "variable", "value", "function" or "pipe".
        value: the variable's or function's name, the constant, or the pipeline.
        chain: the fields `.A.B` after it.
        shown: as the template has it, for messages.
        place: line and column, for messages.
    """

    kind: str
    value: Any = None
    chain: tuple[str, ...] = ()
    shown: str
    place: str


class Pipeline(Record):
    """Commands, each of which gives its value to the next as the last argument.

    Args:
        variables: what the value is assigned to.
        commands: the operands of each.
    """

    variables: tuple[str, ...]
    commands: tuple[tuple[Operand, ...], ...]


class Branch(Record):
    """if, with or range, its list of nodes, and that of its else."""

    kind: str
    pipeline: Pipeline
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]
    place: str


class Jump(Record):
    """break or continue."""

    kind: str


class Template:
    """A template that was read.

    Raises:
        TemplateError: it is none; in Go's words.
    """

    def __init__(self, text: str) -> None:
        self.nodes, ending = _Parser(text).nodes(())
        assert ending == ""

    def render(self, data: Any) -> str:
        """Write the template with the values of *data*: JSON values, or a row of a list.

        Raises:
            TemplateError: a field does not exist, or a function fails.
        """
        run = _Run(data)
        run.follow(self.nodes, data)
        return "".join(run.output)


class _Parser:
    """From words to nodes."""

    def __init__(self, text: str) -> None:
        self._actions = actions(text)
        self._words: list[Word] = []
        self._place = ""
        self._declared = {"$"}

    def nodes(self, endings: tuple[str, ...]) -> tuple[tuple[Any, ...], str]:
        """Read nodes up to one of the words `else` and `end`; give them and that word."""
        found: list[Any] = []
        for text, words, place in self._actions:
            if words is None:
                found.append(Text(text=text))
                continue
            self._words, self._place = words, place
            first = words[0].text if words and words[0].kind == "name" else ""
            if first in ("end", "else"):
                if first not in endings:
                    raise TemplateError(
                        f"template: :{place.split(':')[0]}: unexpected {{{{{first}}}}}"
                    )
                self._words.pop(0)
                return tuple(found), first
            if first in ("if", "with", "range"):
                self._words.pop(0)
                found.append(self._branch(first))
            elif first in ("break", "continue"):
                found.append(Jump(kind=first))
            elif words:
                found.append(self._pipeline())
        if endings:
            raise TemplateError("template: :1: unexpected EOF")
        return tuple(found), ""

    def _branch(self, kind: str) -> Branch:
        place = self._place
        pipeline = self._pipeline()
        body, ending = self.nodes(("else", "end"))
        otherwise: tuple[Any, ...] = ()
        if ending == "else":
            if self._words and self._words[0].text in ("if", "with"):
                otherwise = (self._branch(self._words.pop(0).text),)
            else:
                otherwise, _ = self.nodes(("end",))
        return Branch(kind=kind, pipeline=pipeline, body=body, otherwise=otherwise, place=place)

    def _pipeline(self, ending: str = "") -> Pipeline:
        """Read `$x := a | b c`, up to the end of the action or a closing parenthesis."""
        variables: list[str] = []
        words = self._words
        texts = [word.text for word in words[:4]]
        for count, sign in ((1, ":="), (1, "="), (3, ":=")):
            if texts[count : count + 1] == [sign] and words[0].kind == "variable":
                variables = [word.text for word in words[:count:2]]
                del words[: count + 1]
                self._declared.update(variables)
                break
        commands: list[tuple[Operand, ...]] = []
        operands: list[Operand] = []
        while (words and words[0].text != ending) or (words and words[0].kind == "text"):
            word = words.pop(0)
            if word.kind == "sign" and word.text == "|":
                commands.append(tuple(operands))
                operands = []
            else:
                operands.append(self._operand(word))
        if ending and not words:
            raise TemplateError(f"template: :{self._place.split(':')[0]}: unclosed left paren")
        commands.append(tuple(operands))
        if not all(commands):
            raise TemplateError(
                f"template: :{self._place.split(':')[0]}: missing value for command"
            )
        return Pipeline(variables=tuple(variables), commands=tuple(commands))

    def _operand(self, word: Word) -> Operand:
        kind, value, chain, shown = word.kind, word.value, word.chain, word.text
        if kind == "sign" and shown == "(":
            value = self._pipeline(")")
            closing = self._words.pop(0)
            kind, chain = "pipe", closing.chain
        elif kind == "name":
            constants = {"true": True, "false": False, "nil": None}
            if shown in constants:
                kind, value = "value", constants[shown]
            elif shown in FUNCTIONS or shown in ("and", "or"):
                kind, value = "function", shown
            else:
                raise TemplateError(
                    f'template: :{word.place.split(":")[0]}: function "{shown}" not defined'
                )
        elif kind == "text":
            kind = "value"
        elif kind == "variable" and value not in self._declared:
            line = word.place.split(":")[0]
            raise TemplateError(f'template: :{line}: undefined variable "{value}"')
        elif kind not in ("dot", "variable"):
            line = word.place.split(":")[0]
            raise TemplateError(f'template: :{line}: unexpected "{shown}" in operand')
        return Operand(kind=kind, value=value, chain=chain, shown=shown, place=word.place)


class _Break(Exception):
    """Leave the innermost range."""


class _Continue(Exception):
    """Go on with the innermost range."""


class _Run:
    """One rendering: the variables, and what was written so far."""

    def __init__(self, data: Any) -> None:
        self.output: list[str] = []
        self._variables: dict[str, Any] = {"$": data}

    def follow(self, nodes: tuple[Any, ...], dot: Any) -> None:
        """Write a list of nodes."""
        for node in nodes:
            if isinstance(node, Text):
                self.output.append(node.text)
            elif isinstance(node, Pipeline):
                value = self._value(node, dot)
                if node.variables:
                    self._variables[node.variables[0]] = value
                else:
                    self.output.append(printed(value))
            elif isinstance(node, Jump):
                raise _Break if node.kind == "break" else _Continue
            else:
                self._branch(node, dot)

    def _branch(self, node: Branch, dot: Any) -> None:
        value = self._value(node.pipeline, dot)
        outer = dict(self._variables)
        if node.kind == "range":
            self._range(node, value, dot)
        elif is_true(value):
            if node.pipeline.variables:
                self._variables[node.pipeline.variables[0]] = value
            self.follow(node.body, value if node.kind == "with" else dot)
        else:
            self.follow(node.otherwise, dot)
        for name in self._variables.keys() - outer.keys():
            del self._variables[name]

    def _range(self, node: Branch, value: Any, dot: Any) -> None:
        pairs: list[tuple[Any, Any]]
        if isinstance(value, dict):
            pairs = [(key, typed("", value[key])) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = [(index, typed("", item)) for index, item in enumerate(value)]
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(index, index) for index in range(value)]
        elif value is None or isinstance(value, Null):
            pairs = []
        else:
            first = node.pipeline.commands[0][0]
            message = f"range can't iterate over {printed(value)}"
            raise _failed(first.place, first.shown, message)
        if not pairs:
            self.follow(node.otherwise, dot)
        names = node.pipeline.variables
        for key, item in pairs:
            for name, one in zip(names, (item,) if len(names) == 1 else (key, item), strict=False):
                self._variables[name] = one
            try:
                self.follow(node.body, item)
            except _Continue:
                continue
            except _Break:
                break

    def _value(self, pipeline: Pipeline, dot: Any) -> Any:
        value: Any = None
        for index, operands in enumerate(pipeline.commands):
            value = self._command(operands, dot, (value,) if index else ())
        return value

    def _command(self, operands: tuple[Operand, ...], dot: Any, last: tuple[Any, ...]) -> Any:
        first, *rest = operands
        if first.kind == "function":
            value = self._call(first, rest, dot, last)
            return self._fields(value, first)
        if first.chain and first.kind == "dot" and hasattr(dot, "field"):
            arguments = [self._operand(operand, dot) for operand in rest]
            return self._fields(dot, first, (*arguments, *last))
        if rest or last:
            raise _failed(
                first.place, first.shown, f"can't give argument to non-function {first.shown}"
            )
        return self._operand(first, dot)

    def _call(self, first: Operand, rest: list[Operand], dot: Any, last: tuple[Any, ...]) -> Any:
        if first.value in ("and", "or"):
            value: Any = None
            for operand in rest:
                value = self._operand(operand, dot)
                if is_true(value) == (first.value == "or"):
                    return value
            return last[0] if last else value
        arguments = (*(self._operand(operand, dot) for operand in rest), *last)
        shown = " ".join(operand.shown for operand in (first, *rest))
        try:
            return FUNCTIONS[first.value](*arguments)
        except FunctionError as error:
            raise _failed(first.place, shown, str(error)) from None
        except (TypeError, AttributeError):
            message = f"wrong arguments for {first.value}"
            raise _failed(first.place, shown, message) from None

    def _operand(self, operand: Operand, dot: Any) -> Any:
        if operand.kind == "dot":
            value = dot
        elif operand.kind == "variable":
            value = self._variables.get(operand.value)
        elif operand.kind == "pipe":
            value = self._value(operand.value, dot)
        elif operand.kind == "function":
            value = self._call(operand, [], dot, ())
        else:
            value = operand.value
        return self._fields(value, operand)

    def _fields(self, value: Any, operand: Operand, arguments: tuple[Any, ...] = ()) -> Any:
        """Look the fields up, each in the value of the one before."""
        for number, name in enumerate(operand.chain):
            if hasattr(value, "field"):
                value = _field_of_row(value, name, operand, arguments)
            elif isinstance(value, dict):
                value = _member(value, name, operand)
            elif isinstance(value, Null) and value.absent:
                raise _no_entry(operand, number - 1)
            elif value is None or isinstance(value, Null):
                message = f"nil pointer evaluating interface {{}}.{name}"
                raise _failed(operand.place, operand.shown, message)
            else:
                kind = "string" if isinstance(value, str) else type(value).__name__
                raise _failed(
                    operand.place, operand.shown, f"can't evaluate field {name} in type {kind}"
                )
        return value


def _field_of_row(row: Any, name: str, operand: Operand, arguments: tuple[Any, ...]) -> Any:
    try:
        return row.field(name, *arguments)
    except KeyError:
        kind = f"*formatter.{row.kind}Context"
        message = f"can't evaluate field {name} in type {kind}"
        raise _failed(operand.place, operand.shown, message) from None


def _member(value: dict[str, Any], name: str, operand: Operand) -> Any:
    """Find a member of a JSON object; `.ID` is `Id` too, as Go's field is named."""
    if name not in value:
        other = next((key for key in value if key.lower() == name.lower()), None)
        if other is None and name in POINTERS:
            return Null(name, absent=True)
        if other is None:
            raise _no_entry(operand, operand.chain.index(name))
        name = other
    return typed(name, value[name])


def _no_entry(operand: Operand, number: int) -> TemplateError:
    """Say which of an operand's fields does not exist."""
    line, _, column = operand.place.partition(":")
    behind = sum(len(name) + 1 for name in operand.chain[number + 1 :])
    message = f'map has no entry for key "{operand.chain[number]}"'
    return _failed(f"{line}:{int(column) - behind}", operand.shown, message)


def _failed(place: str, shown: str, message: str) -> TemplateError:
    return TemplateError(f'template: :{place}: executing "" at <{shown}>: {message}')


def header(template: Template, titles: Mapping[str, str]) -> str:
    """Write the headings of a table: the template, with titles in the place of values."""

    class Titles:
        def field(self, name: str, *arguments: Any) -> str:
            return str(arguments[0]) if arguments else titles[name]

        kind = ""

    return template.render(Titles())
