"""Write the OpenAPI schema that `cog build` would, so that the server refuses bad inputs.

Cog makes it with a program that is not on the package index, from the source of predict.py. Its
Python package still holds an inspector that comes to the same result on a form which keeps to the
rules of tests/form_rules.py.

    python -m cli schema [FOLDER]      writes FOLDER/.cog/openapi_schema.json
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Not only predict.py: this is part of building and serving it, not of the product.
from cog._adt import InputField, OutputKind, PredictorInfo, Repetition  # noqa: TID251
from cog._inspector import create_predictor  # noqa: TID251

from cli.progress import in_words

SCHEMA_PATH = Path(".cog/openapi_schema.json")
REPEATED = (Repetition.REPEATED, Repetition.OPTIONAL_REPEATED)
NULLABLE = (Repetition.OPTIONAL, Repetition.OPTIONAL_REPEATED)


def main(arguments: Sequence[str]) -> int:
    try:
        write_schema(Path(arguments[0] if arguments else "."))
    except OSError as error:
        sys.stderr.write(f"The server's form cannot be written: {in_words(error)}\n")
        return 1
    return 0


def build_schema(module: str = "predict", predictor: str = "Predictor") -> dict[str, Any]:
    """The parts of Cog's schema that its server and Replicate's form read."""
    with warnings.catch_warnings():
        # predict() has a new name, run(), which Cog's older command line does not know.
        warnings.simplefilter("ignore", DeprecationWarning)
        info = create_predictor(module, predictor)
    fields = info.inputs
    schemas = {name: choices_schema(field) for name, field in fields.items() if field.choices}
    schemas["Input"] = {
        "title": "Input",
        "type": "object",
        "properties": {name: property_schema(field) for name, field in fields.items()},
    }
    # An empty list would be no valid schema.
    if required := [name for name, field in fields.items() if is_required(field)]:
        schemas["Input"]["required"] = required
    schemas["Output"] = {**output_schema(info), "title": "Output"}
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {"/predictions": {"post": {}}},
        "components": {"schemas": schemas},
    }


def is_required(field: InputField) -> bool:
    return field.default is None and field.type.repetition not in NULLABLE


def choices_schema(field: InputField) -> dict[str, Any]:
    return {
        "title": field.name,
        "description": "An enumeration.",
        "enum": list(field.choices),
        "type": field.type.primitive.json_type()["type"],
    }


def property_schema(field: InputField) -> dict[str, Any]:
    schema: dict[str, Any] = {"x-order": field.order, **type_schema(field)}
    if not is_required(field):
        schema["default"] = field.default
    if field.type.repetition in NULLABLE:
        schema["nullable"] = True
    limits = {"description": field.description, "minimum": field.ge, "maximum": field.le}
    return schema | {key: value for key, value in limits.items() if value is not None}


def type_schema(field: InputField) -> dict[str, Any]:
    if field.choices:
        return {"allOf": [{"$ref": f"#/components/schemas/{field.name}"}]}
    title = " ".join(word.capitalize() for word in field.name.split("_"))
    json_type = field.type.primitive.json_type()
    if field.type.repetition in REPEATED:
        return {"title": title, "type": "array", "items": json_type}
    return {"title": title, **json_type}


def output_schema(info: PredictorInfo) -> dict[str, Any]:
    json_type: dict[str, Any] = info.output.type.json_type()
    if info.output.kind is OutputKind.LIST:
        return {"type": "array", "items": json_type}
    return json_type


def write_schema(folder: Path) -> Path:
    """`<folder>/.cog/openapi_schema.json`, where the server looks when it starts in `folder`."""
    path = folder / SCHEMA_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(build_schema(), indent=2), encoding="utf-8")
    return path
