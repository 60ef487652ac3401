"""An invoice as CSV, with the column names of FOCUS 1.2 (https://focus.finops.org) where we have what they mean.

What FOCUS has no column for starts with ``x_``: the exact integers that an amount is made of, and whether
simulated capacity stands behind it. Costs are euro with all six decimals, so nothing is rounded here but
``PricingQuantity`` and ``ConsumedQuantity``, to nine decimals.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

from penstock.base.units import MICROEUR_PER_EUR, TOKENS_PER_PRICE_UNIT, div_round_half_even
from penstock.domain.invoice import Invoice, InvoiceLine, LineKind, Unit
from penstock.domain.price import OF_DEVICES

COLUMNS: tuple[str, ...] = (
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "InvoiceId",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "BilledCost",
    "EffectiveCost",
    "ListCost",
    "ListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "SubAccountId",
    "ResourceId",
    "SkuId",
    "ServiceCategory",
    "x_InvoiceState",
    "x_LineReference",
    "x_CorrectsLine",
    "x_Simulated",
    "x_ApiKeyId",
    "x_PriceBookId",
    "x_PriceBookVersion",
    "x_Quantity",
    "x_QuantityUnit",
    "x_QuantityPerPrice",
    "x_MicroeurPerPrice",
    "x_AmountMicroeur",
)
_DECIMALS = 9
# What a price is for, and what is counted, of each unit of lines.
_UNITS: Mapping[Unit, tuple[str, str]] = {
    Unit.SLICE_US: ("GPU Hours", "GPU Seconds"),
    Unit.TOKEN: (f"{TOKENS_PER_PRICE_UNIT} Tokens", "Tokens"),
    Unit.QUERY: ("1000 Requests", "Requests"),
    Unit.DOCUMENT: ("1000 Documents", "Documents"),
    Unit.VCPU_US: ("vCPU Hours", "vCPU Microseconds"),
    Unit.MIB_US: ("GiB Hours", "MiB Microseconds"),
    Unit.GIB_US: ("GiB Hours", "GiB Microseconds"),
    Unit.VOLUME_GIB_US: ("GiB Hours", "GiB Microseconds"),
    Unit.SNAPSHOT_MIB_US: ("GiB Hours", "MiB Microseconds"),
    Unit.CHUNK_SECOND: ("1000 Chunk Days", "Chunk Seconds"),
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def written(invoice: Invoice, tenant_name: str | None, versions: Mapping[str, int]) -> str:
    """Return the lines of an invoice as CSV with a heading; ``versions`` are price book versions by id."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    for line in invoice.lines:
        writer.writerow(_row(invoice, line, tenant_name, versions))
    return stream.getvalue()


def _row(
    invoice: Invoice, line: InvoiceLine, tenant_name: str | None, versions: Mapping[str, int]
) -> dict[str, Any]:
    start, end = (f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in (invoice.period.start, invoice.period.end))
    cost = _decimal(line.amount_microeur, MICROEUR_PER_EUR, 6)
    is_time = line.meter in OF_DEVICES
    pricing_unit, consumed_unit = _UNITS[line.unit]
    return {
        "BillingAccountId": invoice.tenant_id,
        "BillingAccountName": _text(tenant_name or ""),
        "BillingCurrency": "EUR",
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "InvoiceId": str(invoice.number) if invoice.number else "",
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if line.kind is LineKind.CORRECTION else "",
        "ChargeDescription": _text(line.description),
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ListCost": cost,
        "ListUnitPrice": _decimal(line.microeur_per_unit, MICROEUR_PER_EUR, 6),
        "PricingQuantity": _decimal(line.quantity, line.quantity_per_unit, _DECIMALS),
        "PricingUnit": pricing_unit,
        "ConsumedQuantity": _decimal(line.quantity * 3_600, line.quantity_per_unit, _DECIMALS)
        if is_time
        else line.quantity,
        "ConsumedUnit": consumed_unit,
        "SubAccountId": line.project_id,
        "ResourceId": line.service_id,
        "SkuId": _text(f"{line.meter}/{line.item}"),
        "ServiceCategory": "Compute" if is_time else "AI and Machine Learning",
        "x_InvoiceState": invoice.state,
        "x_LineReference": line.reference or "",
        "x_CorrectsLine": line.corrects or "",
        "x_Simulated": "true" if line.simulated else "false",
        "x_ApiKeyId": line.key_id or "",
        "x_PriceBookId": line.price_book_id,
        "x_PriceBookVersion": versions.get(line.price_book_id, ""),
        "x_Quantity": line.quantity,
        "x_QuantityUnit": line.unit,
        "x_QuantityPerPrice": line.quantity_per_unit,
        "x_MicroeurPerPrice": line.microeur_per_unit,
        "x_AmountMicroeur": line.amount_microeur,
    }


def _decimal(numerator: int, denominator: int, decimals: int) -> str:
    """Return an exact fraction as decimal text, rounded half to even at the last place."""
    scaled = div_round_half_even(numerator * 10**decimals, denominator)
    sign = "-" if scaled < 0 else ""
    whole, rest = divmod(abs(scaled), 10**decimals)
    return f"{sign}{whole}.{rest:0{decimals}d}"


def _text(text: str) -> str:
    """Keep a spreadsheet from running a text as a formula (CWE-1236)."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
