"""Real clients and servers through the built proxy. One line a case; exit 1 when one failed.

usage: run.py [PART OF A CASE'S NAME]    STRANGLER=path of the binary; default target/debug/strangler
"""

import faulthandler
import importlib
import sys
import time

from place import Report, place

SETS = ["grpc", "curl", "httpx", "websocket", "load"]
# Far beyond what all of it takes: a case that hangs must end the run, and say where it hung.
SECONDS_MAX = 600


def main():
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
    report, began = Report(sys.argv[1] if len(sys.argv) > 1 else ""), time.monotonic()
    with place() as (folder, certificates):
        for name in SETS:
            if report.only and not report.only.startswith(name):
                continue
            importlib.import_module(f"{name}_cases").run(report, folder, certificates)
    for name in report.failed:
        print(f"failed: {name}")
    print(f"{report.passed} passed, {len(report.failed)} failed, {time.monotonic() - began:.0f} s")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
