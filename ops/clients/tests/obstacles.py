"""A bad line: stands before the server and the bucket, and lets nothing through at the first try."""

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired.</Message></Error>"
HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Obstacles(ThreadingHTTPServer):
    """`with Obstacles(server.url) as line:` gives a line at `line.url` that remembers what came in `line.seen`."""

    daemon_threads = True

    def __init__(self, url, silent=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.seen, self.lock = url, [], threading.Lock()
        # Whether nothing is in the way but that the first form is never answered.
        self.silent, self.over = silent, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.server_close()

    def ask(self, kind):
        """How often it has come, this time included."""
        with self.lock:
            self.seen.append(kind)
            return self.seen.count(kind)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        step = self._step()
        first = self.server.ask(step) == 1
        if self.server.silent:
            return self._say_nothing() if first and step == "form" else self._pass_on(body)
        if first and step == "ask":
            self.server.key = self.headers["Idempotency-Key"]
            return self._answer(503, b'{"message": "", "error": {"type": "unavailable_error", "message": ""}}', "1")
        if first and step == "form":
            return self._answer(403, EXPIRED)
        if first and step == "callback":
            return self._answer(429, b'{"message": "", "error": {"type": "rate_limited_error", "message": ""}}', "1")
        if first and step == "status":
            self.close_connection = True  # without a word
            return None
        if step == "ask" and self.headers["Idempotency-Key"] != self.server.key:
            self.server.seen.append("another key")
        return self._pass_on(body)

    do_GET = do_POST = handle_one

    def _say_nothing(self):
        self.server.over.wait(60)
        self.close_connection = True

    def _step(self):
        if self.path.startswith("/bucket/"):
            return "form"
        if self.path == "/api/uploads":
            return "ask"
        last = self.path.rsplit("/", 1)[1]
        return last if last in ("callback", "policy") else "status"

    def _pass_on(self, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP | {"host"}}
        url = self.server.behind + self.path
        request = urllib.request.Request(url, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as refusal:
            self._answer(refusal.code, refusal.read())

    def _answer(self, status, body, retry_after=None):
        # Forms lead back here.
        body = body.replace(self.server.behind.encode(), self.server.url.encode())
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
