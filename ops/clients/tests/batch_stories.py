"""Many files in few calls: `--batch` of the Python and Node clients, `--folder` of the curl client."""

import hashlib
from functools import partial
from pathlib import Path

from client_stories import Client
from expect import expect


def all_of(server, folder):
    many = (many_files_in_one_call, bad_file_among_many_stops_no_other)
    stories = [(name, story) for name in ("python", "node") for story in many] + [("curl", folder_under_one_form)]
    return [
        (f"{name}: {story.__name__.replace('_', ' ')}", partial(story, Client(name, server, Path(folder, name))))
        for name, story in stories
    ]


def many_files_in_one_call(client):
    number = f"{client.name}-batch"
    paths = [client.file(f"batch {n}.bin") for n in range(12)]
    first = client.succeed("--batch", "--order", number, *paths)
    second = client.succeed("--batch", "--order", number, *paths)

    _stored(client, number, {path.name: path for path in paths})
    expect("every file is told of, in its order", [path.name in line for path, line in zip(paths, first.splitlines())] == [True] * 12, first)
    expect("a second run changes nothing", first == second, first, second)


def bad_file_among_many_stops_no_other(client):
    (client.folder / "sub").mkdir()
    good = {name: client.file(name) for name in ("here.bin", "sub/below.bin")}
    given = ["./here.bin", "missing.bin", "sub/.//below.bin"]
    for number, bad in ((f"{client.name}-missing", []), (f"{client.name}-refused", [client.file("bell\a.bin").name])):
        ended = client.run("--batch", "--order", number, *given, *bad)

        expect("it fails by its exit code", ended.returncode == 1, ended)
        expect("each that failed is told of", [name in ended.stderr for name in ("missing.bin", *bad)] == [True] * (1 + len(bad)), ended)
        expect("the others are done", ended.stdout.count("done ") == 2 and "./here.bin" in ended.stdout, ended)
        _stored(client, number, good)


def folder_under_one_form(client):
    number, folder = f"{client.name}-folder", client.folder / "tree"
    (folder / "sub dir").mkdir(parents=True)
    names = ["a.bin", "sub dir/b ü.bin", "sub dir/empty"]
    for name in names:
        client.file(f"tree/{name}", b"" if name.endswith("empty") else None)
    printed = client.succeed("--order", number, "--folder", folder)

    expect("it says how many", "3 of 3 files" in printed, printed)
    _stored(client, number, {name: folder / name for name in names})


def _stored(client, number, paths):
    hashes = {file["filename"]: file["hash"] for file in client.server.files(number)}
    expect("every file is stored once, with its hash", hashes == {
        name: f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in paths.items()
    }, hashes)
