"""How one service is run: the adapter that brings its input in and its output out, and the limits.

A template stands in the configuration (`[[services]]`) or in a TOML file of its own (examples in config/services).
"""

from __future__ import annotations

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from pydantic import Field, model_validator
from pydantic import ValidationError as FieldError
from referencing import Registry
from referencing.exceptions import Unresolvable

from aihd.config_values import Duration, Prices, Section, ServiceHash, Size, Whole
from aihd.errors import ConfigError, one_line
from aihd.execution.errors import BadInput
from aihd.nodo.resources import Resources

AdapterName = Literal["http", "tunnel", "container", "serial"]
MAX_CHECKED = 1 << 20
"""Bytes of an input that is held against a schema: larger ones are refused, since JSON is read as a whole."""

_ABSOLUTE = r"^/[^\s/][^\s]*$"


class Template(Section):
    """One service that may be run for money. Amounts are nanoERG, durations seconds, sizes bytes.

    `slot` is the port that the service declares (http, tunnel). `input_file` is where a container finds its input, `output_file` where its
    output is taken from when it has ended well; without the latter its standard output is taken. `end_marker` is the line of a console
    log that ends the output; `accept_unclean` says that the operator knows that such an output also holds what kernel and
    boot wrote there. Limits that are not set are the policy's. `mem_limit` and `disk_space` are what an instance is to have, where nodo
    asks that of whoever starts one (2024); later services say it themselves.
    """

    hash: ServiceHash | None = None
    name: Annotated[str, Field(min_length=1)] | None = None
    adapter: AdapterName = "http"
    slot: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    path: Annotated[str, Field(pattern=r"^/\S*$")] = "/run"
    content_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$")] = "application/octet-stream"
    input_file: Annotated[str, Field(pattern=_ABSOLUTE)] | None = None
    output_file: Annotated[str, Field(pattern=_ABSOLUTE)] | None = None
    end_marker: Annotated[str, Field(min_length=1)] | None = None
    accept_unclean: bool = False
    input_schema: dict[str, Any] | None = None
    connect_for: Duration = 30.0
    max_duration: Duration | None = None
    max_output: Size | None = None
    min_payment: Prices | None = None
    expected_duration: Duration = 60.0
    mem_limit: Size | None = None
    disk_space: Size | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.hash is None) == (self.name is None):
            raise ValueError("should have a hash or a name, and not both")
        if self.slot is None and self.adapter in ("http", "tunnel"):
            raise ValueError(f"adapter {self.adapter!r} needs a slot, the port that the service declares")
        if self.adapter == "serial" and not (self.accept_unclean and self.end_marker):
            raise ValueError(
                "adapter 'serial' needs end_marker, and accept_unclean = true: a console log is not a clean result"
            )
        if self.input_schema is not None:
            _check_schema(self.input_schema)
        return self

    @cached_property
    def _validator(self) -> Validator | None:
        if self.input_schema is None:
            return None
        # A registry of nothing: a schema may not make us fetch another one.
        return validator_for(self.input_schema)(self.input_schema, registry=Registry())

    def check_input(self, path: Path) -> None:
        """BadInput when the input in this file is not what the service's schema asks for."""
        if self._validator is None:
            return
        size = path.stat().st_size
        if size > MAX_CHECKED:
            raise BadInput(f"the input has {size} bytes, of JSON at most {MAX_CHECKED} are taken")
        try:
            self._validator.validate(json.loads(path.read_bytes()))
        except ValidationError as error:
            raise BadInput(f"the input at {error.json_path}: {one_line(Exception(error.message), 200)}") from None
        except Unresolvable as error:
            raise BadInput(f"the schema of the input refers to {error}, which it does not hold") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"the input is not JSON: {one_line(error, 200)}") from None


def resources_of(template: Template | None) -> Resources:
    """What an instance of a service is to have, as far as its template says."""
    return Resources(template.mem_limit, template.disk_space) if template else Resources()


def _check_schema(schema: dict[str, Any]) -> None:
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"input_schema is no JSON schema: {one_line(Exception(error.message), 200)}") from None


def read_template(path: Path) -> Template:
    """The template in a TOML file; ConfigError naming the file, the field and what is wrong with it."""
    try:
        return Template.model_validate(tomllib.loads(path.read_text()))
    except FieldError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {told}") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {one_line(error)}") from None
