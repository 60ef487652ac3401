"""Sends and hears single packets inside a network namespace; run by file name, needs nothing but Python.

Each command prints one line and ends with 0 if what it waited for came. It stands for the guest of a port.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

EVERYBODY = b"\xff" * 6


def serve(word: str, port: str) -> int:
    """Answer every TCP connection and every datagram on a port with a word, for ever."""
    tcp = socket.create_server(("0.0.0.0", int(port)), backlog=64)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", int(port)))
    print("serving", flush=True)
    while True:
        for ready in select.select([tcp, udp], [], [])[0]:
            if ready is udp:
                _, peer = udp.recvfrom(64)
                udp.sendto(word.encode(), peer)
            else:
                connection, peer = tcp.accept()
                connection.sendall(f"{word} {peer[0]}".encode())
                connection.close()


def tcp(address: str, port: str, seconds: str = "1") -> int:
    """Connect and print what is said."""
    try:
        with socket.create_connection((address, int(port)), timeout=float(seconds)) as connection:
            print(connection.recv(64).decode())
            return 0
    except OSError as error:
        print(error)
        return 1


def serve_http(word: str, port: str) -> int:
    """Answer every request on a port with a word, for ever; ``/ill`` is answered with 503."""
    import http.server  # noqa: PLC0415 - slow to load

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"{word} {self.headers.get('X-Forwarded-For')} {self.headers.get('X-Forwarded-Proto')}".encode()
            self.send_response(503 if self.path == "/ill" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server calls
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a check that goes away is no news

    server = Server(("0.0.0.0", int(port)), Handler)
    print("serving", flush=True)
    server.serve_forever()
    return 0


def get(address: str, port: str, times: str = "1", seconds: str = "5") -> int:
    """Ask for a page so often, over a connection each, and print each answer's status and body on a line."""
    import http.client  # noqa: PLC0415 - slow to load

    for _ in range(int(times)):
        connection = http.client.HTTPConnection(address, int(port), timeout=float(seconds))
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            print(answer.status, answer.read().decode())
        except OSError as error:
            print(0, error)
        connection.close()
    return 0


def tls(address: str, port: str, name: str, authority: str, hold: str = "no") -> int:
    """Speak TLS with whoever is called ``name`` by a certificate of the authority in a file; print its serial and a page.

    ``hold`` ``yes``: ask again over the same connection for each line of the input.
    """
    import http.client  # noqa: PLC0415 - slow to load
    import ssl  # noqa: PLC0415 - the same

    context = ssl.create_default_context(cafile=authority)
    try:
        with (
            socket.create_connection((address, int(port)), timeout=5) as opened,
            context.wrap_socket(opened, server_hostname=name) as secured,
        ):
            asked = http.client.HTTPConnection(name)
            asked.sock = secured

            def page() -> str:
                asked.request("GET", "/")
                return asked.getresponse().read().decode()

            certificate = secured.getpeercert() or {}
            print(certificate["serialNumber"], page(), flush=True)
            for _ in sys.stdin if hold == "yes" else ():
                print(page(), flush=True)
            return 0
    except (OSError, http.client.HTTPException) as error:
        print(error, flush=True)
        return 1


def hold(address: str, port: str) -> int:
    """Connect, then send a line each time one is read from the input, printing what comes back."""
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.settimeout(2)
        print("connected", flush=True)
        for line in sys.stdin:
            try:
                connection.sendall(line.encode())
                print(connection.recv(64).decode().strip() or "closed", flush=True)
            except OSError as error:
                print(f"lost {error}", flush=True)
    return 0


def echo(port: str) -> int:
    """Say back what is said on one TCP connection after the other."""
    listener = socket.create_server(("0.0.0.0", int(port)))
    print("serving", flush=True)
    while True:
        connection, _ = listener.accept()
        while data := connection.recv(64):
            connection.sendall(data)
        connection.close()


