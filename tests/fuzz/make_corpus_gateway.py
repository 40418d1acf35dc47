#!/usr/bin/env python3
"""Writes the hand-made seeds of the gateway's fuzz targets.

Usage: tests/fuzz/make_corpus_gateway.py   (rewrites tests/fuzz/corpus/gateway_*/seed-*, leaves found inputs alone)
"""
from make_corpus import packet, text, write


def event(kind, data=b""):
    out = b""
    while len(data) > 255:
        out, data = out + bytes([kind, 255]) + data[:255], data[255:]
    return out + bytes([kind, len(data)]) + data


def connect(level, properties=b"", client=b"c"):
    body = text("MQTT") + bytes([level, 0xC2, 0, 60])
    body += (bytes([len(properties)]) + properties) if level == 5 else b""
    return packet(0x10, body + text(client) + text("anna/phone") + text("secret"))


def publish(topic, identifier, level, properties=b"", body=b"hello", first=0x32):
    data = text(topic) + (identifier.to_bytes(2, "big") if first & 6 else b"")
    return packet(first, data + ((bytes([len(properties)]) + properties) if level == 5 else b"") + body)


def sessions():
    for level in (4, 5):
        none = b"\x00" if level == 5 else b""
        live = event(0, connect(level)) + event(3, b"\x00")
        user = b"\x26" + text("wp-priority") + text("stat") + b"\x02\x00\x00\x00\x3c"
        good = publish("wp/v1/to/berta", 1, level, user if level == 5 else b"")
        yield f"flow-{level}", (live + event(0, good) + event(4, b"\x00\x01") + event(0, packet(0xC0)) + event(6, b"\x00\x05hi") +
                                event(0, packet(0x40, b"\x00\x06")) + event(7, b"\x05") + event(0, packet(0xE0)))
        yield f"subscribe-{level}", (live + event(0, packet(0x82, b"\x00\x05" + none + text("wp/v1/inbox/#") + b"\x01")) +
                                     event(5, b"\x00\x01") +
                                     event(0, packet(0xA2, b"\x00\x06" + none + text("wp/v1/inbox/#"))) + event(5, b"\x04\x02"))
        yield f"refused-{level}", live + event(0, publish("no/topic", 1, level)) + event(0, good)
        yield f"full-{level}", live + event(0, good) + event(4, b"\x03\x01")
        yield f"qos0-{level}", live + event(0, publish("wp/v1/to/berta", 0, level, first=0x30))
        yield f"auth-{level}", event(0, connect(level)) + event(3, b"\x02")
        yield f"silent-{level}", live + b"".join(event(7, b"\xff") for _ in range(5))
        yield f"many-{level}", live + b"".join(event(0, publish("wp/v1/to/berta", i, level)) for i in range(1, 8))
        yield f"cut-{level}", event(0, connect(level)[:7]) + event(0, connect(level)[7:]) + event(3, b"\x81")
    yield "problem-0", event(0, connect(5, b"\x17\x00", b"")) + event(3, b"\x00") + event(0, publish("x", 1, 5))
    yield "small", event(0, connect(5, b"\x27\x00\x00\x00\x28")) + event(3, b"\x00") + event(6, b"\x00\x05" + b"x" * 99)
    yield "mqisdp", event(0, b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a")


HEAD = (b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\r\n")


def frame(first, data):
    return bytes([first, 0x80 | len(data)]) + bytes(4) + data


def upgrades():
    yield "good", b"\x00\x05" + HEAD
    yield "frames", b"\x00\xff" + HEAD + frame(0x02, b"\xc0") + frame(0x80, b"\x00") + frame(0x89, b"hi") + frame(0x88, b"\x03\xe8")
    yield "text", b"\x00\x00" + HEAD + frame(0x81, b"hello")
    yield "unmasked", b"\x00\x00" + HEAD + b"\x82\x02hi"
    yield "long", b"\x00\x00" + HEAD + b"\x82\xff" + b"\x00" * 5 + b"\x01\x00\x00" + bytes(4) + b"x" * 50
    yield "other-path", b"\x00\x00" + HEAD.replace(b"/mqtt", b"/chat", 1)
    yield "version-8", b"\x00\x00" + HEAD.replace(b"13", b"8")
    yield "no-protocol", b"\x00\x00" + HEAD.replace(b", mqtt", b"")
    yield "body", b"\x00\x00" + HEAD.replace(b"Host", b"Content-Length: 1\r\nHost")
    yield "bare-lf", b"\x00\x00" + HEAD.replace(b"\r\n", b"\n")


if __name__ == "__main__":
    write("gateway_session", dict(sessions()))
    write("gateway_upgrade", dict(upgrades()))
