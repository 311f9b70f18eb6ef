# In a guest with IPv6, as its root: sends frames of IPv6, as `frames.py` does. Arguments:
# NAME=VALUE of salt and
#   link mac ip gateway gateway_mac  its own
#   peer_mac peer_ip unused          in its network
#   web host node private            addresses
import socket
import struct
import sys

it = dict(argument.split("=", 1) for argument in sys.argv[1:])
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((it["link"], 0))
ME, GATE, PEER = it["mac"], it["gateway_mac"], it["peer_mac"]
WEB, OWN = it["web"], it["ip"]
HOPS, TCP, ROUTING, FRAGMENT, ESP, AH, ICMP, NONE, OPTIONS = 0, 6, 43, 44, 50, 51, 58, 59, 60
count, marks = 0, set()


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def address(text):
    return socket.inet_pton(socket.AF_INET6, text)


def mark(name):
    marks.add(name)
    return b"%s:%s;" % (it["salt"].encode(), name.encode())


def checksum(source, to, protocol, body):
    data = address(source) + address(to) + struct.pack("!II", len(body), protocol) + body
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp(source, to, port, data, flags=2):
    head = lambda check: struct.pack(
        "!HHIIBBHHH", 42000 + count, port, 1, 0, 0x50, flags, 8192, check, 0
    )
    return head(checksum(source, to, TCP, head(0) + data)) + data


def udp(source, to, port, data, sport=40000):
    head = lambda check: struct.pack("!HHHH", sport, port, 8 + len(data), check)
    return head(checksum(source, to, 17, head(0) + data)) + data


def icmp(source, to, kind, code, body):
    head = lambda check: struct.pack("!BBH", kind, code, check)
    return head(checksum(source, to, ICMP, head(0) + body)) + body


def send(protocol, body, source=OWN, to=WEB, from_mac=ME, to_mac=GATE, hops=64, length=None):
    global count
    count += 1
    head = struct.pack("!IHBB", 6 << 28, len(body) if length is None else length, protocol, hops)
    frame = mac(to_mac) + mac(from_mac) + b"\x86\xdd" + head + address(source) + address(to) + body
    out.send(frame + b"\0" * (60 - len(frame)))


def syn(name, port=80, source=OWN, to=WEB, flags=2, **more):
    send(TCP, tcp(source, to, port, mark(name), flags), source=source, to=to, **more)


def said(name, kind, body, source=OWN, to=WEB, code=0, hops=255, **more):
    send(
        ICMP, icmp(source, to, kind, code, body + mark(name)),
        source=source, to=to, hops=hops, **more,
    )


def group(to):
    return "33:33:" + ":".join("%02x" % byte for byte in address(to)[-4:])


def solicited(of):
    return "ff02::1:ff%02x:%02x%02x" % tuple(address(of)[-3:])


def spoofed():
    for name, source in [
        ("neighbour", it["peer_ip"]), ("unused", it["unused"]), ("gateway", it["gateway"]),
        ("host", it["host"]),
        ("public", "2001:db8::77"), ("link-local", "fe80::5054:ff:fe00:1"), ("none", "::"),
        ("loopback", "::1"),
        ("group", "ff02::1"), ("mapped", "::ffff:192.168.101.10"), ("private", "fd00:99::77"),
    ]:
        syn("spoof-" + name, source=source)
    syn("spoof-mac-random", from_mac="52:54:de:ad:be:ef")
    syn("spoof-mac-neighbour", from_mac=PEER)
    syn("spoof-mac-gateway", from_mac=GATE)
    syn("spoof-both", from_mac=PEER, source=it["peer_ip"])