def udp(address: str, port: str, seconds: str = "1") -> int:
    """Send a datagram and print the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(float(seconds))
        try:
            sender.sendto(b"?", (address, int(port)))
            print(sender.recv(64).decode())
            return 0
        except OSError as error:
            print(error)
            return 1


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ping(address: str, seconds: str = "1") -> int:
    """Ask for an echo, again every 50 ms, until one comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        number = os.getpid() & 0xFFFF
        head = struct.pack("!BBHHH", 8, 0, 0, number, 1)
        packet = struct.pack("!BBHHH", 8, 0, _sum(head), number, 1)
        deadline = time.monotonic() + float(seconds)
        while time.monotonic() < deadline:
            try:
                raw.sendto(packet, (address, 0))
            except OSError as error:
                print(error)
                return 1
            if select.select([raw], [], [], 0.05)[0]:
                answer, peer = raw.recvfrom(256)
                if peer[0] == address and answer[20] == 0 and answer[24:26] == packet[4:6]:
                    print("alive")
                    return 0
    print("no answer")
    return 1


def _mac_of(device: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return fcntl.ioctl(any_socket, 0x8927, struct.pack("256s", device.encode()))[18:24]


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(device: str, source_mac: str, target_mac: str, kind: str, hexadecimal: str) -> int:
    """Send one Ethernet frame as it is given."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((device, 0))
        raw.send(
            _bytes(target_mac)
            + _bytes(source_mac)
            + struct.pack("!H", int(kind, 16))
            + bytes.fromhex(hexadecimal)
        )
    return 0


def arp(device: str, sender_mac: str, sender: str, target: str, seconds: str = "1") -> int:
    """Ask who has an address, as somebody; print the hardware address that is answered."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as raw:
        raw.bind((device, 0x0806))
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + _bytes(sender_mac) + socket.inet_aton(sender)
        body += b"\0" * 6 + socket.inet_aton(target)
        raw.send(EVERYBODY + _mac_of(device) + struct.pack("!H", 0x0806) + body)
        deadline = time.monotonic() + float(seconds)
        while time.monotonic() < deadline:
            if select.select([raw], [], [], 0.05)[0]:
                data = raw.recv(256)
                if data[20:22] == b"\0\2" and data[28:32] == socket.inet_aton(target):
                    print(":".join(f"{octet:02x}" for octet in data[22:28]))
                    return 0
    print("no answer")
    return 1


def _ip_udp(source: str, target: str, source_port: int, target_port: int, data: bytes) -> bytes:
    udp_head = struct.pack("!HHHH", source_port, target_port, 8 + len(data), 0)
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        28 + len(data),
        1,
        0,
        64,
        17,
        0,
        socket.inet_aton(source),
        socket.inet_aton(target),
    )
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + udp_head + data


def spoof(device: str, source_mac: str, target_mac: str, source: str, target: str, port: str) -> int:
    """Send one datagram from any MAC and any address."""
    packet = _ip_udp(source, target, 4_000, int(port), b"spoofed!")
    return frame(device, source_mac, target_mac, "0800", packet.hex())


def dhcp(device: str, mac: str, kind: str = "ask", seconds: str = "3") -> int:
    """Be a DHCP client and print address and options as one line each; or (kind ``answer``) a rogue server."""
    number = os.urandom(4)
    client = _bytes(mac)
    op = 2 if kind == "answer" else 1
    head = struct.pack("!BBBB4sHH16s", op, 1, 6, 0, number, 0, 0x8000, b"\0" * 16)
    body = head + client + b"\0" * 202 + b"\x63\x82\x53\x63"
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as raw:
        raw.bind((device, 0x0800))

        def send(options: bytes, source_port: int, target_port: int) -> None:
            packet = _ip_udp("0.0.0.0", "255.255.255.255", source_port, target_port, body + options + b"\xff")
            raw.send(EVERYBODY + _mac_of(device) + b"\x08\x00" + packet)

        if op == 2:
            send(b"\x35\x01\x02", 67, 68)
            return 0
        wanted = b"\x37\x07" + bytes((1, 3, 6, 15, 26, 42, 121))
        offer = _heard(raw, number, float(seconds), lambda: send(b"\x35\x01\x01" + wanted, 68, 67))
        if offer is None:
            print("no answer")
            return 1
        chosen = b"\x32\x04" + offer[16:20] + b"\x36\x04" + _options(offer)[54]
        granted = _heard(raw, number, float(seconds), lambda: send(b"\x35\x01\x03" + chosen + wanted, 68, 67))
        if granted is None or _options(granted).get(53) != b"\5":
            print("refused")
            return 1
        print(socket.inet_ntoa(granted[16:20]))
        for option, value in sorted(_options(granted).items()):
            print(option, value.hex())
        return 0


