// Talks to /api/admin. The token is kept in this tab and goes into one header: into no address, cookie or log.

const TOKEN = "longshore.console.token";
const PATIENCE = 20_000;
/** Some acts are about very many things. */
const MORE_PATIENCE = 120_000;

/** The server understood and said no. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Nobody answered, or somebody who cannot at the moment: worth asking again. */
export class Unreachable extends Error {}

export const signedIn = () => sessionStorage.getItem(TOKEN) !== null;
export const remember = (token) => sessionStorage.setItem(TOKEN, token);
export const forget = () => sessionStorage.removeItem(TOKEN);

/** The same while the trouble lasts, so that it is read out once. */
export function sentence(fault) {
  if (fault instanceof Refused && fault.status === 403) return `Your token may not do this any more: ${fault.message}`;
  if (fault instanceof Refused) return `The server refused: ${fault.message}`;
  if (fault instanceof Unreachable) return `${fault.message} It is asked again every few seconds.`;
  return "The server's answer cannot be read. It may be of another version: reload this page.";
}

let skew = 0;

/** Now by the server's clock, in milliseconds, as well as its `Date` header tells. */
export const now = () => Date.now() + skew;

export const get = (path, signal, token) => call("GET", path, { signal, token });
export const post = (path, body) => call("POST", path, { body });

/** A query's text from what is set in it. */
export function query(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

async function call(method, path, { body, signal, token = sessionStorage.getItem(TOKEN) }) {
  // What a header cannot carry is nobody's token.
  if (!/^[\x21-\x7e]+$/.test(token ?? "")) throw new Refused(401, "This is no token.");
  const headers = { authorization: `Bearer ${token}` };
  if (body) headers["content-type"] = "application/json";
  const limit = AbortSignal.timeout(method === "POST" ? MORE_PATIENCE : PATIENCE);
  let answer;
  let told;
  try {
    const signals = signal ? AbortSignal.any([signal, limit]) : limit;
    answer = await fetch(`api/admin/${path}`, {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: signals,
    });
    told = await answer.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!answer) throw new Unreachable(limit.aborted ? "The server does not answer." : "The server cannot be reached.");
  }
  return read(answer, told);
}

function read(answer, told) {
  const date = Date.parse(answer.headers.get("date"));
  // The header has whole seconds: half of one is the best guess at the rest.
  if (date) skew = Math.abs(date + 500 - Date.now()) > 1500 ? date + 500 - Date.now() : 0;
  if (answer.ok && told) return told;
  const message = told?.error?.message ?? `It answered ${answer.status}.`;
  if (answer.ok || answer.status === 429 || answer.status >= 500)
    throw new Unreachable(`The server cannot answer at the moment: ${message}`);
  throw new Refused(answer.status, message);
}
