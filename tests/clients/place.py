"""What every set of cases stands on: free ports, certificates, the proxy itself, and the report."""

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.request

import trustme

# Bound on everything that a case waits for: far beyond what is needed, so that it never decides a result.
PATIENCE = 20.0

BINARY = os.environ.get("STRANGLER", "target/debug/strangler")


class Report:
    """One line for each case, and whether any failed."""

    def __init__(self, only):
        self.only = only
        self.passed = 0
        self.failed = []

    def case(self, name, test, *arguments):
        """Runs one case. What it returns, if anything, is said behind its name."""
        if self.only in name:
            with self._told(name) as told:
                told.append(test(*arguments))

    async def awaited(self, name, test, *arguments):
        """The same for a case that is a coroutine."""
        if self.only in name:
            with self._told(name) as told:
                told.append(await test(*arguments))

    @contextlib.contextmanager
    def _told(self, name):
        told = []
        try:
            yield told
        except Exception as error:
            # The case alone has failed; the next ones may still tell more.
            self.failed.append(name)
            first = (str(error).strip().splitlines() or [""])[0][:300]
            print(f"FAIL {name}: {type(error).__name__}: {first}", flush=True)
            traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok   {name}{f' ({told[0]})' if told[0] else ''}", flush=True)


class Certificates:
    """An authority for this run alone, and what it vouches for, as files in `folder`."""

    def __init__(self, folder):
        authority = trustme.CA()
        self.folder = folder
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.shop = self._issue(authority, "shop", "localhost", "127.0.0.1")
        self.other = self._issue(authority, "other", "other.test")
        self.upstream = self._issue(authority, "upstream", "upstream.internal")
        self.client = self._issue(authority, "client", "someone@shop.test")

    def _issue(self, authority, name, *hosts):
        issued = authority.issue_cert(*hosts)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key


class Proxy:
    """The built binary, as a user would start it; stopped when its `with` ends."""

    CLEAR = "{address: 127.0.0.1:0}"

    @staticmethod
    def over_tls(*certificates, more=""):
        """A listener over TLS with these certificates."""
        listed = ", ".join(f"{{cert: {cert}, key: {key}}}" for cert, key in certificates)
        return f"{{address: 127.0.0.1:0, tls: {{certificates: [{listed}]{more}}}}}"

    def __init__(self, folder, routes, listeners=(CLEAR,), more=""):
        self.folder = folder
        folder.mkdir()
        self.routes = folder / "routes.yaml"
        self.write_routes(routes)
        config = folder / "strangler.yaml"
        listed = "".join(f"  - {listener}\n" for listener in listeners)
        config.write_text(f"listeners:\n{listed}admin: {{address: 127.0.0.1:0}}\nthreads: 2\n{more}")
        # Nothing of the tester's own settings.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STRANGLER")}
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [BINARY, "run", "--strict", "--config", config, "--routes", self.routes]
            + ["--state-dir", folder / "state", "--access-log", "off"],
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self.ports = self._wait_for_addresses(len(listeners))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        log = self.log.read_text()
        # A panic costs one request and not the process: only the log knows of it.
        if not any(failure) and (self.process.returncode or "panicked" in log):
            raise AssertionError(f"the proxy ended with {self.process.returncode}: {log}")

    def write_routes(self, text):
        """Replaces the routes file as an editor does: whole, by a rename."""
        new = self.routes.with_suffix(".new")
        new.write_text(text)
        new.rename(self.routes)

    def _wait_for_addresses(self, count):
        def told():
            if self.process.poll() is not None:
                raise RuntimeError(f"the proxy did not start: {self.log.read_text()}")
            text = self.log.read_text()
            ports = re.findall(r"^listening on \S+:(\d+)", text, re.MULTILINE)
            # Said last, once all is there.
            is_up = re.search(r"^admin on ", text, re.MULTILINE)
            return [int(port) for port in ports] if len(ports) == count and is_up else None

        try:
            return wait_for(told, "the proxy's addresses")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise


def opener():
    """For requests that must not go through whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_for(look, what):
    """What `look` returns, once that is true."""
    end = time.monotonic() + PATIENCE
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"never seen: {what}")
        time.sleep(0.01)
    return seen


@contextlib.contextmanager
def closed_port():
    """A port that refuses: bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def place():
    """A folder and certificates for one run."""
    with tempfile.TemporaryDirectory(prefix="strangler-clients-") as name:
        folder = pathlib.Path(name)
        yield folder, Certificates(folder)


def equal(seen, wanted):
    """`assert`, but also with `python -O`, and with both values told."""
    if seen != wanted:
        raise AssertionError(f"{shorten(seen)} instead of {shorten(wanted)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(text)} characters)"


def true(seen, what):
    if not seen:
        raise AssertionError(what)


class Signal(threading.Event):
    """An event that must come."""

    def must_come(self, what):
        if not self.wait(PATIENCE):
            raise AssertionError(f"never seen: {what}")
