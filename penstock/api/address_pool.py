"""Address pools: the operator's outside addresses, which tenants take from."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import address_pool as pool_actions
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import Name, PathId
from penstock.api.network import Address
from penstock.api.subnet import Prefix
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/address-pools", tags=["networks"])


class AddressPoolBody(Strict):
    """A new pool: a prefix that the external bridges of hosts lead to, and the router there."""

    name: Name
    prefix: Prefix
    gateway: Address


class AddressPoolOut(BaseModel):
    """A pool with how many of its addresses are taken."""

    id: str
    name: str
    prefix: str
    gateway: str
    taken: int
    created_at: datetime


class AddressPoolList(BaseModel):
    """All pools."""

    items: list[AddressPoolOut]


def out(row: Row) -> dict[str, Any]:
    """Return a pool as the API shows it."""
    return {name: row[name] for name in AddressPoolOut.model_fields}


@router.post("", status_code=201, responses={201: {"model": AddressPoolOut}, **ERRORS})
def create(call: Caller, body: AddressPoolBody) -> Response:
    """Make a pool of outside addresses; for operators."""
    return answer(out(pool_actions.create(call.context, call.actor(), **body.model_dump())), 201)


@router.get("", responses={200: {"model": AddressPoolList}, **ERRORS})
def list_address_pools(call: Caller) -> Response:
    """List the pools by name."""
    return answer({"items": [out(row) for row in pool_actions.every_pool(call.context, call.actor())]})


@router.delete("/{pool_id}", status_code=204, responses=ERRORS)
def delete(call: Caller, pool_id: PathId) -> Response:
    """Delete a pool of which nobody has an address; for operators."""
    pool_actions.delete(call.context, call.actor(), pool_id)
    return Response(status_code=204)