def _heard(raw: socket.socket, number: bytes, seconds: float, send: "Callable[[], None]") -> "bytes | None":
    deadline = time.monotonic() + seconds
    send()
    while time.monotonic() < deadline:
        if select.select([raw], [], [], 0.2)[0]:
            data = raw.recv(2_048)[14:]
            if data[9] == 17 and data[22:24] == b"\x00\x44" and data[28] == 2 and data[32:36] == number:
                return data[28:]
        else:
            send()
    return None


def _options(message: bytes) -> "dict[int, bytes]":
    found: dict[int, bytes] = {}
    rest = message[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        found[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return found


def mac(device: str) -> int:
    """Print the hardware address of a device."""
    print(":".join(f"{octet:02x}" for octet in _mac_of(device)))
    return 0


def flood(address: str, port: str, number: str, size: str) -> int:
    """Send datagrams as fast as it goes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(int(number)):
            sender.sendto(b"x" * int(size), (address, int(port)))
    return 0


def count(port: str, seconds: str) -> int:
    """Count the datagrams that come until none has come for so long."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind(("0.0.0.0", int(port)))
        print("counting", flush=True)
        found = 0
        while select.select([receiver], [], [], float(seconds))[0]:
            receiver.recv(2_048)
            found += 1
        print(found, flush=True)
    return 0


def hear(device: str, seconds: str, word: str) -> int:
    """Listen for frames that carry a word, given in hexadecimal; 0 if one came."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.bind((device, 3))
        print("listening", flush=True)
        deadline = time.monotonic() + float(seconds)
        while time.monotonic() < deadline:
            if select.select([raw], [], [], 0.05)[0] and bytes.fromhex(word) in raw.recv(2_048):
                print("heard")
                return 0
    print("silence")
    return 1


def resolve(server: str, name: str, kind: str = "A", seconds: str = "2") -> int:
    """Ask a name server for an address (A) or a text (TXT) and print it."""
    number = os.urandom(2)
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    asked = {"A": 1, "TXT": 16}[kind]
    question = number + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0" + struct.pack("!HH", asked, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(float(seconds))
        try:
            sender.sendto(question, (server, 53))
            answer = sender.recv(1_024)
        except OSError as error:
            print(error)
            return 1
    if answer[3] & 15 or answer[6:8] == b"\0\0":
        print(f"no such name ({answer[3] & 15})")
        return 1
    data = answer[-4:] if kind == "A" else answer[len(question) + 13 :]
    print(socket.inet_ntoa(data) if kind == "A" else data.decode())
    return 0


def metadata(
    path: str, with_token: str = "yes", address: str = "169.254.169.254", source: str = "0.0.0.0"
) -> int:
    """Ask the metadata service, with a session token or without one; bytes of no known kind are printed as hexadecimals."""

    def ask(method: str, where: str, headers: "dict[str, str]") -> "tuple[int, str]":
        import http.client  # noqa: PLC0415 - slow to load

        connection = http.client.HTTPConnection(address, 80, timeout=3, source_address=(source, 0))
        connection.request(method, where, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        is_text = answer.getheader("Content-Type") == "text/plain"
        return answer.status, content.decode() if is_text else content.hex()

    try:
        headers: dict[str, str] = {}
        if with_token == "yes":
            _, token = ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
            headers = {"X-aws-ec2-metadata-token": token}
            if path == "/latest/api/token":
                print(token)
                return 0
        elif with_token != "no":
            headers = {"X-aws-ec2-metadata-token": with_token}
        status, text = ask("GET", path, headers)
        print(status, text)
        return 0 if status == 200 else 1
    except OSError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
