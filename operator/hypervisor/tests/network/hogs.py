# In the guest: `hogs.py stream|flood|connect ADDRESS:PORT` takes all that it can get until it is
# ended.
import socket
import sys
import threading

verb, name = sys.argv[1:3]
address, _, port = name.rpartition(":")
to = (address, int(port))


def stream(way):
    # Whoever is on the other side gives up when this machine stands still for a while.
    while True:
        try:
            connection = socket.create_connection(to, timeout=5)
            connection.sendall(b"%s %d\n" % (way, 1 << 40))
            while connection.send(b"." * (1 << 16)) if way == b"put" else connection.recv(1 << 16):
                pass
        except OSError:
            pass


def flood():
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((address, 9))
    while True:
        try:
            datagrams.send(b".")
        except OSError:
            pass


def connect():
    held = []
    while True:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(to)
        held = held[-900:] + [connection]


if verb == "stream":
    threading.Thread(target=stream, args=[b"get"], daemon=True).start()
    stream(b"put")
{"flood": flood, "connect": connect}[verb]()
