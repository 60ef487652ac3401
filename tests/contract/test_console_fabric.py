"""Fabric partitions at the console: taken, looked at with their nodes, given back; a node says which it is in."""

import re

import pytest

from penstock.base import limits
from penstock.console.secure import BASE
from tests.fixtures.console import People
from tests.support.console import words
from tests.support.infrastructure import change, query


def test_a_partition_is_taken_looked_at_and_given_back(people: People) -> None:
    assert "No partitions yet" in people.member.get("/fabric").text
    body = {"name": "training", "project": people.acme.project_id}
    assert people.member.send("/fabric", {**body, "name": "T T"}).status_code == 422
    assert people.member.send("/fabric", {**body, "project": "prj_" + "0" * 26}).status_code == 404
    assert people.auditor.send("/fabric", body).status_code == 403
    assert people.member.send("/fabric", body).status_code == 303
    again = people.member.send("/fabric", body)
    assert (again.status_code, "already" in again.text) == (409, True)
    context = people.plane.context
    (row,) = query(context, "SELECT id FROM fabric_partition")
    (node,) = query(context, "SELECT id, name FROM node ORDER BY id LIMIT 1")
    change(
        context,
        "INSERT INTO fabric_member (partition_id, node_id, tenant_id, state, reason, since) "
        "VALUES (:id, :node, :tenant, 'refused', 'somebody is there', now())",
        id=row["id"],
        node=node["id"],
        tenant=people.acme.id,
    )
    page = words(people.member.get(f"/fabric/{row['id']}").text)
    assert "0x8001" in page
    assert node["name"] in page
    assert "somebody is there" in page
    assert "training" in words(people.operator.get(f"/nodes/{node['id']}").text)
    assert "training" in words(people.operator.get("/fabric").text)
    assert people.operator.get(f"/fabric/{row['id']}").status_code == 200
    change(context, "DELETE FROM fabric_member")
    assert "may be given to another project" in people.member.get(f"/fabric/{row['id']}/delete").text
    people.member.prove()
    assert people.member.send(f"/fabric/{row['id']}/delete").headers["location"] == f"{BASE}/fabric"
    people.plane.fabric.tick()
    assert query(context, "SELECT id FROM fabric_partition") == []


def test_operators_see_where_nodes_are_by_switch_domain_and_partition(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, context = people.operator, people.plane.context
    rows = query(context, "SELECT id, name, leaf, spine FROM node ORDER BY id")
    first, other = rows[:2]
    change(context, "UPDATE node SET leaf = 'leaf & 1' WHERE id = :id", id=first["id"])
    (device,) = query(context, "SELECT nvlink_domain FROM device WHERE node_id = :id LIMIT 1", id=first["id"])
    people.member.send("/fabric", {"name": "training", "project": people.acme.project_id})
    (partition,) = query(context, "SELECT id FROM fabric_partition")
    change(
        context,
        "INSERT INTO fabric_member (partition_id, node_id, tenant_id, state, reason, since) "
        "VALUES (:id, :node, :tenant, 'joining', '', now())",
        id=partition["id"],
        node=first["id"],
        tenant=people.acme.id,
    )

    def shown(question: str) -> tuple[bool, bool]:
        page = operator.get(f"/fabric-nodes{question}").text
        return tuple(f'href="{BASE}/nodes/{one["id"]}"' in page for one in (first, other))  # pyright: ignore[reportReturnType] - two of them

    page = operator.get("/fabric-nodes").text
    assert shown("") == (True, True)
    for text in (first["name"], other["leaf"], first["spine"], device["nvlink_domain"], "training", "0x8001"):
        assert text in words(page), text
    assert "joining" in words(page)
    assert f'href="{BASE}/fabric-nodes?leaf=leaf%20%26%201"' in page
    assert shown("?leaf=leaf%20%26%201") == (True, False)
    assert shown(f"?leaf={other['leaf']}&spine={other['spine']}") == (False, True)
    assert shown(f"?partition_id={partition['id']}") == (True, False)
    assert shown(f"?nvlink_domain={device['nvlink_domain']}")[0]
    assert "No such nodes" in words(operator.get("/fabric-nodes?core=nowhere").text)
    monkeypatch.setattr(limits, "PAGE_DEFAULT", 1)
    more = re.findall(
        r'href="[^"]*/fabric-nodes\?([^"]*after=[^"]*)"',
        operator.get("/fabric-nodes?spine=" + first["spine"]).text,
    )
    assert len(more) == 1
    assert more[0].startswith(f"spine={first['spine']}&amp;after={first['id']}")
    assert (
        first["id"]
        not in operator.get(f"/fabric-nodes?{more[0].replace('&amp;', '&')}").text.split("<tbody>")[1]
    )
    for person in (people.member, people.auditor, people.admin):
        assert person.get("/fabric-nodes").status_code == 403
        assert "Fabric nodes" not in person.get("/fabric").text
    assert "Fabric nodes" in operator.get("/fabric").text
