"""What a visitor of the PHP site may do, and may not."""

import os
import shutil
import subprocess
import uuid
from functools import partial

from expect import expect
from php_site import Site, Visitor

HERE = os.path.dirname(os.path.abspath(__file__))
PLAYWRIGHT = "playwright-core@1.65.1"


def all_of(server):
    return [(f"php page: {story.__name__.replace('_', ' ')}", partial(story, server)) for story in STORIES]


def visitor_sends_files(server):
    with Site(server.url, server.token) as site:
        visitor = Visitor(site)
        for kind, number, content in (("order", "PAGE-1", b"a visitor's file"), ("style", "PAGE.2", b"")):
            _send(visitor, kind, number, content)
            _stored(server, kind, number, content)
        _send(visitor, "order", "PAGE-3", b"a visitor's file")
        expect("known bytes are kept once", server.uploads("PAGE-3")[0]["deduplicated"] is True)
        expect("the policy of the page lets it reach the bucket", server.url in visitor.page()[2]["Content-Security-Policy"])
        visitor.script()
        _no_secret(server.token, visitor.told)


def _send(visitor, kind, number, content):
    status, page, _ = visitor.page()
    expect("the page is served", status == 200 and 'id="form"' in page, status)
    status, asked = visitor.ask("ask", kind=kind, number=number, filename="visit.txt", size=len(content), type="text/plain", once=uuid.uuid4().hex)
    expect("a form is given", status == 200 and asked["form"], status, asked)
    status, _, headers = visitor.post(asked["form"], content)
    expect("the bucket takes the file", status == 201, status)
    expect("the bucket lets a page of another origin in", headers["Access-Control-Allow-Origin"] == "*", headers)
    status, upload = visitor.ask("confirm", id=asked["id"])
    for _ in range(12):
        if status != 200 or upload["status"] in ("done", "rejected"):
            break
        status, upload = visitor.ask("status", id=asked["id"])
    expect("the file is done", (status, upload.get("status")) == (200, "done"), status, upload)


def _stored(server, kind, number, content):
    [file], [upload] = server.files(number), server.uploads(number)
    expect("the file is for its target", upload["target"] == {"kind": kind, "number": number}, upload)
    expect("the bytes are those that were sent", server.content(file["id"]) == content, file)


def visitor_gets_no_more_than_that(server):
    with Site(server.url, server.token) as site:
        visitor, other = Visitor(site), Visitor(site)
        good = {"kind": "order", "number": "PAGE-9", "filename": "x.txt", "size": 3, "once": uuid.uuid4().hex}
        for what, fault in (
            ("another kind", {"kind": "invoice"}),
            ("no number", {"number": " "}),
            ("a number that is none", {"number": "<script>"}),
            ("a list for a number", {"number": ["A"]}),
            ("a name that climbs", {"filename": "../x"}),
            ("a size that is none", {"size": "3"}),
            ("a file too large", {"size": 10**13}),
            ("nothing to know the question by", {"once": None}),
            ("something else to know it by", {"once": "x" * 32}),
        ):
            status, told = visitor.ask("ask", **{**good, **fault})
            expect(f"{what} is refused with a reason", status == 422 and told["problem"], status, told)
        status, told = visitor.ask("ask", content_type="text/plain", **good)
        expect("what a form of another site could send is refused", status == 415, status, told)

        status, asked = visitor.ask("ask", sha256="0" * 64, ref="chosen", **good)
        upload = server.uploads("PAGE-9")[0]
        expect("no other field is passed on", status == 200 and upload["hash"] is None and upload["ref"] is None, upload)
        for what in ("status", "confirm", "renew"):
            status, told = other.ask(what, id=asked["id"])
            expect(f"another visitor's {what} is refused", status == 404, status, told)
        status, answer, _ = visitor.post(asked["form"], b"more than three bytes")
        expect("a file of another size is refused by the bucket", status == 400 and "<Message>" in answer, status, answer)
        expect("nothing is stored", server.files("PAGE-9") == [])
        _no_secret(server.token, visitor.told + other.told)


def question_asked_twice_makes_one_upload(server):
    with Site(server.url, server.token) as site:
        visitor, other = Visitor(site), Visitor(site)
        question = {"kind": "order", "number": "PAGE-7", "filename": "x.txt", "size": 3, "once": uuid.uuid4().hex}
        for who in (visitor, other):
            who.page()
        (status, first), (_, again), (_, others) = (who.ask("ask", **question) for who in (visitor, visitor, other))
        expect("the second answer is the first one's", status == 200 and first["id"] == again["id"], first, again)
        expect("another visitor's question is another", others["id"] != first["id"], others)
        expect("there are two uploads", len(server.uploads("PAGE-7")) == 2)


def site_with_a_wrong_secret_says_so(server):
    wrong = server.token[:-8] + "00000000"
    with Site(server.url, wrong) as site:
        visitor = Visitor(site)
        status, text, _ = visitor.page()
        expect("the page says that its key is not accepted", status == 502 and "key of this site" in text, status, text)
        status, told = visitor.ask("ask", kind="order", number="PAGE-8", filename="x", size=1, once="0" * 32)
        expect("a question is answered so too", status == 502 and "key of this site" in told["problem"], status, told)
        expect("the site's log says 401", "HTTP 401" in site.log(), site.log())
        _no_secret(wrong, visitor.told + site.log())


def _no_secret(token, told):
    _, key, secret = token.split("_")
    for part in (key, secret):
        expect("key and secret stay on the server", part not in told)


def person_uses_the_page_in_a_browser(server):
    """Returns why it could not be tried."""
    chromium = shutil.which("chromium")
    if not chromium or not shutil.which("npm"):
        return "chromium or npm is not installed"
    modules = os.path.join(HERE, "..", "..", "..", "target", "clients")
    subprocess.run(["npm", "install", "--prefix", modules, "--no-audit", "--no-fund", "--silent", PLAYWRIGHT], check=True)
    with Site(server.url, server.token) as site:
        command = ["node", os.path.join(HERE, "browser.mjs"), modules, chromium, site.url]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120)
        expect("the page works in a browser", shown.returncode == 0, shown.stdout, shown.stderr)
        for number, kind, count in (("WEB-1", "order", 3), ("WEB-2", "style", 1)):
            uploads = server.uploads(number)
            done = [upload for upload in uploads if upload["status"] == "done" and upload["target"]["kind"] == kind]
            expect("what was sent in the browser is done", len(done) == count, uploads)
    return None


STORIES = [
    visitor_sends_files,
    visitor_gets_no_more_than_that,
    question_asked_twice_makes_one_upload,
    site_with_a_wrong_secret_says_so,
    person_uses_the_page_in_a_browser,
]
