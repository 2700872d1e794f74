"""gRPC's own library as client and as server, through the proxy: in the clear and over TLS, on both sides."""

import concurrent.futures
import itertools
import threading

import grpc
from place import PATIENCE, Proxy, Signal, closed_port, equal, true

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
ALL_BYTES = bytes(range(256))
DETAILS = "100 % wrong: ä €\nsecond line"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # A server of another case on the same port must not be taken for this one, nor a channel shared.
    ("grpc.so_reuseport", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class Service(grpc.GenericRpcHandler):
    """Methods of all four kinds, on bytes: there is no protobuf in between."""

    def __init__(self):
        # Events by the name that a call's metadata gives; the test and the server share them.
        self.events = {}
        methods = [
            grpc.unary_unary_rpc_method_handler(self.echo),
            grpc.unary_unary_rpc_method_handler(self.fail),
            grpc.unary_unary_rpc_method_handler(self.metadata),
            grpc.unary_unary_rpc_method_handler(self.hang),
            grpc.unary_stream_rpc_method_handler(self.count),
            grpc.unary_stream_rpc_method_handler(self.break_off),
            grpc.unary_stream_rpc_method_handler(self.gated),
            grpc.unary_stream_rpc_method_handler(self.endless),
            grpc.stream_unary_rpc_method_handler(self.join),
            grpc.stream_unary_rpc_method_handler(self.hear_nothing),
            grpc.stream_stream_rpc_method_handler(self.echo_each),
        ]
        kinds = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
        self.methods = {
            getattr(method, kind).__name__: method for method in methods for kind in kinds if getattr(method, kind)
        }

    def service(self, details):
        return self.methods.get(details.method.rpartition("/")[2])

    def event(self, context):
        return self.events[dict(context.invocation_metadata())["event"]]

    def echo(self, message, _context):
        return message

    def fail(self, message, context):
        context.set_trailing_metadata((("why", "asked for"), ("why-bin", ALL_BYTES)))
        context.abort(CODES[message[0]], DETAILS)

    def metadata(self, _message, context):
        given = [(name, value) for name, value in context.invocation_metadata() if name.startswith("m-")]
        context.send_initial_metadata(given)
        context.set_trailing_metadata(given)
        return repr(sorted(given)).encode()

    def hang(self, _message, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        seen = self.event(context)
        if ended.wait(PATIENCE):
            seen.set()
        return b"too late"

    def count(self, message, _context):
        yield from (b"%d" % number for number in range(int(message)))

    def break_off(self, message, context):
        yield from self.count(message, context)
        context.set_trailing_metadata((("after", message.decode()),))
        context.abort(grpc.StatusCode.DATA_LOSS, DETAILS)

    def gated(self, message, context):
        """The next message goes out only once the client has said that it has the last one."""
        gate = self.event(context)
        context.send_initial_metadata((("x-first", "head"),))
        for number in range(int(message)):
            gate.must_come(f"the client's word for {number}")
            gate.clear()
            yield b"%d" % number

    def endless(self, _message, context):
        context.add_callback(self.event(context).set)
        while context.is_active():
            yield bytes(10_000)

    def join(self, messages, _context):
        return b",".join(messages)

    def hear_nothing(self, _messages, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "nothing was read")

    def echo_each(self, messages, context):
        seen = 0
        for message in messages:
            seen += 1
            yield message
        context.set_trailing_metadata((("messages", str(seen)),))


class Caller:
    """A channel to one service behind the proxy."""

    def __init__(self, channel, name, service):
        self.channel = channel
        self.name = name
        self.service = service
        self.numbers = itertools.count()

    def call(self, kind, method, messages, **more):
        more.setdefault("timeout", PATIENCE)
        return getattr(self.channel, kind)(f"/{self.name}/{method}")(messages, **more)

    def event(self):
        """An event for one call, and the metadata that names it."""
        event, name = Signal(), f"{self.name}-{next(self.numbers)}"
        self.service.events[name] = event
        return event, (("event", name),)


def fails(code, call):
    """The error with which this ends."""
    try:
        seen = call()
    except grpc.RpcError as error:
        true(error.code() == code, f"{error.code()} ({error.details()}) instead of {code}")
        return error
    raise AssertionError(f"{code} was expected, not an answer: {seen!r}")


def messages_of_any_size_come_back(caller):
    for size in (0, 1, 16_383, 16_384, 65_536, 1_000_000, 8_000_000):
        equal(caller.call("unary_unary", "echo", bytes(size)), bytes(size))


def compressed_messages_come_back(caller):
    message = b"compress me " * 10_000
    equal(caller.call("unary_unary", "echo", message, compression=grpc.Compression.Gzip), message)


def every_status_comes_with_its_message_and_trailers(caller):
    for index, code in enumerate(CODES):
        error = fails(code, lambda: caller.call("unary_unary", "fail", bytes([index])))
        equal(error.details(), DETAILS)
        trailing = dict(error.trailing_metadata())
        equal((trailing["why"], trailing["why-bin"]), ("asked for", ALL_BYTES))
    return f"{len(CODES)} statuses"


def metadata_goes_there_and_back(caller):
    given = [("m-text", "a, b"), ("m-text", "c"), ("m-empty", "")]
    given += [("m-all-bin", ALL_BYTES), ("m-two-bin", b"\0"), ("m-two-bin", b"\xff\xfe")]
    method = caller.channel.unary_unary(f"/{caller.name}/metadata")
    answer, call = method.with_call(b"", metadata=given, timeout=PATIENCE)
    equal(answer, repr(sorted(given)).encode())
    for seen in (call.initial_metadata(), call.trailing_metadata()):
        equal(sorted((name, value) for name, value in seen if name.startswith("m-")), sorted(given))


def an_unknown_method_is_unimplemented(caller):
    fails(grpc.StatusCode.UNIMPLEMENTED, lambda: caller.call("unary_unary", "nothing", b""))


def a_stream_down_is_whole(caller):
    equal(list(caller.call("unary_stream", "count", b"2000")), [b"%d" % number for number in range(2000)])
    equal(list(caller.call("unary_stream", "count", b"0")), [])


def a_stream_that_breaks_off_says_so_after_its_messages(caller):
    call, seen = caller.call("unary_stream", "break_off", b"5"), []
    error = fails(grpc.StatusCode.DATA_LOSS, lambda: seen.extend(call))
    equal((len(seen), error.details(), dict(error.trailing_metadata())["after"]), (5, DETAILS, "5"))


def head_and_messages_come_one_by_one(caller):
    gate, metadata = caller.event()
    call = caller.call("unary_stream", "gated", b"5", metadata=metadata)
    equal(dict(call.initial_metadata())["x-first"], "head")
    for number in range(5):
        gate.set()
        equal(next(call), b"%d" % number)
    equal(list(call), [])


def a_stream_up_is_whole(caller):
    sent = [b"%d" % number for number in range(2000)]
    equal(caller.call("stream_unary", "join", iter(sent)), b",".join(sent))
    equal(caller.call("stream_unary", "join", iter([])), b"")
    large = [bytes(1_000_000)] * 20
    equal(len(caller.call("stream_unary", "join", iter(large))), 20_000_019)


def an_answer_may_come_before_the_stream_up_has_ended(caller):
    done = Signal()

    def forever():
        while not done.is_set():
            yield bytes(1000)
            done.wait(0.001)

    error = fails(grpc.StatusCode.PERMISSION_DENIED, lambda: caller.call("stream_unary", "hear_nothing", forever()))
    done.set()
    equal(error.details(), "nothing was read")


def both_streams_go_at_once(caller):
    """Each message is sent once the one before it has come back: nothing may be held until the other way has ended."""
    came_back = Signal()

    def one_by_one():
        for number in range(200):
            yield b"%d" % number
            came_back.must_come(f"the echo of {number}")
            came_back.clear()

    call, seen = caller.call("stream_stream", "echo_each", one_by_one()), []
    for message in call:
        seen.append(message)
        came_back.set()
    equal(seen, [b"%d" % number for number in range(200)])
    equal(dict(call.trailing_metadata())["messages"], "200")


def large_messages_go_both_ways_at_once(caller):
    sent = [bytes([number]) * 1_000_000 for number in range(16)]
    equal(list(caller.call("stream_stream", "echo_each", iter(sent))), sent)


def a_deadline_that_passes_ends_the_call_on_both_sides(caller):
    seen, metadata = caller.event()
    fails(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        lambda: caller.call("unary_unary", "hang", b"", metadata=metadata, timeout=0.3),
    )
    seen.must_come("the end of the call, by the server")


def a_cancelled_call_is_seen_by_the_server(caller):
    seen, metadata = caller.event()
    call = caller.channel.unary_unary(f"/{caller.name}/hang").future(b"", metadata=metadata, timeout=PATIENCE)
    # Only a call that is under way can be cancelled where the server sees it.
    equal(caller.call("unary_unary", "echo", b"x"), b"x")
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)
    seen.must_come("the cancellation, by the server")


def a_cancelled_stream_is_seen_by_the_server(caller):
    seen, metadata = caller.event()
    call = caller.call("unary_stream", "endless", b"", metadata=metadata)
    for _ in range(20):
        next(call)
    call.cancel()
    seen.must_come("the cancellation, by the server")
    equal(caller.call("unary_unary", "echo", b"after"), b"after")


def many_calls_share_a_connection(caller):
    calls = [
        caller.channel.unary_unary(f"/{caller.name}/echo").future(b"%d" % number, timeout=PATIENCE)
        for number in range(500)
    ]
    equal([call.result() for call in calls], [b"%d" % number for number in range(500)])
    return "500 at once"


EACH = [
    messages_of_any_size_come_back,
    compressed_messages_come_back,
    every_status_comes_with_its_message_and_trailers,
    metadata_goes_there_and_back,
    an_unknown_method_is_unimplemented,
    a_stream_down_is_whole,
    a_stream_that_breaks_off_says_so_after_its_messages,
    head_and_messages_come_one_by_one,
    a_stream_up_is_whole,
    an_answer_may_come_before_the_stream_up_has_ended,
    both_streams_go_at_once,
    large_messages_go_both_ways_at_once,
    a_deadline_that_passes_ends_the_call_on_both_sides,
    a_cancelled_call_is_seen_by_the_server,
    a_cancelled_stream_is_seen_by_the_server,
    many_calls_share_a_connection,
]


def a_service_that_is_down_is_unavailable(channel):
    for kind, method, message in (("unary_unary", "echo", b""), ("stream_unary", "join", iter([b""]))):
        call = getattr(channel, kind)(f"/down.Service/{method}")
        fails(grpc.StatusCode.UNAVAILABLE, lambda: call(message, timeout=PATIENCE))
    call = channel.unary_stream("/down.Service/count")
    fails(grpc.StatusCode.UNAVAILABLE, lambda: list(call(b"1", timeout=PATIENCE)))


def a_deadline_of_the_route_is_told_as_one(caller):
    seen, metadata = caller.event()
    fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: caller.call("unary_unary", "hang", b"", metadata=metadata))
    seen.must_come("the end of the call, by the server")


