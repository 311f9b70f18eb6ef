# In the guest: holds a connection to each argument (ADDRESS:PORT) and talks over all of them until
# one falls silent, or for a minute. In the end it says for each: `ADDRESS:PORT talks | silent`.
import socket
import sys
import time

SILENT, LAST = 5, 60
held = {}
for name in sys.argv[1:]:
    address, _, port = name.rpartition(":")
    held[name] = socket.create_connection((address, int(port)), timeout=30)
    held[name].settimeout(SILENT)

end, silent = time.monotonic() + LAST, set()
while time.monotonic() < end and not silent:
    for name, connection in held.items():
        try:
            connection.sendall(b"still there\n")
            if not connection.recv(100):
                silent.add(name)
        except OSError:
            silent.add(name)
    time.sleep(0.02)
# Whoever talks now has outlived what silenced the other.
for name, connection in held.items():
    if name not in silent:
        try:
            connection.sendall(b"and now\n")
            assert connection.recv(100)
        except (OSError, AssertionError):
            silent.add(name)
    print(name, "silent" if name in silent else "talks")
