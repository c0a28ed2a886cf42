#!/usr/bin/env python3
"""Uploads files to a longshore server. Python 3.9 or later, nothing else.

As a program:  python3 longshore.py FILE... --order A-100
As a module:   Longshore(server, token).upload("front.jpg", target=order("A-100"))

The server signs a form, the file goes straight to the bucket with it, and the server checks what arrived. Everything here may
be run twice: an upload carries a `ref` made of its content, so the server knows it again.
"""

import argparse
import hashlib
import http.client
import json
import mimetypes
import os
import random
import ssl
import sys
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

CHUNK = 1 << 20
ATTEMPTS = 6
PASSING = {429, 500, 502, 503, 504}
FINAL = {"done", "rejected", "cancelled"}  # one that has expired may be renewed
# A batch takes 10,000 lines and 16 MiB; a line of ours has at most about 5 kB, and mostly 300 bytes.
BATCH_LINES = 10_000
BATCH_BYTES = 15 << 20


class LongshoreError(Exception):
    """An upload that did not become a file. The message is for people."""


class Unreachable(LongshoreError):
    """No answer, after several tries."""


class Refused(LongshoreError):
    """The server or the bucket said no, and would again."""

    def __init__(self, status, kind, message):
        super().__init__(f"{message} (HTTP {status}{', ' + kind if kind else ''})")
        self.status, self.kind = status, kind  # the kind is the API's `error.type`


def order(number):
    """Files of an order."""
    return {"kind": "order", "number": number}


def style(number):
    """Files of a style."""
    return {"kind": "style", "number": number}


