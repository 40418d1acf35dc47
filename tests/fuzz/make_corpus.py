#!/usr/bin/env python3
"""Writes the hand-made seeds of the codec's, the schemas' and the framing's fuzz targets: valid inputs and broken ones.

Usage: tests/fuzz/make_corpus.py   (from anywhere; rewrites tests/fuzz/corpus/<target>/seed-*, leaves found inputs alone)
"""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def write(target, seeds):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    for name, data in seeds.items():
        (folder / f"seed-{name}").write_bytes(data)
    print(f"{target}: {len(seeds)} seeds")


# MQTT: version byte, then packets.
def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def packet(first, body=b""):
    return bytes([first]) + varint(len(body)) + body


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def props(*parts):
    joined = b"".join(parts)
    return varint(len(joined)) + joined


USER = b"\x26" + text("wp-id") + text("0190c0de-0000-7000-8000-000000000001")
CONNECT4 = packet(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + text("c") + text("anna/phone") + text("secret"))
CONNECT5 = packet(0x10, text("MQTT") + b"\x05\xc2\x00\x3c" + props(b"\x21\x00\x14", b"\x11\xff\xff\xff\xff") + text("")
                  + text("anna/phone") + text("secret"))
WILL5 = packet(0x10, text("MQTT") + b"\x05\x2e\x00\x3c" + props() + text("c")
               + props(b"\x18\x00\x00\x00\x05", b"\x01\x01", USER) + text("t") + text("gone"))
PUBLISH5 = packet(0x32, text("wp/v1/to/ben") + b"\x00\x01" + props(b"\x02\x00\x00\x0e\x10", b"\x01\x01", USER) + b"hello")
CONNACK5 = packet(0x20, b"\x01\x00" + props(b"\x11\xff\xff\xff\xff", b"\x21\x00\x40", b"\x24\x01", b"\x25\x00",
                                            b"\x27\x00\x11\x00\x00", b"\x29\x00", b"\x2a\x00", b"\x12" + text("id"),
                                            b"\x13\x00\x1e", b"\x28\x01"))
