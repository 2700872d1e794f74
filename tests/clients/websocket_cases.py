"""The `websockets` library as client and as server: what a route switches, and what falls through."""

import asyncio
import ssl

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions
from place import PATIENCE, Proxy, equal, true

AT_ONCE = 200


class Server:
    """Echoes; does what the first word of a text asks for."""

    def __init__(self, name):
        self.name = name
        # How each connection ended, by its path.
        self.ended = {}

    async def serve(self, socket):
        try:
            async for message in socket:
                match message:
                    case "who":
                        await socket.send(self.name)
                    case str() if message.startswith("close "):
                        await socket.close(int(message.split()[1]), "as asked")
                    case "ping me":
                        # Answered by the client's library; what comes back is that it was.
                        await asyncio.wait_for(await socket.ping(b"from the server"), PATIENCE)
                        await socket.send("ponged")
                    case "die":
                        socket.transport.abort()
                    case _:
                        await socket.send(message)
        except websockets.exceptions.ConnectionClosed:
            # Without the closing handshake; how it ended is noted below.
            pass
        finally:
            self.ended[socket.request.path] = (socket.close_code, socket.close_reason)


class Client:
    def __init__(self, url, trust, path, server):
        self.url = url + path
        self.path = path
        self.options = {
            "ssl": trust,
            "proxy": None,
            "max_size": None,
            "open_timeout": PATIENCE,
            "close_timeout": PATIENCE,
        }
        self.server = server

    def connect(self, more="", **options):
        # The server's library refuses whoever offers none of its protocols.
        options.setdefault("subprotocols", ["chat.v1"])
        return websockets.asyncio.client.connect(self.url + more, **self.options, **options)


async def ask(socket, message):
    await socket.send(message)
    return await asyncio.wait_for(socket.recv(), PATIENCE)


async def text_and_binary_come_back_from_the_right_side(client):
    async with client.connect() as socket:
        equal(await ask(socket, "who"), client.server.name)
        for message in ("", "text ä €", b"", bytes(range(256))):
            equal(await ask(socket, message), message)


async def messages_of_1_mib_come_back(client):
    async with client.connect(compression=None) as socket:
        for message in (b"b" * (1 << 20), "t" * (1 << 20)):
            for _ in range(4):
                equal(await ask(socket, message), message)
        # All at once: both ways are full at the same time.
        sending = asyncio.gather(*(socket.send(bytes(1 << 20)) for _ in range(8)))
        got = [await asyncio.wait_for(socket.recv(), PATIENCE) for _ in range(8)]
        await sending
        equal([len(one) for one in got], [1 << 20] * 8)


async def fragments_are_one_message(client):
    async with client.connect() as socket:
        await socket.send(iter(["one ", "two ", "three"]))
        equal(await asyncio.wait_for(socket.recv(), PATIENCE), "one two three")


async def pings_are_answered_both_ways(client):
    async with client.connect() as socket:
        for _ in range(5):
            await asyncio.wait_for(await socket.ping(), PATIENCE)
        equal(await ask(socket, "ping me"), "ponged")


async def a_code_of_the_server_reaches_the_client(client):
    for code in (1000, 1001, 1008, 1011, 3000, 4999):
        async with client.connect() as socket:
            await socket.send(f"close {code}")
            await asyncio.wait_for(socket.wait_closed(), PATIENCE)
            equal((socket.close_code, socket.close_reason), (code, "as asked"))


async def a_code_of_the_client_reaches_the_server(client):
    for code in (1000, 1001, 4000):
        socket = await client.connect(f"?{code}")
        await socket.close(code, "had enough")
        await ended(client, f"{client.path}?{code}", (code, "had enough"))


async def an_end_without_a_word_reaches_the_other_side(client):
    async with client.connect() as socket:
        await socket.send("die")
        await asyncio.wait_for(socket.wait_closed(), PATIENCE)
        equal(socket.close_code, 1006)
    socket = await client.connect("?aborted")
    equal(await ask(socket, "there"), "there")
    socket.transport.abort()
    await ended(client, f"{client.path}?aborted", (1006, ""))


