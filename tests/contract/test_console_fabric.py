"""Fabric partitions at the console: taken, looked at with their nodes, given back; a node says which it is in."""

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
