"""What is asked of the process table, as a Python programmer would do it with psutil.

As a program it does so again and again and prints how long each time took, in seconds.
"""

import sys
import time

import psutil


def position(name):
    """Bytes written by the dd that copies volume `name`, or None.

    As quick as it can be: the command line is read of processes called dd only.
    """
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != "dd":
            continue
        try:
            arguments = process.cmdline()
            if any(a.startswith("if=") and name in a for a in arguments):
                with open("/proc/%d/fdinfo/1" % process.pid) as fdinfo:
                    return int(fdinfo.readline().split()[1])
        except (psutil.Error, OSError):
            continue
    return None


def main():
    name, times = sys.argv[1], int(sys.argv[2])
    # The first one fills psutil's cache of processes.
    for _ in range(times + 1):
        begun = time.perf_counter()
        found = position(name)
        print(time.perf_counter() - begun, found, flush=True)


if __name__ == "__main__":
    main()
