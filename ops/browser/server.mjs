// A fresh `longshore up` in a folder of its own, keys made as an operator makes them, and what stories need to have happened.

import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);

export class Server {
  /** Ready once it has told its address. */
  static async start(binary) {
    const server = new Server();
    server.binary = binary;
    server.folder = await mkdtemp(join(tmpdir(), "longshore-browser-"));
    server.process = spawn(binary, ["up"], {
      cwd: server.folder,
      env: server.settings(),
      stdio: ["ignore", "pipe", "inherit"],
    });
    for await (const line of createInterface({ input: server.process.stdout })) {
      const [, url] = /upload page\s+(\S+)\//.exec(line) ?? [];
      if (!url) continue;
      server.url = url;
      server.judge = await server.key("upload,read,admin");
      return server;
    }
    throw new Error("longshore up ended before it told its address");
  }

  settings() {
    const others = Object.entries(process.env).filter(([name]) => !name.startsWith("LONGSHORE_"));
    return {
      ...Object.fromEntries(others),
      LONGSHORE_DATA_DIR: join(this.folder, "data"),
      LONGSHORE_LISTEN: "127.0.0.1:0",
      // Dead jobs are logged as errors, and here they belong to the stories.
      LONGSHORE_LOG__FILTER: "off",
      LONGSHORE_LIMITS__MAX_SIZE: "2MB",
      // A slow machine may sign later than a person should have to wait.
      LONGSHORE_INTAKE__WAIT: "20s",
    };
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    await ended;
    await rm(this.folder, { recursive: true });
  }

  async cli(...words) {
    const { stdout } = await run(this.binary, words, { cwd: this.folder, env: this.settings() });
    return stdout.trim();
  }

  /** A new token. */
  key = (scopes) => this.cli("key", "create", "--name", "browser", "--scopes", scopes);

  async api(method, path, body, headers = {}) {
    const type = body === undefined ? {} : { "content-type": typeof body === "string" ? "text/plain" : "application/json" };
    const answer = await fetch(`${this.url}/api/${path}`, {
      method,
      headers: { authorization: `Bearer ${this.judge}`, ...type, ...headers },
      body: typeof body === "string" ? body : body && JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** An upload whose bytes are in the bucket; `settle` waits for what comes of them. */
  async sends(filename, content, number) {
    const {
      uploads: [upload],
    } = await this.api("POST", "uploads", { filename, target: { kind: "order", number } });
    await post(upload.upload, content);
    return upload.id;
  }

  settles = async (id) => (await this.api("GET", `uploads/${id}`, undefined, { prefer: "wait=30" })).uploads[0];

  uploads = async (number) => (await this.api("GET", `uploads?number=${encodeURIComponent(number)}`)).uploads;

  /** An upload that is rejected: its batch's manifest promises other bytes. */
  async rejects(filename, number) {
    const target = { kind: "style", number };
    const {
      batches: [batch],
    } = await this.api("POST", "batches", { mode: "prefix", maxFiles: 5, maxFileSize: 1000, target });
    const promised = createHash("sha256").update("what was promised").digest("hex");
    await this.api("PUT", `batches/${batch.id}/manifest`, `${promised}  ${filename}\n`);
    await post(batch.upload, "what was sent", filename);
    return until(async () => (await this.uploads(number)).find(({ status }) => status === "rejected")?.id);
  }

  /**
   * Uploads whose jobs die as soon as the pool `verify` is resumed: what holds their bytes cannot be read, and it is the last
   * of their twenty attempts, which take hours. `mend` makes the bytes readable again.
   */
  async dooms(filenames, number) {
    await this.api("POST", "admin/pools/verify/pause");
    const doomed = [];
    for (const filename of filenames) {
      const id = await this.sends(filename, `bytes of ${filename}`, number);
      const key = `staging/%/${id.replaceAll("-", "")}/%`;
      const [[file]] = await this.sql("bucket/index.db", "select file from objects where key like ?", key);
      const path = join(this.folder, "data/bucket/data", file.slice(-2), file);
      await rename(path, `${path}-kept`);
      // One that leads to itself: what is gone or cut counts as lost, and not as a failure.
      await symlink(path, path);
      doomed.push({
        id,
        mend: async () => {
          await rm(path);
          await rename(`${path}-kept`, path);
        },
      });
    }
    await until(
      async () =>
        (
          await this.sql(
            "longshore.db",
            "update jobs set attempts = 19 where kind = 'verify_upload' and state = 0 returning id",
          )
        ).length >= doomed.length,
    );
    return doomed;
  }

  /** As [`dooms`], with the letters there. */
  async buries(filenames, number) {
    const doomed = await this.dooms(filenames, number);
    await this.api("POST", "admin/pools/verify/resume");
    for (const { id } of doomed) {
      const letters = async () => (await this.api("GET", `admin/dead-letters?subject=${id}`)).deadLetters;
      await until(async () => (await letters()).length === 1);
    }
    return doomed;
  }

  async sql(database, query, ...values) {
    const script =
      "import json, sqlite3, sys\n" +
      "d = sqlite3.connect(sys.argv[1], timeout=20)\n" +
      "print(json.dumps(d.execute(sys.argv[2], json.loads(sys.argv[3])).fetchall()))\nd.commit()";
    const { stdout } = await run("python3", [
      "-c",
      script,
      join(this.folder, "data", database),
      query,
      JSON.stringify(values),
    ]);
    return JSON.parse(stdout);
  }
}

/** What `look` finds, once it finds something. */
export async function until(look) {
  const end = Date.now() + 30_000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited 30 s in vain for: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function post({ url, fields }, content, path) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, path ? value.replace("${filename}", path) : value);
  form.append("file", new Blob([content]), "file");
  const answer = await fetch(url, { method: "POST", body: form });
  if (answer.status !== 201) throw new Error(`the bucket answered ${answer.status}: ${await answer.text()}`);
}
