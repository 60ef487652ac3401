"""Invoices and their lines. The database itself refuses every change of a final one (see the migrations).

Growth: one invoice a tenant and month, with a line for each service, key and meter; kept ten years.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import Connection

from penstock.domain.invoice import (
    BillingPeriod,
    Invoice,
    InvoiceLine,
    InvoiceNumber,
    InvoiceState,
    LineKind,
    Unit,
    parse_invoice_number,
    period_of,
)
from penstock.domain.price import Meter
from penstock.store.rows import Row, every, one
from penstock.store.schema import invoice, invoice_line, tenant

_NUMBERS_LOCK = 7_331_770_003
_LINES = sa.select(invoice_line).order_by(invoice_line.c.invoice_id, invoice_line.c.position)


def open_draft(
    connection: Connection, invoice_id: str, tenant_id: str, period: BillingPeriod, at: datetime
) -> Row:
    """Return the tenant's invoice of the month, locked; a new draft with ``invoice_id`` if there is none.

    Two that ask at once get the same row, one after the other.
    """
    connection.execute(
        upsert(invoice)
        .values(
            id=invoice_id,
            tenant_id=tenant_id,
            period_start=period.start,
            period_end=period.end,
            state=InvoiceState.DRAFT,
            created_at=at,
        )
        .on_conflict_do_nothing(
            index_elements=["tenant_id", "period_start"], index_where=invoice.c.corrects_invoice_id.is_(None)
        )
    )
    query = sa.select(invoice).where(
        invoice.c.tenant_id == tenant_id,
        invoice.c.period_start == period.start,
        invoice.c.corrects_invoice_id.is_(None),
    )
    return dict(connection.execute(query.with_for_update()).mappings().one())


def insert_draft(connection: Connection, made: Invoice, at: datetime) -> None:
    """Add a draft with its lines: a correction."""
    connection.execute(
        sa.insert(invoice).values(
            id=made.invoice_id,
            tenant_id=made.tenant_id,
            period_start=made.period.start,
            period_end=made.period.end,
            state=InvoiceState.DRAFT,
            created_at=at,
            corrects_invoice_id=made.corrects_invoice_id,
        )
    )
    replace_lines(connection, made)


def get(connection: Connection, invoice_id: str) -> Row | None:
    """Return one invoice without its lines."""
    return one(connection.execute(sa.select(invoice).where(invoice.c.id == invoice_id)))


def lock(connection: Connection, invoice_id: str) -> Row | None:
    """Return one invoice and keep others from changing it until the transaction ends."""
    return one(connection.execute(sa.select(invoice).where(invoice.c.id == invoice_id).with_for_update()))


def read(connection: Connection, rows: Sequence[Row]) -> list[Invoice]:
    """Return the invoices of these rows with their lines."""
    found: dict[str, list[Row]] = {row["id"]: [] for row in rows}
    for line in every(connection.execute(_LINES.where(invoice_line.c.invoice_id.in_(list(found))))):
        found[line["invoice_id"]].append(line)
    return [_invoice(row, found[row["id"]]) for row in rows]


def corrections_of(connection: Connection, invoice_id: str) -> list[Row]:
    """Return the invoices that correct this one, in the order of their numbers, without their lines."""
    query = sa.select(invoice).where(invoice.c.corrects_invoice_id == invoice_id)
    return every(connection.execute(query.order_by(invoice.c.final_at, invoice.c.id)))


def replace_lines(connection: Connection, made: Invoice) -> None:
    """Write the lines and the total of a draft; an integrity error if it is final."""
    connection.execute(sa.delete(invoice_line).where(invoice_line.c.invoice_id == made.invoice_id))
    if made.lines:
        rows = [_line_row(made.invoice_id, n, line) for n, line in enumerate(made.lines, start=1)]
        connection.execute(sa.insert(invoice_line), rows)
    connection.execute(
        sa.update(invoice).where(invoice.c.id == made.invoice_id).values(total_microeur=made.total_microeur)
    )


def close(connection: Connection, made: Invoice) -> None:
    """Make a draft final, as ``domain.invoice.finalise`` returned it; its lines are written already."""
    connection.execute(
        sa.update(invoice)
        .where(invoice.c.id == made.invoice_id)
        .values(state=InvoiceState.FINAL, number=str(made.number), final_at=made.finalised_at)
    )


def next_number(connection: Connection, series: str, year: int) -> InvoiceNumber:
    """Return the next number of a series and year; nobody else gets one until the transaction ends.

    So numbers have no gap: a transaction that fails gives its number back. Needs the system scope, which
    sees the invoices of all tenants.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_NUMBERS_LOCK)))
    # Longer numbers come later than shorter ones, then text order is the order of the numbers.
    query = (
        sa.select(invoice.c.number)
        .where(invoice.c.number.startswith(f"{series}-{year}-", autoescape=True))
        .order_by(sa.func.length(invoice.c.number).desc(), invoice.c.number.desc())
    )
    last = connection.execute(query.limit(1)).scalar_one_or_none()
    sequence = parse_invoice_number(last).sequence + 1 if last is not None else 1
    return InvoiceNumber(series, year, sequence)


