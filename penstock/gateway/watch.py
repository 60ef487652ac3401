"""Files that are taken over while serving: the configuration and the certificate.

They are looked at twice a second, which costs one system call each; a file that is wrong is reported and the
one before it stays in force.
"""

import ssl
from pathlib import Path

from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.core import Core
from penstock.gateway.standalone import read_config


class Watched:
    """Tells when a file is another one than at the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._look()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def changed(self) -> bool:
        """Tell whether the file is there and is another one."""
        seen = self._look()
        if seen is None or seen == self._seen:
            return False
        self._seen = seen
        return True


class ConfigFile:
    """Takes over keys, models, projects and tenants; everything else is read at the start only."""

    def __init__(self, path: Path, core: Core) -> None:
        self._file = Watched(path)
        self._core = core

    def check(self) -> None:
        """Apply the file if it changed and is right."""
        if not self._file.changed():
            return
        core = self._core
        version = (core.directory.version or 0) + 1
        try:
            config = read_config(self._file.path, version=version)
        except StartupError as error:
            core.metrics.reload_failures += 1
            log.event("configuration_not_taken", error=error.sentence)
            return
        core.directory.apply(config.snapshot)
        core.confirmed_at = core.loop.time()
        log.event("configuration", version=version, keys=len(config.snapshot.keys))


class Certificate:
    """A TLS context whose certificate is replaced while it serves; handshakes from then on get the new one.

    Without a ``context`` it is one for clients of the gateway.
    """

    def __init__(self, certificate: Path, key: Path, context: ssl.SSLContext | None = None) -> None:
        self._files = (Watched(certificate), Watched(key))
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
        self.context = context
        try:
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            raise StartupError(
                f"The certificate {certificate} with key {key} cannot be used ({error}); check both files."
            ) from error

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._files
        context.load_cert_chain(certificate.path, key.path, password=lambda: "")

    def check(self) -> None:
        """Take over a new pair; while the two files do not belong together, the old pair stays."""
        if not any(file.changed() for file in self._files):
            return
        try:
            self._load(
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            )  # a failure in the live one would mix the pairs
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            log.event("certificate_not_taken", error=str(error))
            return
        log.event("certificate")


def engine_certificate(certificate: Path, authority: Path) -> Certificate:
    """Return what the gateway shows to relays of engines, and whom it trusts there: this authority and no other.

    ``certificate`` holds the key as well. Raises StartupError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"The authority {authority} of engines cannot be used ({error}).") from error
    return Certificate(certificate, certificate, context)
