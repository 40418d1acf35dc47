"""MQTT packets by hand, for tests that must send what no well-behaved client sends, and look at every byte of the answer.

Device(address, username, secret, version) is one connection; its methods send one packet or wait for one.
"""
import socket
import ssl
import struct
import time
import uuid

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 1, 2, 3, 4, 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14
# Sizes of property values (MQTT 5, table 2-4): a number of bytes, "s" string, "b" binary, "p" pair of strings, "v" varint.
PROPERTIES = {
    0x01: 1, 0x02: 4, 0x03: "s", 0x08: "s", 0x09: "b", 0x0B: "v", 0x11: 4, 0x12: "s", 0x13: 2, 0x15: "s", 0x16: "b",
    0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: "p",
    0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}


def varint(value):
    out = b""
    while True:
        value, low = divmod(value, 128)
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def properties(pairs):
    """[(0x26, ("name", "value")), (0x02, 60)] -> encoded with its length."""
    out = b""
    for identifier, value in pairs:
        kind = PROPERTIES[identifier]
        out += bytes([identifier])
        if kind == "p":
            out += text(value[0]) + text(value[1])
        elif kind in ("s", "b"):
            out += text(value)
        elif kind == "v":
            out += varint(value)
        else:
            out += value.to_bytes(kind, "big")
    return varint(len(out)) + out