def neighbours():
    link_layer = lambda kind, who: struct.pack("!BB", kind, 1) + mac(who)
    ask = lambda of: b"\0" * 4 + address(of) + link_layer(1, ME)
    tell = lambda of: struct.pack("!I", 0x60000000) + address(of) + link_layer(2, ME)
    peer, gate = it["peer_ip"], it["gateway"]
    said("nd-who-has-neighbour", 135, ask(peer), to=solicited(peer), to_mac=group(solicited(peer)))
    said("nd-who-has-gateway", 135, ask(gate), to=solicited(gate), to_mac=group(solicited(gate)))
    said("nd-ask-gateway", 135, ask(gate), to=gate)
    said("nd-ask-neighbour", 135, ask(peer), to=peer, to_mac=PEER)
    said(
        "nd-detect", 135, b"\0" * 4 + address(peer),
        source="::", to=solicited(peer), to_mac=group(solicited(peer)),
    )
    said("nd-i-am-neighbour", 136, tell(peer), to="ff02::1", to_mac=group("ff02::1"))
    said("nd-neighbour-to-gateway", 136, tell(peer), to=gate)
    said("nd-i-am-gateway", 136, tell(gate), to=peer, to_mac=PEER)
    said("nd-i-am-gateway-to-all", 136, tell(gate), to="ff02::1", to_mac=group("ff02::1"))
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + address("fd00:bad::")
    router = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix
    said("router-to-all", 134, router, source="fe80::1", to="ff02::1", to_mac=group("ff02::1"))
    said("router-own-address", 134, router, to="ff02::1", to_mac=group("ff02::1"))
    said("router-to-host", 134, router, to=gate)
    said("router-to-neighbour", 134, router, to=peer, to_mac=PEER)
    said("router-ask", 133, b"\0" * 4, to="ff02::2", to_mac=group("ff02::2"))
    redirect = b"\0" * 4 + address(OWN) + address(WEB)
    said("redirect-host", 137, redirect, to=gate)
    said("redirect-neighbour", 137, redirect, to=peer, to_mac=PEER)
    said(
        "group-report", 131, b"\0" * 4 + address("ff02::fb"),
        to="ff02::fb", to_mac=group("ff02::fb"),
    )
    said(
        "group-query", 130, b"\0" * 4 + address("::"),
        source="fe80::1", to="ff02::1", to_mac=group("ff02::1"),
    )
    said("name-query", 139, b"\0" * 12, to=gate)
    dhcp = udp("fe80::1", "ff02::1:2", 547, mark("dhcp-ask"), 546)
    send(17, dhcp, source="fe80::1", to="ff02::1:2", to_mac=group("ff02::1:2"))
    offer = udp(OWN, peer, 546, mark("dhcp-offer"), 547)
    send(17, offer, to=peer, to_mac=PEER)
    syn("layer2-to-neighbour", port=8000, to=peer, to_mac=PEER)
    syn("layer2-to-all", port=8000, to=peer, to_mac="ff:ff:ff:ff:ff:ff")
    syn("web-by-neighbours-mac", to_mac=PEER)
    syn("routed-to-neighbour", port=8000, to=peer)
    syn("routed-to-unused", port=8000, to=it["unused"])
    for name, to in [
        ("all", "ff02::1"), ("mdns", "ff02::fb"), ("site", "ff05::1"), ("world", "ff0e::1"),
    ]:
        send(17, udp(OWN, to, 5353, mark("multicast-" + name)), to=to, to_mac=group(to))


