# On the host: says for each frame that carries a mark where it was seen, as `LINK in|out NAME`. `in`: received from the link,
# `out`: sent to it. A machine's frames are always `in` on its own tap; anything else is the way they took from there.
import re
import socket

ETH_P_ALL, OUTGOING = 3, 4
MARK = re.compile(rb"ESC:([a-z0-9-]+);")

spy = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
spy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
print("ready", flush=True)
while True:
    frame, (link, _, way, _, _) = spy.recvfrom(2048)
    found = MARK.search(frame)
    if found:
        print(link, "out" if way == OUTGOING else "in", found[1].decode(), flush=True)