def packet(kind, body, flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connect(username, secret, version=5, client_id="", clean=False, keep_alive=60, extra=(), protocol="MQTT", level=None):
    flags = (0x80 if username is not None else 0) | (0x40 if secret is not None else 0) | (0x02 if clean else 0)
    body = text(protocol) + bytes([version if level is None else level, flags]) + struct.pack(">H", keep_alive)
    body += properties(extra) if version == 5 else b""
    body += text(client_id)
    body += text(username) if username is not None else b""
    body += text(secret) if secret is not None else b""
    return packet(CONNECT, body)


def publish(topic, payload, packet_id=1, qos=1, version=5, extra=(), dup=False, retain=False):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += properties(extra) if version == 5 else b""
    body += payload.encode() if isinstance(payload, str) else payload
    return packet(PUBLISH, body, (8 if dup else 0) | qos << 1 | (1 if retain else 0))


def subscribe(topic, packet_id=1, qos=1, version=5):
    body = struct.pack(">H", packet_id) + (properties(()) if version == 5 else b"") + text(topic) + bytes([qos])
    return packet(SUBSCRIBE, body, 2)


def puback(packet_id):
    return packet(PUBACK, struct.pack(">H", packet_id))


def new_id(time_ms=None):
    """A UUID version 7 as text."""
    value = bytearray(int(time.time() * 1000 if time_ms is None else time_ms).to_bytes(6, "big") + uuid.uuid4().bytes[:10])
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return str(uuid.UUID(bytes=bytes(value)))


class Closed(Exception):
    """The gateway closed the connection."""


class Packet:
    """A received packet, taken apart."""

    def __init__(self, head, body, version):
        self.kind, self.flags, self.body = head >> 4, head & 15, body
        self.code, self.id, self.properties = None, None, {}
        rest = body
        if self.kind == CONNACK:
            self.session_present, self.code = bool(rest[0] & 1), rest[1]
            self._properties(rest[2:], version)
        elif self.kind == PUBLISH:
            size = struct.unpack(">H", rest[:2])[0]
            self.topic, rest = rest[2:2 + size].decode(), rest[2 + size:]
            self.qos, self.dup, self.retain = self.flags >> 1 & 3, bool(self.flags & 8), bool(self.flags & 1)
            if self.qos:
                self.id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
            self.payload = self._properties(rest, version)
        elif self.kind in (PUBACK, SUBACK, UNSUBACK):
            self.id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
            if self.kind == PUBACK:
                self.code = rest[0] if rest else 0
                self._properties(rest[1:], version)
            else:
                self.codes = self._properties(rest, version)
                self.code = self.codes[0] if self.codes else None
        elif self.kind == DISCONNECT:
            self.code = rest[0] if rest else 0
            self._properties(rest[1:], version)

    def _properties(self, data, version):
        if version != 5 or not data:
            return data
        size, shift, used = 0, 0, 0
        while True:
            byte = data[used]
            used += 1
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        block, rest = data[used:used + size], data[used + size:]
        self.properties["user"] = []
        while block:
            identifier = block[0]
            kind, block = PROPERTIES[identifier], block[1:]
            if kind in ("s", "b", "p"):
                parts = []
                for _ in range(2 if kind == "p" else 1):
                    length = struct.unpack(">H", block[:2])[0]
                    parts.append(block[2:2 + length])
                    block = block[2 + length:]
                if kind == "p":
                    self.properties["user"].append((parts[0].decode(), parts[1].decode()))
                else:
                    self.properties[identifier] = parts[0].decode() if kind == "s" else parts[0]
            elif kind == "v":
                self.properties[identifier], block = block[0], block[1:]
            else:
                self.properties[identifier], block = int.from_bytes(block[:kind], "big"), block[kind:]
        return rest

    def user(self, name):
        """First value of a user property, or None."""
        return next((value for key, value in self.properties.get("user", []) if key == name), None)

    @property
    def reason(self):
        return self.properties.get(0x1F, "")

    def __repr__(self):
        return f"Packet(kind={self.kind} code={self.code} id={self.id} properties={self.properties})"


class Device:
    """One connection. With connect=True the CONNECT is sent and its CONNACK kept in `connack`."""

    def __init__(self, address, username=None, secret=None, version=5, connect=True, ca=None, timeout=10, **options):
        self.version, self.buffer, self.next_id = version, b"", 1
        # An address of another network namespace (netcluster.Place) makes the connection itself.
        self.socket = address.connect(timeout) if hasattr(address, "connect") else socket.create_connection(address, timeout=timeout)
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ca:
            context = ssl.create_default_context(cafile=str(ca))
            self.socket = context.wrap_socket(self.socket, server_hostname=address[0])
        self.connack = None
        if connect:
            options.setdefault("client_id", "" if version == 5 else "raw")  # 3.1.1 takes none only with Clean Session 1
            self.send(globals()["connect"](username, secret, version=version, **options))
            self.connack = self.wait(CONNACK)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, timeout=10):
        """Next packet; Closed at the end of the stream, TimeoutError when nothing comes."""
        end = time.monotonic() + timeout
        while True:
            size = self._whole()
            if size:
                whole, self.buffer = self.buffer[:size], self.buffer[size:]
                start = 1
                while whole[start] & 128:
                    start += 1
                return Packet(whole[0], whole[start + 1:], self.version)
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 18)
            except (ConnectionResetError, BrokenPipeError) as error:
                raise Closed from error
            except socket.timeout as error:
                raise TimeoutError from error
            if not data:
                raise Closed
            self.buffer += data

    def _whole(self):
        value, shift = 0, 0
        for place in range(1, min(5, len(self.buffer))):
            value |= (self.buffer[place] & 127) << shift
            shift += 7
            if not self.buffer[place] & 128:
                return place + 1 + value if len(self.buffer) >= place + 1 + value else 0
        return 0

    def wait(self, kind, timeout=10):
        """Next packet, which must be of this kind."""
        got = self.receive(timeout)
        assert got.kind == kind, f"expected packet type {kind}, got {got}"
        return got

    def wait_closed(self, timeout=10):
        """Reads to the end of the stream; answers the packets that came before it."""
        packets = []
        end = time.monotonic() + timeout
        while True:
            try:
                packets.append(self.receive(max(0.01, end - time.monotonic())))
            except Closed:
                return packets

    def silent(self, seconds):
        """True when nothing comes for so long."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def subscribe(self, topic="wp/v1/inbox/#", qos=1):
        self.send(subscribe(topic, 65000, qos, self.version))
        return self.wait(SUBACK)

    def submit(self, to, payload, topic=None, **options):
        """Sends a PUBLISH to a user without waiting; answers its packet identifier."""
        packet_id = self.next_id
        self.next_id = self.next_id % 60000 + 1
        self.send(publish(topic or f"wp/v1/to/{to}", payload, packet_id, version=self.version, **options))
        return packet_id

    def publish(self, to, payload, **options):
        """Sends and waits for the PUBACK."""
        packet_id = self.submit(to, payload, **options)
        answer = self.wait(PUBACK)
        assert answer.id == packet_id
        return answer

    def take(self, acknowledge=True, timeout=10):
        """Next delivery, acknowledged."""
        message = self.wait(PUBLISH, timeout)
        if acknowledge:
            self.send(puback(message.id))
        return message