def headers():
    pad = b"\1\4\0\0\0\0"
    inner = lambda name, port=80, to=WEB: tcp(OWN, to, port, mark(name))
    for name, kind, rest in [
        ("hops", HOPS, pad), ("options", OPTIONS, pad), ("shim", 140, pad), ("mobility", 135, pad),
        ("identity", 139, pad),
        ("experiment", 253, pad), ("routing-old", ROUTING, b"\0\1\0\0\0\0"),
        ("routing-segments", ROUTING, b"\4\0\0\0\0\0"),
        ("authentication", AH, b"\0\0\0\0\0\0"), ("encrypted", ESP, b"\0\0\0\0\0\0"),
    ]:
        send(kind, struct.pack("!BB", TCP, 0) + rest + inner("header-" + name))
    # By way of another address: routers that believe it send it on to the last one.
    by_way = struct.pack("!BBBBI", TCP, 2, 0, 1, 0) + address(it["private"])
    send(ROUTING, by_way + inner("header-source-route"))
    send(
        HOPS,
        struct.pack("!BB", OPTIONS, 0) + pad + struct.pack("!BB", TCP, 0) + pad
        + inner("header-two"),
    )
    send(
        HOPS,
        struct.pack("!BB", ICMP, 0) + b"\5\2\0\0\1\0"
        + icmp(OWN, WEB, 128, 0, mark("header-alert")),
    )
    send(HOPS, struct.pack("!BBBBI", TCP, 0, 0xC2, 4, 70000) + inner("header-jumbo"), length=0)
    send(NONE, mark("header-none"))
    send(41, b"\x60" + b"\0" * 39 + mark("six-in-six"))
    send(4, b"\x45" + b"\0" * 19 + mark("four-in-six"))
    for name, protocol in [("gre", 47), ("sctp", 132), ("udplite", 136), ("254", 254)]:
        send(protocol, b"\0\x50\0\x50\0\0\0\0" + mark("proto-" + name))
    piece = lambda of, at, more, ident: struct.pack("!BBHI", of, 0, at | more, ident)
    body = inner("fragment-port", 8080)
    send(FRAGMENT, piece(TCP, 0, 1, 1) + body[:8])
    send(FRAGMENT, piece(TCP, 8, 0, 1) + body[8:])
    send(FRAGMENT, piece(TCP, 0, 0, 2) + inner("fragment-atomic"))
    send(FRAGMENT, piece(TCP, 40, 0, 3) + mark("fragment-later-only"))
    send(
        FRAGMENT,
        piece(OPTIONS, 0, 0, 4) + struct.pack("!BB", TCP, 0) + pad + inner("fragment-header"),
    )


def packets():
    for name, to in [
        ("node", it["node"]), ("private", it["private"]), ("host", it["host"]),
        ("gateway", it["gateway"]), ("loopback", "::1"),
        ("none", "::"), ("link-local", "fe80::1"), ("site-local", "fec0::1"), ("group", "ff02::1"),
        ("group-world", "ff0e::1"),
        ("six-to-four", "2002:a63:1::1"), ("teredo", "2001:0:a63:1::1"),
        ("nat64", "64:ff9b::a63:1"), ("nat64-local", "64:ff9b:1::1"),
        ("mapped", "::ffff:10.99.0.1"), ("discard", "100::1"), ("unassigned", "4000::1"),
        ("own", OWN),
    ]:
        syn("to-" + name, to=to)
        said("to-%s-ping" % name, 128, b"\0\1\0\1", to=to, hops=64)
    syn("port-other", port=8080)
    syn("port-ack", port=8080, flags=16)
    syn("port-synack", port=8080, flags=18)
    send(17, udp(OWN, WEB, 53, mark("port-dns")))
    send(17, udp(OWN, WEB, 443, mark("port-quic")))
    quoted = (
        struct.pack("!IHBB", 6 << 28, 20, TCP, 64) + address(WEB) + address(it["peer_ip"])
        + b"\1\xbb\xa4\x10" + b"\0" * 16
    )
    for name, kind, code in [
        ("unreachable", 1, 4), ("too-big", 2, 0), ("exceeded", 3, 0), ("problem", 4, 0),
        ("reply", 129, 0),
    ]:
        said("icmp-" + name, kind, struct.pack("!I", 1280) + quoted, code=code)
        said(
            "icmp-%s-neighbour" % name, kind, struct.pack("!I", 1280) + quoted,
            code=code, to=it["peer_ip"],
        )


syn("control")
for attacks in (spoofed, neighbours, headers, packets):
    attacks()
syn("control-end")
print("sent", *sorted(marks))