MQTT = {
    "connect4": b"\x00" + CONNECT4,
    "connect5": b"\x00" + CONNECT5,
    "connect5-will": b"\x00" + WILL5,
    "connect5-auth": b"\x00" + packet(0x10, text("MQTT") + b"\x05\x02\x00\x00"
                                      + props(b"\x15" + text("m"), b"\x16" + text(b"\xff")) + text("c")),
    "connect-old": b"\x00" + packet(0x10, text("MQIsdp") + b"\x03\x02\x00\x3c" + text("c")),
    "connect-cut": b"\x00" + CONNECT5[:-1],
    "connect-reserved": b"\x00" + packet(0x10, text("MQTT") + b"\x05\x03\x00\x3c\x00" + text("c")),
    "connack4": b"\x04" + packet(0x20, b"\x00\x05"),
    "connack5": b"\x05" + CONNACK5,
    "publish4": b"\x04" + packet(0x3b, text("wp/v1/to/ben") + b"\x00\x01" + b"hello"),
    "publish5": b"\x05" + PUBLISH5,
    "publish5-alias": b"\x05" + packet(0x30, text("") + props(b"\x23\x00\x01") + b"x"),
    "publish5-rpc": b"\x05" + packet(0x30, text("t") + props(b"\x08" + text("r"), b"\x09" + text(b"\x00"), b"\x03" + text("c"),
                                                             b"\x0b\x80\x01", b"\x0b\x01") + b"x"),
    "publish5-twice": b"\x05" + packet(0x30, text("t") + props(b"\x01\x01", b"\x01\x01")),
    "publish5-wildcard": b"\x05" + packet(0x30, text("a/#") + props()),
    "publish4-nul": b"\x04" + packet(0x30, text("a\0")),
    "publish5-surrogate": b"\x05" + packet(0x30, text(b"\xed\xa0\x80") + props()),
    "acks4": b"\x04" + b"".join(packet(first, b"\x00\x07") for first in (0x40, 0x50, 0x62, 0x70)),
    "acks5": b"\x05" + packet(0x40, b"\x00\x07\x97" + props(b"\x1f" + text("full"), USER)) + packet(0x50, b"\x00\x07\x10")
             + packet(0x62, b"\x00\x07\x92") + packet(0x70, b"\x00\x07\x00\x00"),
    "subscribe4": b"\x04" + packet(0x82, b"\x00\x01" + text("wp/v1/inbox/#") + b"\x01" + text("+") + b"\x02"),
    "subscribe5": b"\x05" + packet(0x82, b"\x00\x01" + props(b"\x0b\x05", USER) + text("wp/v1/inbox/#") + b"\x2d"),
    "subscribe5-share": b"\x05" + packet(0x82, b"\x00\x01\x00" + text("$share/g/a/+/#") + b"\x01"),
    "subscribe5-bad": b"\x05" + packet(0x82, b"\x00\x01\x00" + text("a#") + b"\x01"),
    "suback4": b"\x04" + packet(0x90, b"\x00\x01\x01\x80"),
    "suback5": b"\x05" + packet(0x90, b"\x00\x01" + props(b"\x1f" + text("r")) + b"\x01\x83\x8f"),
    "unsubscribe": b"\x05" + packet(0xa2, b"\x00\x01" + props(USER) + text("a") + text("b/#"))
                   + packet(0xb0, b"\x00\x01\x00\x00\x11"),
    "unsubscribe4": b"\x04" + packet(0xa2, b"\x00\x01" + text("a")) + packet(0xb0, b"\x00\x01"),
    "ping": b"\x05" + packet(0xc0) + packet(0xd0) + packet(0xe0),
    "disconnect5": b"\x05" + packet(0xe0, b"\x8e" + props(b"\x1f" + text("taken over"), b"\x1c" + text("s"), USER)),
    "auth": b"\x05" + packet(0xf0) + packet(0xf0, b"\x18" + props(b"\x15" + text("m"), b"\x16" + text("d"))),
    "auth4": b"\x04" + packet(0xf0),
    "conversation4": b"\x00" + CONNECT4 + packet(0x82, b"\x00\x01" + text("#") + b"\x01") + packet(0x30, text("t") + b"p")
                     + packet(0xe0),
    "conversation5": b"\x00" + CONNECT5 + PUBLISH5 + packet(0x40, b"\x00\x01") + packet(0xe0),
    "long-length4": b"\x04\xc0\x80\x80\x80\x00",
    "long-length5": b"\x05\xc0\x80\x80\x80\x00",
    "five-byte-length": b"\x05\x30\xff\xff\xff\xff\x7f",
    "huge-length": b"\x05\x30\xff\xff\xff\x7f",
    "type-0": b"\x05\x00\x00",
    "qos-3": b"\x05" + packet(0x36, text("t") + b"\x00\x01\x00"),
    "empty": b"",
}


# Protocol buffers: selector byte, then fields.
def vint(number, value):
    return varint(number << 3) + varint(value)


