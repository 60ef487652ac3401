"""The settings that the embedded server runs with, as text of its configuration files.

They aim at little memory and an idle processor on a machine that has other work to do, and never trade
durability: a commit that was answered is on disk.
"""

from pathlib import Path

CONF_NAME = "penstock.conf"
OVERRIDE_NAME = "override.conf"

_SETTINGS: dict[str, str] = {
    # Reachable over the socket only.
    "listen_addresses": "''",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    # Durable commits, always.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # No replication and no background workers that nobody uses: fewer processes, fewer wake-ups.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "io_method": "sync",
    # Memory for a control plane's tables, not for a warehouse; and for the vectors of a large knowledge base, which a
    # search walks at random. What is not used is not touched, so a small factory takes no more of it.
    "shared_buffers": "'256MB'",
    "work_mem": "'8MB'",
    "maintenance_work_mem": "'64MB'",
    "effective_cache_size": "'512MB'",
    "huge_pages": "off",
    "jit": "off",
    "random_page_cost": "1.1",
    # Write-ahead log: small when quiet, without a checkpoint storm when a thousand orders arrive.
    "wal_compression": "pglz",
    "min_wal_size": "'80MB'",
    "max_wal_size": "'1GB'",
    "checkpoint_timeout": "'15min'",
    "checkpoint_completion_target": "0.9",
    # Small hot tables are updated all the time: clean them early and often, by one worker at a time.
    "autovacuum": "on",
    "autovacuum_max_workers": "1",
    "autovacuum_naptime": "'30s'",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_analyze_threshold": "200",
    "autovacuum_vacuum_cost_delay": "'1ms'",
    # A transaction that somebody forgot ends by itself.
    "idle_in_transaction_session_timeout": "'5min'",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "lc_messages": "'C'",
    "logging_collector": "off",
    "log_destination": "'stderr'",
    "log_line_prefix": "'%m [%p] '",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "cluster_name": "'penstock'",
}


def configuration(socket_folder: Path) -> str:
    """Return the text of ``penstock.conf`` for a server whose socket lies in ``socket_folder``.

    The file is rewritten at every start; ``override.conf`` beside it is the operator's and is read after it.
    """
    # A list of folders in double quotes, itself a string in single quotes with backslash escapes.
    quoted = '"' + str(socket_folder).replace('"', '""') + '"'
    folder = "'" + quoted.replace("\\", "\\\\").replace("'", "''") + "'"
    lines = ["# Written by Penstock at every start: put changes into override.conf, it is read after this."]
    lines += [f"{name} = {value}" for name, value in _SETTINGS.items()]
    lines += [f"unix_socket_directories = {folder}", f"include_if_exists = '{OVERRIDE_NAME}'", ""]
    return "\n".join(lines)


def access_rules() -> str:
    """Return ``pg_hba.conf``: the socket only, and only the system users named in ``pg_ident.conf``.

    The kernel says who is at the other end (SO_PEERCRED), so even a socket that became reachable to another
    local user would not let them in.
    """
    return "# Written by Penstock.\nlocal all all peer map=penstock\n"


def user_map(system_user: str) -> str:
    """Return ``pg_ident.conf``: ``system_user``, who runs Penstock, may connect as any database user."""
    return f'# Written by Penstock.\npenstock "{system_user}" all\n'
