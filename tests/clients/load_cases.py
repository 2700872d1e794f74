"""h2load: many requests, none failed; also while the routes file changes under it."""

import re
import subprocess
import threading

from origin import Origin
from place import PATIENCE, Proxy, equal, opener, true, wait_for

REQUESTS = 20_000
# Of one run among reloads; runs follow each other until the last reload.
REQUESTS_BETWEEN = 5_000
RELOADS = 20
SUMMARY = re.compile(
    r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
)


class Load:
    """h2load on one way into the proxy."""

    def __init__(self, url, *arguments):
        # It takes any certificate; that ours is right, other clients show.
        self.asked = ["h2load", "-c", "20", "-t", "1", *arguments, f"{url}/load"]

    def run(self, requests=REQUESTS):
        """How many succeeded; all must have, with a status of 2xx."""
        done = subprocess.run(
            [*self.asked, "-n", str(requests)], capture_output=True, text=True, timeout=100, check=True
        )
        found = SUMMARY.search(done.stdout)
        true(found, f"no summary: {done.stdout}{done.stderr}")
        equal([int(one) for one in found.groups()], [requests] * 4 + [0] * 3)
        true(f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx" in done.stdout, done.stdout)
        return requests


def all_requests_succeed(load):
    return f"{load.run()} requests, 0 failed"


def reloads_fail_no_request(loads, proxy, routes):
    """Each way is asked again and again until the last reload is in force."""
    stop, done, failed = threading.Event(), [], []

    def ask(load):
        try:
            while not stop.is_set():
                done.append(load.run(REQUESTS_BETWEEN))
        except Exception as error:
            # Told below: a thread has nobody else to tell.
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(load,)) for load in loads]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, RELOADS + 1):
            proxy.write_routes(routes(number))
            wait_for(lambda: tag(proxy) == f"v{number}", f"reload {number}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]
    return f"{RELOADS} reloads, {sum(done)} requests, 0 failed"


def tag(proxy):
    """What the routes file in force puts on an answer."""
    with opener().open(f"http://127.0.0.1:{proxy.ports[0]}/load", timeout=PATIENCE) as answer:
        return answer.headers["x-tag"]


def run(report, folder, certificates):
    with Origin() as origin:

        def routes(number):
            """Each time another weight, another header and another route beside it."""
            return f"""version: 1
upstreams:
  service: {{endpoints: ["http://127.0.0.1:{origin.port}"], max_in_flight: {1000 + number}}}
legacy: http://127.0.0.1:{origin.port}
removed: [beside-{number - 1}]
routes:
  - name: load
    match: /load
    extracted: service
    weight: {50 + number}%
    response_headers: {{set: {{x-tag: v{number}}}}}
  - {{name: beside-{number}, match: "/beside/{number}", extracted: service, weight: 1%}}
"""

        with Proxy(folder / "load", routes(0), [Proxy.CLEAR, Proxy.over_tls(certificates.shop)]) as proxy:
            clear, tls = f"http://127.0.0.1:{proxy.ports[0]}", f"https://localhost:{proxy.ports[1]}"
            ways = {
                "http1": Load(clear, "--h1"),
                "h2c": Load(clear, "-m", "10"),
                "h2": Load(tls, "-m", "10"),
            }
            for way, load in ways.items():
                report.case(f"load {way}: all requests succeed", all_requests_succeed, load)
            loads = [ways["http1"], ways["h2"]]
            report.case("load http1 and h2: reloads fail no request", reloads_fail_no_request, loads, proxy, routes)
