"""The defaults hang together."""

from dataclasses import fields

from penstock.gateway.settings import Settings


def test_every_bound_is_positive_and_the_small_fit_into_the_large() -> None:
    settings = Settings()
    assert all(getattr(settings, field.name) > 0 for field in fields(settings))
    assert settings.head_bytes_max < settings.body_bytes_max < settings.answer_bytes_max
    assert settings.cancel_retry_seconds < settings.cancel_seconds < settings.drain_seconds
    assert settings.sync_seconds <= settings.checkpoint_seconds
    assert settings.segment_bytes_max < settings.journal_bytes_max