def data(number, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


ID = bytes.fromhex("0190c0de000070008000000000000001")
HEADER = (vint(1, 1) + data(2, ID) + data(3, "anna") + data(4, "phone") + data(5, "ben") + vint(6, 2) + vint(7, 3600000)
          + vint(8, 1) + vint(9, 1700000000000))
RICH = HEADER + vint(10, 1) + data(11, "text/plain") + data(12, data(1, "n") + data(2, "v")) * 2
ENVELOPE = data(1, RICH) + data(2, data(1, "tablet") + data(2, b"\x01" * 80)) + data(3, "body")
POSITIONS = vint(1, 1) + data(2, varint(1) + varint(300) + varint(1 << 40))
UNKNOWN = vint(1000, 5) + data(1001, "later") + varint(1002 << 3 | 1) + bytes(8) + varint(1003 << 3 | 5) + bytes(4)
BROKEN = {
    "cut": data(1, "abc")[:-1],
    "varint-11": b"\x08" + b"\xff" * 10 + b"\x01",
    "tag-0": b"\x00\x01",
    "wire-7": b"\x0f",
    "group": b"\x0b\x0c",
    "length-huge": b"\x0a\xff\xff\xff\xff\x0f",
    "length-negative": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
}


def broken(selectors):
    return {f"broken-{name}-{s}": bytes([s]) + value for name, value in BROKEN.items() for s in selectors}


ENVELOPES = {
    "full": b"\x00" + ENVELOPE,
    "full-tiny-arena": b"\x80" + ENVELOPE,
    "plain": b"\x00" + data(1, HEADER) + data(3, "body"),
    "empty": b"\x00",
    "no-header": b"\x00" + data(3, "body"),
    "header-twice": b"\x00" + data(1, HEADER) + data(1, vint(6, 1)) + data(3, "x"),
    "unknown": b"\x00" + ENVELOPE + UNKNOWN,
    "version-2": b"\x00" + data(1, vint(1, 2) + HEADER[2:]),
    "short-id": b"\x00" + data(1, HEADER.replace(data(2, ID), data(2, ID[:15]))),
    "lane-3": b"\x00" + data(1, HEADER.replace(vint(6, 2), vint(6, 3))),
    "lane-negative": b"\x00" + data(1, HEADER + vint(6, (1 << 64) - 1)),
    "bad-name": b"\x00" + data(1, HEADER.replace(data(3, "anna"), data(3, "Anna"))),
    "nul-in-name": b"\x00" + data(1, HEADER.replace(data(3, "anna"), data(3, "an\0a"))),
    "properties-17": b"\x00" + data(1, HEADER + data(12, data(1, "n")) * 17),
    "key-parts-65": b"\x00" + data(1, HEADER) + data(2, data(1, "d")) * 65,
    "header": b"\x01" + RICH,
    "property": b"\x02" + data(1, "n") + data(2, "v"),
    "property-not-utf8": b"\x02" + data(1, b"\xff") + data(2, b"\xc3"),
    "key-part": b"\x03" + data(1, "tablet") + data(2, b"\x00" * 512),
    **broken((0, 1)),
}
FABRIC = {
    "hello": b"\x00" + vint(1, 1) + vint(2, 77) + data(3, "gateway-1") + vint(4, 2) + vint(5, 1) + vint(6, 9) + vint(7, 1 << 20),
    "shard-map": b"\x01" + vint(1, 1) + data(2, bytes(16)) + vint(3, 8)
                 + b"".join(data(4, vint(1, n) + data(2, "router-1") + data(3, "tcp://127.0.0.1:7401")) for n in range(1, 9)),
    "attach": b"\x02" + vint(1, 1) + vint(2, 1) + data(3, "anna") + data(4, "phone") + data(5, "secret") + vint(6, 1) + vint(7, 64),
    "attach-resume": b"\x02" + vint(1, 1) + data(8, vint(1, 3) + data(2, POSITIONS) + data(3, POSITIONS) * 2),
    "attach-reply": b"\x03" + vint(1, 1) + vint(2, 2 * 15 - 1) + vint(3, 4) + vint(4, 1) + vint(5, 1) + vint(7, 1700000000000),
    "detach": b"\x04" + vint(1, 1) + vint(2, 1) + vint(3, 4),
    "subscribe": b"\x05" + vint(1, 1) + vint(2, 1) + vint(3, 4) + vint(4, 1) + vint(5, 1),
    "subscribe-reply": b"\x06" + vint(1, 1) + vint(2, 1) + vint(3, 1),
    "submit": b"\x07" + vint(1, 1) + vint(2, 1) + data(3, "anna") + data(4, "phone") + vint(5, 1) + vint(6, 1) + data(7, ENVELOPE),
    "submit-tiny-arena": b"\x87" + vint(1, 1) + data(3, "anna") + data(7, ENVELOPE * 3),
    "submit-reply": b"\x08" + vint(1, 1) + vint(3, 1700000000000) + vint(4, 7) + vint(5, 1),
    "deliver": b"\x09" + vint(1, 1) + vint(2, 1) + vint(3, 9) + vint(4, 1) + vint(5, 1) + vint(6, 5) + vint(8, 9) + data(9, ENVELOPE),
    "ack": b"\x0a" + vint(1, 1) + vint(2, 1) + data(3, POSITIONS) * 2,
    "ack-unpacked": b"\x0a" + vint(1, 1) + data(3, vint(2, 1) + vint(2, 2)),
    "kick": b"\x0b" + vint(1, 1) + vint(2, 47),
    "credit": b"\x0c" + vint(1, 65536),
    "chunk": b"\x0d" + vint(1, 1) + vint(2, 8) + vint(3, 100000) + vint(4, 65536) + data(5, b"\x00" * 64),
    "unknown": b"\x07" + UNKNOWN,
    "enum-unknown": b"\x00" + vint(4, 99),
    **broken((7, 10)),
}
COMMANDS = {
    "submit": b"\x00" + data(1, "anna") + data(2, "phone") + vint(3, 1) + vint(4, 1) + data(5, ENVELOPE),
    "attach": b"\x01" + data(1, "anna") + data(2, "phone") + vint(3, 1),
    "subscribe": b"\x02" + data(1, "anna") + data(2, "phone") + vint(3, 1) + vint(4, 1),
    "cursors": b"\x03" + data(1, vint(1, 5) + vint(2, 1) + data(3, POSITIONS) * 3 + data(4, vint(1, 2) + vint(2, 9))) * 2,
    "cursors-empty": b"\x03" + data(1, b"") * 20,
    "cursors-tiny-arena": b"\x83" + data(1, vint(1, 5) + data(3, POSITIONS)) * 12,
    "expire": b"\x04" + vint(1, 1000),
    "user-add": b"\x05" + data(1, "anna"),
    "device-add": b"\x06" + data(1, "anna") + data(2, "phone") + data(3, bytes(32)),
    "device-remove": b"\x07" + data(1, "anna") + data(2, "phone"),
    "unknown": b"\x00" + UNKNOWN,
    **broken((0, 3)),
}
RECORDS = {
    "user": b"\x00" + data(1, "anna") + vint(2, 1) + vint(3, 1700000000000) + vint(4, 3),
    "device": b"\x01" + data(1, "anna") + data(2, "phone") + vint(3, 1) + vint(4, 5) + data(5, bytes(32)) + vint(6, 2) + vint(7, 1),
    "cursor": b"\x02" + vint(1, 5) + data(2, varint(7) + varint(9)) + vint(3, 12)
              + data(4, vint(1, 6) + vint(2, 4) + vint(3, 1)) * 2,
    "cursor-packed-cut": b"\x02" + data(2, b"\x80"),
    "message": b"\x03" + vint(1, 1) + vint(2, 2) + data(3, ENVELOPE),
    "index": b"\x04" + vint(1, 2) + vint(2, 600) + vint(3, 1),
    "stream": b"\x05" + vint(1, 2) + vint(2, 600),
    "seen": b"\x06" + vint(1, 1700000000000),
    "tiny-arena": b"\x82" + data(4, vint(1, 6)) * 30,
    "unknown": b"\x03" + UNKNOWN,
    **broken((1, 2)),
}


# Framing: selector byte (even batch, odd entry), then the bytes.
def record(kind, payload):
    return struct.pack("<BI", kind, len(payload)) + payload


BATCH = b"WP\x01\x00" + struct.pack("<QQQ", 77, 1, 2)
ENTRY = b"\x01\x00\x00\x00" + struct.pack("<Q", 1700000000000)
FRAMES = {}
for kind, name, head in ((0, "batch", BATCH), (1, "entry", ENTRY)):
    one = record(8, b"body")
    FRAMES.update({f"{name}-{what}": bytes([kind]) + value for what, value in {
        "empty": head,
        "one": head + one,
        "many": head + one * 5 + record(255, b""),
        "head-cut": head[:-1],
        "nothing": b"",
        "record-head-cut": head + one[:4],
        "record-cut": head + one[:-1],
        "size-max": head + b"\x08\xff\xff\xff\xff",
        "size-over": head + one + b"\x01\x01\x00\x00\x00",
        "bad-magic": b"X" + head[1:] + one,
        "bad-version": (head[:2] + b"\x02" + head[3:] if kind == 0 else b"\x02" + head[1:]) + one,
        "bad-flags": head[:3] + b"\x01" + head[4:] + one,
    }.items()})

if __name__ == "__main__":
    write("mqtt", MQTT)
    write("schema_envelope", ENVELOPES)
    write("schema_fabric", FABRIC)
    write("schema_command", COMMANDS)
    write("schema_record", RECORDS)
    write("frame", FRAMES)
