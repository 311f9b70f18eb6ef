# On the host, as root: puts a datagram on a machine's wire, past all rules. The arguments are TAP,
# MAC and address of the machine; then MAC, address and port of the one who says it; then the
# machine's port.
import socket
import struct
import sys

tap, mac, address, from_mac, source, from_port, port = sys.argv[1:]
udp = struct.pack("!HHHH", int(from_port), int(port), 8, 0)
ends = socket.inet_aton(source) + socket.inet_aton(address)
head = lambda check: struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, check) + ends
total = sum(struct.unpack("!10H", head(0)))
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
ethernet = bytes.fromhex((mac + from_mac).replace(":", "")) + b"\x08\x00"
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((tap, 0))
wire.send(ethernet + head(~total & 0xFFFF) + udp)