class Longshore:
    """A server and the token to come in with. May be shared between threads."""

    def __init__(self, server, token):
        self._server = server.rstrip("/")
        self._token = token

    def upload(self, path, target=None, name=None, sha256=None):
        """Uploads one file and returns the upload, which is `done`: `fileId`, `hash`, `deduplicated`, ... Raises
        LongshoreError or OSError otherwise. With `sha256`, the file must have that hash; without, it is read once more."""
        wish = _wish(path, target, name, sha256)
        return self._finish(path, self._create(wish))

    def batch(self, paths, target=None, concurrency=8):
        """Uploads many files, asking for up to 10,000 at a time. Yields (path, upload or error) in their order, those first
        that cannot be read. The same name with the same bytes, given twice, is one upload."""
        wishes = {}
        for path in map(os.fspath, paths):
            try:
                wish = _wish(path, target, os.path.normpath(path) if _is_below(path) else None)
                wishes.setdefault(wish["ref"], (path, wish))
            except OSError as error:
                yield path, error
        for some in _portions(wishes.values()):
            yield from self._batch({wish["ref"]: path for path, wish in some}, [wish for _, wish in some], concurrency)

    # ---- One upload's way

    def _create(self, wish):
        # A lost answer makes us ask again; with this key the server knows that it is the same question.
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Prefer": "wait=10"}
        return self._call("POST", "/api/uploads", wish, headers)

    def _finish(self, path, upload):
        deadline = time.monotonic() + 600 + os.path.getsize(path) / 1e6
        place, sent = f"/api/uploads/{upload['id']}", False
        while upload["status"] not in FINAL:
            if upload.get("attention"):
                raise LongshoreError("the server needs its operator's attention for this upload")
            if time.monotonic() > deadline:
                raise LongshoreError(f"still {upload['status']}; look later at {place}")
            if upload["upload"] and not sent:
                sent = self._post_form(upload["upload"], path)
                if sent:
                    self._call("POST", f"{place}/callback")
                upload = self._settled(place) if sent else self._renew(place)
            elif upload["status"] == "expired":
                upload, sent = self._renew(place), False
            elif upload["status"] in ("requested", "issued") and not sent:
                time.sleep(0.5)  # its form is about to be signed
                upload = self._call("GET", place)
            else:
                upload = self._settled(place)
        if upload["status"] != "done":
            raise LongshoreError(f"the upload ended {upload['status']}: {upload['reason'] or 'no reason given'}")
        return upload

    def _settled(self, place):
        """The upload once it has ended, or as it is after 20 s."""
        return self._call("GET", place, headers={"Prefer": "wait=20"})

    def _renew(self, place):
        try:
            return self._call("POST", f"{place}/policy")
        except Refused as refused:
            if refused.status != 409:
                raise
            return self._call("GET", place)  # it has moved on meanwhile

    def _post_form(self, form, path):
        """Posts the file to the bucket. False if the form's time had run out."""
        boundary = uuid.uuid4().hex
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in form["fields"].items()
        )
        # The bucket ignores whatever comes after the file.
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
        head, tail = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        size = os.path.getsize(path)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),  # S3 takes no chunked forms
        }
        ends = time.monotonic() + form["expires"]
        status, _, body = _send("POST", form["url"], headers, lambda: _around(head, path, size, tail))
        if status < 300:
            return True
        message = _between(body.decode(errors="replace"), "<Message>", "</Message>")
        if status == 403 and (time.monotonic() >= ends or "expired" in message.lower()):
            return False
        raise Refused(status, "", f"the bucket refused it: {message or 'no reason given'}")

    # ---- A batch's way

    def _batch(self, paths, wishes, concurrency):
        with ThreadPoolExecutor(concurrency) as pool:
            try:
                uploads = self._places_for(wishes)
            except Refused as refused:
                if refused.status != 422:
                    raise
                # One line will not do, and so none was taken: each goes by itself then, and those that will do go through.
                yield from pool.map(lambda wish: self._outcome(paths[wish["ref"]], partial(self._create, wish)), wishes)
                return
            yield from pool.map(lambda upload: self._outcome(paths[upload["ref"]], lambda: upload), uploads)

    def _places_for(self, wishes):
        """The uploads of these lines, each with its form if it needs one."""
        lines = b"".join(json.dumps(wish).encode() + b"\n" for wish in wishes)
        headers = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/x-ndjson"}
        batch = self._call("POST", "/api/batches", lines, headers)
        place = f"/api/batches/{batch['id']}"
        deadline = time.monotonic() + 300
        while not batch["ready"]:
            if time.monotonic() > deadline:
                raise LongshoreError(f"its forms are not signed yet; look later at {place}")
            time.sleep(0.25)
            batch = self._call("GET", place)
        return self._listing(f"{place}/uploads")

    def _listing(self, place):
        body = self._request("GET", place, headers={"Accept": "application/x-ndjson"})
        return [json.loads(line) for line in body.splitlines()]

    def _outcome(self, path, place):
        try:
            return path, self._finish(path, place())
        except (LongshoreError, OSError) as error:  # told with its file, so that the others go on
            return path, error

    # ---- The API

    def _call(self, method, place, body=None, headers=None):
        """One call; returns the first upload or batch of the answer."""
        answer = json.loads(self._request(method, place, body, headers))
        return (answer.get("uploads") or answer["batches"])[0]

    def _request(self, method, place, body=None, headers=None):
        headers = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        status, kind, answer = _send(method, self._server + place, headers, lambda: body)
        if status < 300:
            return answer
        try:
            told = json.loads(answer)
            raise Refused(status, told["error"]["type"], told["error"]["message"])
        except (ValueError, KeyError, TypeError):
            raise Refused(status, "", f"{self._server} does not answer as a longshore server would") from None


# ---- What goes out


def _wish(path, target, name=None, sha256=None):
    """What to ask the server for."""
    name = (name or os.path.basename(path)).replace(os.sep, "/")
    sha256 = sha256 or _sha256(path)
    identity = json.dumps([name, sha256, target], sort_keys=True)
    wish = {
        "filename": name,
        "size": os.path.getsize(path),
        "sha256": sha256,  # bytes that the server has need not be sent
        "ref": hashlib.sha256(identity.encode()).hexdigest(),  # asking twice gives the same upload
        "target": target,
        "type": mimetypes.guess_type(path)[0],
    }
    return {field: value for field, value in wish.items() if value is not None}


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _around(head, path, size, tail):
    """The form piece by piece, so that no file is ever held in memory."""
    yield head
    left = size
    with open(path, "rb") as file:
        while chunk := file.read(min(CHUNK, left)):
            left -= len(chunk)
            yield chunk
    if left:
        raise LongshoreError("the file became shorter while it was sent")
    yield tail