async def ended(client, path, wanted):
    async def look():
        while path not in client.server.ended:
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), PATIENCE)
    equal(client.server.ended.pop(path), wanted)


async def a_subprotocol_is_agreed_on(client):
    async with client.connect(subprotocols=["chat.v9", "chat.v2"]) as socket:
        equal(socket.subprotocol, "chat.v2")


async def many_are_open_at_once(client):
    """All are opened before any is used, and all are used before any is closed."""
    sockets = await asyncio.gather(*(client.connect() for _ in range(AT_ONCE)))
    try:
        for turn in range(5):
            answers = await asyncio.gather(*(ask(socket, f"{turn} {n}") for n, socket in enumerate(sockets)))
            equal(answers, [f"{turn} {n}" for n in range(AT_ONCE)])
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))
    equal({socket.close_code for socket in sockets}, {1000})
    return f"{AT_ONCE} at once"


async def a_route_that_does_not_allow_it_switches_nothing(client):
    try:
        async with client.connect():
            raise AssertionError("it was switched")
    except websockets.exceptions.InvalidStatus as error:
        # The server was asked for an ordinary page, and says that it has none.
        true(error.response.status_code != 101, "it was switched")
        return error.response.status_code


EACH = [
    text_and_binary_come_back_from_the_right_side,
    messages_of_1_mib_come_back,
    fragments_are_one_message,
    pings_are_answered_both_ways,
    a_code_of_the_server_reaches_the_client,
    a_code_of_the_client_reaches_the_server,
    an_end_without_a_word_reaches_the_other_side,
    a_subprotocol_is_agreed_on,
    many_are_open_at_once,
]


def run(report, folder, certificates):
    # One loop for the servers and all clients: a case that waits lets the others go on.
    asyncio.run(run_in_loop(report, folder, certificates))


async def run_in_loop(report, folder, certificates):
    legacy, extracted = Server("legacy"), Server("extracted")
    # As many as come at once: one that is turned away is asked for again after a second, which is all that a connection may take.
    options = {"max_size": None, "subprotocols": ["chat.v2", "chat.v1"], "ping_interval": None, "backlog": 1024}
    async with (
        websockets.asyncio.server.serve(legacy.serve, "127.0.0.1", 0, **options) as monolith,
        websockets.asyncio.server.serve(extracted.serve, "127.0.0.1", 0, **options) as service,
    ):
        legacy_port, extracted_port = (server.sockets[0].getsockname()[1] for server in (monolith, service))
        routes = f"""version: 1
upstreams:
  monolith: {{endpoints: ["http://127.0.0.1:{legacy_port}"]}}
  service: {{endpoints: ["http://127.0.0.1:{extracted_port}"]}}
legacy: monolith
routes:
  - {{name: chat, match: /chat, extracted: service, weight: 100%, upgrade: [websocket]}}
  - {{name: plain, match: /plain, extracted: service, weight: 100%}}
"""
        with Proxy(folder / "websocket", routes, [Proxy.CLEAR, Proxy.over_tls(certificates.shop)]) as proxy:
            trust = ssl.create_default_context(cafile=certificates.ca)
            ways = {
                "ws": (f"ws://127.0.0.1:{proxy.ports[0]}", None),
                "wss": (f"wss://localhost:{proxy.ports[1]}", trust),
            }
            for way, (url, trust) in ways.items():
                for place, path, server in (("route", "/chat", extracted), ("fall-through", "/else", legacy)):
                    for test in EACH:
                        name = f"websocket {way} {place}: {test.__name__.replace('_', ' ')}"
                        await report.awaited(name, test, Client(url, trust, path, server))
                test = a_route_that_does_not_allow_it_switches_nothing
                name = f"websocket {way}: {test.__name__.replace('_', ' ')}"
                await report.awaited(name, test, Client(url, trust, "/plain", extracted))
