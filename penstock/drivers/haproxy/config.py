"""The configuration that HAProxy reads. Everything that comes from a tenant was parsed: numbers, addresses, one path."""

from pathlib import Path

from penstock.base import limits
from penstock.domain.load_balancer import CheckKind, Mode
from penstock.drivers.load_balancer.model import Listener, LoadBalancer, Member

CONF, PID, STATS, STATE, EMPTY, CERTIFICATES = (
    "haproxy.cfg",
    "haproxy.pid",
    "stats.sock",
    "servers.state",
    "empty",
    "certificates",
)
USER = "haproxy"
# A process that gave its ports to a newer one serves what it has for so long at most.
OLD_SECONDS_MAX = 600
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def text(wanted: LoadBalancer, folder: Path) -> str:
    """Return the whole file for a load balancer whose files are in ``folder``."""
    return (
        "\n".join([*_global(folder), *_defaults(wanted), *_listening(wanted, folder), *_backends(wanted)])
        + "\n"
    )


def server_name(member: Member) -> str:
    """Return the name of a member in the file and in statistics."""
    return f"m{member.address}_{member.port}"


def _server(member: Member) -> str:
    return f"{server_name(member)} {member.address}:{member.port} weight {member.weight}"


def key_of(server: str) -> str:
    """Return the member's name in reports."""
    return server.removeprefix("m").replace("_", ":")


def _global(folder: Path) -> list[str]:
    return [
        "global",
        f"    maxconn {limits.BALANCER_CONNECTIONS_MAX}",
        "    nbthread 1",
        f"    user {USER}",
        f"    group {USER}",
        f"    chroot {folder / EMPTY}",
        # What a newer process takes the listening sockets from, so that no connection meets a closed port.
        f"    stats socket {folder / STATS} mode 600 level admin expose-fd listeners",
        f"    server-state-file {folder / STATE}",
        f"    hard-stop-after {OLD_SECONDS_MAX}s",
        f"    ssl-default-bind-ciphers {_CIPHERS}",
        "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
    ]


def _defaults(wanted: LoadBalancer) -> list[str]:
    check = wanted.check
    return [
        "defaults",
        "    timeout connect 5s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout queue 10s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 30s",
        f"    timeout check {max(200, min(check.interval_ms, 10_000))}ms",
        # A process that gave its ports away answers once more on what is open, instead of closing it under a request.
        "    option idle-close-on-response",
        "    option redispatch",
        "    retries 2",
        "    load-server-state-from-file global",
    ]


def _listening(wanted: LoadBalancer, folder: Path) -> list[str]:
    lines: list[str] = []
    for one in wanted.listeners:
        lines += [f"frontend l{one.port}", f"    mode {_kind(one)}", f"    bind {_bind(wanted, one, folder)}"]
        if one.mode != Mode.TCP:
            lines.append("    option forwardfor")
            lines.append(f"    http-request set-header X-Forwarded-Proto {one.mode}")
        lines.append(f"    default_backend {_kind(one)}")
    return lines


def _kind(listener: Listener) -> str:
    return "tcp" if listener.mode == Mode.TCP else "http"


def _bind(wanted: LoadBalancer, one: Listener, folder: Path) -> str:
    where = f"{wanted.address}:{one.port}"
    if one.certificate is None:
        return where
    return f"{where} ssl crt {folder / CERTIFICATES / one.certificate}.pem alpn h2,http/1.1"


def _backends(wanted: LoadBalancer) -> list[str]:
    lines: list[str] = []
    kinds = sorted({_kind(one) for one in wanted.listeners} or {"tcp"})
    for kind in kinds:
        lines += [
            f"backend {kind}",
            f"    mode {kind}",
            f"    balance {wanted.algorithm}",
            "    hash-type consistent",
        ]
        if wanted.standby:
            # It says nothing to anybody yet. Once it serves, a member that is not reached yet costs no second.
            lines += ["    option redispatch 1", *(f"    server {_server(one)}" for one in wanted.members)]
            continue
        checks = kind == kinds[0]  # the other one follows it, so that members are asked once
        if checks and wanted.check.kind == CheckKind.HTTP:
            lines += [f"    option httpchk GET {wanted.check.path}", "    http-check expect status 200-399"]
        for member in wanted.members:
            how = (
                f"check inter {wanted.check.interval_ms}ms rise {wanted.check.rise} fall {wanted.check.fall}"
                if checks
                else f"track {kinds[0]}/{server_name(member)}"
            )
            lines.append(f"    server {_server(member)} {how}")
    return lines
