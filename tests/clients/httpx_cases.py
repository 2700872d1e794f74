"""httpx over HTTP/1.1 and HTTP/2: bodies that come piece by piece, both ways, and server-sent events."""

import asyncio
import ssl

import httpx
from origin import Origin
from place import PATIENCE, Proxy, equal, wait_for

# Whether HTTP/1.1 is offered, HTTP/2 is offered, and TLS is spoken. HTTP/2 alone, in the clear, is prior knowledge.
WAYS = {
    "http1": (True, False, False),
    "h2c": (False, True, False),
    "https1": (True, False, True),
    "h2": (True, True, True),
}


class Client:
    """httpx on one way into the proxy, and the origin behind it."""

    def __init__(self, origin, proxy, certificates, way):
        http1, http2, secure = WAYS[way]
        self.origin = origin
        self.name = way
        self.version = "HTTP/2" if http2 else "HTTP/1.1"
        url = f"https://localhost:{proxy.ports[1]}" if secure else f"http://127.0.0.1:{proxy.ports[0]}"
        trust = ssl.create_default_context(cafile=certificates.ca)
        self.options = {
            "base_url": url,
            "http1": http1,
            "http2": http2,
            "verify": trust,
            "trust_env": False,
            "timeout": PATIENCE,
        }

    def plain(self):
        return httpx.Client(**self.options)

    def asynchronous(self):
        return httpx.AsyncClient(**self.options)


def all_methods_and_their_bodies_arrive(client):
    with client.plain() as session:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            content = b"" if method in ("GET", "OPTIONS") else b"content"
            answer = session.request(method, "/echo?q=%C3%A4", content=content, headers={"x-custom": "a b"})
            equal((answer.status_code, answer.http_version), (200, client.version))
            told = answer.json()
            equal((told["method"], told["target"], told["body"].encode()), (method, "/echo?q=%C3%A4", content))
            equal(told["headers"]["x-custom"], ["a b"])
        answer = session.head("/bytes?100")
        equal((answer.headers["content-length"], answer.content), ("100", b""))


def an_upload_is_passed_on_while_it_comes(client):
    """A piece is only made once the origin has the one before it."""
    name, piece = f"{client.name}-up", b"p" * 1000

    def pieces():
        for number in range(20):
            yield piece
            wait_for(
                lambda: client.origin.taken.get(name) == (number + 1) * len(piece), f"piece {number} at the origin"
            )

    with client.plain() as session:
        answer = session.post(f"/up?{name}", content=pieces())
    equal((answer.status_code, answer.text), (200, "20000"))


def a_large_upload_of_unknown_length_is_whole(client):
    with client.plain() as session:
        answer = session.post(f"/up?{client.name}-large", content=(bytes(100_000) for _ in range(80)))
    equal((answer.status_code, answer.text), (200, "8000000"))


def an_answer_is_passed_on_while_it_comes(client):
    """The origin sends a piece only once the client has the one before it."""
    name, seen = f"{client.name}-down", b""
    with client.plain() as session, session.stream("GET", f"/down?{name}") as answer:
        pieces = answer.iter_raw()
        for number in range(10):
            client.origin.gate(name)
            seen += next(pieces)
            equal(seen, b"".join(b"%d" % one for one in range(number + 1)))
        equal(b"".join(pieces), b"")


def events_arrive_one_by_one(client):
    """The origin sends an event only once the client has the one before it."""
    name, seen = f"{client.name}-events", []
    with (
        client.plain() as session,
        session.stream("GET", f"/events?{name}", headers={"accept": "text/event-stream"}) as answer,
    ):
        equal(answer.headers["content-type"], "text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(line)
            if not line:
                client.origin.gate(name)
    equal(seen, [f"data: event {number}" for number in range(10)])


def a_reader_that_goes_is_seen_by_the_origin(client):
    name = f"{client.name}-gone"
    with client.plain() as session, session.stream("GET", f"/gone?{name}") as answer:
        next(answer.iter_raw())
        equal(client.origin.taken[name], "here")
    wait_for(lambda: client.origin.taken[name] == "gone", "the abort, at the origin")


def an_answer_that_is_cut_is_an_error(client):
    with client.plain() as session:
        try:
            answer = session.get("/cut")
        except httpx.RemoteProtocolError:
            return
    raise AssertionError(f"{answer.status_code} with {len(answer.content)} bytes looked whole")


def a_body_over_the_routes_bound_is_413(client):
    with client.plain() as session:
        answer = session.post("/small", content=bytes(100_000))
        equal((answer.status_code, answer.headers["strangler-error"]), (413, "body_too_large"))
        equal(session.get("/echo").status_code, 200)


def cookies_and_redirects_are_left_alone(client):
    with client.plain() as session:
        answer = session.get("/echo", cookies={"a": "1", "b": "2"})
    equal("; ".join(answer.json()["headers"]["cookie"]), "a=1; b=2")


def many_requests_at_once_are_all_answered(client):
    async def all_of_them():
        async with client.asynchronous() as session:
            answers = await asyncio.gather(
                *(session.post(f"/echo?{number}", content=b"%d" % number) for number in range(300))
            )
            return [(answer.status_code, answer.json()["body"]) for answer in answers]

    equal(asyncio.run(all_of_them()), [(200, str(number)) for number in range(300)])
    return "300 at once"


EACH = [
    all_methods_and_their_bodies_arrive,
    an_upload_is_passed_on_while_it_comes,
    a_large_upload_of_unknown_length_is_whole,
    an_answer_is_passed_on_while_it_comes,
    events_arrive_one_by_one,
    a_reader_that_goes_is_seen_by_the_origin,
    an_answer_that_is_cut_is_an_error,
    cookies_and_redirects_are_left_alone,
    many_requests_at_once_are_all_answered,
]


def run(report, folder, certificates):
    with Origin() as origin:
        routes = f"""version: 1
legacy: http://127.0.0.1:{origin.port}
routes:
  - {{name: small, match: /small, extracted: "http://127.0.0.1:{origin.port}", weight: 100%, max_body: 1KiB}}
"""
        with Proxy(folder / "httpx", routes, [Proxy.CLEAR, Proxy.over_tls(certificates.shop)]) as proxy:
            for way in WAYS:
                client = Client(origin, proxy, certificates, way)
                for test in EACH:
                    report.case(f"httpx {way}: {test.__name__.replace('_', ' ')}", test, client)
                # Over HTTP/2 the answer is followed by RST_STREAM(NO_ERROR), as RFC 9113 §8.1 has it. httpx 0.28 takes
                # that for an error.
                if not WAYS[way][1]:
                    test = a_body_over_the_routes_bound_is_413
                    report.case(f"httpx {way}: {test.__name__.replace('_', ' ')}", test, client)
