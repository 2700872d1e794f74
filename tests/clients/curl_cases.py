"""curl on HTTP/1.1 and HTTP/2, in the clear and over TLS, and what people get when they ask wrongly."""

import json
import subprocess

from origin import Origin
from place import PATIENCE, Proxy, equal, true, wait_for

VERSIONS = {"http1": "1.1", "h2c": "2", "https1": "1.1", "h2": "2"}


class Curl:
    """curl against one way into the proxy."""

    def __init__(self, folder, url, *arguments):
        self.folder = folder
        self.url = url
        self.extra = arguments
        # `-q` and `--noproxy`: nothing of the tester's own settings.
        self.arguments = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *arguments]

    def fetch(self, target, *arguments, stdin=b""):
        """Status, version, body, head and what curl told of its doings."""
        body, head = self.folder / "body", self.folder / "head"
        body.unlink(missing_ok=True)
        asked = [*self.arguments, "-v", "-o", body, "-D", head, "-w", "%{json}", *arguments, self.url + target]
        done = subprocess.run(asked, input=stdin, capture_output=True, timeout=2 * PATIENCE, check=False)
        told = done.stderr.decode("latin-1")
        if done.returncode:
            raise CurlError(done.returncode, told)
        return Answer(json.loads(done.stdout), body, head.read_bytes().decode("latin-1"), told)

    def fails(self, codes, target, *arguments, stdin=b""):
        """curl must end with one of these codes of its own."""
        try:
            answer = self.fetch(target, *arguments, stdin=stdin)
        except CurlError as error:
            true(error.code in codes, str(error))
        else:
            raise AssertionError(f"{answer.status} was answered")


class CurlError(Exception):
    def __init__(self, code, told):
        super().__init__(f"curl ended with {code}: {told.strip().splitlines()[-1] if told.strip() else ''}")
        self.code = code


class Answer:
    def __init__(self, figures, body, head, told):
        self.figures = figures
        self.status = figures["http_code"]
        self.version = figures["http_version"]
        self.body = body.read_bytes() if body.exists() else b""
        self.head = head.lower()
        self.told = told

    @property
    def json(self):
        return json.loads(self.body)


def a_get_is_answered_in_its_own_version(curl, version):
    answer = curl.fetch("/echo?a=b")
    equal((answer.status, answer.version, answer.json["target"]), (200, version, "/echo?a=b"))


def a_head_has_no_body_and_tells_its_length(curl):
    answer = curl.fetch("/bytes?1234", "-I")
    equal((answer.status, answer.figures["size_download"]), (200, 0))
    true("content-length: 1234\r\n" in answer.head, answer.head)


def bodies_come_back_whole(curl):
    for size in (0, 1, 65_536, 5_000_000):
        answer = curl.fetch(f"/bytes?{size}")
        equal((answer.status, len(answer.body)), (200, size))


def a_file_is_taken_whole(curl):
    for size in (0, 1, 100_000, 5_000_000):
        answer = curl.fetch("/echo", "-X", "POST", "--data-binary", "@-", stdin=b"u" * size)
        equal((answer.status, answer.json["bytes"]), (200, size))


def a_body_of_unknown_length_is_taken_whole(curl):
    answer = curl.fetch("/echo", "-T", "-", stdin=b"u" * 300_000)
    equal((answer.status, answer.json["method"], answer.json["bytes"]), (200, "PUT", 300_000))


def trailers_of_an_answer_arrive(curl):
    answer = curl.fetch("/trailers", "-H", "TE: trailers")
    equal((answer.status, answer.body), (200, b"body"))
    true("x-sum: 4711" in answer.head, answer.head)