def page(
    connection: Connection,
    *,
    tenant_id: str | None,
    state: str | None,
    period: BillingPeriod | None,
    after: str | None,
    limit: int,
) -> list[Row]:
    """Return up to ``limit`` invoices by id, without their lines; None filters are open."""
    query = sa.select(invoice).order_by(invoice.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(invoice.c.tenant_id == tenant_id)
    if state is not None:
        query = query.where(invoice.c.state == state)
    if period is not None:
        query = query.where(invoice.c.period_start == period.start)
    if after is not None:
        query = query.where(invoice.c.id > after)
    return every(connection.execute(query))


def closed_tenants(connection: Connection, period: BillingPeriod) -> set[str]:
    """Return the tenants whose invoice of the month is final."""
    query = sa.select(invoice.c.tenant_id).where(
        invoice.c.period_start == period.start,
        invoice.c.corrects_invoice_id.is_(None),
        invoice.c.state == InvoiceState.FINAL,
    )
    return set(connection.execute(query).scalars())


def draft_tenants(connection: Connection, period: BillingPeriod) -> set[str]:
    """Return the tenants that have a draft of the month."""
    query = sa.select(invoice.c.tenant_id).where(
        invoice.c.period_start == period.start, invoice.c.state == InvoiceState.DRAFT
    )
    return set(connection.execute(query).scalars())


def first_month(connection: Connection) -> datetime | None:
    """Return an instant in the first month that may still need invoices, None before the first tenant.

    The last month with a final invoice (it may have been left in the middle), else that of the first tenant.
    """
    last_final = sa.select(sa.func.max(invoice.c.period_start)).where(
        invoice.c.state == InvoiceState.FINAL, invoice.c.corrects_invoice_id.is_(None)
    )
    oldest_draft = sa.select(sa.func.min(invoice.c.period_start)).where(invoice.c.state == InvoiceState.DRAFT)
    found = [connection.execute(query).scalar_one() for query in (last_final, oldest_draft)]
    known: list[datetime] = [instant for instant in found if instant is not None]
    if found[0] is not None:
        return min(known)
    first_tenant = connection.execute(sa.select(sa.func.min(tenant.c.created_at))).scalar_one()
    return min([*known, first_tenant]) if first_tenant is not None else None


def _invoice(row: Row, lines: Iterable[Row]) -> Invoice:
    number = parse_invoice_number(row["number"]) if row["number"] else None
    return Invoice(
        invoice_id=row["id"],
        tenant_id=row["tenant_id"],
        period=period_of(row["period_start"]),
        state=InvoiceState(row["state"]),
        lines=tuple(_line(line, number) for line in lines),
        number=number,
        finalised_at=row["final_at"],
        corrects_invoice_id=row["corrects_invoice_id"],
    )


def _line(row: Row, number: InvoiceNumber | None) -> InvoiceLine:
    return InvoiceLine(
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        service_id=row["service_id"],
        key_id=row["key_id"],
        meter=Meter(row["meter"]),
        item=row["item"],
        quantity=row["quantity"],
        unit=Unit(row["quantity_unit"]),
        quantity_per_unit=row["quantity_per_unit"],
        microeur_per_unit=row["microeur_per_unit"],
        amount_microeur=row["amount_microeur"],
        price_book_id=row["price_book_id"],
        simulated=row["simulated"],
        description=row["description"],
        kind=LineKind(row["kind"]),
        reference=f"{number}/{row['position']}" if number is not None else None,
        corrects=row["corrects"],
    )


def _line_row(invoice_id: str, position: int, line: InvoiceLine) -> Row:
    return {
        "invoice_id": invoice_id,
        "position": position,
        "tenant_id": line.tenant_id,
        "project_id": line.project_id,
        "service_id": line.service_id,
        "key_id": line.key_id,
        "meter": line.meter,
        "item": line.item,
        "quantity": line.quantity,
        "quantity_unit": line.unit,
        "quantity_per_unit": line.quantity_per_unit,
        "microeur_per_unit": line.microeur_per_unit,
        "amount_microeur": line.amount_microeur,
        "price_book_id": line.price_book_id,
        "simulated": line.simulated,
        "description": line.description,
        "kind": line.kind,
        "corrects": line.corrects,
    }
