"""What each client must do, told of one and run for all."""

import hashlib
import os
import subprocess
from functools import partial
from pathlib import Path

from expect import expect
from obstacles import Obstacles

CLIENTS = Path(__file__).resolve().parent.parent
COMMANDS = {
    "php": ["php", CLIENTS / "php/send.php"],
    "python": ["python3", CLIENTS / "python/longshore.py"],
    "node": ["node", CLIENTS / "node/longshore.mjs"],
    "curl": [CLIENTS / "curl/upload.sh"],
}


def all_of(server, folder):
    return [
        (f"{name}: {story.__name__.replace('_', ' ')}", partial(story, Client(name, server, Path(folder, name))))
        for name in COMMANDS
        for story in STORIES
        # The others' patience is a constant of theirs.
        if story is not silent_line_is_given_up_and_tried_again or name in ("php", "curl")
    ]


class Client:
    """One of the clients, with a folder of files that nobody else has."""

    def __init__(self, name, server, folder):
        self.name, self.server, self.folder = name, server, folder
        folder.mkdir(exist_ok=True)

    def file(self, name, content=None):
        """A file with bytes that the server cannot know, unless they are given."""
        path = self.folder / name
        path.write_bytes(os.urandom(70_000) if content is None else content)
        return path

    def run(self, *arguments, server=None, token=None, silence=None):
        """Runs it in its folder."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}
        settings = {"LONGSHORE_SERVER": server or self.server.url, "LONGSHORE_TOKEN": token or self.server.token}
        if silence:
            settings["LONGSHORE_SILENCE"] = silence
        command = [*COMMANDS[self.name], *arguments]
        return subprocess.run(command, env={**others, **settings}, cwd=self.folder, capture_output=True, text=True, timeout=60)

    def succeed(self, *arguments, **settings):
        ended = self.run(*arguments, **settings)
        expect("it succeeds and complains of nothing", ended.returncode == 0 and not ended.stderr, ended)
        return ended.stdout

    def fail(self, *arguments, **settings):
        """What it complains of."""
        ended = self.run(*arguments, **settings)
        expect("it fails by its exit code", ended.returncode == 1, ended)
        expect("it calls nothing done", "done" not in ended.stdout, ended)
        return ended.stderr


def order_and_style_files_are_stored(client):
    for kind, name, content in (("order", "front view.jpg", None), ("style", 'ärmel, "links"; 2.txt', None), ("style", "empty", b"")):
        path, number = client.file(name, content), f"{client.name}-{kind}-{name[:2]}"
        printed = client.succeed(f"--{kind}", number, path)

        [file], [upload] = client.server.files(number), client.server.uploads(number)
        hash = f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
        expect("it prints file and hash", file["id"] in printed and hash in printed, printed, file)
        expect("the upload is done", (upload["status"], upload["fileId"], upload["hash"]) == ("done", file["id"], hash), upload)
        expect("it is for its target", upload["target"] == {"kind": kind, "number": number}, upload)
        expect("it has its name", upload["filename"] == file["filename"] == name, upload, file)
        expect("size and hash are the file's", (file["size"], file["hash"]) == (path.stat().st_size, hash), file)
        expect("the bytes are the file's", client.server.content(file["id"]) == path.read_bytes(), file)


def same_file_again_changes_nothing(client):
    path, number = client.file("again.bin"), f"{client.name}-again"
    first = client.succeed("--order", number, path)
    second = client.succeed("--order", number, path)

    expect("the same file is shown", first == second, first, second)
    expect("there is one upload", len(client.server.uploads(number)) == 1)


def known_bytes_are_not_sent(client):
    path, number = client.file("one.bin"), f"{client.name}-known"
    twin = client.file("two.bin", path.read_bytes())
    with Obstacles(client.server.url) as line:
        client.succeed("--order", number, path)
        printed = client.succeed("--order", number, twin, server=line.url)

        expect("no form is posted", "form" not in line.seen, line.seen)
    expect("it says that they were known", "known" in printed, printed)
    newest, oldest = client.server.uploads(number)
    expect("the second is a duplicate", (newest["deduplicated"], oldest["deduplicated"]) == (True, False), newest, oldest)
    expect("each has an entry", newest["fileId"] != oldest["fileId"] and newest["hash"] == oldest["hash"], newest, oldest)


def file_with_another_hash_is_refused(client):
    path, number = client.file("wrong.bin"), f"{client.name}-wrong"
    complaint = client.fail("--order", number, "--sha256", hashlib.sha256(path.name.encode() + os.urandom(8)).hexdigest(), path)

    expect("it says why", "SHA-256" in complaint and "did not match" in complaint, complaint)
    expect("nothing is stored", client.server.files(number) == [])


def one_bad_file_does_not_stop_the_others(client):
    number, path = f"{client.name}-rest", client.file("good.bin")
    ended = client.run("--order", number, client.folder / "missing.bin", path)

    expect("it fails by its exit code", ended.returncode == 1, ended)
    expect("it names the file that is missing", "missing.bin" in ended.stderr, ended)
    expect("the other is done", [file["filename"] for file in client.server.files(number)] == ["good.bin"], ended)


def wrong_secret_is_told_plainly(client):
    wrong = client.server.token[:-8] + "00000000"
    complaint = client.fail("--order", "wrong-secret", client.file("secret.bin"), token=wrong)

    expect("it says 401", "401" in complaint and "API key" in complaint, complaint)
    expect("it does not show the secret", wrong.split("_")[2] not in complaint, complaint)


def wrong_usage_is_told_apart(client):
    for arguments in (("--order", "A-1"), ("--order", "A-1", "--sha256", "0" * 64, "one", "two")):
        ended = client.run(*arguments)
        expect("its exit code says wrong usage", ended.returncode == 2 and ended.stderr and not ended.stdout, ended)


def bad_line_is_overcome(client):
    path, number = client.file("bad-line.bin"), f"{client.name}-line"
    with Obstacles(client.server.url) as line:
        client.succeed("--order", number, path, server=line.url)

        count = {kind: line.seen.count(kind) for kind in set(line.seen)}
        expect("503, 429 and a lost connection are tried again", min(count[kind] for kind in ("ask", "callback", "status")) > 1, count)
        expect("asking again is the same question", "another key" not in line.seen and line.key, line.seen)
        expect("the form whose time ran out is renewed", (count["form"], count["policy"]) == (2, 1), count)
    [upload] = client.server.uploads(number)
    expect("the file is done", upload["status"] == "done", upload)


def silent_line_is_given_up_and_tried_again(client):
    path, number = client.file("silence.bin"), f"{client.name}-silence"
    with Obstacles(client.server.url, silent=True) as line:
        client.succeed("--order", number, path, server=line.url, silence="3")

        expect("the form is posted again", line.seen.count("form") == 2, line.seen)
    [upload] = client.server.uploads(number)
    expect("the file is done", upload["status"] == "done", upload)


STORIES = [
    order_and_style_files_are_stored,
    same_file_again_changes_nothing,
    known_bytes_are_not_sent,
    file_with_another_hash_is_refused,
    one_bad_file_does_not_stop_the_others,
    wrong_secret_is_told_plainly,
    wrong_usage_is_told_apart,
    bad_line_is_overcome,
    silent_line_is_given_up_and_tried_again,
]
