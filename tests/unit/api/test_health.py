"""What machines ask without a credential: does it serve, does it reach its database, what does it count."""

from fastapi.testclient import TestClient

from penstock import __version__
from penstock.api.app import create_app
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane


def test_it_is_well_with_its_database(client: TestClient) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__, "database": "ok", "deletions": "ok"}


def test_without_its_database_it_is_503_says_why_and_shows_no_address(clock: ManualClock) -> None:
    plane = ControlPlane("postgresql+psycopg://nobody:hidden-word@127.0.0.1:1/nothing", clock, connections=1)
    try:
        with TestClient(create_app(plane), raise_server_exceptions=False) as client:
            answer = client.get("/healthz")
            assert client.get("/metrics").status_code == 200  # whoever watches still learns of it
    finally:
        plane.close()
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    assert "cannot be reached" in answer.json()["database"]
    assert "hidden-word" not in answer.text


def test_metrics_are_prometheus_text_and_count_the_requests(client: TestClient) -> None:
    client.get("/healthz")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'penstock_api_requests_total{method="GET",route="/healthz",status="200"}' in answer.text
