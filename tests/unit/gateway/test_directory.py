"""A new version changes everything at once and forgets nothing that must last."""

from typing import Any

from penstock.gateway.snapshot import parse_snapshot
from tests.support.gateway_peers import key_entry, model_entry
from tests.support.gateway_wire import Bench, post, whole


def version(number: int, **parts: Any) -> Any:
    return parse_snapshot({"version": number, "keys": [], "tenants": [], "models": [], **parts})


def test_a_key_sees_the_models_of_its_own_project_only() -> None:
    bench = Bench()
    directory = bench.core.directory
    keys = [
        key_entry("a"),
        key_entry("b", project="prj_b"),
        key_entry("c", tenant="ten_c"),
    ]
    models = [model_entry("http://h"), model_entry("http://h", name="other", tenant="ten_c", project="prj_a")]
    directory.apply(version(2, keys=keys, models=models))
    assert {key.entry.id: list(key.models) for key in directory.keys.values()} == {
        "key_a": ["test-model"],
        "key_b": [],
        "key_c": ["other"],
    }
    bench.close()


def test_windows_counters_pools_and_quotas_outlive_a_version() -> None:
    bench = Bench()
    directory = bench.core.directory
    (before,) = directory.keys.values()
    assert before.own is None
    own = directory.scope("key", "key_sk-test")
    own.requests.advance(10)
    own.requests.add(5)
    before.tenant.recorded(30)
    (stats,) = directory.stats.values()
    (upstream,) = directory.upstreams
    directory.apply(
        version(
            2,
            keys=[key_entry("sk-test", requests_per_minute=9)],
            models=[model_entry("http://127.0.0.1:9")],
            tenants=[{"id": "ten_a", "tokens_left": 100}],
        )
    )
    (after,) = directory.keys.values()
    assert after.own is own
    assert (own.limits.requests_per_minute, own.requests.total) == (9, 5)
    assert after.tenant.available == 70
    assert after.scopes == (own, after.tenant)
    assert next(iter(directory.stats.values())) is stats
    assert directory.upstreams == [upstream]
    bench.close()


def test_an_engine_that_is_gone_keeps_no_connections() -> None:
    bench = Bench()
    _, idle = bench.engines[0]
    busy, wire = bench.engine()
    (upstream,) = bench.core.directory.upstreams
    assert upstream.idle_connection() is busy
    bench.core.directory.apply(version(2))
    assert idle.aborted
    assert not wire.closed, "a running answer goes on"
    upstream.release(busy)
    assert wire.aborted
    bench.close()


def test_a_projects_limits_hold_for_its_models_under_any_name_of_a_set_of_projects() -> None:
    bench = Bench()
    directory = bench.core.directory
    models = [
        model_entry("http://h", project="*", owner="prj_a"),
        model_entry("http://h", project="*", owner="prj_b", name="other", service="svc_b"),
    ]
    limits = [{"tenant": "ten_a", "id": "prj_a", "tokens_left": 9}]
    directory.apply(version(2, keys=[key_entry("a", project="*")], models=models, projects=limits))
    (key,) = directory.keys.values()
    assert key.scopes == ()
    scope = directory.scope("project", "ten_a/prj_a")
    assert {name: model.scopes for name, model in key.models.items()} == {"test-model": (scope,), "other": ()}
    key.models["test-model"].owner.recorded(4)
    assert scope.available == 5
    bench.close()


def test_tenants_and_projects_that_see_the_same_engines_of_a_service_stand_in_one_line() -> None:
    bench = Bench()
    directory = bench.core.directory
    keys = [key_entry("a"), key_entry("b", tenant="ten_b"), key_entry("c", tenant="ten_c")]
    adapter = {"name": "adapter", "tenant": "ten_a", "project": "prj_a"}
    models = [
        model_entry("http://h"),
        model_entry("http://h", tenant="ten_b"),
        model_entry("http://elsewhere", tenant="ten_c"),
        model_entry("http://one", **adapter),
        model_entry("http://two", **{**adapter, "name": "another"}),
    ]
    models[2]["upstreams"] += models[0]["upstreams"]  # it has what the others have, and an engine of its own
    tenants = [{"id": "ten_b", "weight": 3}]
    directory.apply(version(2, keys=keys, models=models, tenants=tenants))
    found = {key.entry.id: key for key in directory.keys.values()}
    routers = {name: key.models["test-model"].router for name, key in found.items()}
    assert routers["key_a"] is routers["key_b"]
    assert routers["key_a"] is not routers["key_c"]
    assert routers["key_a"].beside == (routers["key_c"],)
    assert routers["key_c"].beside == (routers["key_a"],)
    asked = {
        name: [engine.entry.host for engine in model.router.engines]
        for name, model in found["key_a"].models.items()
    }
    assert asked == {"test-model": ["h"], "adapter": ["one"], "another": ["two"]}
    assert {name: key.weight for name, key in found.items()} == {"key_a": 1, "key_b": 3, "key_c": 1}
    directory.apply(version(3, keys=keys, models=models[:2], tenants=[]))
    after = {key.entry.id: key for key in directory.keys.values()}
    assert after["key_b"].models["test-model"].router is routers["key_b"], "who waits there goes on waiting"
    assert after["key_b"].weight == 1
    bench.close()


def test_who_waits_for_an_engine_that_another_line_uses_too_gets_it_when_it_is_free() -> None:
    one = {"id": "one", "url": "http://127.0.0.1:9", "cancel": True, "slots": 1}
    two = {**one, "id": "two", "url": "http://127.0.0.1:10"}
    bench = Bench(upstreams=[one])
    models = [
        model_entry("", upstreams=[one]),
        model_entry("", tenant="ten_b", upstreams=[one, two]),
    ]
    keys = [key_entry("sk-test"), key_entry("b", tenant="ten_b")]
    bench.core.directory.apply(version(2, keys=keys, models=models))
    bench.engine(1)
    bench.client.data_received(post())
    for _ in range(2):
        bench.connect()[0].data_received(post(key="b"))
    engines = {engine.entry.id: engine for engine in bench.core.directory.upstreams}
    line = next(
        key.models["test-model"] for key in bench.core.directory.keys.values() if key.entry.id == "key_b"
    )
    assert [engines["one"].in_flight, engines["two"].in_flight, len(line.router.queue)] == [1, 1, 1]
    bench.engines[0][0].data_received(whole())
    assert [engines["one"].in_flight, engines["two"].in_flight, len(line.router.queue)] == [1, 1, 0]
    bench.close()
