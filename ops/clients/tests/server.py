"""A fresh `longshore up`, keys made as a customer makes them, and the API as the judge of what the clients did."""

import json
import os
import signal
import subprocess
import tempfile
import urllib.parse
import urllib.request


class Server:
    """`with Server(binary) as server:` starts it in a folder of its own, on a free port; the end ends it."""

    def __init__(self, binary):
        self._binary = os.path.abspath(binary)
        self._folder = tempfile.TemporaryDirectory(prefix="longshore-clients-")

    def __enter__(self):
        command = [self._binary, "up"]
        self._process = subprocess.Popen(command, env=self._settings(), cwd=self.folder, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "upload page" in line:
                self.url = line.split()[-1].rstrip("/")
                break
        else:
            raise SystemExit("longshore up ended before it told its address")
        self.token, self._judge = self.key("upload"), self.key("upload,read")
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._folder.cleanup()

    @property
    def folder(self):
        return self._folder.name

    def key(self, scopes):
        """A new token."""
        command = [self._binary, "key", "create", "--name", "clients", "--scopes", scopes]
        made = subprocess.run(command, env=self._settings(), cwd=self.folder, capture_output=True, text=True, check=True)
        return made.stdout.strip()

    def uploads(self, number):
        """All uploads for an order or style, newest first, each as its own address shows it."""
        found = self._get(f"/api/uploads?number={urllib.parse.quote(number)}")["uploads"]
        return [self._get(f"/api/uploads/{upload['id']}")["uploads"][0] for upload in found]

    def files(self, number):
        return self._get(f"/api/files?number={urllib.parse.quote(number)}")["files"]

    def content(self, file):
        with urllib.request.urlopen(self._request(f"/api/files/{file}/content")) as answer:
            return answer.read()

    def _get(self, path):
        with urllib.request.urlopen(self._request(path)) as answer:
            return json.load(answer)

    def _request(self, path):
        request = urllib.request.Request(self.url + path)
        # Not sent along to where the bytes are.
        request.add_unredirected_header("Authorization", f"Bearer {self._judge}")
        return request

    def _settings(self):
        others = {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}
        return {
            **others,
            "LONGSHORE_DATA_DIR": f"{self.folder}/data",
            "LONGSHORE_LISTEN": "127.0.0.1:0",
            "LONGSHORE_LOG__FILTER": "warn",
            # A slow machine may sign later than a person should have to wait.
            "LONGSHORE_INTAKE__WAIT": "20s",
        }