def one_connection_serves_many_requests(curl):
    # The first URL is the caller's; the others follow on the same connection.
    urls = [part for number in range(50) for part in ("-o", "/dev/null", f"{curl.url}/echo?{number}")]
    done = subprocess.run(
        [*curl.arguments, "-w", "%{http_code} %{num_connects}\n", *urls],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    equal(done.stdout.decode().split("\n")[:-1], ["200 1"] + ["200 0"] * 49)


def many_requests_at_once_are_all_answered(curl):
    urls = [part for number in range(100) for part in ("-o", "/dev/null", f"{curl.url}/echo?{number}")]
    done = subprocess.run(
        [*curl.arguments, "-Z", "-w", "%{http_code}\n", *urls], capture_output=True, timeout=PATIENCE, check=True
    )
    equal(done.stdout.decode().split(), ["200"] * 100)


def a_wrong_path_is_refused_with_a_reason(curl):
    answer = curl.fetch("/a/../echo", "--path-as-is")
    equal(answer.status, 400)
    true("strangler-error: dot_segment" in answer.head and "application/problem+json" in answer.head, answer.head)


def a_body_over_the_routes_bound_is_413(curl):
    answer = curl.fetch("/small", "--data-binary", "@-", stdin=b"u" * 100_000)
    equal(answer.status, 413)


def a_cut_answer_does_not_look_whole(curl):
    # Fewer bytes than promised, nothing at all, a reset, a stream that was reset.
    curl.fails((18, 52, 56, 92), "/cut")


EACH = [
    a_head_has_no_body_and_tells_its_length,
    bodies_come_back_whole,
    a_file_is_taken_whole,
    a_body_of_unknown_length_is_taken_whole,
    trailers_of_an_answer_arrive,
    a_wrong_path_is_refused_with_a_reason,
    a_cut_answer_does_not_look_whole,
]


def a_body_waits_for_100_continue(curl):
    answer = curl.fetch("/echo", "-H", "Expect: 100-continue", "--data-binary", "@-", stdin=b"u" * 100_000)
    equal((answer.status, answer.json["bytes"]), (200, 100_000))
    true("100 continue" in answer.head, answer.head)


def a_body_that_is_not_wanted_is_not_sent(curl):
    patient = ("-H", "Expect: 100-continue", "--expect100-timeout", "15")
    answer = curl.fetch("/small", *patient, "--data-binary", "@-", stdin=b"u" * 100_000)
    equal((answer.status, answer.figures["size_upload"]), (413, 0))
    true("100 continue" not in answer.head, answer.head)


def an_answer_before_the_body_has_ended_arrives(curl):
    # Within what the proxy still takes of a body that nobody wants: beyond it a reset may overtake the answer.
    answer = curl.fetch("/refuse", "-T", "-", stdin=b"u" * 500_000)
    equal((answer.status, answer.body), (403, b"no"))


def another_expectation_is_417(curl):
    equal(curl.fetch("/echo", "-H", "Expect: miracles", "-d", "x").status, 417)


def http_1_0_is_answered_and_closed(curl):
    answer = curl.fetch("/echo", "--http1.0")
    equal(answer.status, 200)
    true("Closing connection" in answer.told, answer.told)


def an_offer_of_h2c_by_upgrade_is_answered_in_http_1(curl):
    answer = curl.fetch("/echo", "--http2")
    equal((answer.status, answer.version), (200, "1.1"))


def a_host_other_than_the_connections_is_421(curl):
    answer = curl.fetch("/echo", "-H", "Host: other.test")
    equal(answer.status, 421)
    true("strangler-error: misdirected" in answer.head, answer.head)


def each_name_gets_its_certificate(curl, port):
    # curl holds the certificate against the name: the wrong one would be error 60.
    other = Curl(curl.folder, f"https://other.test:{port}", *curl.extra, "--connect-to", f"::127.0.0.1:{port}")
    equal([curl.fetch("/echo").status, other.fetch("/echo").status], [200, 200])


def old_tls_is_refused_and_1_2_and_1_3_are_taken(curl):
    equal(curl.fetch("/echo", "--tls-max", "1.2").status, 200)
    equal(curl.fetch("/echo", "--tlsv1.3").status, 200)
    curl.fails((35,), "/echo", "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")


def a_client_without_a_certificate_is_refused(curl):
    # With TLS 1.3 a client learns of it only once it reads.
    curl.fails((35, 52, 55, 56, 92), "/echo")


def a_client_with_a_certificate_is_known(curl, certificates):
    cert, key = certificates.client
    answer = curl.fetch("/echo", "--cert", cert, "--key", key)
    equal(answer.status, 200)
    return answer.json["headers"]["strangler-client-subject"][0]


def the_client_of_a_proxy_header_is_told_upstream(curl):
    answer = curl.fetch("/echo", "--haproxy-protocol", "--interface", "127.0.0.7")
    equal(answer.json["headers"]["x-forwarded-for"], ["127.0.0.7"])


def a_connection_without_a_proxy_header_is_closed(curl):
    curl.fails((52, 56), "/echo")


def an_abort_is_seen_by_the_origin(curl, origin, name):
    asked = [*curl.arguments, "-o", "/dev/null", f"{curl.url}/gone?{name}"]
    with subprocess.Popen(asked, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: origin.taken.get(name), "the request, at the origin")
        finally:
            process.terminate()
    wait_for(lambda: origin.taken[name] == "gone", "the abort, at the origin")


def run(report, folder, certificates):
    with Origin() as origin:
        routes = f"""version: 1
legacy: http://127.0.0.1:{origin.port}
routes:
  - {{name: small, match: /small, extracted: "http://127.0.0.1:{origin.port}", weight: 100%, max_body: 1KiB}}
"""
        both = (certificates.shop, certificates.other)
        listeners = [
            Proxy.CLEAR,
            Proxy.over_tls(*both),
            Proxy.over_tls(*both, more=f", client_ca: {certificates.ca}, client_subject: true"),
            "{address: 127.0.0.1:0, proxy_protocol: true}",
        ]
        with Proxy(folder / "curl", routes, listeners, "trusted_proxies: [127.0.0.7/32]\n") as proxy:
            run_before(report, folder, certificates, proxy, origin)


def run_before(report, folder, certificates, proxy, origin):
    clear, tls, mutual, behind = proxy.ports
    ca = ("--cacert", certificates.ca)
    ways = {
        "http1": Curl(folder, f"http://127.0.0.1:{clear}"),
        "h2c": Curl(folder, f"http://127.0.0.1:{clear}", "--http2-prior-knowledge"),
        "https1": Curl(folder, f"https://localhost:{tls}", "--http1.1", *ca),
        "h2": Curl(folder, f"https://localhost:{tls}", "--http2", *ca),
    }

    def case(way, test, *arguments):
        report.case(f"curl {way}: {test.__name__.replace('_', ' ')}", test, *arguments)

    for way, curl in ways.items():
        case(way, a_get_is_answered_in_its_own_version, curl, VERSIONS[way])
        for test in EACH:
            case(way, test, curl)
        case(way, an_abort_is_seen_by_the_origin, curl, origin, way)
    for way in ("http1", "https1", "h2"):
        # Not h2c: curl 7.88 fails by itself when it uses such a connection again.
        case(way, one_connection_serves_many_requests, ways[way])
        case(way, many_requests_at_once_are_all_answered, ways[way])
    for way in ("http1", "https1"):
        # Over HTTP/2 the answer is followed by RST_STREAM(NO_ERROR), as RFC 9113 §8.1 has it. curl 7.88 takes that for
        # an error.
        case(way, a_body_over_the_routes_bound_is_413, ways[way])
        case(way, a_body_waits_for_100_continue, ways[way])
        case(way, a_body_that_is_not_wanted_is_not_sent, ways[way])
        case(way, an_answer_before_the_body_has_ended_arrives, ways[way])
        case(way, another_expectation_is_417, ways[way])
        case(way, http_1_0_is_answered_and_closed, ways[way])
    case("http1", an_offer_of_h2c_by_upgrade_is_answered_in_http_1, ways["http1"])
    for way in ("https1", "h2"):
        case(way, a_host_other_than_the_connections_is_421, ways[way])
        case(way, each_name_gets_its_certificate, ways[way], tls)
        case(way, old_tls_is_refused_and_1_2_and_1_3_are_taken, ways[way])
    for version in ("--http1.1", "--http2"):
        curl = Curl(folder, f"https://localhost:{mutual}", version, *ca)
        case(f"mTLS {version[2:]}", a_client_without_a_certificate_is_refused, curl)
        case(f"mTLS {version[2:]}", a_client_with_a_certificate_is_known, curl, certificates)
    for version in ("--http1.1", "--http2-prior-knowledge"):
        curl = Curl(folder, f"http://127.0.0.1:{behind}", version)
        case(f"PROXY {version[2:]}", the_client_of_a_proxy_header_is_told_upstream, curl)
    case("PROXY", a_connection_without_a_proxy_header_is_closed, Curl(folder, f"http://127.0.0.1:{behind}"))
