# In the guest, as its root: sends frames by hand. Each frame is marked with the name of what it
# tries. In the end it says all of these names. Arguments: NAME=VALUE of salt, three letters that
# all marks begin with, and
#   link mac ip gateway gateway_mac  its own
#   peer_mac peer_ip                 another machine's
#   web host node private            addresses
import socket
import struct
import sys

it = dict(argument.split("=", 1) for argument in sys.argv[1:])
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((it["link"], 0))

IP, ARP, VLAN, QINQ, V6, RARP = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD, 0x8035
ALL = "ff:ff:ff:ff:ff:ff"
ME, GATE, PEER = it["mac"], it["gateway_mac"], it["peer_mac"]
count, marks = 0, set()


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def mark(name):
    marks.add(name)
    return b"%s:%s;" % (it["salt"].encode(), name.encode())


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source, to, protocol, body, fragment=0, ident=7, options=b""):
    words = 5 + len(options) // 4
    head = lambda check: struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | words, 0, words * 4 + len(body), ident, fragment, 64, protocol, check,
        socket.inet_aton(source), socket.inet_aton(to)) + options
    return head(checksum(head(0))) + body


def pseudo(source, to, protocol, body):
    return (
        socket.inet_aton(source) + socket.inet_aton(to)
        + struct.pack("!BBH", 0, protocol, len(body))
    )


def tcp(source, to, port, data, sport=40000, flags=2):
    head = lambda check: struct.pack("!HHIIBBHHH", sport, port, 1, 0, 0x50, flags, 8192, check, 0)
    return head(checksum(pseudo(source, to, 6, head(0) + data) + head(0) + data)) + data


def udp(source, to, port, data, sport=40000):
    head = lambda check: struct.pack("!HHHH", sport, port, 8 + len(data), check)
    return head(checksum(pseudo(source, to, 17, head(0) + data) + head(0) + data)) + data


def icmp(kind, code, data):
    head = lambda check: struct.pack("!BBHHH", kind, code, check, 1, 1)
    return head(checksum(head(0) + data)) + data


def send(to, source, ethertype, body):
    global count
    count += 1
    frame = mac(to) + mac(source) + struct.pack("!H", ethertype) + body
    out.send(frame + b"\0" * (60 - len(frame)))


def syn(name, source=it["ip"], to=it["web"], port=80, from_mac=ME, to_mac=GATE):
    send(
        to_mac, from_mac, IP,
        ip(source, to, 6, tcp(source, to, port, mark(name), sport=41000 + count)),
    )


def arp(
    name, operation, sender_mac, sender_ip, target_mac, target_ip, to, from_mac=ME, ethertype=ARP
):
    body = (
        struct.pack("!HHBBH", 1, IP, 6, 4, operation)
        + mac(sender_mac) + socket.inet_aton(sender_ip)
    )
    send(to, from_mac, ethertype, body + mac(target_mac) + socket.inet_aton(target_ip) + mark(name))


def spoofed():
    syn("spoof-ip-unused", source=it["unused"])
    syn("spoof-ip-neighbour", source=it["peer_ip"])
    syn("spoof-ip-gateway", source=it["gateway"])
    syn("spoof-ip-host", source=it["host"])
    syn("spoof-ip-public", source="203.0.113.77")
    syn("spoof-ip-loopback", source="127.0.0.1")
    syn("spoof-ip-zero", source="0.0.0.0")
    syn("spoof-mac-random", from_mac="52:54:de:ad:be:ef")
    syn("spoof-mac-neighbour", from_mac=PEER)
    syn("spoof-mac-gateway", from_mac=GATE)
    syn("spoof-mac-group", from_mac="01:00:5e:00:00:01")
    syn("spoof-both", from_mac=PEER, source=it["peer_ip"])


