"""An HTTP/1.1 origin on asyncio streams: it says what it was asked, and waits where a case wants it to."""

import asyncio
import json
import threading

from place import PATIENCE

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"content-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n"


class Origin:
    """Runs in a thread of its own until its `with` ends."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        # Bytes of the body at `/up` so far, by the request's query: told while it is still being sent.
        self.taken = {}
        # Requests whose body was read, by target.
        self.read = []
        # Set by a case when the origin may go on, by the request's query.
        self.gates = {}
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.server = asyncio.run_coroutine_threadsafe(serving, self.loop).result(PATIENCE)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)

    def gate(self, name):
        """Says that the origin may go one step on for `name`."""
        asyncio.run_coroutine_threadsafe(self._queue(name).put(None), self.loop).result(PATIENCE)

    def _queue(self, name):
        return self.gates.setdefault(name, asyncio.Queue())

    async def _passed(self, name):
        await asyncio.wait_for(self._queue(name).get(), PATIENCE)

    async def _serve(self, reader, writer):
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            # The other side has gone, as some cases want it to.
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        # What load asks for, by the shortest way.
        if head.startswith(b"GET /load "):
            writer.write(PLAIN)
            return True
        request = Request(head, reader, writer)
        answer = getattr(self, "at_" + request.path.strip("/").replace("-", "_"), None)
        if answer is None:
            await request.body()
            request.answer(404, b"nothing here")
        elif await answer(request) is False:
            await writer.drain()
            return False
        await writer.drain()
        return True

    async def at_echo(self, request):
        """Says what was asked, as JSON."""
        body, trailers = await request.body()
        self.read.append(request.target)
        told = {"method": request.method, "target": request.target, "headers": request.headers}
        told |= {"body": body[:1000].decode("latin-1"), "bytes": len(body), "trailers": trailers}
        request.answer(200, json.dumps(told).encode(), "application/json")

    async def at_bytes(self, request):
        """As many bytes as the query says."""
        await request.body()
        request.answer(200, b"x" * int(request.query))

    async def at_trailers(self, request):
        await request.body()
        request.writer.write(CHUNKED + b"trailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 4711\r\n\r\n")

    async def at_refuse(self, request):
        """Answers by the head alone, then looks away until the other side has closed, so that nothing is reset."""
        request.answer(403, b"no", more="connection: close\r\n")
        await request.writer.drain()
        request.writer.write_eof()
        while await request.reader.read(65_536):
            pass
        return False

    async def at_up(self, request):
        """Counts what has come so far."""
        self.taken[request.query] = 0
        async for piece in request.pieces():
            self.taken[request.query] += len(piece)
        request.answer(200, b"%d" % self.taken[request.query])

    async def at_down(self, request):
        """Ten pieces, each once the case says so."""
        await request.body()
        request.writer.write(CHUNKED + b"\r\n")
        for number in range(10):
            await self._passed(request.query)
            request.writer.write(b"1\r\n%d\r\n" % number)
        request.writer.write(b"0\r\n\r\n")

    async def at_events(self, request):
        """Ten events, each once the case says that it has seen the one before; unknown length, closed at the end."""
        await request.body()
        request.writer.write(OK + b"content-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number in range(10):
            request.writer.write(b"id: %d\ndata: event %d\n\n" % (number, number))
            await self._passed(request.query)
        return False

    async def at_gone(self, request):
        """An endless answer, until the reader has gone."""
        self.taken[request.query] = "here"
        request.writer.write(CHUNKED + b"\r\n")
        try:
            while True:
                request.writer.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
                await request.writer.drain()
                await asyncio.sleep(0.001)
        finally:
            self.taken[request.query] = "gone"

    async def at_cut(self, request):
        """Promises more than it sends."""
        await request.body()
        request.writer.write(OK + b"content-length: 100\r\n\r\nonly this")
        return False


class Request:
    """One request's head, and its body as it comes."""

    def __init__(self, head, reader, writer):
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.method, self.target, _ = first.split(" ")
        self.path, _, self.query = self.target.partition("?")
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.lower(), []).append(value.strip())
        self.reader = reader
        self.writer = writer
        self.trailers = []

    async def body(self):
        return b"".join([piece async for piece in self.pieces()]), self.trailers

    async def pieces(self):
        if "expect" in self.headers:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "transfer-encoding" not in self.headers:
            left = int(self.headers.get("content-length", ["0"])[0])
            while left:
                piece = await self.reader.read(min(left, 65_536))
                if not piece:
                    raise ConnectionError("the body was cut")
                left -= len(piece)
                yield piece
            return
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            self.trailers.append(line.decode("latin-1").strip())

    def answer(self, status, body, kind="text/plain", more=""):
        head = f"HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self.writer.write(head.encode() + (b"" if self.method == "HEAD" else body))
