"""What the gateway costs, beside nginx and LiteLLM in the same rounds. Prints one JSON line per target.

    python -m bench.gateway [--rounds 5] [--scale 1.0] [--litellm PATH]

Figures (medians over the rounds): CPU microseconds of the target's own processes per request at 32
connections and per streamed event at 100 streams (from the kernel's run time of all their threads, which a busy
machine disturbs least; over 9,000 requests, because over 3,000, a sixth of a second, the same process was seen between
45 and 96), added latency at one connection and added time to first token at 100 streams against
the stand-in engine alone, resident memory, start time, how much less CPU than LiteLLM, tokens generated for clients
that had left, and the tokens billed against the tokens generated. nginx is a plain proxy here: no keys, limits or
metering. LiteLLM is measured with a thirtieth of the requests. A peer that is not on the machine is reported as absent.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
GATEWAY = "import sys; from penstock.gateway.main import run; sys.exit(run(sys.argv[1:]))"
CONFIG = """listen = "127.0.0.1:0"
ledger = "ledger"
[[keys]]
key = "sk-bench"
requests_per_minute = 1000000000
tokens_per_minute = 1000000000000
[[models]]
name = "mock-model"
upstreams = ["http://127.0.0.1:{port}"]
"""
LITELLM = """model_list:
  - model_name: mock-model
    litellm_params: {{ model: openai/mock-model, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-none }}
litellm_settings: {{ num_retries: 0, telemetry: false }}
general_settings: {{ master_key: sk-bench }}
"""
ABORTS, ABORT_AFTER = 40, 10
NGINX = """daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.err error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engine {{ server 127.0.0.1:{port}; keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen} backlog=4096;
    location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


def cpu_us(pid: int) -> float:
    """Return the microseconds that all threads of a process and its children have run."""
    total = 0
    for process in (pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))):
        for task in Path(f"/proc/{process}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e3


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return round(int(text.split("VmRSS:")[1].split()[0]) / 1024, 1)


def start(arguments: list[str], log: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process of ours and return it with the port that it prints."""
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=file, text=True
        )
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise SystemExit(f"{arguments[0]} did not start: {log.read_text()}")
    return process, int(line.replace(":", " ").split()[-1])


def start_nginx(engine_port: int, folder: Path) -> tuple[subprocess.Popen[str], int] | None:
    """Start nginx as a plain proxy, one process; None where it is not installed."""
    program = shutil.which("nginx")
    if program is None:
        return None
    listen = 20_000 + os.getpid() % 20_000
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=engine_port, listen=listen))
    process = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "nginx.err")], text=True)
    for _ in range(200):
        try:
            get(listen, "/health")
        except OSError:
            time.sleep(0.02)
        else:
            return process, listen
    process.kill()
    return None


def start_litellm(program: str, engine_port: int, folder: Path) -> tuple[subprocess.Popen[str], int] | None:
    """Start LiteLLM's proxy, one worker; None where it is not installed."""
    found = shutil.which(program)
    if found is None:
        return None
    listen = 40_000 + os.getpid() % 20_000
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(port=engine_port))
    environment = {
        **os.environ,
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
    }
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(listen), "--num_workers", "1"]
    with (folder / "litellm.log").open("a") as log:
        process = subprocess.Popen([found, *arguments], env=environment, stdout=log, stderr=log, text=True)
    for _ in range(600):
        try:
            get(listen, "/health/liveliness")
        except OSError:
            time.sleep(0.2)
        else:
            return process, listen
    process.kill()
    return None