def neighbours():
    arp("arp-who-has-neighbour", 1, ME, it["ip"], "00:00:00:00:00:00", it["peer_ip"], ALL)
    arp("arp-i-am-neighbour", 2, ME, it["peer_ip"], ALL, it["peer_ip"], ALL)
    arp("arp-i-am-gateway", 2, ME, it["gateway"], PEER, it["peer_ip"], PEER)
    arp("arp-i-am-gateway-to-all", 1, ME, it["gateway"], "00:00:00:00:00:00", it["gateway"], ALL)
    arp("arp-neighbour-to-gateway", 2, ME, it["peer_ip"], GATE, it["gateway"], GATE)
    arp("arp-inner-mac-differs", 1, PEER, it["ip"], "00:00:00:00:00:00", it["gateway"], ALL)
    arp("arp-probe", 1, ME, "0.0.0.0", "00:00:00:00:00:00", it["peer_ip"], ALL)
    arp("rarp", 3, ME, "0.0.0.0", ME, "0.0.0.0", ALL, ethertype=RARP)
    syn("layer2-to-neighbour", to=it["peer_ip"], port=8000, to_mac=PEER)
    syn("routed-to-neighbour", to=it["peer_ip"], port=8000)
    syn("web-by-neighbours-mac", to_mac=PEER)
    syn("layer2-broadcast-unicast-ip", to=it["peer_ip"], port=8000, to_mac=ALL)
    data = lambda name, to, port: ip(it["ip"], to, 17, udp(it["ip"], to, port, mark(name)))
    send(ALL, ME, IP, data("broadcast", "255.255.255.255", 8000))
    send(ALL, ME, IP, data("broadcast-subnet", it["broadcast"], 8000))
    send(GATE, ME, IP, data("broadcast-routed", it["broadcast"], 8000))
    send("01:00:5e:00:00:fb", ME, IP, data("multicast-mdns", "224.0.0.251", 5353))
    send("01:00:5e:7f:ff:fa", ME, IP, data("multicast-ssdp", "239.255.255.250", 1900))
    send("01:00:5e:00:00:16", ME, IP, ip(it["ip"], "224.0.0.22", 2, mark("igmp")))
    send(
        ALL, ME, IP,
        ip(
            it["ip"], "255.255.255.255", 17,
            udp(it["ip"], "255.255.255.255", 68, mark("dhcp-offer"), 67),
        ),
    )
    send(
        PEER, ME, IP,
        ip(
            it["gateway"], it["peer_ip"], 17,
            udp(it["gateway"], it["peer_ip"], 68, mark("dhcp-ack"), 67),
        ),
    )
    send(
        ALL, ME, IP,
        ip(
            "0.0.0.0", "255.255.255.255", 17,
            udp("0.0.0.0", "255.255.255.255", 67, mark("dhcp-discover"), 68),
        ),
    )


def v6(name, to_mac, to, protocol, body, source="fe80::5054:ff:fe00:1", hops=255):
    source, to = socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, to)
    if protocol == 58:
        check = checksum(source + to + struct.pack("!II", len(body), 58) + body)
        body = body[:2] + struct.pack("!H", check) + body[4:]
    send(
        to_mac, ME, V6,
        struct.pack("!IHBB", 6 << 28, len(body), protocol, hops) + source + to + body,
    )


def six():
    group = "33:33:00:00:00:01"
    echo6 = lambda name: struct.pack("!BBHHH", 128, 0, 0, 1, 1) + mark(name)
    v6("ipv6-all-nodes", group, "ff02::1", 58, echo6("ipv6-all-nodes"))
    v6("ipv6-link-local", PEER, "fe80::1", 58, echo6("ipv6-link-local"))
    v6("ipv6-ula", GATE, it["private6"], 58, echo6("ipv6-ula"), source="fd00:99::77")
    v6("ipv6-gateway", GATE, "fe80::1", 58, echo6("ipv6-gateway"))
    prefix = (
        struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0)
        + socket.inet_pton(socket.AF_INET6, "fd00:bad::")
    )
    v6(
        "ipv6-rogue-ra", group, "ff02::1", 58,
        struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix + mark("ipv6-rogue-ra"),
    )
    v6(
        "ipv6-rogue-dhcp", group, "ff02::1", 17,
        udp("0.0.0.0", "0.0.0.0", 546, mark("ipv6-rogue-dhcp"), 547),
    )
    send(GATE, ME, IP, ip(it["ip"], it["web"], 41, b"\x60" + b"\0" * 39 + mark("six-in-four")))


def framing():
    inner = lambda name, to=it["web"]: (
        struct.pack("!H", IP) + ip(it["ip"], to, 6, tcp(it["ip"], to, 80, mark(name)))
    )
    send(GATE, ME, VLAN, struct.pack("!H", 5) + inner("vlan"))
    send(GATE, ME, VLAN, struct.pack("!H", 0) + inner("vlan-priority"))
    send(GATE, ME, VLAN, struct.pack("!H", 1) + inner("vlan-one"))
    send(PEER, ME, VLAN, struct.pack("!H", 5) + inner("vlan-neighbour", it["peer_ip"]))
    send(GATE, ME, QINQ, struct.pack("!HHH", 5, VLAN, 6) + inner("vlan-double"))
    send(GATE, ME, VLAN, struct.pack("!H", 0) + inner("vlan-private", it["private"]))
    send(GATE, ME, 0x8864, struct.pack("!BBHHH", 0x11, 0, 1, 40, 0x21) + inner("pppoe")[2:])
    send(GATE, ME, 0x8847, b"\0\0\1\xff" + inner("mpls")[2:])
    for name, ethertype, to in [
        ("ethertype-local", 0x88B5, PEER), ("ethertype-all", 0x88B6, ALL),
        ("ethertype-eapol", 0x888E, "01:80:c2:00:00:03"),
        ("ethertype-lldp", 0x88CC, "01:80:c2:00:00:0e"), ("ethertype-loop", 0x9000, ALL),
        ("ethertype-zero", 0, PEER),
        ("ethertype-lldp-neighbour", 0x88CC, PEER), ("ethertype-macsec", 0x88E5, GATE),
    ]:
        send(to, ME, ethertype, mark(name))
    # To a group that bridges don't forward, in a neighbour's name. A bridge that learns from it
    # sends us the neighbour's frames.
    send("01:80:c2:00:00:0e", PEER, 0x88CC, mark("lldp-as-neighbour"))
    for last in range(16):
        send("01:80:c2:00:00:%02x" % last, PEER, 0x8809, mark("group-%x-as-neighbour" % last))
    send("01:80:c2:00:00:03", GATE, 0x888E, mark("eapol-as-gateway"))
    bpdu = (
        b"\x42\x42\3\0\0\0\0\0" + b"\0\0" + mac(ME) + b"\0\0\0\0" + b"\0\0" + mac(ME)
        + b"\x80\1\0\0\x14\0\2\0\x0f\0"
    )
    send("01:80:c2:00:00:00", ME, len(bpdu), bpdu + mark("stp-i-am-root"))
    send(
        PEER, ME, 60,
        b"\xaa\xaa\3\0\0\0\x08\0"
        + ip(it["ip"], it["peer_ip"], 17, udp(it["ip"], it["peer_ip"], 8000, mark("snap"))),
    )


