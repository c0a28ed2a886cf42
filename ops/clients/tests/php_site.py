"""The PHP site: `php -S` on a free port, and a visitor who speaks HTTP as the page's script does."""

import http.cookiejar
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
PUBLIC = os.path.join(HERE, "..", "php", "public")


class Site:
    """`with Site(server.url, token) as site:` serves the page at `site.url`."""

    def __init__(self, server, token):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._address = free.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}/upload.php"
        self._environment = {
            **os.environ,
            "LONGSHORE_SERVER": server,
            "LONGSHORE_TOKEN": token,
            "PHP_CLI_SERVER_WORKERS": "4",
        }

    def __enter__(self):
        command = ["php", "-S", f"127.0.0.1:{self._address[1]}", "-t", PUBLIC]
        self._log = tempfile.TemporaryFile(mode="w+")
        # Its workers are processes too: a session of their own lets them end together.
        self._process = subprocess.Popen(
            command, env=self._environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + 10
        while not self._listens():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise SystemExit(f"php -S did not start:\n{self.log()}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(10)
        self._log.close()

    def log(self):
        """What the site's owner reads."""
        self._log.seek(0)
        return self._log.read()

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(self._address) == 0


class Visitor:
    """Has a session of its own, and keeps all that it was ever told."""

    def __init__(self, site):
        self._url = site.url
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.told = ""

    def page(self):
        return self._open(urllib.request.Request(self._url))

    def script(self):
        return self._open(urllib.request.Request(self._url.replace("upload.php", "page.js")))

    def ask(self, what, content_type="application/json", **body):
        """The status and the answer."""
        request = urllib.request.Request(f"{self._url}?do={what}", json.dumps(body).encode(), {"Content-Type": content_type})
        status, text, _ = self._open(request)
        return status, json.loads(text)

    def post(self, form, content):
        """As a browser posts the form from another origin: the status, the answer, and its headers."""
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in form["fields"].items()]
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n')
        body = "".join(parts).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": self._url.rsplit("/", 1)[0]}
        return self._open(urllib.request.Request(form["url"], body, headers))

    def _open(self, request):
        try:
            answer = self._opener.open(request)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            text = answer.read().decode()
            self.told += text + str(answer.headers)
            return answer.status, text, answer.headers