def _is_below(path):
    return not os.path.isabs(path) and ".." not in path.split(os.sep)


def _portions(wishes):
    some, size = [], 0
    for path, wish in wishes:
        length = len(json.dumps(wish)) + 1
        if some and (len(some) == BATCH_LINES or size + length > BATCH_BYTES):
            yield some
            some, size = [], 0
        some.append((path, wish))
        size += length
    if some:
        yield some


# ---- Requests with second tries


def _send(method, url, headers, body):
    """Sends until the answer is one that a second try would not change. `body()` makes the body anew for each try."""
    for attempt in range(1, ATTEMPTS + 1):
        pause = min(20, 0.3 * 2**attempt) * random.uniform(0.75, 1.25)
        try:
            status, answered, content = _send_once(method, url, headers, body())
            if status not in PASSING or attempt == ATTEMPTS:
                return status, answered, content
            if answered.get("Retry-After", "").isdigit():
                pause = min(60, int(answered["Retry-After"]))
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename:
                raise  # it is our own file that cannot be read
            if attempt == ATTEMPTS or isinstance(error, ssl.SSLCertVerificationError):
                raise Unreachable(f"{urllib.parse.urlsplit(url).netloc} cannot be reached: {error}") from error
        time.sleep(pause)


def _send_once(method, url, headers, body):
    parts = urllib.parse.urlsplit(url)
    Connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = Connection(parts.netloc, timeout=90)
    try:
        try:
            connection.request(method, parts.path or "/", body, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused in the midst of the body: the answer says why, if it still came through
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def _between(text, start, end):
    return text.partition(start)[2].partition(end)[0]


# ---- As a program


def main():
    parser = argparse.ArgumentParser(description="Uploads files to a longshore server (LONGSHORE_SERVER, LONGSHORE_TOKEN).")
    parser.add_argument("files", nargs="+", metavar="FILE")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--order", metavar="NUMBER", type=order, dest="target", help="the files are for this order")
    target.add_argument("--style", metavar="NUMBER", type=style, dest="target", help="the files are for this style")
    parser.add_argument("--sha256", metavar="HEX", help="the hash that the one file must have")
    parser.add_argument("--batch", action="store_true", help="ask for all files in one call")
    arguments = parser.parse_args()
    if arguments.sha256 and (arguments.batch or len(arguments.files) > 1):
        parser.error("--sha256 is for one file")
    token = os.environ.get("LONGSHORE_TOKEN", "").strip()
    if not token:
        parser.error("set LONGSHORE_TOKEN to an API token (lsk_...)")
    longshore = Longshore(os.environ.get("LONGSHORE_SERVER", "http://127.0.0.1:8080"), token)
    return run(longshore, arguments)


def run(longshore, arguments):
    failed = False
    outcomes = longshore.batch(arguments.files, arguments.target) if arguments.batch else one_by_one(longshore, arguments)
    try:
        for path, outcome in outcomes:
            if isinstance(outcome, Exception):
                failed = True
                print(f"failed {path}: {_reason(outcome)}", file=sys.stderr)
            else:
                note = "  (these bytes were known)" if outcome["deduplicated"] else ""
                print(f"done   {path}  file {outcome['fileId']}  {outcome['hash']}{note}", flush=True)
    except (LongshoreError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        failed = True
    return 1 if failed else 0


def one_by_one(longshore, arguments):
    for path in arguments.files:
        try:
            yield path, longshore.upload(path, arguments.target, sha256=arguments.sha256)
        except (LongshoreError, OSError) as error:
            if isinstance(error, Unreachable) or getattr(error, "status", None) in (401, 403):
                raise  # no other file would fare better
            yield path, error


def _reason(error):
    return getattr(error, "strerror", None) or error


if __name__ == "__main__":
    sys.exit(main())
