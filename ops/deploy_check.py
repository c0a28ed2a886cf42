"""What no linter knows of the files that longshore is deployed by.

    deploy_check.py settings PROGRAM   every setting in them is one that the program takes, and every secret has to be given
    deploy_check.py prometheus FOLDER  leaves the configuration that compose gives to Prometheus there, for promtool
    deploy_check.py security UNIT      what `systemd-analyze security --json=short` (stdin) holds against it is accepted here
"""

import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent

# Findings of systemd-analyze that stand, and why.
ACCEPTED = {
    "RootDirectoryOrRootImage": "ProtectSystem=strict, ProtectHome and ProtectProc leave it nothing to write, and of secrets nothing to read",
    "RestrictAddressFamilies_AF_UNIX": "systemd is told by such a socket, and PostgreSQL may be reached by one",
    "RestrictAddressFamilies_AF_INET_INET6": "it serves over TCP",
    "PrivateNetwork": "it serves over TCP",
    "DeviceAllow": "PrivateDevices and ProtectClock leave no device but the clock's, to be read",
    "IPAddressDeny": "which servers it may reach is the site's to say, in a drop-in; the units show how",
}

SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY")
VARIABLE = re.compile(r"\$\{(\w+)(:?[?-])?([^}]*)\}")


def fail(findings):
    for finding in findings:
        print(f"ops/deploy_check: {finding}", file=sys.stderr)
    sys.exit(1 if findings else 0)


def variables_of_compose(text):
    """Name and how it is asked for, of every variable; comments do not count."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [(name, how) for line in lines for name, how, _ in VARIABLE.findall(line)]


def filled_compose():
    """What the file says, with a text for every variable."""
    import yaml

    def filled(match):
        name, how, default = match.groups()
        return default if how == ":-" else f"given{len(name)}"

    return yaml.safe_load(VARIABLE.sub(filled, (HERE / "compose.yaml").read_text()))


def settings_of_compose():
    """The environment of each process of ours."""
    services = filled_compose()["services"].items()
    return {f"compose.yaml, {name}": of["environment"] for name, of in services if of["image"].startswith("longshore:")}


def missing_mounts():
    """Files and folders beside the file that it mounts and that are not there: an engine would make empty folders of them."""
    volumes = [volume for of in filled_compose()["services"].values() for volume in of.get("volumes", [])]
    return [volume for volume in volumes if volume.startswith("./") and not (HERE / volume.split(":")[0]).exists()]


def settings_of_units():
    """`Environment=` of each unit."""
    found = {}
    for unit in sorted((HERE / "systemd").glob("*.service")):
        pairs = " ".join(re.findall(r"^Environment=(.*)$", unit.read_text(), re.M)).split()
        found[unit.name] = dict(pair.split("=", 1) for pair in pairs)
    return found


def settings_of_image():
    """`ENV` of the Dockerfile's last stage."""
    last = (HERE / "Dockerfile").read_text().rsplit("\nFROM ", 1)[1]
    return {"Dockerfile": dict(re.findall(r"\b(LONGSHORE_\w+)=(\S+)", last))}


def refused(program, settings):
    """Why the program does not take them; empty when it does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")}
    given = {name: str(value) for name, value in settings.items()}
    ended = subprocess.run([program, "config"], env=clean | given, cwd="/", capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else ended.stderr


def check_settings(program):
    compose = (HERE / "compose.yaml").read_text()
    findings = []
    places = settings_of_compose() | settings_of_units() | settings_of_image()
    for place, settings in places.items():
        if not any(name.startswith("LONGSHORE_") for name in settings):
            findings.append(f"{place}: no settings were found")
        if why := refused(program, settings):
            findings.append(f"{place}: {why}")
    findings += [f"compose.yaml mounts {mount}, which is not there" for mount in missing_mounts()]
    variables = variables_of_compose(compose)
    findings += [f"compose.yaml: {name} has a default" for name, how in variables if SECRET.search(name) and how != ":?"]
    required = {name for name, how in variables if how == ":?"}
    # A secret of compose's own takes its variable without braces.
    required |= set(re.findall(r"^ +environment: (\w+)$", compose, re.M))
    documented = set(re.findall(r"^ *(\w+)=", (HERE / "deploy.md").read_text(), re.M))
    findings += [f"deploy.md: {name} is not said how to make" for name in sorted(required - documented)]
    print(f"{len(places)} places, {len(required)} secrets")
    fail(findings)


def leave_prometheus(folder):
    path = pathlib.Path(folder)
    (path / "prometheus.yml").write_text(filled_compose()["configs"]["prometheus"]["content"])
    (path / "longshore").symlink_to(HERE / "prometheus")


def check_security(unit):
    open_points = {point["json_field"]: point["name"] for point in json.load(sys.stdin) if not point["set"]}
    fail([f"{unit}: {name}" for field, name in open_points.items() if field not in ACCEPTED])


match sys.argv[1:]:
    case ["settings", program]:
        check_settings(program)
    case ["prometheus", folder]:
        leave_prometheus(folder)
    case ["security", unit]:
        check_security(unit)
    case _:
        sys.exit(__doc__)
