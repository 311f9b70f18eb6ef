# In the guest: `fetch.py get|put ADDRESS:PORT BYTES` moves that many bytes and says how many
# milliseconds it took. `fetch.py hog ADDRESS:PORT` sends all it can until it is ended. It opens
# connections without end and sends datagrams.
import socket
import sys
import time

verb, name = sys.argv[1:3]
address, _, port = name.rpartition(":")
to = (address, int(port))
if verb == "hog":
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held = []
    print("begun", flush=True)
    while True:
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(to)
        held = held[-900:] + [connection]
        for _ in range(50):
            try:
                datagrams.sendto(b"." * 1400, (address, 443))
            except OSError:
                pass
count = int(sys.argv[3])
began = time.monotonic()
connection = socket.create_connection(to, timeout=30)
connection.sendall(b"%s %d\n" % (verb.encode(), count))
if verb == "put":
    connection.sendall(b"." * count)
    assert connection.recv(10) == b"done\n"
else:
    while count > 0:
        said = connection.recv(1 << 16)
        assert said, "cut off"
        count -= len(said)
print(round((time.monotonic() - began) * 1000))
