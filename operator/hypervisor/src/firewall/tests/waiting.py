"""A machine's end of a tap that reads nothing until it is told to: waiting.py TAP

Says "plugged in"; for each line that it is given, how many frames were there."""

import fcntl
import os
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP = 2
IFF_NO_PI = 0x1000

tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TAP | IFF_NO_PI))
print("plugged in", flush=True)
for _ in sys.stdin:
    frames = 0
    while True:
        try:
            os.read(tap, 2048)
        except BlockingIOError:
            break
        frames += 1
    print(frames, flush=True)