def get(port: int, path: str) -> Any:
    """Return the JSON at ``path``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read() or b"{}")
    finally:
        connection.close()


def load(port: int, mode: str, connections: int, requests: int, tokens: int = 16) -> dict[str, Any]:
    """Run the load client once and return its figures."""
    arguments = [str(HERE / "gateway_load.py"), "--port", str(port), "--mode", mode, "--tokens", str(tokens)]
    arguments += ["--connections", str(connections), "--requests", str(requests)]
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=180, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if figures["errors"]:
        raise SystemExit(f"{figures['errors']} requests failed; the figures would mean nothing")
    return figures


def measure(port: int, pid: int | None, scale: float) -> dict[str, float]:
    """Measure one target in one round; without ``pid`` only its latencies."""
    load(port, "unary", 32, max(64, int(900 * scale)))  # connections and caches are warm
    found: dict[str, float] = {"p50_ms": load(port, "unary", 1, max(30, int(300 * scale)))["p50_ms"]}
    before = cpu_us(pid) if pid else 0.0
    figures = load(port, "unary", 32, int(9000 * scale))
    if pid:
        found["cpu_us_per_request"] = (cpu_us(pid) - before) / figures["requests"]
    before = cpu_us(pid) if pid else 0.0
    figures = load(port, "stream", 100, 200, tokens=64)
    found["ttft_p50_ms"] = figures["ttft_p50_ms"]
    if pid:
        found["cpu_us_per_chunk"] = (cpu_us(pid) - before) / figures["events"]
    return found


def report(case: str, rounds: list[dict[str, float]], base: list[dict[str, float]], **more: float) -> None:
    """Print the medians of one target."""
    line: dict[str, Any] = {"bench": "gateway", "case": case, "rounds": len(rounds)}
    for name in ("cpu_us_per_request", "cpu_us_per_chunk"):
        line[name] = round(statistics.median(one[name] for one in rounds), 1)
    for name in ("p50_ms", "ttft_p50_ms"):
        added = [one[name] - direct[name] for one, direct in zip(rounds, base, strict=True)]
        line[f"added_{name}"] = round(statistics.median(added), 2)
    print(json.dumps({**line, **more, "load_average": os.getloadavg()[0]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="scales the request counts")
    parser.add_argument(
        "--litellm",
        default=os.environ.get("BENCH_LITELLM") or "litellm",
        help="LiteLLM's program, in an environment of its own",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as text:
        folder = Path(text)
        engine, engine_port = start([str(HERE / "mock_engine.py")], folder / "engine.log")
        (folder / "gateway.toml").write_text(CONFIG.format(port=engine_port))
        began = time.perf_counter()
        gateway, port = start(
            ["-c", GATEWAY, "--config", str(folder / "gateway.toml")], folder / "gateway.log"
        )
        get(port, "/healthz")
        started = time.perf_counter() - began
        peers = {
            "nginx": start_nginx(engine_port, folder),
            "LiteLLM": start_litellm(options.litellm, engine_port, folder),
        }
        try:
            run(options, engine_port, (gateway.pid, port), peers, started)
            aborts("penstock", engine_port, port)
            truth: dict[str, list[int]] = get(engine_port, "/stats")["by_id"]
            if peers["LiteLLM"] is not None:
                aborts("LiteLLM", engine_port, peers["LiteLLM"][1])
        finally:
            for process in (gateway, engine, *[peer[0] for peer in peers.values() if peer]):
                process.send_signal(signal.SIGTERM)
                process.wait(40)
        billed(folder / "ledger", truth)


NAMES = {
    "nginx": "nginx, a plain proxy without keys, limits or metering",
    "LiteLLM": "LiteLLM proxy, one worker",
}
SCALES = {"nginx": 1.0, "LiteLLM": 1 / 30}
Peers = dict[str, tuple[subprocess.Popen[str], int] | None]


def run(
    options: argparse.Namespace, engine_port: int, gateway: tuple[int, int], peers: Peers, started: float
) -> None:
    """Interleave the targets, then print the medians."""
    direct: list[dict[str, float]] = []
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
    pid, port = gateway
    for _ in range(options.rounds):
        direct.append(measure(engine_port, None, options.scale))
        ours.append(measure(port, pid, options.scale))
        for name, peer in peers.items():
            if peer is not None:
                theirs[name].append(measure(peer[1], peer[0].pid, options.scale * SCALES[name]))
    report("penstock", ours, direct, rss_mib=rss_mib(pid), start_s=round(started, 2))
    for name, peer in peers.items():
        if peer is None:
            absent = {"bench": "gateway", "case": name, "absent": f"{name} is not installed here"}
            print(json.dumps(absent), flush=True)
        else:
            report(NAMES[name], theirs[name], direct, rss_mib=rss_mib(peer[0].pid))
    if theirs["LiteLLM"]:
        line: dict[str, Any] = {"bench": "gateway", "case": "less CPU than LiteLLM"}
        for field in ("cpu_us_per_request", "cpu_us_per_chunk"):
            ratios = [peer[field] / own[field] for own, peer in zip(ours, theirs["LiteLLM"], strict=True)]
            line[f"times_{field}"] = round(statistics.median(ratios), 1)
        print(json.dumps(line), flush=True)


def aborts(case: str, engine_port: int, port: int) -> None:
    """Let clients leave after some tokens, one after another, and print what the engine generated for nobody."""
    before = get(engine_port, "/stats")
    mock = {"tokens": 400, "itl_ms": 5}
    body = {
        "model": "mock-model",
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
        "mock": mock,
    }
    received = 0
    for _ in range(ABORTS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"authorization": "Bearer sk-bench"}
        )
        answer, seen = connection.getresponse(), 0
        while seen < ABORT_AFTER:
            line = answer.readline()
            seen += b'"content":"' in line and b'"content":""' not in line
        received += seen
        connection.close()
    until = time.monotonic() + 5
    while True:
        now = get(engine_port, "/stats")
        ended = sum(now[kind] - before[kind] for kind in ("aborted", "cancelled", "done"))
        if ended >= ABORTS or time.monotonic() > until:
            break
        time.sleep(0.05)
    wasted = (now["completion_tokens"] - before["completion_tokens"] - received) / ABORTS
    print(
        json.dumps(
            {
                "bench": "gateway",
                "case": f"clients that leave, {case}",
                "wasted_tokens_per_abort": round(wasted, 2),
            }
        ),
        flush=True,
    )


def billed(ledger: Path, truth: dict[str, list[int]]) -> None:
    """Print the tokens in the journal beside those that the engine generated for the same requests."""
    records = [
        json.loads(line) for path in sorted(ledger.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    final = {record["id"]: record for record in records if not record.get("progress")}
    # What was asked of the engine directly or through a peer has no id of ours.
    generated = {name: counts[1] for name, counts in truth.items() if name.startswith("use_")}
    line = {
        "bench": "gateway",
        "case": "billed",
        "completion_tokens": sum(final[name]["completion_tokens"] for name in generated if name in final),
        "generated_tokens": sum(generated.values()),
        "records": len(final),
        "estimated_records": sum(record["estimated"] for record in final.values()),
        "not_billed_requests": len(generated.keys() - final.keys()),
    }
    print(json.dumps(line), flush=True)
    if line["completion_tokens"] != line["generated_tokens"]:
        raise SystemExit("what was billed is not what was generated")


if __name__ == "__main__":
    main()