def a_message_over_the_routes_bound_is_refused(caller):
    # What gRPC calls a 413, by its mapping of HTTP's statuses.
    fails(grpc.StatusCode.UNKNOWN, lambda: caller.call("unary_unary", "echo", bytes(100_000)))


def run(report, folder, certificates):
    service = Service()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=(service,), options=OPTIONS)
    cert, key = (path.read_bytes() for path in certificates.upstream)
    clear = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    server.start()
    try:
        with closed_port() as down:
            run_before(report, folder, certificates, service, (clear, secure, down))
    finally:
        server.stop(0).wait()


def run_before(report, folder, certificates, service, ports):
    clear, secure, down = ports
    route = "extracted: %s, weight: 100%%, fallback: never, max_body: 100MiB"
    routes = f"""version: 1
upstreams:
  clear: {{endpoints: ["h2c://127.0.0.1:{clear}"]}}
  secure: {{endpoints: ["h2://127.0.0.1:{secure}"], tls: {{ca: {certificates.ca}, server_name: upstream.internal}}}}
  down: {{endpoints: ["h2c://127.0.0.1:{down}"]}}
legacy: down
routes:
  - {{name: clear, match: "/clear.Service/{{method}}", {route % "clear"}}}
  - {{name: secure, match: "/secure.Service/{{method}}", {route % "secure"}}}
  - {{name: down, match: "/down.Service/{{method}}", {route % "down"}}}
  - {{name: brief, match: "/brief.Service/{{method}}", {route % "clear"}, deadline: 300ms, breaker: never}}
  - {{name: small, match: "/small.Service/{{method}}", extracted: clear, weight: 100%, max_body: 10KiB}}
"""
    listeners = [Proxy.CLEAR, Proxy.over_tls(certificates.shop)]
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
    with Proxy(folder / "grpc", routes, listeners) as proxy:
        channels = {
            "h2c": grpc.insecure_channel(f"127.0.0.1:{proxy.ports[0]}", OPTIONS),
            "TLS": grpc.secure_channel(f"localhost:{proxy.ports[1]}", credentials, OPTIONS),
        }
        for client, channel in channels.items():
            for upstream, name in (("h2c", "clear.Service"), ("TLS", "secure.Service")):
                caller = Caller(channel, name, service)
                for test in EACH:
                    report.case(f"grpc {client} to {upstream}: {test.__name__.replace('_', ' ')}", test, caller)
            report.case(
                f"grpc {client}: a service that is down is unavailable", a_service_that_is_down_is_unavailable, channel
            )
            for test, name in (
                (a_deadline_of_the_route_is_told_as_one, "brief.Service"),
                (a_message_over_the_routes_bound_is_refused, "small.Service"),
            ):
                report.case(f"grpc {client}: {test.__name__.replace('_', ' ')}", test, Caller(channel, name, service))
        for channel in channels.values():
            channel.close()
