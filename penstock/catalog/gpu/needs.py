"""What an order of devices may need beside a class: speed, links, a deadline, a price cap; and the classes that do."""

from collections.abc import Mapping
from typing import Any

from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB
from penstock.catalog.base import Known, Spec
from penstock.domain.device import DeviceClass
from penstock.scheduler.steer import Miss, Needs, Steered, Work, steer

_AMOUNT_MAX = 1_000_000
_CAP_MAX = 1_000_000_000_000
SHOWN_MAX = 3


# Forms fold fields of one ``x-group`` away together; a field without one is always in sight.
NEEDS_GROUP = "What they must be able to do"
WORK_GROUP = "Work with a deadline"


def _amount(title: str, description: str, group: str = NEEDS_GROUP) -> dict[str, Any]:
    return {
        "x-group": group,
        "type": "integer",
        "minimum": 0,
        "maximum": _AMOUNT_MAX,
        "default": 0,
        "title": title,
        "description": description,
    }


FIELDS: Mapping[str, Any] = {
    "interconnect_gb_per_s_min": _amount(
        "Link between devices at least (GB/s)", "NVLink or the like, both ways together; 0: no matter"
    ),
    "bf16_tflops_min": _amount("Speed at least (TFLOPS)", "dense BF16 of one device or piece; 0: no matter"),
    "microeur_per_hour_max": {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": _CAP_MAX,
        "default": None,
        "title": "Price cap (micro-euro)",
        "x-group": NEEDS_GROUP,
        "x-unit": "microeur",
        "description": "for one device or piece an hour, at most; null: any price",
    },
    "work_gpu_hours": _amount(
        "Work (GPU-hours)", "what is to be done, as measured on 'work_measured_on'; 0: open", WORK_GROUP
    ),
    "work_measured_on": {
        "type": ["string", "null"],
        "maxLength": 63,
        "default": None,
        "title": "Work measured on",
        "x-group": WORK_GROUP,
        "description": "the device class whose GPU-hours 'work_gpu_hours' are",
    },
    "deadline_hours": _amount(
        "Deadline (hours)", "the work must be done in so many hours once it runs; 0: none", WORK_GROUP
    ),
}
_FIELD_OF = {
    Miss.CUT: "slices",
    Miss.MEMORY: "memory_gib_min",
    Miss.INTERCONNECT: "interconnect_gb_per_s_min",
    Miss.SPEED: "bf16_tflops_min",
    Miss.DEADLINE: "deadline_hours",
    Miss.PRICE: "microeur_per_hour_max",
}


def needs_of(spec: Spec, known: Known) -> Needs:
    """Return what each piece of an order needs; InvalidInputError names a field that says half of something."""
    return Needs(
        count=spec["count"],
        slices=spec["slices"],
        memory_bytes_min=spec["memory_gib_min"] * BYTES_PER_GIB,
        interconnect_gb_per_s_min=spec.get("interconnect_gb_per_s_min", 0),
        tflops_min=spec.get("bf16_tflops_min", 0),
        microeur_per_hour_max=spec.get("microeur_per_hour_max"),
        work=_work(spec, known),
    )


def _work(spec: Spec, known: Known) -> Work | None:
    said = {name: spec.get(name) for name in ("work_gpu_hours", "work_measured_on", "deadline_hours")}
    if not any(said.values()):
        return None
    for name, value in said.items():
        if not value:
            raise InvalidInputError(
                f"a deadline needs work_gpu_hours, work_measured_on and deadline_hours; '{name}' is missing",
                field=f"spec.{name}",
            )
    measured = known.device_classes.get(str(said["work_measured_on"]))
    if measured is None or not measured.bf16_tflops:
        fast = sorted(name for name, one in known.device_classes.items() if one.bf16_tflops)
        raise InvalidInputError(
            f"no device class '{said['work_measured_on']}' of known speed; there are: {', '.join(fast)}",
            field="spec.work_measured_on",
        )
    return Work(spec["work_gpu_hours"], measured.bf16_tflops, spec["deadline_hours"])


def classes_for(spec: Spec, known: Known) -> tuple[str, ...]:
    """Return the classes that meet the needs of an order, cheapest first; for a named class that needs nothing, none.

    InvalidInputError says which need no class meets, or the named class does not, and which came closest.
    """
    name: str | None = spec["device_class"]
    needs = needs_of(spec, known)
    asks_more = any(spec.get(field) for field in FIELDS) or needs.microeur_per_hour_max is not None
    if name is not None and not asks_more:
        return ()
    classes: list[DeviceClass] = list(known.device_classes.values())
    steered = steer(classes, known.prices, needs)
    if name is not None and name in known.device_classes and name not in steered.classes:
        missed = next(one for one in steered.missed if one.device_class == name)
        raise InvalidInputError(missed.sentence, field=f"spec.{_FIELD_OF[missed.miss]}")
    if not steered.classes:
        raise _nothing_does(steered)
    return steered.classes


def _nothing_does(steered: Steered) -> InvalidInputError:
    order = list(Miss)
    closest = sorted(steered.missed, key=lambda one: -order.index(one.miss))
    if not closest:
        return InvalidInputError("this factory knows no device class", field="spec.device_class")
    sentences = "; ".join(one.sentence for one in closest[:SHOWN_MAX])
    return InvalidInputError(
        f"no device class meets these needs: {sentences}", field=f"spec.{_FIELD_OF[closest[0].miss]}"
    )
