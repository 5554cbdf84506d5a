"""What a form must look like for Cog's static parser, which reads predict.py without running it.

The parser drops, garbles or refuses much that Python allows, and most of it without a word: an
input whose default it cannot read becomes required. These rules are stricter than the parser.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

PLAIN_TYPES = ("str", "int", "float", "bool", "Path", "Secret")
ALLOWED_TYPES = {
    form for name in PLAIN_TYPES for form in (name, f"Optional[{name}]", f"{name}|None")
}
ALLOWED_RETURNS = {"Path", "list[Path]", "str"}
RESERVED_NAMES = {"Input", "Output", "Status", "PredictionRequest", "PredictionResponse"}


@dataclass(frozen=True)
class Form:
    """The source, its syntax tree, and the method whose parameters are the inputs."""

    source: str
    tree: ast.Module
    method: ast.FunctionDef

    def text(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.source, node) or ""


def faults(source: str) -> list[str]:
    """Every break of the rules in the class `Predictor`, with its line."""
    tree = ast.parse(source)
    predictor = next(
        (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Predictor"),
        None,
    )
    methods = predictor.body if predictor else []
    method = next(
        (
            node
            for node in methods
            if isinstance(node, ast.FunctionDef) and node.name in ("predict", "run")
        ),
        None,
    )
    if method is None:
        return ["the module has no class Predictor with a plain method predict()"]
    form = Form(source, tree, method)
    return [*import_faults(form), *method_faults(form), *input_faults(form)]


def import_faults(form: Form) -> Iterator[str]:
    imported = {
        (node.module, name.name, name.asname or name.name)
        for node in form.tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    if ("cog", "Path", "Path") not in imported:
        yield "Path must be imported from cog"
    if any(module == "pathlib" and used_as == "Path" for module, _, used_as in imported):
        yield "pathlib.Path would hide cog.Path, and nothing would be downloaded"
    if any(module == "__future__" for module, _, _ in imported):
        yield "from __future__ import annotations can switch off the download of every file"


def method_faults(form: Form) -> Iterator[str]:
    method, parameters = form.method, form.method.args
    if method.decorator_list:
        yield f"{method.lineno}: a decorated {method.name}() gets FieldInfo objects for defaults"
    if parameters.vararg or parameters.kwarg or parameters.kwonlyargs or parameters.posonlyargs:
        yield f"{method.lineno}: only plain parameters are understood"
    returns = "" if method.returns is None else re.sub(r"\s", "", form.text(method.returns))
    if returns not in ALLOWED_RETURNS:
        yield f"{method.lineno}: the return type must be one of {sorted(ALLOWED_RETURNS)}"


def input_faults(form: Form) -> Iterator[str]:
    parameters = form.method.args.args[1:]
    defaults = form.method.args.defaults
    padded = [None] * (len(parameters) - len(defaults)) + defaults
    for parameter, default in zip(parameters, padded, strict=True):
        where = f"{parameter.lineno}: {parameter.arg}: "
        for fault in (*type_faults(form, parameter), *call_faults(form, parameter, default)):
            yield where + fault


def type_faults(form: Form, parameter: ast.arg) -> Iterator[str]:
    if parameter.arg in RESERVED_NAMES:
        yield "the name is one of Cog's own schemas"
    if parameter.annotation is None:
        yield "no annotation"
    elif annotation(form, parameter) not in ALLOWED_TYPES:
        yield f"the type {annotation(form, parameter)} is not one of the plain forms"


def call_faults(form: Form, parameter: ast.arg, default: ast.expr | None) -> Iterator[str]:
    is_input = isinstance(default, ast.Call) and form.text(default.func) == "Input"
    if not isinstance(default, ast.Call) or not is_input:
        yield "the default must be a call of Input"
        return
    if default.args:
        yield "a positional argument of Input is dropped; write default="
    arguments = {}
    for keyword in default.keywords:
        if keyword.arg is None:
            yield "**arguments are dropped"
            continue
        arguments[keyword.arg] = keyword.value
        if not is_plain(form, keyword.value, is_list=keyword.arg == "choices"):
            yield f"{keyword.arg}= must be one plain literal, not {form.text(keyword.value)[:60]!r}"
    yield from argument_faults(annotation(form, parameter), arguments)


def argument_faults(type_name: str, arguments: dict[str, ast.expr]) -> Iterator[str]:
    is_optional = "Optional" in type_name or "None" in type_name
    default = arguments.get("default")
    if isinstance(default, ast.Constant) and default.value is None and not is_optional:
        yield "default=None without Optional makes the input required"
    if is_optional and default is None:
        yield "an Optional input needs default=None"
    if "description" not in arguments:
        yield "no description"
    if "accept" in arguments and "Path" not in type_name:
        yield "accept= works on a Path only"
    yield from value_faults(arguments)


def value_faults(arguments: dict[str, ast.expr]) -> Iterator[str]:
    """The parser does not compare a default with its limits or choices; nobody would notice."""
    values = {name: ast.literal_eval(node) for name, node in arguments.items() if is_literal(node)}
    default = values.get("default")
    if default is None:
        return
    if "choices" in values and default not in values["choices"]:
        yield "the default is not one of the choices"
    if ("ge" in values and default < values["ge"]) or ("le" in values and default > values["le"]):
        yield "the default is outside the limits"


def annotation(form: Form, parameter: ast.arg) -> str:
    if parameter.annotation is None:
        return ""
    return re.sub(r"\s", "", form.text(parameter.annotation))


def is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def is_plain(form: Form, node: ast.expr, *, is_list: bool) -> bool:
    """Whether the parser reads the same value as Python: no names, no sums, no escapes."""
    if is_list:
        return isinstance(node, ast.List) and all(is_plain_item(form, item) for item in node.elts)
    return is_plain_item(form, node) and not is_in_parentheses(form, node)


def is_plain_item(form: Form, node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant) and " " not in form.text(node)
    if not isinstance(node, ast.Constant):
        return False
    return not isinstance(node.value, str) or is_plain_string(form.text(node))


def is_plain_string(text: str) -> bool:
    """One string token, no prefix, no escape (which would be shown as it is typed)."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    num_strings = sum(token.type == tokenize.STRING for token in tokens)
    return num_strings == 1 and text[0] in "'\"" and "\\" not in text and "\n" not in text


def is_in_parentheses(form: Form, node: ast.expr) -> bool:
    line = form.source.splitlines()[node.lineno - 1].encode()[: node.col_offset].decode()
    previous = line.rstrip() or form.source.splitlines()[node.lineno - 2].rstrip()
    return previous.endswith("(")