def packets():
    me, web = it["ip"], it["web"]
    for name, protocol in [
        ("proto-ipip", 4), ("proto-gre", 47), ("proto-esp", 50), ("proto-sctp", 132),
        ("proto-udplite", 136), ("proto-254", 254),
    ]:
        send(GATE, ME, IP, ip(me, web, protocol, b"\0\x50\0\x50\0\0\0\0" + mark(name)))
    for name, kind, code in [
        ("icmp-redirect", 5, 1), ("icmp-timestamp", 13, 0), ("icmp-mask", 17, 0),
        ("icmp-router", 9, 0), ("icmp-reply", 0, 0),
    ]:
        send(GATE, ME, IP, ip(me, web, 1, icmp(kind, code, mark(name))))
    fake = ip(it["peer_ip"], web, 6, tcp(it["peer_ip"], web, 443, b""))[:28]
    send(GATE, ME, IP, ip(me, it["peer_ip"], 1, icmp(3, 4, fake + mark("icmp-too-big-forged"))))
    send(GATE, ME, IP, ip(me, it["gateway"], 1, icmp(5, 1, fake + mark("icmp-redirect-host"))))
    route = b"\x83\x07\x04" + socket.inet_aton(it["private"]) + b"\0"
    send(GATE, ME, IP, ip(me, web, 17, udp(me, web, 53, mark("source-route")), options=route))
    send(GATE, ME, IP, ip(me, "127.0.0.1", 17, udp(me, "127.0.0.1", 53, mark("to-loopback"))))
    send(GATE, ME, IP, ip(me, "0.0.0.0", 17, udp(me, "0.0.0.0", 53, mark("to-zero"))))
    send(GATE, ME, IP, ip(me, "224.0.0.1", 17, udp(me, "224.0.0.1", 53, mark("to-group-routed"))))
    send(GATE, ME, IP, ip(me, "240.0.0.1", 6, tcp(me, "240.0.0.1", 80, mark("to-reserved"))))
    send(
        GATE, ME, IP,
        ip(me, it["private"], 6, tcp(me, it["private"], 80, mark("private-ack"), flags=16)),
    )
    send(GATE, ME, IP, ip(me, web, 6, tcp(me, web, 8080, mark("port-ack"), flags=16)))
    send(GATE, ME, IP, ip(me, web, 6, tcp(me, web, 8080, mark("port-synack"), flags=18)))


def fragments():
    me, web, more = it["ip"], it["web"], 0x2000

    def cut(to, body, at, ident):
        send(GATE, ME, IP, ip(me, to, 6, body[:at], more, ident))
        send(GATE, ME, IP, ip(me, to, 6, body[at:], at // 8, ident))

    cut(it["private"], tcp(me, it["private"], 80, mark("fragment-private")), 8, 101)
    cut(web, tcp(me, web, 8080, mark("fragment-port")), 8, 102)
    cut(it["node"], tcp(me, it["node"], 80, mark("fragment-node")), 16, 103)
    # The port of the first fragment is allowed, the one that a second writes over it isn't.
    real = tcp(me, web, 8080, mark("fragment-overlap"))
    send(GATE, ME, IP, ip(me, web, 6, tcp(me, web, 80, b"")[:16], more, 104))
    send(GATE, ME, IP, ip(me, web, 6, real[:16], more, 104))
    send(GATE, ME, IP, ip(me, web, 6, real[16:], 2, 104))
    send(GATE, ME, IP, ip(me, web, 6, mark("fragment-later-only"), 5, 105))
    send(GATE, ME, IP, ip(me, it["peer_ip"], 17, mark("fragment-neighbour") * 3, 5, 106))
    send(
        PEER, ME, IP,
        ip(
            me, it["peer_ip"], 17,
            udp(me, it["peer_ip"], 8000, mark("fragment-layer2") * 2)[:32], more, 107,
        ),
    )


# What is permitted: without it, nothing below shows anything.
syn("control")
for attacks in (spoofed, neighbours, six, framing, packets, fragments):
    attacks()
syn("control-end")
print("sent", *sorted(marks))
