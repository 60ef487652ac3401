"""What a kind of service must be able to say about an order. Kinds are pure: they read and write nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar, Protocol

from jsonschema import Draft202012Validator

from penstock.base.errors import InvalidInputError
from penstock.domain.claim import Ask, Grant
from penstock.domain.device import DeviceClass
from penstock.domain.price import Meter
from penstock.rating.estimate import GpuOrder

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model of the catalogue, as a kind needs to know it."""

    name: str
    folder: str
    size_bytes: int
    engines: tuple[str, ...]
    kind: str = "generation"
    base_model: str | None = None  # of an adapter: the name of the model that it changes
    sha256: str | None = None  # names the artefact that nodes fetch and keep; None: they read its folder
    held_by: frozenset[str] = frozenset()  # nodes that have it


@dataclass(frozen=True, slots=True)
class Known:
    """The data an order is compiled against."""

    device_classes: Mapping[str, DeviceClass]
    models: Mapping[str, ModelFacts]
    prices: Mapping[str, int] = dataclass_field(
        default_factory=dict[str, int]
    )  # micro-euro per GPU-hour, by class


@dataclass(frozen=True, slots=True)
class Compiled:
    """An order turned into what it asks of placement, what it holds of quotas, and what prices it.

    ``asks`` are placed one by one, all or none. ``holds`` are quota amounts by dimension.
    """

    asks: tuple[Ask, ...]
    holds: Mapping[str, int]
    gpu_orders: tuple[GpuOrder, ...] = ()
    priced_models: tuple[str, ...] = ()
    priced_counts: tuple[tuple[Meter, str], ...] = ()
    priced_hours: tuple[tuple[Meter, str, int], ...] = ()  # quantities of one hour


@dataclass(frozen=True, slots=True)
class Place:
    """Names that a grant's ids stand for, as the agent's driver needs them."""

    node_name: str
    device_position: int | None


@dataclass(frozen=True, slots=True)
class Draft:
    """One thing an agent must drive on one node, with the grants it stands on."""

    node_id: str
    driver: str
    config: Mapping[str, Any]
    grants: tuple[Grant, ...]


class Kind(Protocol):
    """One kind of service."""

    name: ClassVar[str]
    form: ClassVar[Mapping[str, Any]]
    meters: ClassVar[tuple[Meter, ...]]  # what it is charged by
    movable: ClassVar[bool]  # it may be stopped here and started there without anybody losing work

    def compile(self, spec: Spec, known: Known) -> Compiled:
        """Turn a validated ``spec`` into asks, holds and prices; InvalidInputError names a field that cannot be."""
        ...

    def class_holds(self, spec: Spec, device_class: str, known: Known) -> Mapping[str, int]:
        """Return what an order that left the class open holds besides, once it is placed on ``device_class``."""
        ...

    def drafts(
        self,
        name: str,
        spec: Spec,
        granted: Sequence[Sequence[Grant]],
        places: Mapping[str, Place],
        known: Known,
    ) -> list[Draft]:
        """Say what to start where; ``granted`` has one sequence per ask, ``places`` is by device or node id."""
        ...


def merge_order(form: Mapping[str, Any], fixed: Spec, asked: Spec) -> dict[str, Any]:
    """Return the full spec of an order: defaults of ``form``, then ``asked``, then what the offer fixes.

    ``form`` is the kind's JSON Schema. Raises InvalidInputError naming the field that is unknown, fixed, of
    the wrong type or out of range.
    """
    properties: Mapping[str, Any] = form["properties"]
    for field in asked:
        if field in fixed:
            raise InvalidInputError(
                f"'{field}' is fixed by this offer to {fixed[field]!r}; leave it out", field=f"spec.{field}"
            )
    spec = {field: schema["default"] for field, schema in properties.items() if "default" in schema}
    spec |= dict(asked) | dict(fixed)
    validator: Any = Draft202012Validator(form)  # its stubs leave the errors untyped
    first = next(iter(validator.iter_errors(spec)), None)
    if first is not None:
        path = ".".join(["spec", *map(str, first.path)])
        raise InvalidInputError(f"{path}: {_sentence(first, properties)}", field=path)
    return spec


def check_fixed(form: Mapping[str, Any], fixed: Spec) -> None:
    """Raise InvalidInputError naming the field unless an offer may fix ``fixed`` of this form."""
    validator: Any = Draft202012Validator({**form, "required": []})  # its stubs leave the errors untyped
    first = next(iter(validator.iter_errors(dict(fixed))), None)
    if first is not None:
        path = ".".join(["fixed", *map(str, first.path)])
        raise InvalidInputError(f"{path}: {_sentence(first, form['properties'])}", field=path)


def _sentence(error: Any, properties: Mapping[str, Any]) -> str:
    if error.validator == "maxLength":  # its own message repeats the text, which may be a secret
        described = error.schema.get("description")
        most = f"this has {len(error.instance)} characters, and {error.validator_value} at most are taken"
        return f"{most} ({described})" if described else most
    message: str = error.message[:300]
    if "Additional properties" in message:
        return f"{message}; this form has: {', '.join(properties)}"
    return message


def editable_form(form: Mapping[str, Any], fixed: Spec) -> dict[str, Any]:
    """Return the JSON Schema that a person fills in: ``form`` without what the offer fixes."""
    shown = {name: schema for name, schema in form["properties"].items() if name not in fixed}
    required = [name for name in form.get("required", ()) if name not in fixed]
    return {**form, "properties": shown, "required": required}
